internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// A Kafka broker in memory: topics, partitions, groups with the range assignor, commits with metadata; no network, no threads.
///
/// It has what trips consumers up in real life: offsets with gaps, as control records, compaction and aborted transactions
/// (``appendAborted(_:)``) leave them, retention (``trim(_:before:)``), and rebalances at any point, expulsion
/// (``expel(_:)``) included.
///
/// Acknowledgements come at once unless ``holdAcknowledgements()`` says otherwise. Faults are injected:
///
/// | fault | what the client sees | what the broker has done |
/// | --- | --- | --- |
/// | ``failNextProduces(_:with:)`` | the error | nothing |
/// | ``loseNextAcknowledgements(_:with:)`` | the error | stored the record |
/// | ``holdProduces()``, ``landHeld(_:)``, ``dropHeld(_:with:)`` | nothing, until told | nothing, until told |
/// | ``failNextCommits(_:with:)`` | the error | nothing |
/// | ``loseNextCommitAnswers(_:with:)`` | the error | stored the offsets |
/// | ``holdReads()``, ``failNextReads(_:with:)`` | a late answer, the error | nothing |
/// | ``setMaximumRecordSize(_:of:)``, ``setMaximumMetadataSize(_:)`` | too large | nothing |
public final class InMemoryBroker: Sendable {
    struct Partition {
        /// What read-committed consumers are given, by ascending offset.
        var records: [Record] = []
        /// What aborted transactions have left: there, but delivered to nobody.
        var aborted: [Record] = []
        /// What transactions have written that are still open, by offset.
        var open: [Int64: Record] = [:]
        /// The first offset that was not trimmed (Kafka's log start offset).
        var start: Int64 = 0
        var next: Int64 = 0

        /// The end for whoever reads what is committed: nothing behind a transaction's first record before that has ended
        /// (Kafka's last stable offset).
        var stable: Int64 { open.keys.min() ?? next }
        /// The records that are given to whoever reads what is committed.
        var readable: ArraySlice<Record> { open.isEmpty ? records[...] : records[..<firstIndex(from: stable)] }

        /// The index of the first record at or behind `offset`, by halving: offsets ascend.
        func firstIndex(from offset: Int64) -> Int {
            var low = 0
            var high = records.count
            while low < high {
                let middle = (low + high) / 2
                if records[middle].offset < offset { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }
    struct Member {
        let id: Int
        var topics: Set<String>
        var assignment: Set<TopicPartition> = []
        /// What it shall have after it has given up what it must.
        var target: Set<TopicPartition>?
        var wake: @Sendable () -> Void
    }
    struct State {
        var topics: [String: [Partition]] = [:]
        var groups: [String: [Member]] = [:]
        var commits: [String: [TopicPartition: OffsetCommit]] = [:]
        var nextMember = 0
        var produceFaults: [BrokerError] = []
        var commitFaults: [BrokerError] = []
        var inspectionFault: BrokerError?
        var inspectionFaults: [TopicPartition: BrokerError] = [:]
        var held: [@Sendable () -> Void]?
        var lostAcknowledgements: [BrokerError] = []
        var lostCommitAnswers: [BrokerError] = []
        var heldProduces: [HeldProduce] = []
        var holdsProduces = false
        var readFaults: [BrokerError] = []
        var heldReads: [@Sendable () -> Void] = []
        var holdsReads = false
        var maximumRecordSize = 1_000_000
        var maximumRecordSizes: [String: Int] = [:]
        var maximumMetadataSize = 4096
        var transactions: [String: Transaction] = [:]

        func partition(_ id: TopicPartition) -> Partition? {
            guard let all = topics[id.topic], all.indices.contains(Int(id.partition)) else { return nil }
            return all[Int(id.partition)]
        }
    }
    let state = Mutex(State())
    let clock: any EventClock
    private let gapEvery: Int
    private let rebalancing: Rebalancing

    /// What a member gives up when its group's assignment changes.
    public enum Rebalancing: Sendable, CaseIterable {
        /// Everything, what it will keep as well: what Kafka's clients do with the range assignor.
        case eager
        /// What it loses, as with a cooperative assignor.
        case incremental
    }

    /// A broker without topics.
    ///
    /// - Parameters:
    ///   - clock: stamps records.
    ///   - gapEvery: leaves out one offset after every so many records, as a transaction's control records would; 0 for no gaps.
    ///   - rebalancing: what members give up when the assignment changes; everything unless told otherwise.
    public init(clock: any EventClock = SystemClock(), gapEvery: Int = 0, rebalancing: Rebalancing = .eager) {
        self.clock = clock
        self.gapEvery = gapEvery
        self.rebalancing = rebalancing
    }

    /// Creates a topic; one that exists keeps its records.
    public func createTopic(_ name: String, partitions: Int) {
        state.withLock { state in
            if state.topics[name] == nil { state.topics[name] = Array(repeating: Partition(), count: max(1, partitions)) }
        }
        rebalance { $0.contains { $0.topics.contains(name) } }
    }

    /// All records of a topic that consumers are given, partition by partition.
    public func records(in topic: String) -> [Record] {
        state.withLock { ($0.topics[topic] ?? []).flatMap(\.records) }
    }

    /// The offset behind the last record of a partition.
    public func end(of partition: TopicPartition) -> Int64 {
        state.withLock { $0.partition(partition)?.next ?? 0 }
    }

    /// What a group has committed.
    public func committed(group: String) -> [TopicPartition: OffsetCommit] { state.withLock { $0.commits[group] ?? [:] } }

    /// Removes records, as compaction would: their offsets are never delivered; where the partition begins stays the same.
    public func compact(_ partition: TopicPartition, removing offsets: Set<Int64>) {
        state.withLock { state in
            state.topics[partition.topic]?[Int(partition.partition)].records.removeAll { offsets.contains($0.offset) }
        }
    }

    /// Lets the next `count` produces fail.
    public func failNextProduces(_ count: Int, with error: BrokerError) {
        state.withLock { $0.produceFaults += Array(repeating: error, count: count) }
    }

    /// Lets the next `count` commits fail.
    public func failNextCommits(_ count: Int, with error: BrokerError) {
        state.withLock { $0.commitFaults += Array(repeating: error, count: count) }
    }

    /// Commits succeed again, whatever was left of ``failNextCommits(_:with:)``.
    public func clearCommitFaults() { state.withLock { $0.commitFaults.removeAll() } }

    /// The largest record that is accepted, in bytes: key, value and headers. Default 1,000,000. A larger one fails with
    /// `MSG_SIZE_TOO_LARGE`.
    ///
    /// - Parameter topic: the one it is about; nil for all that have none of their own.
    public func setMaximumRecordSize(_ bytes: Int, of topic: String? = nil) {
        state.withLock { state in
            if let topic { state.maximumRecordSizes[topic] = bytes } else { state.maximumRecordSize = bytes }
        }
    }

    /// From now on acknowledgements wait for ``releaseAcknowledgements()``; records are stored all the same.
    public func holdAcknowledgements() { state.withLock { if $0.held == nil { $0.held = [] } } }

    /// Delivers what was held and stops holding.
    public func releaseAcknowledgements() {
        let held = state.withLock { state in
            let held = state.held ?? []
            state.held = nil
            return held
        }
        for acknowledge in held { acknowledge() }
    }

    /// A producer.
    ///
    /// - Parameter capacity: records it holds unacknowledged before its queue is full.
    public func producer(capacity: Int = 100_000) -> any RecordProducer { InMemoryProducer(broker: self, capacity: capacity) }

    /// A producer of transactions; of several with one id only the one that was initialised last goes on.
    public func transactions(id: String) -> any TransactionalProducer { InMemoryTransactions(broker: self, id: id) }

    /// A consumer of a group; it joins when it subscribes.
    public func consumer(group: String, startsAtEnd: Bool = false) -> any RecordConsumer {
        InMemoryConsumer(broker: self, group: group, startsAtEnd: startsAtEnd)
    }

    /// Reads single records; ``holdReads()`` and ``failNextReads(_:with:)`` say how.
    public func reader() -> any RecordReader { InMemoryReader(broker: self) }

    /// Reads stretches of partitions in no group; ``failInspections(with:)`` lets it fail.
    public func scanner() -> any RecordScanner { InMemoryScanner(broker: self) }

    /// Looks at partitions without consuming them.
    public func inspector() -> any PartitionInspector { InMemoryInspector(broker: self) }

    /// Lets every look of an ``inspector()`` or a ``scanner()`` fail with `error` until it is nil again.
    public func failInspections(with error: BrokerError?) { state.withLock { $0.inspectionFault = error } }

    /// Lets every look of an ``inspector()`` at one partition fail with `error` until it is nil again.
    public func failInspections(of partition: TopicPartition, with error: BrokerError?) {
        state.withLock { $0.inspectionFaults[partition] = error }
    }

    // MARK: Produce

    func append(_ record: OutboundRecord, as storing: Storing = .committed) -> Result<Acknowledgement, BrokerError> {
        let result: Result<Acknowledgement, BrokerError> = state.withLock { state in
            if !state.produceFaults.isEmpty { return .failure(state.produceFaults.removeFirst()) }
            var size = (record.value?.count ?? 0) + (record.key?.count ?? 0)
            record.headers.forEachRaw { size += $0.count + ($1?.count ?? 0) }
            guard size <= state.maximumRecordSizes[record.topic] ?? state.maximumRecordSize else {
                return .failure(BrokerError("MSG_SIZE_TOO_LARGE", operation: "produce \(record.topic)"))
            }
            let stored = store(record, in: &state, as: storing)
            guard case .success = stored, !state.lostAcknowledgements.isEmpty else { return stored }
            return .failure(state.lostAcknowledgements.removeFirst())
        }
        wakeAll()
        return result
    }

    /// How a record is stored.
    enum Storing {
        case committed, aborted
        /// By a transaction whose end decides which of the two it becomes.
        case open
    }

    func store(
        _ record: OutboundRecord, in state: inout State, as storing: Storing
    ) -> Result<Acknowledgement, BrokerError> {
        // The partitions themselves aren't held here: what is held twice is copied, with all its records, when it changes.
        guard let count = state.topics[record.topic]?.count else {
            return .failure(BrokerError("UNKNOWN_TOPIC_OR_PART", operation: "produce \(record.topic)"))
        }
        let number = record.partition ?? InMemoryBroker.partition(of: record.key, among: count)
        guard (0..<count).contains(Int(number)), let offset = state.topics[record.topic]?[Int(number)].next else {
            return .failure(BrokerError("_UNKNOWN_PARTITION", operation: "produce \(record.topic)"))
        }
        let stored = Record(
            topic: record.topic, partition: number, offset: offset,
            timestamp: Timestamp(milliseconds: clock.now().milliseconds), key: record.key, value: record.value,
            headers: record.headers
        )
        switch storing {
        case .committed: state.topics[record.topic]?[Int(number)].records.append(stored)
        case .aborted: state.topics[record.topic]?[Int(number)].aborted.append(stored)
        case .open: state.topics[record.topic]?[Int(number)].open[offset] = stored
        }
        let isGap = gapEvery > 0 && (Int(offset) + 1) % (gapEvery + 1) == gapEvery
        state.topics[record.topic]?[Int(number)].next = offset + (isGap ? 2 : 1)
        return .success(Acknowledgement(partition: number, offset: offset))
    }

    func acknowledge(_ body: @escaping @Sendable () -> Void) {
        let isHeld = state.withLock { state in
            state.held?.append(body)
            return state.held != nil
        }
        if !isHeld { body() }
    }

    /// Java's murmur2, as Kafka's default partitioner uses it (`org.apache.kafka.common.utils.Utils.murmur2`).
    static func partition(of key: ByteSlice?, among count: Int) -> Int32 {
        guard let key, !key.isEmpty else { return Int32.random(in: 0..<Int32(count)) }
        let multiplier: UInt32 = 0x5BD1_E995
        var hash: UInt32 = 0x9747_B28C ^ UInt32(key.count)
        let bytes = Array(key)
        var index = 0
        while index + 4 <= bytes.count {
            var word =
                UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8 | UInt32(bytes[index + 2]) << 16 | UInt32(bytes[index + 3])
                << 24
            word = word &* multiplier
            word ^= word >> 24
            hash = hash &* multiplier ^ word &* multiplier
            index += 4
        }
        let rest = bytes.count - index
        if rest > 2 { hash ^= UInt32(bytes[index + 2]) << 16 }
        if rest > 1 { hash ^= UInt32(bytes[index + 1]) << 8 }
        if rest > 0 {
            hash ^= UInt32(bytes[index])
            hash = hash &* multiplier
        }
        hash ^= hash >> 13
        hash = hash &* multiplier
        hash ^= hash >> 15
        return Int32(hash & 0x7FFF_FFFF) % Int32(count)
    }

    // MARK: Groups

    func join(group: String, topics: [String], wake: @escaping @Sendable () -> Void) -> Int {
        let id = state.withLock { state in
            state.nextMember += 1
            state.groups[group, default: []].append(Member(id: state.nextMember, topics: Set(topics), wake: wake))
            return state.nextMember
        }
        rebalance(group)
        return id
    }

    /// Whether the member is still known: ``expel(_:)`` may have removed it.
    func knows(_ member: Int, of group: String) -> Bool {
        state.withLock { $0.groups[group]?.contains { $0.id == member } ?? false }
    }

    func leave(group: String, member: Int) {
        state.withLock { $0.groups[group]?.removeAll { $0.id == member } }
        rebalance(group)
    }

    private func rebalance(_ group: String) { rebalance(group) { _ in true } }

    /// The range assignor, topic by topic: members in order of joining get contiguous runs of partitions.
    ///
    /// - Parameters:
    ///   - only: the group it is about; nil for every group that `condition` holds for.
    private func rebalance(_ only: String? = nil, where condition: ([Member]) -> Bool) {
        state.withLock { state in
            for (group, members) in state.groups where (only == nil || only == group) && condition(members) {
                var targets: [Int: Set<TopicPartition>] = [:]
                for topic in Set(members.flatMap(\.topics)) {
                    guard let partitions = state.topics[topic] else { continue }
                    let takers = members.filter { $0.topics.contains(topic) }.map(\.id).sorted()
                    let (each, extra) = partitions.count.quotientAndRemainder(dividingBy: takers.count)
                    var next = 0
                    for (index, taker) in takers.enumerated() {
                        for number in next..<next + each + (index < extra ? 1 : 0) {
                            targets[taker, default: []].insert(TopicPartition(topic, Int32(number)))
                        }
                        next += each + (index < extra ? 1 : 0)
                    }
                }
                for index in members.indices { state.groups[group]?[index].target = targets[members[index].id] ?? [] }
            }
        }
        wakeAll()
    }

    /// A step of a member's rebalance.
    enum RebalanceStep {
        case revoke(Set<TopicPartition>)
        /// Possibly nothing: the client is told all the same that the rebalance is over.
        case assign(Set<TopicPartition>)
    }

    /// The next step of a member's rebalance: first it gives up, then, when nobody else has it any more, it takes over.
    func rebalanceStep(group: String, member: Int) -> RebalanceStep? {
        state.withLock { state in
            guard let members = state.groups[group], let index = members.firstIndex(where: { $0.id == member }),
                let target = members[index].target
            else { return nil }
            let current = members[index].assignment
            let revoke = rebalancing == .eager ? current : current.subtracting(target)
            if !revoke.isEmpty { return .revoke(revoke) }
            let others = members.filter { $0.id != member }.reduce(into: Set<TopicPartition>()) { $0.formUnion($1.assignment) }
            let missing = target.subtracting(current)
            guard missing.isDisjoint(with: others) else { return nil }
            state.groups[group]?[index].target = nil
            // At once: a member that joins before this one has noticed must not find the partitions free.
            state.groups[group]?[index].assignment = target
            return .assign(missing)
        }
    }

    func setAssignment(_ assignment: Set<TopicPartition>, group: String, member: Int) {
        state.withLock { state in
            guard let index = state.groups[group]?.firstIndex(where: { $0.id == member }) else { return }
            state.groups[group]?[index].assignment = assignment
        }
        wakeAll()
    }

    func wakeAll() {
        let wakes = state.withLock { $0.groups.values.flatMap { $0.map(\.wake) } }
        for wake in wakes { wake() }
    }
}

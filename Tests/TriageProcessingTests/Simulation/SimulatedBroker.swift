import TriageEvents

@testable import TriageProcessing

/// One partition's log, and what the group has committed for it.
final class SimulatedLog {
    enum Kind: Int { case main, retry, deadLetter }
    let id: TopicPartition
    let index: Int
    let kind: Kind
    var records: [Record] = []
    /// The offset of the next record: behind the last one, and behind what is never delivered.
    var next: Int64 = 0
    /// What retention has left.
    var first: Int64 = 0
    private(set) var committed: OffsetCommit?
    private var ranges: [Range<Int64>] = []
    /// Commits that were applied.
    var commits = 0

    init(_ id: TopicPartition, index: Int, kind: Kind) {
        self.id = id
        self.index = index
        self.kind = kind
    }

    func commit(_ commit: OffsetCommit) {
        committed = commit
        commits += 1
        ranges = commit.metadata.flatMap { try? CommitMetadata($0, at: commit.offset) }?.completed ?? []
    }

    func forgetCommit() {
        committed = nil
        ranges = []
    }

    /// Whether the group has committed that this offset is complete.
    func covers(_ offset: Int64) -> Bool {
        guard let committed else { return false }
        return offset < committed.offset || ranges.contains { $0.contains(offset) }
    }

    /// The index of the first record at or behind `offset`.
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

/// Logs and one consumer group with generations and the eager protocol, all in virtual time: for one thread at a time.
///
/// Offsets have gaps, as control records, aborted transactions and compaction leave them. Members that are dead or slow are
/// evicted; who was evicted learns it late, and its commits are refused by then.
final class SimulatedBroker {
    private unowned let world: SimulatedWorld
    private(set) var logs: [SimulatedLog] = []
    /// What became of dead letters; none of the group's partitions.
    let states = SimulatedLog(TopicPartition(TopicName.deadLetterState, 0), index: 9999, kind: .deadLetter)
    private var numbers: [TopicPartition: Int] = [:]
    let topics: [String]
    let partitions: Int

    private var members: [SimulatedConsumer] = []
    private(set) var generation = 0
    private(set) var isPreparing = false
    private var preparation = 0
    /// Fates of what is produced and committed.
    var produceFates = Fates()
    var commitFates = Fates()
    /// How many of a hundred questions about offsets go wrong.
    var failingQuestions = 0

    /// What happens, out of a hundred.
    struct Fates {
        /// Not done, and an error is answered.
        var refused = 0
        /// Done, and an error is answered all the same.
        var unacknowledged = 0
        /// Done long after.
        var late = 0
    }
    enum Fate { case fine, refused, unacknowledged, late }

    init(_ world: SimulatedWorld) {
        self.world = world
        topics = world.options.topics
        partitions = world.options.partitions
        for topic in topics {
            let names = [topic, TopicName.retry(of: topic), TopicName.deadLetter(of: topic)]
            for (kind, name) in zip([SimulatedLog.Kind.main, .retry, .deadLetter], names) {
                for partition in 0..<partitions {
                    let id = TopicPartition(name, Int32(partition))
                    numbers[id] = logs.count
                    logs.append(SimulatedLog(id, index: logs.count, kind: kind))
                }
            }
        }
    }

    func log(_ id: TopicPartition) -> SimulatedLog? { id == states.id ? states : numbers[id].map { logs[$0] } }
    /// The retry log of a main log, and the other way round.
    func twin(of log: SimulatedLog) -> SimulatedLog { logs[log.index + (log.kind == .main ? partitions : -partitions)] }
    /// The main log of a log.
    func main(of log: SimulatedLog) -> SimulatedLog { logs[log.index - log.kind.rawValue * partitions] }

    func removeAll() {
        members.removeAll()
        logs.removeAll()
    }

    func fate(_ fates: Fates) -> Fate {
        if world.isCalm { return .fine }
        let drawn = world.int(0...99)
        if drawn < fates.refused { return .refused }
        if drawn < fates.refused + fates.unacknowledged { return .unacknowledged }
        return drawn < fates.refused + fates.unacknowledged + fates.late ? .late : .fine
    }

    /// Records that have been handed over and haven't landed.
    var underWay = 0
    /// The next produce ends its producer for good.
    var isFatalNext = false
    func takeFatal() -> Bool {
        defer { isFatalNext = false }
        return isFatalNext && !world.isCalm
    }

    // MARK: Logs

    @discardableResult
    func append(_ record: OutboundRecord, to log: SimulatedLog) -> Record {
        if world.chance(world.options.gaps) { log.next += Int64(world.int(1...3)) }
        let stored = Record(
            topic: log.id.topic, partition: log.id.partition, offset: log.next,
            timestamp: Timestamp(milliseconds: world.now / 1_000_000), key: record.key, value: record.value,
            headers: record.headers
        )
        log.records.append(stored)
        world.witness.appended(stored)
        log.next += 1
        if world.chance(world.options.gaps) { log.next += 1 }
        wakeOwner(of: log)
        return stored
    }

    private func wakeOwner(of log: SimulatedLog) {
        for member in members where member.reads(log) { world.wake(member.seat) }
    }

    // MARK: The group

    func join(_ member: SimulatedConsumer) {
        member.isEvicted = false
        member.generation = -1
        members.append(member)
        members.sort { $0.memberID < $1.memberID }
        rebalance()
    }

    func leave(_ member: SimulatedConsumer) {
        guard members.contains(where: { $0 === member }) else { return }
        members.removeAll { $0 === member }
        rebalance()
    }

    /// The group does without this member from now on, which doesn't know.
    func evict(_ member: SimulatedConsumer) {
        guard members.contains(where: { $0 === member }) else { return }
        member.isEvicted = true
        world.note(.evicted, member.seat)
        world.referee.disturbed(member.assignment)
        leave(member)
    }

    func rebalance() {
        isPreparing = true
        preparation += 1
        for member in members {
            member.hasJoined = false
            world.wake(member.seat)
        }
        let current = preparation
        world.after(world.options.rebalanceTimeout) { [unowned self] in
            guard isPreparing, preparation == current else { return }
            for member in members where !member.hasJoined {
                evict(member)
                if !member.seat.isDead { world.after(world.milliseconds(1, 800)) { member.learn() } }
            }
        }
        completeIfAllJoined()
    }

    /// The range assignor: of each topic every member takes a contiguous run of partitions.
    func completeIfAllJoined() {
        guard isPreparing, !members.isEmpty, members.allSatisfy(\.hasJoined) else { return }
        isPreparing = false
        generation += 1
        let (each, extra) = partitions.quotientAndRemainder(dividingBy: members.count)
        var next = 0
        for (index, member) in members.enumerated() {
            let count = each + (index < extra ? 1 : 0)
            member.pending = (
                generation, logs.filter { $0.kind != .deadLetter && (next..<next + count).contains(Int($0.id.partition)) }
            )
            next += count
            world.wake(member.seat)
        }
    }

    /// Whether a member's commit of this generation is taken.
    func accepts(_ member: SimulatedConsumer, generation: Int) -> Bool {
        !member.isEvicted && generation == self.generation && members.contains { $0 === member }
    }

    /// Partitions that nobody has, and nobody is about to have.
    var isSettled: Bool { !isPreparing && members.allSatisfy { $0.pending == nil && $0.generation == generation } }
}

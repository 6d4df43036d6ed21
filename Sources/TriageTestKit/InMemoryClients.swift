internal import Glibc
internal import Synchronization
internal import TriageEvents

/// The producer of an ``InMemoryBroker``.
final class InMemoryProducer: RecordProducer {
    private typealias Completion = @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    private struct Queue {
        var unanswered: [Int: (topic: String, completion: Completion)] = [:]
        var next = 0
        var waiters: [@Sendable () -> Void] = []
        var isClosed = false
    }
    private let broker: InMemoryBroker
    private let capacity: Int
    private let queue = Mutex(Queue())

    init(broker: InMemoryBroker, capacity: Int) {
        self.broker = broker
        self.capacity = capacity
    }

    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        let (id, refused): (Int, BrokerError?) = queue.withLock { queue in
            if queue.isClosed { return (0, BrokerError("_DESTROY", operation: "produce \(record.topic)")) }
            if queue.unanswered.count >= capacity {
                return (0, BrokerError(BrokerError.queueFullName, operation: "produce \(record.topic)", isRetriable: true))
            }
            queue.next += 1
            queue.unanswered[queue.next] = (record.topic, completion)
            return (queue.next, nil)
        }
        if let refused { throw refused }
        broker.accept(record) { [self] in answered(id, $0) }
    }

    private func answered(_ id: Int, _ result: Result<Acknowledgement, BrokerError>) {
        let (completion, waiters) = queue.withLock { queue in
            let completion = queue.unanswered.removeValue(forKey: id)?.completion
            defer { if completion != nil { queue.waiters.removeAll() } }
            return (completion, queue.waiters)
        }
        // Nil if it was closed meanwhile: what is answered then is answered to nobody.
        guard let completion else { return }
        completion(result)
        for waiter in waiters { waiter() }
    }

    func whenWritable(_ body: @escaping @Sendable () -> Void) {
        let isNow = queue.withLock { queue in
            if queue.isClosed || queue.unanswered.count < capacity { return true }
            queue.waiters.append(body)
            return false
        }
        if isNow { body() }
    }

    func flush(timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while queue.withLock({ !$0.unanswered.isEmpty }), ContinuousClock.now < deadline {
            // A cancelled wait ends early, as any wait does.
            guard (try? await Task.sleep(for: .milliseconds(1))) != nil else { break }
        }
        return queue.withLock { $0.unanswered.isEmpty }
    }

    /// What is unanswered fails in the order in which it was handed over, as with Kafka's clients; it may land all the same.
    func close() {
        let (unanswered, waiters) = queue.withLock { queue in
            defer {
                queue.isClosed = true
                queue.unanswered = [:]
                queue.waiters = []
            }
            return (queue.unanswered, queue.waiters)
        }
        for (_, (topic, completion)) in unanswered.sorted(by: { $0.key < $1.key }) {
            completion(.failure(BrokerError("_PURGE_INFLIGHT", operation: "produce \(topic)")))
        }
        for waiter in waiters { waiter() }
    }
}

/// A consumer of an ``InMemoryBroker``. A poll never waits longer than for a wake-up.
final class InMemoryConsumer: RecordConsumer {
    private let broker: InMemoryBroker
    let group: String
    private let startsAtEnd: Bool
    private let signal = WakeSignal()
    private weak var observer: (any AssignmentObserver)?
    private(set) var member: Int?
    private var topics: [String] = []
    private var assignment: Set<TopicPartition> = []
    private var positions: [TopicPartition: Int64] = [:]
    private var paused: Set<TopicPartition> = []
    private var reportedEnds: [TopicPartition: Int64] = [:]
    /// What a fetch response would have told: of partitions that are paused it is out of date.
    private var knownEnds: [TopicPartition: Int64] = [:]
    private var results: [(offsets: [OffsetCommit], error: BrokerError?)] = []
    private var rotation = 0
    private var isClosed = false

    init(broker: InMemoryBroker, group: String, startsAtEnd: Bool) {
        self.broker = broker
        self.group = group
        self.startsAtEnd = startsAtEnd
    }

    var waker: @Sendable () -> Void { { [signal] in signal.wake() } }

    /// Whether it is a consumer of this broker.
    func isOf(_ broker: InMemoryBroker) -> Bool { self.broker === broker }

    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) {
        self.observer = observer
        self.topics = topics
        member = broker.join(group: group, topics: topics, wake: waker)
    }

    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        batch.removeAll()
        rebalance()
        take(into: &batch, maximum: maximum)
        if batch.records.isEmpty, batch.ends.isEmpty, batch.commits.isEmpty, timeout > .zero, signal.wait(atMost: timeout) {
            rebalance()
            take(into: &batch, maximum: maximum)
        }
    }

    private func take(into batch: inout PolledBatch, maximum: Int) {
        batch.commits += results
        results.removeAll()
        let order = assignment.subtracting(paused).sorted()
        guard !order.isEmpty else { return }
        rotation += 1
        for index in order.indices {
            let id = order[(index + rotation) % order.count]
            let known = positions[id] ?? 0
            let (records, position, end, last) = broker.state.withLock { state in
                guard let partition = state.partition(id) else { return ([Record](), known, Int64(0), Int64(-1)) }
                // What was trimmed under a consumer is out of its range: it starts anew as one without a commit does.
                let position = known >= partition.start ? known : startsAtEnd ? partition.stable : partition.start
                let readable = partition.readable
                let records = Array(
                    readable[min(partition.firstIndex(from: position), readable.endIndex)...].prefix(
                        maximum - batch.records.count))
                return (records, position, partition.stable, readable.last?.offset ?? -1)
            }
            batch.records += records
            knownEnds[id] = end
            let reached = records.last.map { $0.offset + 1 } ?? position
            positions[id] = reached
            if last < reached, reportedEnds[id] != end {
                positions[id] = end
                reportedEnds[id] = end
                batch.ends.append((id, end))
            }
            if batch.records.count >= maximum { return }
        }
    }

    private func rebalance() {
        guard var member else { return }
        if !broker.knows(member, of: group) {
            let lost = assignment.sorted()
            assignment.removeAll()
            paused.removeAll()
            if !lost.isEmpty { observer?.lost(lost, by: self) }
            member = broker.join(group: group, topics: topics, wake: waker)
            self.member = member
        }
        while let step = broker.rebalanceStep(group: group, member: member) {
            switch step {
            case .revoke(let leaving):
                observer?.revoked(leaving.sorted(), by: self)
                assignment.subtract(leaving)
                paused.subtract(leaving)
            case .assign(let coming):
                // Within the call they can be paused already.
                assignment.formUnion(coming)
                let starts = observer?.assigned(coming.sorted(), by: self) ?? [:]
                for id in coming {
                    positions[id] = start(of: id, as: starts[id] ?? .committed)
                    reportedEnds[id] = nil
                    knownEnds[id] = nil
                }
            }
            broker.setAssignment(assignment, group: group, member: member)
        }
    }

    private func start(of id: TopicPartition, as start: StartOffset) -> Int64 {
        let there = broker.range(of: id)
        // An offset that doesn't exist, because it was trimmed or the topic is another than it was: Kafka's clients reset it
        // like a missing one.
        func existing(_ offset: Int64) -> Int64 {
            there.contains(offset) || offset == there.upperBound ? offset : startsAtEnd ? there.upperBound : there.lowerBound
        }
        switch start {
        case .offset(let offset): return existing(offset)
        case .beginning: return there.lowerBound
        case .committed:
            return existing(broker.committed(group: group)[id]?.offset ?? .max)
        }
    }

    func pause(_ partitions: [TopicPartition]) throws(BrokerError) { paused.formUnion(assignment.intersection(partitions)) }
    func resume(_ partitions: [TopicPartition]) throws(BrokerError) { paused.subtract(partitions) }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) {
        try checkOpen("commit")
        results += broker.commit(offsets, group: group, member: member)
    }

    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {
        try checkOpen("commit")
        let results = broker.commit(offsets, group: group, member: member)
        if let failure = results.lazy.compactMap(\.error).first { throw failure }
    }

    private func checkOpen(_ operation: String) throws(BrokerError) {
        if isClosed { throw BrokerError("_DESTROY", operation: operation) }
    }

    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        broker.committed(group: group).filter { partitions.contains($0.key) }
    }

    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        broker.range(of: partition)
    }

    func knownEnd(of partition: TopicPartition) -> Int64? { knownEnds[partition] }

    func close() {
        defer { isClosed = true }
        guard let member else { return }
        if !assignment.isEmpty { observer?.revoked(assignment.sorted(), by: self) }
        assignment.removeAll()
        broker.leave(group: group, member: member)
        self.member = nil
    }
}

/// Lets one thread sleep until another wakes it.
///
/// `@unchecked Sendable`: `isAwake` is only touched with `lock` held.
final class WakeSignal: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let woken = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var isAwake = false

    init() {
        lock.initialize(to: pthread_mutex_t())
        woken.initialize(to: pthread_cond_t())
        pthread_mutex_init(lock, nil)
        pthread_cond_init(woken, nil)
    }

    deinit {
        pthread_cond_destroy(woken)
        pthread_mutex_destroy(lock)
        woken.deallocate()
        lock.deallocate()
    }

    func wake() {
        pthread_mutex_lock(lock)
        isAwake = true
        pthread_cond_signal(woken)
        pthread_mutex_unlock(lock)
    }

    /// Returns whether it was woken, which then counts as seen.
    func wait(atMost timeout: Duration) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        let nanoseconds = Int64(deadline.tv_nsec) + timeout.wholeNanoseconds
        deadline.tv_sec += Int(nanoseconds / 1_000_000_000)
        deadline.tv_nsec = Int(nanoseconds % 1_000_000_000)
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while !isAwake {
            if pthread_cond_timedwait(woken, lock, &deadline) != 0 { return false }
        }
        isAwake = false
        return true
    }
}

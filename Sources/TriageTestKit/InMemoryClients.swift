internal import Glibc
internal import Synchronization
internal import TriageEvents

/// The producer of an ``InMemoryBroker``.
final class InMemoryProducer: RecordProducer {
    private struct Queue {
        var inFlight = 0
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
        let refused: BrokerError? = queue.withLock { queue in
            if queue.isClosed { return BrokerError("_DESTROY", operation: "produce \(record.topic)") }
            if queue.inFlight >= capacity {
                return BrokerError(BrokerError.queueFullName, operation: "produce \(record.topic)", isRetriable: true)
            }
            queue.inFlight += 1
            return nil
        }
        if let refused { throw refused }
        let result = broker.append(record)
        broker.acknowledge { [self] in
            let waiters = queue.withLock { queue in
                queue.inFlight -= 1
                let waiters = queue.waiters
                queue.waiters.removeAll()
                return waiters
            }
            completion(result)
            for waiter in waiters { waiter() }
        }
    }

    func whenWritable(_ body: @escaping @Sendable () -> Void) {
        let isNow = queue.withLock { queue in
            if queue.inFlight < capacity { return true }
            queue.waiters.append(body)
            return false
        }
        if isNow { body() }
    }

    func flush(timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while queue.withLock({ $0.inFlight > 0 }), ContinuousClock.now < deadline {
            // A cancelled wait ends early, as any wait does.
            guard (try? await Task.sleep(for: .milliseconds(1))) != nil else { break }
        }
        return queue.withLock { $0.inFlight == 0 }
    }
    func close() { queue.withLock { $0.isClosed = true } }
}

/// A consumer of an ``InMemoryBroker``. A poll never waits longer than for a wake-up.
final class InMemoryConsumer: RecordConsumer {
    private let broker: InMemoryBroker
    private let group: String
    private let startsAtEnd: Bool
    private let signal = WakeSignal()
    private weak var observer: (any AssignmentObserver)?
    private var member: Int?
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

    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) {
        self.observer = observer
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
            let position = positions[id] ?? 0
            let (records, end) = broker.state.withLock { state in
                guard let partition = state.topics[id.topic]?[Int(id.partition)] else { return ([Record](), Int64(0)) }
                let first = partition.firstIndex(from: position)
                return (Array(partition.records[first...].prefix(maximum - batch.records.count)), partition.next)
            }
            batch.records += records
            knownEnds[id] = end
            if let last = records.last { positions[id] = last.offset + 1 }
            let reached = positions[id] ?? position
            let hasMore = broker.state.withLock { state in
                (state.topics[id.topic]?[Int(id.partition)].records.last?.offset ?? -1) >= reached
            }
            if !hasMore, reportedEnds[id] != end {
                positions[id] = end
                reportedEnds[id] = end
                batch.ends.append((id, end))
            }
            if batch.records.count >= maximum { return }
        }
    }

    private func rebalance() {
        guard let member else { return }
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
        let end = broker.end(of: id)
        // An offset behind the end doesn't exist: the topic is another than it was. Kafka's clients reset it like a missing one.
        func existing(_ offset: Int64) -> Int64 { offset <= end ? offset : startsAtEnd ? end : 0 }
        switch start {
        case .offset(let offset): return existing(offset)
        case .beginning: return 0
        case .committed:
            return existing(broker.committed(group: group)[id]?.offset ?? .max)
        }
    }

    func pause(_ partitions: [TopicPartition]) throws(BrokerError) { paused.formUnion(assignment.intersection(partitions)) }
    func resume(_ partitions: [TopicPartition]) throws(BrokerError) { paused.subtract(partitions) }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) {
        try checkOpen("commit")
        var failure: BrokerError?
        do { try commitAndWait(offsets) } catch { failure = error }
        results.append((offsets, failure))
    }

    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {
        try checkOpen("commit")
        let failure: BrokerError? = broker.state.withLock { state in
            if !state.commitFaults.isEmpty { return state.commitFaults.removeFirst() }
            for offset in offsets { state.commits[group, default: [:]][offset.topicPartition] = offset }
            return nil
        }
        if let failure { throw failure }
    }

    private func checkOpen(_ operation: String) throws(BrokerError) {
        if isClosed { throw BrokerError("_DESTROY", operation: operation) }
    }

    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        broker.committed(group: group).filter { partitions.contains($0.key) }
    }

    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        let first = broker.state.withLock { $0.topics[partition.topic]?[Int(partition.partition)].records.first?.offset }
        let end = broker.end(of: partition)
        return min(first ?? end, end)..<end
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

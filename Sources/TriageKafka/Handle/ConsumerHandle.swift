import CRdKafka
import Synchronization
import TriageEvents

/// The consumer's calls of librdkafka, typed; all but ``waker`` on the polling thread.
final class ConsumerHandle {
    /// Told in the middle of ``poll(into:maximum:milliseconds:)`` and ``close()``.
    struct Callbacks {
        /// Partitions are about to be assigned; returns where to start.
        var assigning: ([TopicPartition]) -> [TopicPartition: StartOffset]
        /// Partitions are about to be taken away, or (lost) are already gone.
        var revoking: (_ partitions: [TopicPartition], _ isLost: Bool) -> Void
    }

    private let handle: ClientHandle
    private let queue: OpaquePointer
    private let wakeTarget: WakeTarget
    private let intake = MessageIntake()
    private var commits: [(offsets: [OffsetCommit], error: BrokerError?)] = []
    private var errors: [BrokerError] = []
    /// Set before the first poll, taken away before the end.
    var callbacks: Callbacks?
    private var hasRebalanced = false
    private var isClosing = false
    private var prefetch: PrefetchWatch

    init(properties: [Property], log: KafkaLog?) throws(KafkaConfigurationError) {
        handle = try ClientHandle(.consumer, properties: properties, log: log)
        prefetch = PrefetchWatch(properties)
        rd_kafka_poll_set_consumer(handle.client)
        guard let queue = rd_kafka_queue_get_consumer(handle.client) else {
            throw KafkaConfigurationError(key: "group.id", value: "", expected: "the name of a consumer group")
        }
        self.queue = queue
        wakeTarget = WakeTarget(queue)
        handle.context.failed = { [unowned self] error in
            errors.append(error)
            endWait()
        }
        handle.context.rebalanced = { [unowned self] assigns, list in rebalance(assigns, list) }
    }

    deinit { close() }

    /// Ends a waiting poll; does nothing once the consumer is closed.
    var waker: @Sendable () -> Void {
        let target = wakeTarget
        return { target.wake() }
    }

    func subscribe(to topics: [String]) throws(BrokerError) {
        let list = PartitionList(topics: topics)
        try check(list.withPointer { rd_kafka_subscribe(handle.client, $0) }, "subscribe")
    }

    func poll(into batch: inout PolledBatch, maximum: Int, milliseconds: Int32) {
        guard maximum > 0 else { return }
        hasRebalanced = false
        take(into: &batch, maximum: maximum, milliseconds: 0)
        prefetch.observe(rd_kafka_queue_length(queue), handle.client)
        // Taking without waiting swallows a wake-up of the queue, hence the flag beside it.
        guard !wakeTarget.wasWoken(), batch.isEmpty, !hasRebalanced, milliseconds > 0 else { return }
        take(into: &batch, maximum: 1, milliseconds: milliseconds)
        take(into: &batch, maximum: maximum - batch.records.count, milliseconds: 0)
        _ = wakeTarget.wasWoken()
    }

    func pause(_ partitions: Set<TopicPartition>) throws(BrokerError) {
        let list = PartitionList(partitions)
        try check(list.withPointer { rd_kafka_pause_partitions(handle.client, $0) }, "pause")
        if let error = list.firstError(operation: "pause") { throw error }
    }

    func resume(_ partitions: Set<TopicPartition>) throws(BrokerError) {
        let list = PartitionList(partitions)
        try check(list.withPointer { rd_kafka_resume_partitions(handle.client, $0) }, "resume")
        if let error = list.firstError(operation: "resume") { throw error }
    }

    /// Behind the last message taken of each partition; missing where none was taken.
    func positions(_ partitions: Set<TopicPartition>) throws(BrokerError) -> [TopicPartition: Int64] {
        let list = PartitionList(partitions)
        try check(list.withPointer { rd_kafka_position(handle.client, $0) }, "position")
        let known = list.withPointer { $0.commits }
        return Dictionary(known.map { ($0.topicPartition, $0.offset) }) { _, last in last }
    }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) {
        let list = PartitionList(offsets)
        let code = list.withPointer { list in
            rd_kafka_commit_queue(
                handle.client, list, queue,
                { _, code, list, opaque in
                    guard let opaque, let list else { return }
                    Unmanaged<ConsumerHandle>.fromOpaque(opaque).takeUnretainedValue().committed(code, list)
                }, Unmanaged.passUnretained(self).toOpaque()
            )
        }
        try check(code, "commit")
    }

    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {
        let list = PartitionList(offsets)
        try check(list.withPointer { rd_kafka_commit(handle.client, $0, 0) }, "commit")
        if let error = list.firstError(operation: "commit") { throw error }
    }

    func committed(_ partitions: [TopicPartition], milliseconds: Int32) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        try handle.committed(partitions, milliseconds: milliseconds)
    }

    func watermarks(_ partition: TopicPartition, milliseconds: Int32) throws(BrokerError) -> Range<Int64> {
        try handle.watermarks(partition, milliseconds: milliseconds)
    }

    /// The cached high watermark; nil while no fetch response brought one.
    func knownEnd(of partition: TopicPartition) -> Int64? {
        var low: Int64 = 0
        var high: Int64 = 0
        let code = rd_kafka_get_watermark_offsets(handle.client, partition.topic, partition.partition, &low, &high)
        return code == RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0 ? high : nil
    }

    /// The error after which the consumer can't go on, if it has one.
    var fatalError: BrokerError? { handle.fatalError }

    /// Leaves the group, with the revocation reported through ``callbacks``.
    func close() {
        guard !isClosing else { return }
        isClosing = true
        // Closing serves the same queue: a wake-up in the middle would end it half done, and the client's destruction
        // would then wait for ever.
        wakeTarget.disarm()
        rd_kafka_consumer_close(handle.client)
        callbacks = nil
        handle.context.rebalanced = nil
        handle.context.failed = nil
        rd_kafka_queue_destroy(queue)
    }

    private func take(into batch: inout PolledBatch, maximum: Int, milliseconds: Int32) {
        intake.take(from: queue, client: handle.client, into: &batch, maximum: maximum, milliseconds: milliseconds)
        if !commits.isEmpty {
            batch.commits += commits
            commits.removeAll()
        }
        if !errors.isEmpty {
            batch.errors += errors
            errors.removeAll()
        }
    }

    private func check(_ code: rd_kafka_resp_err_t, _ operation: String) throws(BrokerError) {
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
        throw BrokerError(code: code, client: handle.client, operation: operation)
    }

    private func rebalance(_ assigns: Bool, _ list: OpaqueList) {
        hasRebalanced = true
        endWait()
        if assigns {
            for (partition, start) in callbacks?.assigning(list.partitions) ?? [:] {
                guard let entry = rd_kafka_topic_partition_list_find(list, partition.topic, partition.partition) else { continue }
                switch start {
                case .committed: break
                case .beginning: entry.pointee.offset = Int64(RD_KAFKA_OFFSET_BEGINNING)
                case .offset(let offset): entry.pointee.offset = offset
                }
            }
            note(rd_kafka_assign(handle.client, list), "assign")
        } else {
            let isLost = rd_kafka_assignment_lost(handle.client) != 0
            callbacks?.revoking(list.partitions, isLost)
            intake.revoked()
            note(rd_kafka_assign(handle.client, nil), "unassign")
        }
    }

    /// Ends the poll that this callback runs in: a callback alone doesn't, yet it brought what a poll waits for.
    private func endWait() {
        if !isClosing { rd_kafka_queue_yield(queue) }
    }

    /// Hands an error to the next batch.
    func report(_ error: BrokerError) { errors.append(error) }

    private func note(_ code: rd_kafka_resp_err_t, _ operation: String) {
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
        errors.append(BrokerError(code: code, client: handle.client, operation: operation))
    }

    private func committed(_ code: rd_kafka_resp_err_t, _ list: OpaqueList) {
        endWait()
        let all = list.elements
        guard code != RD_KAFKA_RESP_ERR_NO_ERROR else {
            commits.append((list.commits, nil))
            return
        }
        // The list's error is that of one partition; others may have succeeded, unless none has an error of its own.
        let failed = all.filter { $0.err != RD_KAFKA_RESP_ERR_NO_ERROR }
        guard !failed.isEmpty else {
            commits.append((list.commits, BrokerError(code: code, client: handle.client, operation: "commit")))
            return
        }
        let succeeded = all.filter { $0.err == RD_KAFKA_RESP_ERR_NO_ERROR }.compactMap(\.commit)
        if !succeeded.isEmpty { commits.append((succeeded, nil)) }
        for (error, entries) in Dictionary(grouping: failed, by: \.err.rawValue) {
            let error = BrokerError(code: rd_kafka_resp_err_t(error), client: handle.client, operation: "commit")
            commits.append((entries.compactMap(\.commit), error))
        }
    }
}

extension PolledBatch {
    /// Whether nothing at all came.
    var isEmpty: Bool { records.isEmpty && ends.isEmpty && commits.isEmpty && errors.isEmpty }
}

/// The queue to wake, as long as there is one.
///
/// The pointer is only reached under the lock, and taken away under it before the queue is destroyed, so a late
/// waker finds nothing instead of freed memory.
final class WakeTarget: Sendable {
    private let queue: Mutex<UInt>
    private let isWoken = Atomic(false)

    init(_ queue: OpaquePointer) { self.queue = Mutex(UInt(bitPattern: queue)) }

    func wake() {
        isWoken.store(true, ordering: .sequentiallyConsistent)
        queue.withLock { address in
            if let queue = OpaquePointer(bitPattern: address) { rd_kafka_queue_yield(queue) }
        }
    }

    /// Whether ``wake()`` was called since the last time this was asked.
    func wasWoken() -> Bool { isWoken.exchange(false, ordering: .sequentiallyConsistent) }

    func disarm() { queue.withLock { $0 = 0 } }
}

extension ClientHandle {
    /// The committed offsets of this client's group; partitions without one are missing.
    func committed(_ partitions: [TopicPartition], milliseconds: Int32) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        guard !partitions.isEmpty else { return [:] }
        let list = PartitionList(partitions)
        let code = list.withPointer { rd_kafka_committed(client, $0, milliseconds) }
        if code != RD_KAFKA_RESP_ERR_NO_ERROR { throw BrokerError(code: code, client: client, operation: "committed") }
        if let error = list.firstError(operation: "committed") { throw error }
        let commits = list.withPointer { $0.commits }
        return Dictionary(commits.map { ($0.topicPartition, $0) }) { _, last in last }
    }

    /// The first offset that exists and the one behind the last, asked of the broker.
    func watermarks(_ partition: TopicPartition, milliseconds: Int32) throws(BrokerError) -> Range<Int64> {
        var low: Int64 = 0
        var high: Int64 = 0
        let code = rd_kafka_query_watermark_offsets(client, partition.topic, partition.partition, &low, &high, milliseconds)
        if code != RD_KAFKA_RESP_ERR_NO_ERROR {
            if code == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION { refreshLeaders(milliseconds: min(milliseconds, 1000)) }
            throw BrokerError(code: code, client: client, operation: "watermarks of \(partition)")
        }
        return low..<max(low, high)
    }

    /// Asks who leads the partitions of the topics that are known. Asking a broker that leads a partition no more makes
    /// librdkafka do so by itself, but only some time later, and until then the next question goes to the same broker.
    private func refreshLeaders(milliseconds: Int32) {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        if rd_kafka_metadata(client, 0, nil, &metadata, milliseconds) == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata {
            rd_kafka_metadata_destroy(metadata)
        }
    }
}

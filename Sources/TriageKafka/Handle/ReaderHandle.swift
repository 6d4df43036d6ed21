import CRdKafka
import TriageEvents

/// A client's calls of librdkafka for reading partitions from chosen offsets, typed.
///
/// It uses librdkafka's interface for single partitions, which needs no group: a partition is fetched from ``start(_:from:)``
/// to ``stop(_:)`` and at no other time. What was fetched before a stop is never delivered after it: both happen on the one
/// thread that takes, and librdkafka compares versions when a message is taken.
///
/// `@unchecked Sendable`: all but ``wake()`` and ``disarm()`` is called by one thread at a time, the reader's.
final class ReaderHandle: @unchecked Sendable {
    private let handle: ClientHandle
    private let queue: OpaquePointer
    private let wakeTarget: WakeTarget
    private let intake = MessageIntake()
    private let prefetch: PrefetchWatch
    private var topics: [String: OpaquePointer] = [:]
    /// Errors of partitions that the last ``take(into:maximum:milliseconds:)`` brought; a nil error says that the offset to
    /// read from doesn't exist.
    private(set) var failures: [(partition: TopicPartition, error: BrokerError?)] = []

    init(properties: [Property], log: KafkaLog?) throws(KafkaConfigurationError) {
        handle = try ClientHandle(.reader, properties: properties, log: log)
        guard let queue = rd_kafka_queue_new(handle.client) else {
            throw KafkaConfigurationError(key: "client", value: "", expected: "memory for a queue")
        }
        self.queue = queue
        wakeTarget = WakeTarget(queue)
        prefetch = PrefetchWatch(properties)
        intake.failed = { [unowned self] partition, code in
            let isOutside = code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || code == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
            let error = BrokerError(code: code, client: handle.client, operation: "read \(partition)")
            failures.append((partition, isOutside ? nil : error))
        }
    }

    deinit {
        wakeTarget.disarm()
        for topic in topics.values { rd_kafka_topic_destroy(topic) }
        rd_kafka_queue_destroy(queue)
    }

    /// Ends a waiting ``take(into:maximum:milliseconds:)`` early; on any thread.
    func wake() { wakeTarget.wake() }

    /// Whether an answer was too large for this client since this was asked last.
    func takeRefusal() -> Bool { handle.context.takeRefusal() }

    /// Begins to fetch.
    func start(_ partition: TopicPartition, from offset: Int64) throws(BrokerError) {
        let operation = "read \(partition)"
        let topic: OpaquePointer
        if let known = topics[partition.topic] {
            topic = known
        } else if let made = rd_kafka_topic_new(handle.client, partition.topic, nil) {
            topics[partition.topic] = made
            topic = made
        } else {
            throw BrokerError(code: rd_kafka_last_error(), client: handle.client, operation: operation)
        }
        guard rd_kafka_consume_start_queue(topic, partition.partition, offset, queue) == 0 else {
            throw BrokerError(code: rd_kafka_last_error(), client: handle.client, operation: operation)
        }
    }

    /// Drops what still lies in the queue; only while nothing is being fetched.
    func discard() {
        var batch = PolledBatch()
        repeat {
            batch.removeAll()
            take(into: &batch, 500, 0)
        } while !batch.isEmpty
    }

    /// Ends fetching; returns when librdkafka's main thread has done so.
    func stop(_ partition: TopicPartition) {
        guard let topic = topics[partition.topic] else { return }
        rd_kafka_consume_stop(topic, partition.partition)
    }

    /// Waits for something to come, then takes what is there without waiting.
    func take(into batch: inout PolledBatch, maximum: Int, milliseconds: Int32) {
        batch.removeAll()
        failures.removeAll()
        take(into: &batch, 1, milliseconds)
        take(into: &batch, maximum - batch.records.count, 0)
        // A queue that was full, be it of what is outdated since the last stop, is looked at again after up to a second only,
        // as ``PrefetchWatch`` tells: taking nothing in time is how that shows.
        if batch.records.count != 1 { prefetch.wake(handle.client) }
        // Errors of the whole client wait in another queue: brokers that are down. Time-outs tell what came of them.
        rd_kafka_poll(handle.client, 0)
    }

    func watermarks(_ partition: TopicPartition, milliseconds: Int32) throws(BrokerError) -> Range<Int64> {
        try handle.watermarks(partition, milliseconds: milliseconds)
    }

    private func take(into batch: inout PolledBatch, _ maximum: Int, _ milliseconds: Int32) {
        intake.take(from: queue, client: handle.client, into: &batch, maximum: maximum, milliseconds: milliseconds)
    }
}

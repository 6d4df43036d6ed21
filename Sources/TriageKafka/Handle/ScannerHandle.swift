import CRdKafka
import TriageEvents

/// A client's calls of librdkafka for reading stretches of partitions from front to back; each blocks.
///
/// By librdkafka's interface for single partitions, which knows no group: nothing is joined and nothing is committed.
struct ScannerHandle: Sendable {
    private let handle: ClientHandle
    private let properties: [Property]

    /// Makes the client.
    ///
    /// - Parameter prefetch: KiB that are fetched ahead of what is taken; half of it is asked for at a time.
    init(properties: [Property], prefetch: Int = 16_384, log: KafkaLog?) throws(KafkaConfigurationError) {
        func number(_ key: String) -> Int? { properties.last { $0.key == key }.flatMap { Int($0.value) } }
        // librdkafka refuses less than its largest record, and more than an answer may have (its CONFIGURATION.md, fetch.max.bytes).
        let largest = max(prefetch * 512, number("message.max.bytes") ?? 1_000_000)
        let fetch = min(largest, max(1, (number("receive.message.max.bytes") ?? 100_000_000) - 512))
        let own = [
            // What ends with the marker of a transaction ends with no record.
            Property("enable.partition.eof", "true"),
            // An offset that went away meanwhile is told, instead of going on at the end as if nothing had been there.
            Property("auto.offset.reset", "error"),
            Property("isolation.level", "read_committed"),
            Property("fetch.wait.max.ms", "100"),
            Property("fetch.max.bytes", "\(fetch)"),
            Property("queued.max.messages.kbytes", "\(prefetch)"),
            Property("fetch.queue.backoff.ms", "20", isOptional: true),
        ]
        self.properties = properties
        handle = try ClientHandle(.admin, properties: properties + own, log: log)
    }

    func watermarks(_ partition: TopicPartition, milliseconds: Int32) throws(BrokerError) -> Range<Int64> {
        try handle.watermarks(partition, milliseconds: milliseconds)
    }

    /// Hands every record of these stretches to `body`, in order within each partition, until it says that it has enough of one.
    ///
    /// - Parameters:
    ///   - ranges: offsets that exist, or did; an empty range is passed over.
    ///   - milliseconds: how long nothing may come before it is given up.
    ///   - body: gets a record, and says whether more of its partition is wanted.
    func scan(
        _ ranges: [TopicPartition: Range<Int64>], milliseconds: Int32, _ body: (Record) -> Bool
    ) throws(BrokerError) {
        var stretches = try Stretches(handle.client)
        for (partition, range) in ranges.sorted(by: { $0.key < $1.key }) where !range.isEmpty {
            try stretches.start(partition, range)
        }
        _ = handle.context.takeRefusal()
        let intake = MessageIntake()
        var prefetch = PrefetchWatch(properties)
        var batch = PolledBatch()
        var idle: Int32 = 0
        while !stretches.isEmpty {
            batch.removeAll()
            let pause = min(500, max(1, milliseconds - idle))
            intake.take(from: stretches.queue, client: handle.client, into: &batch, maximum: 1, milliseconds: pause)
            if batch.isEmpty {
                if handle.context.takeRefusal() {
                    throw .answerTooLarge("read \(stretches.first.map { "\($0)" } ?? "partitions")")
                }
                idle += pause
                guard idle < milliseconds else {
                    throw BrokerError("_TIMED_OUT", operation: "read \(stretches.first.map { "\($0)" } ?? "partitions")")
                }
                continue
            }
            idle = 0
            intake.take(from: stretches.queue, client: handle.client, into: &batch, maximum: 2000, milliseconds: 0)
            prefetch.observe(rd_kafka_queue_length(stretches.queue), handle.client)
            for record in batch.records {
                guard let end = stretches.end(record) else { continue }
                let wantsMore = record.offset < end && body(record)
                if !wantsMore || record.offset + 1 >= end { stretches.stop(record.topicPartition) }
            }
            for end in batch.ends { stretches.stop(end.partition) }
            if let error = batch.errors.first(where: { !$0.isRetriable }) { throw error }
        }
    }
}

/// The partitions that are being read, on one queue; whatever still is when this goes away is stopped.
private struct Stretches: ~Copyable {
    let queue: OpaquePointer
    private let client: OpaquePointer
    private var topics: [String: OpaquePointer] = [:]
    private var ends: [TopicPartition: Int64] = [:]
    /// The last partition that was asked for, with its end: records come in runs.
    private var latest: (topic: String, partition: Int32, end: Int64)?

    init(_ client: OpaquePointer) throws(BrokerError) {
        guard let queue = rd_kafka_queue_new(client) else { throw BrokerError("_CRIT_SYS_RESOURCE", operation: "read") }
        self.queue = queue
        self.client = client
    }

    deinit {
        for partition in ends.keys { rd_kafka_consume_stop(topics[partition.topic], partition.partition) }
        rd_kafka_queue_destroy(queue)
        for topic in topics.values { rd_kafka_topic_destroy(topic) }
    }

    var isEmpty: Bool { ends.isEmpty }
    var first: TopicPartition? { ends.keys.min() }

    mutating func start(_ partition: TopicPartition, _ range: Range<Int64>) throws(BrokerError) {
        guard let topic = topics[partition.topic] ?? rd_kafka_topic_new(client, partition.topic, nil) else {
            throw BrokerError(code: rd_kafka_last_error(), client: client, operation: "read \(partition)")
        }
        topics[partition.topic] = topic
        guard rd_kafka_consume_start_queue(topic, partition.partition, range.lowerBound, queue) == 0 else {
            throw BrokerError(code: rd_kafka_last_error(), client: client, operation: "read \(partition)")
        }
        ends[partition] = range.upperBound
    }

    /// Behind the last offset wanted of the record's partition; nil if no more of it is.
    mutating func end(_ record: Record) -> Int64? {
        if let latest, latest.partition == record.partition, latest.topic == record.topic { return latest.end }
        guard let end = ends[record.topicPartition] else { return nil }
        latest = (record.topic, record.partition, end)
        return end
    }

    mutating func stop(_ partition: TopicPartition) {
        latest = nil
        guard ends.removeValue(forKey: partition) != nil else { return }
        rd_kafka_consume_stop(topics[partition.topic], partition.partition)
    }
}

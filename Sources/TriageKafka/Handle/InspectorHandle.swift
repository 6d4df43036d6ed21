import CRdKafka
import TriageEvents

/// A client's calls of librdkafka for looking at partitions, typed; each blocks until it is answered or its time is up.
struct InspectorHandle: Sendable {
    private let handle: ClientHandle

    init(properties: [Property], log: KafkaLog?) throws(KafkaConfigurationError) {
        // One record is wanted at a time, so no more than a batch is fetched ahead of it.
        let small = [Property("fetch.message.max.bytes", "65536"), Property("queued.max.messages.kbytes", "64")]
        handle = try ClientHandle(.admin, properties: properties + small, log: log)
    }

    func watermarks(_ partition: TopicPartition, milliseconds: Int32) throws(BrokerError) -> Range<Int64> {
        try handle.watermarks(partition, milliseconds: milliseconds)
    }

    /// Fetches one record through librdkafka's interface for single partitions, which needs no group.
    func timestamp(in partition: TopicPartition, from offset: Int64, milliseconds: Int32) throws(BrokerError) -> Timestamp? {
        let operation = "first record of \(partition)"
        guard let topic = rd_kafka_topic_new(handle.client, partition.topic, nil) else {
            throw BrokerError(code: rd_kafka_last_error(), client: handle.client, operation: operation)
        }
        defer { rd_kafka_topic_destroy(topic) }
        guard rd_kafka_consume_start(topic, partition.partition, offset) == 0 else {
            throw BrokerError(code: rd_kafka_last_error(), client: handle.client, operation: operation)
        }
        defer { rd_kafka_consume_stop(topic, partition.partition) }
        guard let message = rd_kafka_consume(topic, partition.partition, milliseconds) else {
            throw BrokerError(code: RD_KAFKA_RESP_ERR__TIMED_OUT, operation: operation)
        }
        defer { rd_kafka_message_destroy(message) }
        switch message.pointee.err {
        case RD_KAFKA_RESP_ERR_NO_ERROR: break
        case RD_KAFKA_RESP_ERR__PARTITION_EOF: return nil
        default: throw BrokerError(code: message.pointee.err, client: handle.client, operation: operation)
        }
        var type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
        let time = rd_kafka_message_timestamp(message, &type)
        return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || time < 0 ? nil : Timestamp(milliseconds: time)
    }
}

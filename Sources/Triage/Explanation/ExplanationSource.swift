internal import Logging
internal import TriageEvents
internal import TriageKafka

/// What an explanation asks of Kafka: a real one's, or an in-memory broker's.
struct ExplanationSource: Sendable {
    /// Reads stretches of partitions.
    var scanner: any RecordScanner
    /// The first offsets whose records were written at a time or later; a partition is missing if there is none, or nobody knows.
    var offsets: @Sendable (Timestamp, [TopicPartition]) async throws -> [TopicPartition: Int64]
    /// What a group has committed.
    var commits: @Sendable (_ group: String, [TopicPartition]) async throws -> [TopicPartition: OffsetCommit]
}

extension ExplanationSource {
    /// The brokers of a configuration; nothing is joined, committed or produced.
    init(_ configuration: KafkaConfiguration, logger: Logger) throws {
        let log = logger.kafkaLog
        scanner = try KafkaRecordScanner(configuration, log: log)
        offsets = { time, partitions in
            let admin = try KafkaAdmin(configuration, log: log)
            defer { admin.close() }
            return try await admin.offsets(at: time, of: partitions)
        }
        commits = { group, partitions in
            let admin = try KafkaAdmin(configuration, log: log)
            defer { admin.close() }
            return try await admin.committed(group: group, partitions: partitions)
        }
    }
}

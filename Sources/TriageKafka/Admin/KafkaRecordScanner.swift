public import TriageEvents

/// Reads stretches of partitions through librdkafka, in no group, and only what is committed.
public final class KafkaRecordScanner: RecordScanner {
    private let admin: KafkaAdmin
    private let scanner: KafkaPartitionScanner
    private let timeout: Duration

    /// Makes its two clients, one that asks and one that reads; they connect in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - timeout: how long brokers may bring nothing before it is given up.
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(
        _ configuration: KafkaConfiguration, timeout: Duration = .seconds(30), log: KafkaLog? = nil
    ) throws(KafkaConfigurationError) {
        admin = try KafkaAdmin(configuration, log: log)
        scanner = try KafkaPartitionScanner(configuration, log: log)
        self.timeout = timeout
    }

    /// As ``KafkaAdmin/watermarks(of:timeout:)``.
    public func watermarks(of topics: [String]) async throws(BrokerError) -> [TopicPartition: Range<Int64>] {
        try await admin.watermarks(of: topics, timeout: timeout)
    }

    /// As ``KafkaPartitionScanner/scan(_:into:timeout:_:)``.
    public func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result {
        try await scanner.scan(ranges, into: initial, timeout: timeout, body)
    }

    /// Ends both clients once the calls that are under way have ended.
    public func close() {
        admin.close()
        scanner.close()
    }
}

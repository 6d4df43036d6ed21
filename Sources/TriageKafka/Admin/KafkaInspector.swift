import Synchronization
public import TriageEvents

/// Looks at partitions without consuming them, through librdkafka: their watermarks, and records of theirs.
///
/// A client of its own, so that what it waits for holds up neither the consumer nor anyone's admin calls. The calls block
/// the thread that makes them, at most about their time-out.
public final class KafkaInspector: PartitionInspector {
    private let handle: Mutex<ScannerHandle?>

    /// Makes the client; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(_ configuration: KafkaConfiguration, log: KafkaLog? = nil) throws(KafkaConfigurationError) {
        handle = Mutex(try ScannerHandle(properties: configuration.properties(for: .admin), prefetch: 1024, log: log))
    }

    /// The first offset that exists and the one behind the last, asked of the partition's leader.
    public func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        try open("watermarks").watermarks(partition, milliseconds: timeout.wholeMilliseconds)
    }

    /// Reads a stretch of a partition until `body` has enough; about 1 MiB is fetched ahead of it.
    public func scan(
        _ partition: TopicPartition, _ range: Range<Int64>, timeout: Duration, _ body: (Record) -> Bool
    ) throws(BrokerError) {
        try open("read").scan([partition: range], milliseconds: timeout.wholeMilliseconds, body)
    }

    /// Ends the client once the calls that are under way have ended; a second call does nothing.
    public func close() { handle.withLock { $0 = nil } }

    private func open(_ operation: String) throws(BrokerError) -> ScannerHandle {
        guard let handle = handle.withLock({ $0 }) else { throw BrokerError.closed(operation) }
        return handle
    }
}

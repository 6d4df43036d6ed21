import Synchronization
public import TriageEvents

/// Reads stretches of partitions from front to back, without any group: nothing is joined, moved or committed.
///
/// A client of its own, so that a long look holds up neither a consumer nor anyone's admin calls. Each call runs on a thread
/// of its own; what is fetched ahead is bounded by about 24 MiB.
public final class KafkaPartitionScanner: Sendable {
    private let handle: Mutex<ScannerHandle?>

    /// Makes the client; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(_ configuration: KafkaConfiguration, log: KafkaLog? = nil) throws(KafkaConfigurationError) {
        handle = Mutex(try ScannerHandle(properties: configuration.properties(for: .admin), log: log))
    }

    /// Folds the records of these stretches, all partitions at once, in order within each.
    ///
    /// Compaction, transactions' markers and aborted transactions leave gaps, so fewer records may come than there are offsets.
    ///
    /// - Parameters:
    ///   - ranges: the offsets to read of each partition; they must not lie before the first that exists.
    ///   - initial: what `body` begins with.
    ///   - timeout: how long nothing may come from any broker before it is given up.
    ///   - body: takes a record in, and says whether more of its partition is wanted.
    /// - Returns: what came of it.
    /// - Throws: a ``BrokerError``: `_TIMED_OUT` with the first partition that brought nothing, `_AUTO_OFFSET_RESET` if the
    ///   offsets went away meanwhile.
    public func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result, timeout: Duration = .seconds(30),
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result {
        guard let handle = handle.withLock({ $0 }) else { throw BrokerError.closed("read") }
        return try await onThread("read") { () throws(BrokerError) in
            var result = initial
            try handle.scan(ranges, milliseconds: timeout.wholeMilliseconds) { body(&result, $0) }
            return result
        }
    }

    /// Ends the client once the calls that are under way have ended; a second call does nothing.
    public func close() { handle.withLock { $0 = nil } }
}

/// The port for reading stretches of partitions without any group. Implementations: librdkafka, the in-memory broker of the
/// test kit.
///
/// Nothing is joined, moved or committed. Only committed records are read: what an open transaction has written isn't there
/// yet, what an aborted one has written never was.
public protocol RecordScanner: Sendable {
    /// The first offset that exists and the one behind the last, of every partition of these topics; topics that don't exist
    /// are missing.
    ///
    /// - Throws: a ``BrokerError`` if the brokers don't answer.
    func watermarks(of topics: [String]) async throws(BrokerError) -> [TopicPartition: Range<Int64>]

    /// Folds the records of these stretches, in order within each partition, partitions in any order or mixed.
    ///
    /// Compaction, transactions' markers and aborted transactions leave gaps, so fewer records may come than there are offsets.
    ///
    /// - Parameters:
    ///   - ranges: the offsets to read of each partition; they must not lie before the first that exists.
    ///   - initial: what `body` begins with.
    ///   - body: takes a record in, and says whether more of its partition is wanted; called on one thread at a time.
    /// - Returns: what came of it.
    /// - Throws: a ``BrokerError`` if the brokers don't answer, or the offsets went away meanwhile.
    func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result

    /// Ends what it holds once the calls that are under way have ended; a second call does nothing.
    func close()
}

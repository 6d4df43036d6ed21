/// The port for looking at a partition without consuming it. Implementations: librdkafka, the in-memory broker of the test kit.
///
/// Its calls block until they are answered, so they belong on a thread that may wait; any thread may make them.
public protocol PartitionInspector: Sendable {
    /// The first offset that exists and the one behind the last.
    ///
    /// - Throws: a ``BrokerError`` if nobody answered in time, or the partition doesn't exist.
    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64>

    /// Reads a stretch of a partition, in order, until `body` says that it has enough; only what is committed.
    ///
    /// Compaction, transactions' markers and aborted transactions leave gaps, so fewer records may come than there are offsets.
    ///
    /// - Parameters:
    ///   - partition: the partition to read.
    ///   - range: the offsets; they must not lie before the first that exists.
    ///   - timeout: how long nothing may come before it is given up.
    ///   - body: gets a record, and says whether more are wanted.
    /// - Throws: a ``BrokerError`` if nobody answered in time, the partition doesn't exist, or the offsets went away meanwhile.
    func scan(
        _ partition: TopicPartition, _ range: Range<Int64>, timeout: Duration, _ body: (Record) -> Bool
    ) throws(BrokerError)
}

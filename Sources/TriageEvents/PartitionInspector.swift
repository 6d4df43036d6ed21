/// The port for looking at a partition without consuming it. Implementations: librdkafka, the in-memory broker of the test kit.
///
/// Its calls block until they are answered, so they belong on a thread that may wait; any thread may make them.
public protocol PartitionInspector: Sendable {
    /// The first offset that exists and the one behind the last.
    ///
    /// - Throws: a ``BrokerError`` if nobody answered in time, or the partition doesn't exist.
    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64>

    /// The timestamp of the first record at `offset` or behind it; nil if there is none, or it has no timestamp.
    ///
    /// - Throws: a ``BrokerError`` if nobody answered in time.
    func timestamp(in partition: TopicPartition, from offset: Int64, timeout: Duration) throws(BrokerError) -> Timestamp?
}

/// The port through which single records are read again: what waits long needn't be kept in memory.
///
/// It is no member of any group, and what it reads has no effect on what is committed. Implementations: librdkafka (a
/// second handle), the in-memory broker of the test kit.
public protocol RecordReader: AnyObject, Sendable {
    /// Reads the records at these offsets of a partition.
    ///
    /// - Parameters:
    ///   - offsets: ascending, at least one.
    ///   - completion: called exactly once, on any thread but never within this call, with those of the records that still
    ///     exist, ascending; or with the error that kept it from reading, after which asking again may help. An offset at or
    ///     behind the end of the partition is such an error, `OFFSET_NOT_AVAILABLE`: who asks has seen the record, so it is
    ///     the end that lags.
    func read(
        _ offsets: [Int64], of partition: TopicPartition,
        completion: @escaping @Sendable (Result<[Record], BrokerError>) -> Void
    )

    /// Ends the reader; what is under way completes with an error.
    func close()
}

public import TriageEvents

/// Produces records in Kafka's transactions through librdkafka, under a transactional id that only one producer has at a time.
///
/// ``initialise()``, ``begin()``, ``commit()`` and ``abort()`` wait for the brokers on a thread of their own, one call at a time.
public final class KafkaTransactions: TransactionalProducer {
    private let producer: KafkaProducer

    /// Makes a producer; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - id: the transactional id: whoever is initialised last under it fences the others.
    ///   - timeout: how long a transaction may stay open before the brokers abort it, at most what they allow (15 min by
    ///     default: `transaction.max.timeout.ms`).
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(
        _ configuration: KafkaConfiguration, id: String, timeout: Duration = .seconds(60), log: KafkaLog? = nil
    ) throws(KafkaConfigurationError) {
        let milliseconds = String(timeout.wholeMilliseconds)
        producer = try KafkaProducer(
            configuration,
            extra: [
                Property("transactional.id", id), Property("transaction.timeout.ms", milliseconds),
                // A record can't be tried for longer than its transaction lasts.
                Property("delivery.timeout.ms", milliseconds),
            ], log: log, failed: nil)
    }

    /// Fences other producers of the id, and aborts what they left open.
    public func initialise() async throws(BrokerError) {
        try await producer.blocking("begin transactions") { handle throws(BrokerError) in try handle.initialiseTransactions() }
    }
    /// Begins a transaction.
    public func begin() async throws(BrokerError) {
        try await producer.blocking("begin transaction") { handle throws(BrokerError) in try handle.beginTransaction() }
    }
    /// Flushes and commits the transaction.
    public func commit() async throws(BrokerError) {
        try await producer.blocking("commit transaction") { handle throws(BrokerError) in try handle.commitTransaction() }
    }
    /// Aborts the transaction; what was produced in it fails with `_PURGE_QUEUE` or `_PURGE_INFLIGHT` if it wasn't written yet.
    public func abort() async throws(BrokerError) {
        try await producer.blocking("abort transaction") { handle throws(BrokerError) in try handle.abortTransaction() }
    }

    /// As ``KafkaProducer/produce(_:completion:)``; outside a transaction it throws `_STATE`.
    public func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        try producer.produce(record, completion: completion)
    }
    /// As ``KafkaProducer/whenWritable(_:)``.
    public func whenWritable(_ body: @escaping @Sendable () -> Void) { producer.whenWritable(body) }
    /// As ``KafkaProducer/flush(timeout:)``; what was acknowledged counts only once it is committed.
    public func flush(timeout: Duration) async -> Bool { await producer.flush(timeout: timeout) }
    /// As ``KafkaProducer/close()``; an open transaction is aborted by the brokers.
    public func close() { producer.close() }
}

import Synchronization
import TriageEvents

/// A producer that sends records whose batch was refused as too large again, each alone.
///
/// A broker measures batches, not records: a topic with a `max.message.bytes` below the producer's `batch.size` (1,000,000) refuses
/// a batch of small records, and librdkafka, unlike Kafka's Java client, doesn't split it but fails every one of them. Only a
/// record that is refused alone is too large itself.
///
/// Such records may be overtaken by later ones of their partition, so this is for records whose place doesn't matter: those of
/// retry and dead letter topics. Each is kept until it is answered.
final class SplittingProducer: RecordProducer {
    private struct State {
        var single: KafkaProducer?
        var isClosed = false
    }
    private let batching: KafkaProducer
    private let makeSingle: @Sendable () throws(KafkaConfigurationError) -> KafkaProducer
    private let state = Mutex(State())

    init(
        _ configuration: KafkaConfiguration, log: KafkaLog?, failed: @escaping @Sendable (BrokerError) -> Void
    ) throws(KafkaConfigurationError) {
        batching = try KafkaProducer(configuration, log: log, failed: failed)
        makeSingle = { () throws(KafkaConfigurationError) in
            var single = configuration
            single.additional["batch.num.messages"] = "1"
            return try KafkaProducer(single, log: log, failed: failed)
        }
    }

    /// The client that sends most records.
    var first: KafkaProducer { batching }

    func isReachable(within timeout: Duration) -> Bool { batching.isReachable(within: timeout) }

    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        try batching.produce(record) { [self] result in
            if case .failure(let error) = result, error.isTooLarge {
                produceAlone(record, refused: error, completion)
            } else {
                completion(result)
            }
        }
    }

    private func produceAlone(
        _ record: OutboundRecord, refused: BrokerError,
        _ completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) {
        guard let single = single() else { return completion(.failure(refused)) }
        do throws(BrokerError) { try single.produce(record, completion: completion) } catch { completion(.failure(error)) }
    }

    /// Made when it is needed for the first time; nil if it can't be, or when closed.
    private func single() -> KafkaProducer? {
        state.withLock { state in
            if state.isClosed { return nil }
            if let known = state.single { return known }
            state.single = try? makeSingle()
            return state.single
        }
    }

    func whenWritable(_ body: @escaping @Sendable () -> Void) { batching.whenWritable(body) }

    func flush(timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        guard await batching.flush(timeout: timeout) else { return false }
        guard let single = state.withLock({ $0.single }) else { return true }
        return await single.flush(timeout: max(.zero, deadline - ContinuousClock.now))
    }

    func close() {
        let single = state.withLock { state in
            defer { state.isClosed = true }
            return state.single
        }
        batching.close()
        single?.close()
    }
}

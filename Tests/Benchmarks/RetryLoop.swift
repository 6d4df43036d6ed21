import Glibc
import TriageEvents
import TriageOTLP
import TriageProcessing
import TriageTelemetry

/// The engine's part of the retry path without a broker: each event fails once, its retry record is acknowledged at once and
/// read again by the next poll. For counting instructions; what librdkafka's threads cost is told by `retry-path`.
extension Benchmarks {
    private struct Unavailable: Error {}

    /// Takes spans and forgets their bytes.
    private struct Forget: SpanProcessor {
        let encoder: OTLPSpanEncoder
        func onEnd(_ span: borrowing SpanData) { encoder.withEncoded(span) { _ in } }
    }

    /// - Parameter completes: the retry is due at once and succeeds; otherwise it is due in an hour and only comes in.
    static func retryLoop(completes: Bool, traced: Bool) -> (Int) -> Void {
        { count in
            let encoder = OTLPSpanEncoder(identifiers: .omitted)
            let tracer = Tracer(
                clock: SystemClock(), encoder: encoder, processors: [Forget(encoder: encoder)], isEnabled: traced)
            let meter = Meter()
            let topic = RetryTopic(count: count)
            let sink = TracedSink(producer: topic, tracer: tracer, meter: meter, clientID: nil)
            var configuration = EngineConfiguration(group: "bench", topics: [RetryTopic.topic])
            let wait: Duration = completes ? .zero : .seconds(3600)
            configuration.retries = RetryPolicies(RetryPolicy(base: wait, cap: wait))
            configuration.newTraceAfter = nil
            configuration.outage = nil
            let engine = Engine(configuration, consumer: topic, sink: sink, tracer: tracer, meter: meter) { _, context in
                if context.attempt == 1 { throw Unavailable() }
            }
            topic.atEnd = { engine.stop() }
            do { try engine.run() } catch { exit(1) }
            let summary = engine.summary
            guard summary.retries == count, summary.completed == (completes ? count : 0) else { exit(1) }
        }
    }
}

/// Prepared records of a main partition, and a retry partition of what was produced.
///
/// `@unchecked Sendable`: used on the engine's thread alone.
private final class RetryTopic: IdleConsumer, RecordProducer, @unchecked Sendable {
    static let topic = "fhir.Patient.created"
    private let main = TopicPartition(topic, 0)
    private let retry = TopicPartition(topic + ".retry", 0)
    private let headers = Headers([
        Header("traceparent", text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Header("content-type", text: "application/fhir+json"),
    ])
    private let count: Int
    private var offset: Int64 = 0
    private var produced: [OutboundRecord] = []
    private var taken: Int64 = 0
    private var isAssigned = false
    private var idlePolls = 0
    private weak var observer: (any AssignmentObserver)?
    private var commits: [[OffsetCommit]] = []
    var atEnd: () -> Void = {}

    init(count: Int) { self.count = count }

    var waker: @Sendable () -> Void { {} }
    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) { self.observer = observer }

    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        if !isAssigned {
            isAssigned = true
            _ = observer?.assigned([main, retry], by: self)
            return
        }
        for offsets in commits { batch.commits.append((offsets, nil)) }
        commits.removeAll()
        let now = SystemClock().now()
        for record in produced {
            batch.records.append(
                Record(
                    topic: retry.topic, partition: 0, offset: taken, timestamp: now, key: record.key, value: record.value,
                    headers: record.headers))
            taken += 1
        }
        produced.removeAll(keepingCapacity: true)
        for _ in 0..<min(maximum - min(maximum, batch.records.count), count - Int(offset)) {
            batch.records.append(
                Record(
                    topic: main.topic, partition: 0, offset: offset, timestamp: now, key: ByteSlice("patient-\(offset)"),
                    value: Benchmarks.event, headers: headers))
            offset += 1
        }
        if taken == Int64(count), batch.records.isEmpty {
            idlePolls += 1
            if idlePolls == 1 { batch.ends = [(main, offset), (retry, taken)] }
            if idlePolls == 2 { atEnd() }
        }
    }

    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        produced.append(record)
        completion(.success(Acknowledgement(partition: 0, offset: taken + Int64(produced.count) - 1)))
    }
    func whenWritable(_ body: @escaping @Sendable () -> Void) { body() }
    func flush(timeout: Duration) async -> Bool { true }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) { commits.append(offsets) }
}

import Glibc
import TriageEvents
import TriageProcessing
import TriageTelemetry

extension Benchmarks {
    /// A rebuild at assignment: so many records of a retry partition, each parked behind the first of its hundred, are read, judged
    /// and queued; none is due, and the engine is stopped when all are at rest.
    static func rebuild() -> (Int) -> Void {
        { count in
            let consumer = BacklogConsumer(count: count)
            let tracer = Tracer(sampler: .alwaysOff, clock: SystemClock(), processors: [], isEnabled: false)
            let meter = Meter()
            let sink = TracedSink(producer: NoProducer(), tracer: tracer, meter: meter, clientID: nil)
            let engine = Engine(
                EngineConfiguration(group: "bench", topics: [BacklogConsumer.topic]), consumer: consumer, sink: sink,
                tracer: tracer,
                meter: meter, log: { if case .rebuilt(_, let open, _) = $0, open != count { exit(1) } }
            ) { _, _ in exit(1) }
            consumer.atEnd = { engine.stop() }
            do { try engine.run() } catch { exit(1) }
        }
    }
}

/// A retry partition that is full of records which wait, and a main partition behind which they all lie.
private final class BacklogConsumer: RecordConsumer {
    static let topic = "fhir.Patient.created"
    private let count: Int
    private var offset: Int64 = 0
    private var isAssigned = false
    private var idlePolls = 0
    private weak var observer: (any AssignmentObserver)?
    var atEnd: () -> Void = {}

    init(count: Int) { self.count = count }

    var waker: @Sendable () -> Void { {} }
    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) { self.observer = observer }

    private let main = TopicPartition(topic, 0)
    private let retry = TopicPartition(topic + ".retry", 0)

    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        if !isAssigned {
            isAssigned = true
            _ = observer?.assigned([main, retry], by: self)
            return
        }
        for _ in 0..<min(maximum, count - Int(offset)) {
            let head = offset / 100 * 100
            var headers = [
                Header("triage-origin", text: "\(Self.topic)/0/\(offset)"),
                Header("triage-origin-timestamp", text: "1700000000000"),
                Header("triage-group", text: "bench"), Header("triage-writer", text: "00000000000000aa"),
                Header("retryCount", text: offset == head ? "1" : "0"),
            ]
            if offset == head {
                headers.append(Header("triage-due-at", text: "4102444800000"))
            } else {
                headers.append(Header("triage-parked-behind", text: "\(Self.topic)/0/\(head)"))
            }
            batch.records.append(
                Record(
                    topic: retry.topic, partition: 0, offset: offset, timestamp: Timestamp(milliseconds: 1_700_000_000_000),
                    key: ByteSlice("patient-\(offset / 100)"), value: Benchmarks.event, headers: Headers(headers)))
            offset += 1
        }
        if Int(offset) == count {
            if idlePolls == 0 { batch.ends = [(retry, offset)] }
            idlePolls += 1
            if idlePolls == 2 { atEnd() }
        }
    }

    func pause(_ partitions: [TopicPartition]) throws(BrokerError) {}
    func resume(_ partitions: [TopicPartition]) throws(BrokerError) {}
    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) {}
    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {}
    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        [main: OffsetCommit(main, offset: Int64(count)), retry: OffsetCommit(retry, offset: 0)]
    }
    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> { 0..<Int64(count) }
    func close() {}
}

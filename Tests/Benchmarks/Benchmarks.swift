import Glibc
import TriageEvents
import TriageOTLP
import TriageProcessing
import TriageTelemetry

/// Costs of the hot path's parts, one operation after the other in this process.
///
///     swift run -c release Benchmarks [NAME [COUNT]]
///
/// prints CPU nanoseconds an operation, the best of five rounds. Under `Tests/Benchmarks/counts.sh` the same loops are counted:
/// instructions and allocations don't depend on what else the machine does.
@main
enum Benchmarks {
    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        if arguments.first == "parked" { return try await ParkedRecords.run(Array(arguments.dropFirst())) }
        if arguments.first == "dead-letters" { return try await DeadLetterScale.run(Array(arguments.dropFirst())) }
        if arguments.first == "bare-route" { return try await BareRoute.run(Array(arguments.dropFirst())) }
        if arguments.first == "retry-path" { return try await RetryPath.run(Array(arguments.dropFirst())) }
        let all: [(name: String, count: Int, make: () -> (Int) -> Void)] =
            [
                ("decode", 200_000, decode), ("span", 1_000_000, span), ("encode", 500_000, encode),
                ("span-unsampled", 1_000_000, spanUnsampled), ("event-unsampled", 500_000, eventUnsampled),
                ("engine", 200_000, { engine(traced: false) }),
                ("engine-traced", 200_000, { engine(traced: true) }), ("rebuild", 100_000, rebuild),
                ("retry", 100_000, { retryLoop(completes: false, traced: false) }),
                ("retry-complete", 100_000, { retryLoop(completes: true, traced: false) }),
                ("retry-complete-traced", 100_000, { retryLoop(completes: true, traced: true) }),
                ("webhook", 50_000, { webhook(traced: false) }), ("webhook-traced", 50_000, { webhook(traced: true) }),
                ("command", 50_000, { command(traced: false) }),
                ("seal", 50_000, { sealBenchmark(bytes: 1000) }), ("seal-large", 500, { sealBenchmark(bytes: 1_000_000) }),
                ("shape", 20_000, shapeBenchmark),
                ("counter", 10_000_000, counter),
                ("histogram", 10_000_000, histogram), ("scrape", 200, { scrape(.text) }),
                ("scrape-openmetrics", 200, { scrape(.openMetrics) }), ("scrape-gzip", 200, { scrape(.openMetrics, gzip: true) }),
            ] + metrics
        if let name = arguments.first, !all.contains(where: { $0.name == name }) {
            print("usage: Benchmarks [\(all.map(\.name).joined(separator: "|")) [COUNT]]")
            exit(64)
        }
        for benchmark in all where arguments.isEmpty || arguments.first == benchmark.name {
            let body = benchmark.make()
            if let count = arguments.dropFirst().first.flatMap({ Int($0) }) {
                body(count)
                continue
            }
            body(benchmark.count / 10)
            let best = (0..<5).map { _ in nanoseconds(benchmark.count, body) }.min() ?? 0
            let digits = String(Int(best * 10))
            print("\(benchmark.name): \(digits.dropLast().isEmpty ? "0" : digits.dropLast()).\(digits.suffix(1)) ns")
        }
    }

    private static func nanoseconds(_ count: Int, _ body: (Int) -> Void) -> Double {
        let start = cpu()
        body(count)
        return Double(cpu() - start) / Double(count)
    }

    /// CPU time of the whole process.
    private static func cpu() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// An event of about 1 KiB, like those of `Fixtures/generate-events.py`.
    static let event = ByteSlice(
        """
        {"type":"PatientCreated","data":{"resourceType":"Patient","id":"0d9a4c0e-5a37-4f06-a5b2-3a1c62c0a2f1","meta":{"versionId":"1",\
        "lastUpdated":"2024-01-01T00:00:00.007Z","profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"]},\
        "active":true,"identifier":[{"use":"usual","system":"urn:oid:1.2.36.146.595.217.0.1","value":"00000001"}],"name":[{"use":\
        "official","family":"Sørensen","given":["Zoë","Mary"],"text":"Zoë Mary Sørensen"}],"telecom":[{"system":"phone","value":\
        "+1-555-123-4567","use":"home","rank":1},{"system":"email","value":"p1@example.org","use":"work"}],"gender":"female",\
        "birthDate":"1974-12-25","address":[{"use":"home","type":"both","line":["534 Maple St","Apt 12"],"city":"Springfield",\
        "state":"VIC","postalCode":"31999","country":"US"}],"maritalStatus":{"coding":[{"system":\
        "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus","code":"M"}]}},"metadata":{"eventId":\
        "7b1f4a52-0c7e-4d0b-a1de-0f2f4f2a9c11","timestamp":"2024-01-01T00:00:00.007Z","source":"fhir-server","correlationId":\
        "c6a7b1de-91f3-4a53-a0aa-6d5b8f7e1234"}}
        """
    )

    private static func decode() -> (Int) -> Void {
        let decoder = EventDecoder()
        return { count in
            for _ in 0..<count {
                guard (try? decoder.decode(value: event, key: nil, topicAction: .created)) != nil else { exit(1) }
            }
        }
    }

    // MARK: Spans

    /// Takes spans and forgets them.
    private struct Discard: SpanProcessor {
        func onEnd(_ span: borrowing SpanData) {}
    }

    /// Encodes spans and forgets the bytes.
    private struct EncodeOnly: SpanProcessor {
        let encoder: OTLPSpanEncoder
        func onEnd(_ span: borrowing SpanData) { encoder.withEncoded(span) { _ in } }
    }

    private static let parent = TraceContext(traceparent: ByteSlice("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))

    /// A span of 14 attributes, eight of them the template's, with one link: what a process span has.
    private static func makeSpan(
        _ tracer: Tracer, _ template: SpanTemplate, _ eventID: AttributeValue, parent: TraceContext? = parent
    ) -> SpanData {
        var span = tracer.start(template, parent: parent, at: tracer.clock.now())
        if let parent { span.add(SpanLink(parent)) }
        span.reserveAttributes(6)
        span.append("messaging.kafka.offset", .int(123_456))
        span.append("event.type", .literal("PatientCreated"))
        span.append("event.resource.type", .literal("Patient"))
        span.append("event.id", eventID)
        span.append("messaging.message.conversation_id", eventID)
        span.append("triage.outcome", .literal("completed"))
        return span
    }

    private static func template(_ tracer: Tracer) -> SpanTemplate {
        tracer.template(
            "process fhir.Patient.created", kind: .consumer,
            [
                Attribute("messaging.system", .literal("kafka")), Attribute("messaging.operation.name", .literal("process")),
                Attribute("messaging.operation.type", .literal("process")),
                Attribute("messaging.destination.name", .literal("fhir.Patient.created")),
                Attribute("messaging.destination.partition.id", .literal("3")),
                Attribute("messaging.consumer.group.name", .literal("triage")),
                Attribute("messaging.client.id", .literal("triage")),
                Attribute("server.address", .literal("127.0.0.1")),
            ]
        )
    }

    private static func spans(_ tracer: Tracer) -> (Int) -> Void {
        let template = template(tracer)
        let eventID = AttributeValue.uuid(0x7b1f_4a52_0c7e_4d0b, 0xa1de_0f2f_4f2a_9c11)
        return { count in
            for _ in 0..<count { tracer.end(makeSpan(tracer, template, eventID), at: tracer.clock.now()) }
        }
    }

    private static func span() -> (Int) -> Void {
        spans(Tracer(clock: SystemClock(), encoder: OTLPSpanEncoder(identifiers: .omitted), processors: [Discard()]))
    }

    private static let refused = TraceContext(traceparent: ByteSlice("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))

    /// The same span, refused by the sampler and kept until it ends without a failure.
    private static func spanUnsampled() -> (Int) -> Void {
        let tracer = Tracer(clock: SystemClock(), encoder: OTLPSpanEncoder(identifiers: .omitted), processors: [Discard()])
        let template = template(tracer)
        let eventID = AttributeValue.uuid(0x7b1f_4a52_0c7e_4d0b, 0xa1de_0f2f_4f2a_9c11)
        return { count in
            for _ in 0..<count { tracer.end(makeSpan(tracer, template, eventID, parent: refused), at: tracer.clock.now()) }
        }
    }

    /// Both spans of an event that the sampler refused and that succeeds: process, and the attempt in it.
    private static func eventUnsampled() -> (Int) -> Void {
        let tracer = Tracer(clock: SystemClock(), encoder: OTLPSpanEncoder(identifiers: .omitted), processors: [Discard()])
        let template = template(tracer)
        let attempt = AttemptStep.template(tracer: tracer)
        let eventID = AttributeValue.uuid(0x7b1f_4a52_0c7e_4d0b, 0xa1de_0f2f_4f2a_9c11)
        return { count in
            for _ in 0..<count {
                let process = makeSpan(tracer, template, eventID, parent: refused)
                let step = AttemptStep(
                    template: attempt, number: 1, process: process.context, previous: nil, tracer: tracer,
                    at: tracer.clock.now())
                let end = tracer.clock.now()
                step.end(nil, tracer: tracer, at: end)
                tracer.end(process, at: end)
            }
        }
    }

    private static func encode() -> (Int) -> Void {
        let encoder = OTLPSpanEncoder(identifiers: .omitted)
        return spans(Tracer(clock: SystemClock(), encoder: encoder, processors: [EncodeOnly(encoder: encoder)]))
    }

    // MARK: Metrics

    private static func counter() -> (Int) -> Void {
        let counter = Meter().counter(.deliveries, ["triage.outcome": "completed"])
        return { count in for _ in 0..<count { counter.add() } }
    }

    private static func histogram() -> (Int) -> Void {
        let histogram = Meter().histogram(.processDuration, ["messaging.system": "kafka"])
        return { count in for index in 0..<count { histogram.record(Double(index & 1023) * 0.001) } }
    }

    private static var metrics: [(name: String, count: Int, make: () -> (Int) -> Void)] {
        [
            ("counter-exemplar", 10_000_000, { counter(in: parent, Meter()) }),
            ("counter-exemplar-pushed", 10_000_000, { counter(in: parent, Meter(readers: [MetricReaderOptions()])) }),
            ("counter-unsampled", 10_000_000, { counter(in: nil, Meter()) }),
            ("histogram-exemplar", 10_000_000, { histogram(in: parent, Meter()) }),
            ("histogram-exemplar-pushed", 10_000_000, { histogram(in: parent, Meter(readers: [MetricReaderOptions()])) }),
            ("histogram-unsampled", 10_000_000, { histogram(in: nil, Meter()) }),
            (
                "histogram-exponential", 10_000_000,
                { histogram(in: nil, Meter(readers: [MetricReaderOptions(histograms: .base2ExponentialBucketHistogram)])) }
            ),
            ("collect-2000", 200, collect),
        ]
    }

    private static func counter(in context: TraceContext?, _ meter: Meter) -> (Int) -> Void {
        let counter = meter.counter(.deliveries, ["triage.outcome": "completed"])
        let now = SystemClock().now()
        return { count in for _ in 0..<count { counter.add(1, in: context, at: now) } }
    }

    private static func histogram(in context: TraceContext?, _ meter: Meter) -> (Int) -> Void {
        let histogram = meter.histogram(.processDuration, ["messaging.system": "kafka"])
        let now = SystemClock().now()
        return { count in for index in 0..<count { histogram.record(Double(index & 1023) * 0.001, in: context, at: now) } }
    }

    /// One collection of 1,000 counters and 1,000 histograms that all have exemplars.
    private static func collect() -> (Int) -> Void {
        let meter = Meter()
        for index in 0..<1000 {
            meter.counter(.deliveries, ["messaging.destination.name": "\(index)"]).add(1, in: parent)
            meter.histogram(.processDuration, ["messaging.destination.name": "\(index)"]).record(0.02, in: parent)
        }
        return { count in
            for _ in 0..<count where meter.collect(at: SystemClock().now()).metrics.count != 2 { exit(1) }
        }
    }

    // MARK: Engine

    /// The whole engine over records that lie in memory: decode, lanes, handler, ledger; with `traced` two encoded spans as well.
    private static func engine(traced: Bool) -> (Int) -> Void {
        { count in
            let encoder = OTLPSpanEncoder(identifiers: .omitted)
            let tracer = Tracer(
                clock: SystemClock(), encoder: encoder, processors: [EncodeOnly(encoder: encoder)], isEnabled: traced
            )
            let meter = Meter()
            let sink = TracedSink(producer: NoProducer(), tracer: tracer, meter: meter, clientID: nil)
            var configuration = EngineConfiguration(group: "bench", topics: ["fhir.Patient.created"])
            configuration.endsWhenIdle = true
            let engine = Engine(
                configuration, consumer: MemoryConsumer(count: count), sink: sink, tracer: tracer, meter: meter
            ) { _, _ in }
            do { try engine.run() } catch { exit(1) }
            guard engine.summary.completed == count else { exit(1) }
        }
    }
}

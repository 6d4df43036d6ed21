import Foundation
import Glibc
import Logging
import Synchronization
import Tracing
import TriageBridges
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

/// A tracer, a meter and bridges to them.
struct Bench: Sendable {
    let recorder = SpanRecorder()
    let tracer: TriageTelemetry.Tracer
    let meter = TriageTelemetry.Meter()
    let bridges: Bridges

    init(
        _ sampler: Sampler = .parentBased(root: .alwaysOn), limits: SpanLimits = SpanLimits(),
        policy: BridgePolicy = BridgePolicy(), isEnabled: Bool = true, propagators: Propagators = .all
    ) {
        tracer = TriageTelemetry.Tracer(
            sampler: sampler, limits: limits, clock: SystemClock(), processors: [recorder], isEnabled: isEnabled,
            propagators: propagators)
        bridges = Bridges(tracer: tracer, meter: meter, policy: policy)
    }

    func span(_ name: String) -> SpanData? { recorder.spans.last { $0.template.name == name } }

    /// What was kept back, by item.
    var refused: [String: Int] {
        var counts: [String: Int] = [:]
        for point in points("triage.bridge.refusals") {
            if case .sum(let count) = point.value, count > 0, let item = point.attributes.pairs.first?.value {
                counts[item] = Int(count)
            }
        }
        return counts
    }

    func points(_ name: String) -> [MetricData.Point] {
        meter.collect(at: tracer.clock.now()).metrics.first { $0.metric.name == name }?.points ?? []
    }

    func metric(_ name: String) -> Metric? {
        meter.collect(at: tracer.clock.now()).metrics.first { $0.metric.name == name }?.metric
    }

    /// A span of Triage's own, as the engine sets it around a handler.
    func attempt(isSampled: Bool = true) -> TriageTelemetry.Span {
        let template = tracer.template("attempt", kind: .internal, [])
        return TriageTelemetry.Span(
            tracer.start(template, parent: nil, at: tracer.clock.now(), isSampled: isSampled), clock: tracer.clock)
    }

    /// Has the engine handle these events, put into an in-memory broker with the headers; ends when all are done.
    func run(
        _ events: [(id: String, headers: Headers)],
        retries: RetryPolicy = RetryPolicy(base: .milliseconds(2), cap: .milliseconds(5)),
        handler: @escaping EventHandler
    ) async throws {
        let broker = InMemoryBroker()
        for suffix in ["", ".retry", ".dlq"] { broker.createTopic("fhir.Patient" + suffix, partitions: 2) }
        let producer = broker.producer()
        for (id, headers) in events {
            let json = #"{"type":"PatientCreated","data":{"resourceType":"Patient","id":"\#(id)"}}"#
            let record = OutboundRecord(topic: "fhir.Patient", key: ByteSlice(id), value: ByteSlice(json), headers: headers)
            try producer.produce(record) { _ in }
        }
        var configuration = EngineConfiguration(group: "workers", topics: ["fhir.Patient"])
        configuration.endsWhenIdle = true
        configuration.retry = retries
        configuration.commitInterval = .milliseconds(2)
        let sink = TracedSink(producer: broker.producer(), tracer: tracer, meter: meter, clientID: nil)
        let engine = Engine(
            configuration, consumer: broker.consumer(group: "workers"), sink: sink, tracer: tracer, meter: meter, handler: handler
        )
        try await onThread { Result { try engine.run() } }.get()
    }
}

extension SpanData {
    var name: String { template.name }

    func value(_ key: StaticString) -> AttributeValue? { attributes.last { $0.key == StaticText(key) }?.value }
}

/// Runs what blocks on a thread of its own, so that the cooperative pool stays free.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    await withCheckedContinuation { continuation in
        let thread = Thread { continuation.resume(returning: body()) }
        thread.start()
    }
}

/// A log handler that keeps the metadata of each line.
struct KeepingLogHandler: LogHandler {
    final class Lines: Sendable {
        private let lines = Mutex<[(message: String, metadata: Logger.Metadata)]>([])
        var all: [(message: String, metadata: Logger.Metadata)] { lines.withLock { $0 } }
        func append(_ message: String, _ metadata: Logger.Metadata) { lines.withLock { $0.append((message, metadata)) } }
    }

    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    var logLevel = Logger.Level.trace

    init(_ lines: Lines, _ provider: Logger.MetadataProvider?) {
        self.lines = lines
        metadataProvider = provider
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.append("\(event.message)", metadataProvider?.get() ?? [:]) }

    static func logger(_ lines: Lines) -> Logger {
        Logger(label: "test") { _ in KeepingLogHandler(lines, .triage) }
    }
}

/// Carries headers in a dictionary.
struct Carrier: Extractor, Injector {
    func extract(key: String, from carrier: [String: String]) -> String? { carrier[key] }
    func inject(_ value: String, forKey key: String, into carrier: inout [String: String]) { carrier[key] = value }
}

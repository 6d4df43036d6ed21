public import Tracing
internal import TriageEvents
public import TriageTelemetry

/// Begins spans for those who call swift-distributed-tracing: handlers with `withSpan`, and the libraries they use.
///
/// Such a span is sampled, limited, queued and exported like Triage's own. Its parent is the innermost span that was begun
/// here inside of the current attempt, else the attempt itself, else the one that the service context carries; without any
/// of these it begins a trace. What its names and attributes may hold, ``BridgePolicy`` says.
public final class TriageTracer: Tracing.Tracer {
    /// What it begins.
    public typealias Span = TriageSpan

    let tracer: TriageTelemetry.Tracer
    let vetting: Vetting
    let templates: SpanTemplates
    private let flush: @Sendable () -> Void

    /// A tracer in front of Triage's own.
    ///
    /// - Parameters:
    ///   - tracer: makes the spans.
    ///   - meter: counts what the policy kept back.
    ///   - policy: what may show.
    ///   - flush: exports what has ended; must return at once.
    public convenience init(
        _ tracer: TriageTelemetry.Tracer, meter: Meter, policy: BridgePolicy = BridgePolicy(),
        flush: @escaping @Sendable () -> Void = {}
    ) {
        self.init(tracer, vetting: Vetting(policy, meter: meter), flush: flush)
    }

    init(_ tracer: TriageTelemetry.Tracer, vetting: Vetting, flush: @escaping @Sendable () -> Void) {
        self.tracer = tracer
        self.vetting = vetting
        self.flush = flush
        templates = SpanTemplates(tracer: tracer, vetting: vetting)
    }

    /// Begins a span under the context's, or the current attempt's. One whose name doesn't show says where it was begun.
    public func startSpan<Instant: TracerInstant>(
        _ operationName: String, context: @autoclosure () -> ServiceContext, ofKind kind: Tracing.SpanKind,
        at instant: @autoclosure () -> Instant, function: String, file fileID: String, line: UInt
    ) -> TriageSpan {
        var context = context()
        let template = templates.template(operationName, kind: TriageTelemetry.SpanKind(kind))
        var span = tracer.start(template, parent: context.traceContext, at: Timestamp(instant()))
        if span.isRecording, template.name == SpanTemplates.other {
            if let file = SourceFile.vetted(fileID) { span.append("code.file.path", .text(file)) }
            span.append("code.line.number", .int(Int64(clamping: line)))
        }
        let core = SpanCore(span, name: template.name, owner: self)
        context.carried = Carried(context: span.context, attempt: TriageTelemetry.Span.current, core: core)
        return TriageSpan(context: context, core: core)
    }

    /// The span of `context`, if it was begun here and is still recording.
    public func activeSpan(identifiedBy context: ServiceContext) -> TriageSpan? {
        guard let core = context.carried?.core, core.isRecording else { return nil }
        return TriageSpan(context: context, core: core)
    }

    /// Has what ended exported soon; returns at once. `Telemetry.flush()` waits.
    public func forceFlush() { flush() }

    /// Reads `traceparent`, `tracestate` and `baggage` (W3C Trace Context, W3C Baggage), as far as `OTEL_PROPAGATORS` names
    /// them. What breaks their grammar is ignored.
    public func extract<Carrier, Extract>(_ carrier: Carrier, into context: inout ServiceContext, using extractor: Extract)
    where Extract: Extractor, Extract.Carrier == Carrier {
        if tracer.propagators.contains(.traceContext), let text = extractor.extract(key: "traceparent", from: carrier) {
            let state = extractor.extract(key: "tracestate", from: carrier).flatMap { TraceState($0) }
            if let remote = TraceContext(traceparent: ByteSlice(text), traceState: state) {
                context.carried = Carried(context: remote, attempt: TriageTelemetry.Span.current, core: nil)
            }
        }
        if tracer.propagators.contains(.baggage), let text = extractor.extract(key: "baggage", from: carrier),
            text.utf8.count <= Baggage.maximumBytes,
            text.utf8.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x09 }),
            !Baggage(parsing: [ByteSlice(text)]).members.isEmpty
        {
            context.rawBaggage = text
        }
    }

    /// Writes `traceparent` and `tracestate` of the context's span, or of the current attempt, and the context's `baggage`, as
    /// far as `OTEL_PROPAGATORS` names them.
    public func inject<Carrier, Inject>(_ context: ServiceContext, into carrier: inout Carrier, using injector: Inject)
    where Inject: Injector, Inject.Carrier == Carrier {
        if tracer.propagators.contains(.traceContext), let span = context.traceContext {
            injector.inject(String(decoding: span.traceparent, as: UTF8.self), forKey: "traceparent", into: &carrier)
            if let state = span.traceState { injector.inject(state.text, forKey: "tracestate", into: &carrier) }
        }
        if tracer.propagators.contains(.baggage), let baggage = context.rawBaggage {
            injector.inject(baggage, forKey: "baggage", into: &carrier)
        }
    }

    // MARK: Within

    /// A span attribute that may show; nil, and counted, if it may not. Lists are kept back.
    func attribute(_ key: String, _ value: SpanAttribute) -> Attribute? {
        let foreign: ForeignValue
        switch value {
        case .int32(let number): foreign = .int(Int64(number))
        case .int64(let number): foreign = .int(number)
        case .double(let number): foreign = .double(number)
        case .bool(let truth): foreign = .bool(truth)
        case .string(let text): foreign = .text(text)
        case .stringConvertible(let text): foreign = .text(text.description)
        default:
            vetting.refuse(.spanAttribute)
            return nil
        }
        return vetting.attribute(key, foreign, .spanAttribute)
    }

    /// Those that may show, by key.
    func attributes(_ attributes: SpanAttributes) -> [Attribute] {
        var vetted: [Attribute] = []
        attributes.forEach { key, value in
            if let attribute = attribute(key, value) { vetted.append(attribute) }
        }
        return vetted.sorted { $0.key.description < $1.key.description }
    }
}

extension TriageTelemetry.SpanKind {
    init(_ kind: Tracing.SpanKind) {
        switch kind {
        case .server: self = .server
        case .client: self = .client
        case .producer: self = .producer
        case .consumer: self = .consumer
        case .internal: self = .internal
        }
    }
}

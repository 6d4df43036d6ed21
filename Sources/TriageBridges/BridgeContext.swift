public import Logging
public import Tracing
public import TriageEvents
internal import TriageTelemetry

/// What a service context carries for Triage.
struct Carried: Sendable {
    /// The span's own context, or the one that was extracted.
    var context: TraceContext
    /// ``TriageTelemetry/Span/current`` when the span began: the attempt, if a handler was running.
    var attempt: TriageTelemetry.Span?
    /// The span, if it was begun in this process.
    var core: SpanCore?
}

private enum CarriedKey: ServiceContextKey {
    typealias Value = Carried
    static var nameOverride: String? { "triage-span" }
}

private enum BaggageKey: ServiceContextKey {
    typealias Value = String
    static var nameOverride: String? { "triage-baggage" }
}

extension ServiceContext {
    /// The context of the span that work under this service context belongs to; nil if there is none.
    ///
    /// That of the innermost span begun here, unless a handler's attempt began later: then the attempt's, so that a span
    /// around the whole processor doesn't take the handlers' spans away from their events.
    public var traceContext: TraceContext? {
        let attempt = TriageTelemetry.Span.current
        if let carried, attempt == nil || carried.attempt === attempt, carried.context.isValid { return carried.context }
        guard let context = attempt?.context, context.isValid else { return nil }
        return context
    }

    /// The W3C baggage that came in with the context, or that was set; it goes out again, and never into telemetry.
    public var w3cBaggage: Baggage? {
        get { rawBaggage.map { Baggage(parsing: [ByteSlice($0)]) } }
        set { rawBaggage = newValue?.text }
    }

    /// The header as it came, so that it goes on byte for byte, members' properties included.
    var rawBaggage: String? {
        get { self[BaggageKey.self] }
        set { self[BaggageKey.self] = newValue }
    }

    var carried: Carried? {
        get { self[CarriedKey.self] }
        set { self[CarriedKey.self] = newValue }
    }

    /// The context of the innermost span that the current task works in, of either kind.
    static var currentTraceContext: TraceContext? {
        if let context = ServiceContext.current { return context.traceContext }
        return TriageTelemetry.Span.current.flatMap { $0.context.isValid ? $0.context : nil }
    }
}

extension Logger.MetadataProvider {
    /// `trace_id`, `span_id` and `trace_flags` of the current span, in lower-case hexadecimal (specification,
    /// compatibility/logging_trace_context); nothing outside of a span.
    public static let triage = Logger.MetadataProvider {
        guard let context = ServiceContext.currentTraceContext else { return [:] }
        return [
            "trace_id": .string(context.traceID.description), "span_id": .string(context.spanID.description),
            "trace_flags": .string("0\(String(context.flags.rawValue, radix: 16))"),
        ]
    }
}

public import TriageEvents

/// Which contexts travel in the headers of records (specification, context/api-propagators; `OTEL_PROPAGATORS`).
///
/// A context whose propagator isn't named is neither read nor written, and what an earlier writer left of it is not passed
/// on with a record that Triage produces, since it would speak of another hop.
public struct Propagators: OptionSet, Sendable, Hashable {
    /// The bits.
    public let rawValue: UInt8

    /// These bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// W3C Trace Context: `traceparent` and `tracestate`.
    public static let traceContext = Propagators(rawValue: 1)
    /// W3C Baggage: a record's `baggage` is passed on as it came, never copied into telemetry.
    public static let baggage = Propagators(rawValue: 2)
    /// The specification's default.
    public static let all: Propagators = [.traceContext, .baggage]

    /// The context that a record came with; nil if it has none or nobody is to look.
    @inline(__always)
    public func extract(_ headers: Headers) -> TraceContext? {
        contains(.traceContext) ? TraceContext(headers: headers) : nil
    }

    /// The headers to set, or with a nil value to remove, on a record that is sent under `context`.
    public func inject(_ context: TraceContext) -> [Header] {
        if self == .all { return context.injectedHeaders }
        var headers = contains(.traceContext) ? context.injectedHeaders : [Header("traceparent", nil), Header("tracestate", nil)]
        if !contains(.baggage) { headers.append(Header("baggage", nil)) }
        return headers
    }

    /// The same, added to what else is changed in the record's headers.
    public func inject(_ context: TraceContext, into edits: inout HeaderEdits) {
        if contains(.traceContext) {
            context.inject(into: &edits)
        } else {
            edits.remove(HeaderName.traceparent)
            edits.remove(HeaderName.tracestate)
        }
        if !contains(.baggage) { edits.remove(HeaderName.baggage) }
    }
}

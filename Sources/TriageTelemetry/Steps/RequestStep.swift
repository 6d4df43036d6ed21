internal import Synchronization
public import TriageEvents

/// What is done with the trace context of whoever calls our server.
public enum CallerTrust: String, Sendable, CaseIterable {
    /// The caller's trace goes on: the SERVER span is a child of the caller's span.
    case `continue`
    /// The endpoint is a trust boundary: the SERVER span begins a trace and links to the caller's span.
    case link
}

/// The step *request*: a SERVER span over one request to our server, from its head to its answer.
///
/// It is begun after the request is understood, with the time at which its head had been read, since what it says may decide which
/// trace it belongs to. Names and attributes hold the route's template, never a path, a query, a header or a body.
///
/// May be shared between tasks; changes after the end are ignored.
public final class RequestStep: Sendable {
    private let state: Mutex<SpanData?>
    private let passed: TraceContext
    private let route: String
    private let tracer: Tracer

    /// Begins the span.
    ///
    /// - Parameters:
    ///   - template: ``template(method:route:isSecure:tracer:)`` of the route.
    ///   - caller: the context that the request came with, see ``caller(traceparent:tracestate:tracer:)``.
    ///   - trust: whether that context is continued or linked to.
    ///   - traceID: the id of the trace if the span begins one, made of what the request is about, so that the same request made
    ///     twice is one trace; nil draws one.
    ///   - start: when the request's head had been read.
    public init(
        template: SpanTemplate, caller: TraceContext?, trust: CallerTrust = .continue, traceID: TraceID? = nil, tracer: Tracer,
        at start: Timestamp
    ) {
        self.tracer = tracer
        route = template.name
        let parent = trust == .continue ? caller : nil
        var span = tracer.start(template, parent: parent, traceID: traceID, at: start)
        if trust == .link, let caller { span.add(SpanLink(caller)) }
        passed = span.context
        state = Mutex(span)
    }

    /// The template of a route's spans: named `POST /webhooks/fhir` (HTTP conventions, server span).
    ///
    /// - Parameters:
    ///   - method: the method; one that RFC 9110 §9 and RFC 5789 don't define is `_OTHER`, and `HTTP` in the name.
    ///   - route: the path with its parameters in braces, which is `url.path` too.
    ///   - isSecure: whether the server speaks TLS.
    public static func template(method: String, route: String, isSecure: Bool, tracer: Tracer) -> SpanTemplate {
        let isKnown = RequestStep.methods.contains(method)
        let route = SafeText(vetted: route)
        return tracer.template(
            "\(isKnown ? method : "HTTP") \(route.text)", kind: .server,
            [
                Attribute("http.request.method", isKnown ? .text(SafeText(vetted: method)) : .literal("_OTHER")),
                Attribute("http.route", .text(route)), Attribute("url.path", .text(route)),
                Attribute("url.scheme", .literal(isSecure ? "https" : "http")),
            ])
    }

    private static let methods: Set<String> = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ]

    /// The context that a request came with, or nil; more than one `traceparent` is none (Trace Context §3.2).
    ///
    /// - Parameters:
    ///   - traceparent: the field's value, several joined by commas.
    ///   - tracestate: the same of `tracestate`.
    public static func caller(traceparent: String?, tracestate: String?, tracer: Tracer) -> TraceContext? {
        guard tracer.propagators.contains(.traceContext), let traceparent else { return nil }
        return TraceContext(traceparent: ByteSlice(traceparent), traceState: tracestate.flatMap { TraceState($0) })
    }

    /// The span's context, to be passed on to what the request causes. After the end it is the one of the beginning.
    public var context: TraceContext { state.withLock { $0?.context } ?? passed }

    /// Adds an attribute or replaces its value.
    public func set(_ key: StaticString, _ value: AttributeValue) { state.withLock { $0?.set(key, value) } }

    /// Notes something that happened on the way, such as a gap in a subscription's numbers.
    public func add(_ event: SpanEvent) { state.withLock { $0?.add(event) } }

    /// Links to another span.
    public func add(_ link: SpanLink) { state.withLock { $0?.add(link) } }

    /// Says that something failed, so that the request's trace is exported though the sampler refused it.
    ///
    /// ``end(status:error:at:)`` does that by itself for a status of 500 and above; this is for what fails in a request that is
    /// answered otherwise, and for having ``context`` sampled before it is passed on.
    public func fail(_ error: SafeText) {
        state.withLock { state in
            guard var span = state.take() else { return }
            tracer.fail(&span, fingerprint: "request \(route) \(error.text)")
            state = span
        }
    }

    /// Ends the span with the answer. Later calls do nothing.
    ///
    /// From 500 up the status is ERROR; a refusal of the request itself is no error of ours (HTTP conventions, status of a server
    /// span).
    ///
    /// - Parameters:
    ///   - status: what was answered, 100 to 599.
    ///   - error: what kind of error it is, for 500 and above; nil is the status.
    public func end(status: Int, error: SafeText? = nil, at time: Timestamp) {
        guard var span = state.withLock({ $0.take() }) else { return }
        if status >= 500 { tracer.fail(&span, fingerprint: "request \(route) \(error?.text ?? String(status))") }
        guard span.isRecording else { return }
        span.set("http.response.status_code", .int(Int64(status)))
        if status >= 500 {
            let type = error ?? "\(status)"
            span.set("error.type", .text(type))
            span.set(.error(type))
        }
        tracer.end(span, at: time)
    }
}

extension Span {
    /// A stand-in for a span that lives elsewhere, such as a request's: what begins under it belongs under that one. Changes of it
    /// have no effect.
    public convenience init(standingFor context: TraceContext, clock: any EventClock) {
        self.init(passing: context, clock: clock)
    }
}

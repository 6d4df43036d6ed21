import Testing
import TriageEvents

@testable import TriageTelemetry

@Suite("The step request")
struct RequestStepTests {
    private let ended = EndedSpans()
    private let caller = TraceContext(
        traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), flags: [.sampled, .random], isRemote: true)

    private func tracer(_ sampler: Sampler = .parentBased(root: .alwaysOn)) -> Tracer {
        Tracer(sampler: sampler, clock: StandingClock(), processors: [ended])
    }

    private func begin(
        _ tracer: Tracer, _ caller: TraceContext? = nil, trust: CallerTrust = .continue, traceID: TraceID? = nil,
        method: String = "POST"
    ) -> RequestStep {
        RequestStep(
            template: RequestStep.template(method: method, route: "/a/{id}", isSecure: true, tracer: tracer), caller: caller,
            trust: trust, traceID: traceID, tracer: tracer, at: Timestamp(nanoseconds: 1))
    }

    @Test("it continues the caller's trace, or links to it, or begins one with a given id")
    func parents() throws {
        let tracer = tracer()
        let own = TraceID(high: 8, low: 9)
        begin(tracer, caller, traceID: own).end(status: 200, at: Timestamp(nanoseconds: 2))
        begin(tracer, caller, trust: .link, traceID: own).end(status: 200, at: Timestamp(nanoseconds: 2))
        begin(tracer, nil, traceID: own).end(status: 404, at: Timestamp(nanoseconds: 2))
        let spans = ended.all
        #expect(spans.map(\.context.traceID) == [caller.traceID, own, own])
        #expect(spans.map(\.parentSpanID) == [caller.spanID, SpanID(0), SpanID(0)])
        #expect(spans.map { $0.links.map(\.context) } == [[], [caller], []])
        #expect(spans.map(\.context.flags) == [[.sampled, .random], .sampled, .sampled])
        #expect(spans.map(\.status) == [.unset, .unset, .unset] && spans.allSatisfy { $0.template.name == "POST /a/{id}" })
        #expect(
            spans[0].template.attributes == [
                Attribute("http.request.method", .text("POST")), Attribute("http.route", .text("/a/{id}")),
                Attribute("url.path", .text("/a/{id}")), Attribute("url.scheme", .literal("https")),
            ])
        #expect(spans[2].attributes == [Attribute("http.response.status_code", .int(404))])
    }

    @Test("only what is ours to blame is an error, and ends once")
    func status() {
        let step = begin(tracer(.parentBased(root: .alwaysOff)), method: "BREW")
        step.end(status: 503, error: "queue_full", at: Timestamp(nanoseconds: 2))
        step.end(status: 200, at: Timestamp(nanoseconds: 3))
        let spans = ended.all
        #expect(spans.count == 1 && spans[0].status == .error("queue_full") && spans[0].context.isSampled)
        #expect(spans[0].attributes.contains(Attribute("error.type", .text("queue_full"))))
        #expect(spans[0].template.name == "HTTP /a/{id}")
        begin(tracer()).end(status: 500, at: Timestamp(nanoseconds: 2))
        #expect(ended.all.last?.status == .error("500"))
    }

    @Test("what came is read by the rules of Trace Context; several are none")
    func callers() {
        let tracer = tracer()
        let text = "00-00000000000000010000000000000002-0000000000000003-01"
        let read = RequestStep.caller(traceparent: text, tracestate: "a=1", tracer: tracer)
        #expect(read?.traceID == caller.traceID && read?.traceState?.text == "a=1" && read?.isRemote == true)
        #expect(RequestStep.caller(traceparent: "\(text),\(text)", tracestate: nil, tracer: tracer) == nil)
        let deaf = Tracer(clock: StandingClock(), processors: [ended], propagators: [])
        #expect(RequestStep.caller(traceparent: text, tracestate: nil, tracer: deaf) == nil)
    }
}

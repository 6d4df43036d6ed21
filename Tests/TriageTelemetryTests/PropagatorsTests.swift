import Testing
import TriageEvents
import TriageTelemetry

@Suite("Which contexts travel in headers")
struct PropagatorsTests {
    let context = TraceContext(traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), flags: .sampled)
    let incoming: Headers = [
        Header("x", text: "kept"), Header("baggage", text: "a=b"),
        Header("traceparent", text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), Header("tracestate", text: "k=v"),
    ]

    @Test(
        "Read, written, and what is left of those that aren't named",
        arguments: [
            (Propagators.all, true, ["baggage", "traceparent", "x"]), (.traceContext, true, ["traceparent", "x"]),
            (.baggage, false, ["baggage", "x"]), (Propagators(), false, ["x"]),
        ])
    func propagators(propagators: Propagators, isRead: Bool, written: [String]) {
        #expect((propagators.extract(incoming)?.traceID.high == 0x0af7_6519_16cd_43dd) == isRead)
        let sent = incoming.replacing(propagators.inject(context))
        var names: [String] = []
        for header in sent { names.append(header.name) }
        #expect(names.sorted() == written)
        if isRead { #expect(TraceContext(headers: sent)?.spanID == SpanID(3)) }
    }

    @Test("A disabled tracer passes on what came, by the same rule")
    func invalid() {
        let nothing = TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(0), flags: [])
        #expect(incoming.replacing(Propagators.all.inject(nothing)) == incoming)
        #expect(incoming.replacing(Propagators().inject(nothing)).count(of: "traceparent") == 0)
    }
}

import Synchronization
import Testing
import Tracing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageBridges

private struct Broken: Error, CustomStringConvertible {
    let text: String
    var description: String { text }
}

@Suite("Spans of swift-distributed-tracing")
struct TracerTests {
    @Test("nested withSpan: names, kinds, parents, one trace; nothing has a status")
    func nested() async throws {
        let bench = Bench()
        await bench.bridges.tracer.withSpan("outer", ofKind: .server) { _ in
            await bench.bridges.tracer.withSpan("inner", ofKind: .client) { _ in await Task.yield() }
        }
        let outer = try #require(bench.span("outer"))
        let inner = try #require(bench.span("inner"))
        #expect(outer.template.kind == .server && inner.template.kind == .client)
        #expect(!outer.parentSpanID.isValid && inner.parentSpanID == outer.context.spanID)
        #expect(inner.context.traceID == outer.context.traceID && !inner.parentIsRemote)
        #expect(outer.status == .unset && inner.status == .unset)
        #expect(outer.start <= inner.start && inner.end <= outer.end)
        #expect(bench.tracer.counts.sampled == 2 && bench.tracer.counts.ended == 2)
    }

    @Test("the attempt is the parent, not a span around the whole run; inside, withSpan is; elsewhere the stored context is")
    func parents() throws {
        let bench = Bench()
        let tracer = bench.bridges.tracer
        let attempt = bench.attempt()
        var kept: ServiceContext?
        tracer.withSpan("around") { around in
            TriageTelemetry.Span.$current.withValue(attempt) {
                #expect(ServiceContext.currentTraceContext == attempt.context)
                tracer.withSpan("in.attempt") { span in
                    kept = span.context
                    #expect(ServiceContext.currentTraceContext?.spanID == bench.spanID(span))
                    tracer.withSpan("deeper") { _ in }
                }
                // What goes out by a context that was stored elsewhere belongs to the attempt as well.
                tracer.startSpan("explicit", context: around.context).end()
            }
            #expect(ServiceContext.currentTraceContext?.spanID == bench.spanID(around))
        }
        let stored = try #require(kept)
        tracer.startSpan("detached", context: stored).end()
        tracer.startSpan("root").end()
        let span = try #require(bench.span("in.attempt"))
        #expect(span.parentSpanID == attempt.context.spanID && span.context.traceID == attempt.context.traceID)
        #expect(bench.span("deeper")?.parentSpanID == span.context.spanID)
        #expect(bench.span("explicit")?.parentSpanID == attempt.context.spanID)
        #expect(bench.span("detached")?.parentSpanID == span.context.spanID)
        #expect(bench.span("root")?.parentSpanID == SpanID(0))
        #expect(bench.span("around")?.context.traceID != attempt.context.traceID)
    }

    @Test("withSpan that throws: type and exception event, error status, and not a word of the error's text")
    func throwing() throws {
        let bench = Bench()
        #expect(throws: Broken.self) {
            try bench.bridges.tracer.withSpan("work") { _ in throw Broken(text: "canary") }
        }
        let span = try #require(bench.span("work"))
        #expect(span.status == .error("Broken"))
        #expect(span.value("error.type") == .text("Broken"))
        #expect(span.events.map(\.name) == ["exception"])
        #expect(span.events[0].attributes.first { $0.key == "exception.type" }?.value == .text("Broken"))
        #expect(!"\(span)".contains("canary"))
    }

    @Test("OK stays; a status message is kept back and counted; an error without an exception is of type _OTHER")
    func status() throws {
        let bench = Bench()
        let ok = bench.bridges.tracer.startSpan("fine")
        ok.setStatus(.init(code: .ok))
        ok.setStatus(.init(code: .error, message: "canary"))
        ok.end()
        #expect(bench.span("fine")?.status == .ok)
        let failed = bench.bridges.tracer.startSpan("failed")
        failed.setStatus(.init(code: .error))
        failed.end()
        #expect(bench.span("failed")?.status == .error("") && bench.span("failed")?.value("error.type") == .text("_OTHER"))
        #expect(bench.refused == ["status_message": 1])
    }

    @Test("attributes pass the list: numbers, closed sets and names; the rest is kept back and counted, on the span too")
    func attributes() throws {
        var policy = BridgePolicy()
        policy.allow("clinic.ward", .oneOf(["icu", "er"]))
        policy.allow("clinic.note", .text)
        let bench = Bench(policy: policy)
        bench.bridges.tracer.withSpan("work") { span in
            span.attributes["http.request.method"] = "GET"
            span.attributes["http.response.status_code"] = 200
            span.attributes["server.port"] = 70_000
            span.attributes["url.full"] = "https://canary"
            span.attributes["clinic.ward"] = "canary"
            span.attributes["clinic.note"] = "free"
            span.attributes["db.response.returned_rows"] = "canary"
            span.attributes["thread.id"] = [1, 2]
            span.attributes["patient.id"] = 4711
            span.attributes["network.transport"] = "tcp"
            #expect(span.attributes.get("url.full") == nil && span.attributes.get("clinic.ward") == .string("_OTHER"))
        }
        let span = try #require(bench.span("work"))
        #expect(
            span.attributes == [
                Attribute("clinic.note", .text("free")), Attribute("clinic.ward", .literal("_OTHER")),
                Attribute("http.request.method", .text("GET")), Attribute("http.response.status_code", .int(200)),
                Attribute("network.transport", .text("tcp")),
            ])
        #expect(span.droppedAttributes == 5)
        #expect(bench.refused == ["span_attribute": 6])
    }

    @Test("events and links: names and attributes pass the policy too, times are kept, limits hold")
    func eventsAndLinks() throws {
        var limits = SpanLimits()
        limits.events = 3
        limits.attributes = 1
        let bench = Bench(limits: limits)
        let other = bench.bridges.tracer.startSpan("other")
        bench.bridges.tracer.withSpan("work") { span in
            let time = DefaultTracerClock.Timestamp(nanosecondsSinceEpoch: .max)
            span.addEvent(.init(name: "cache.miss", at: time, attributes: ["http.request.resend_count": 2, "x": "canary"]))
            span.addEvent("Patient 4711 missing")
            span.addEvent("third")
            span.addEvent("fourth")
            span.addLink(other, attributes: ["messaging.system": "kafka", "y": "canary"])
            span.addLink(.init(context: .topLevel, attributes: [:]))
            span.attributes["thread.id"] = 1
            span.attributes["server.port"] = 2
        }
        let span = try #require(bench.span("work"))
        #expect(span.events.map(\.name) == ["cache.miss", "_OTHER", "third"] && span.droppedEvents == 1)
        #expect(span.events[0].attributes == [Attribute("http.request.resend_count", .int(2))])
        #expect(span.events[0].timestamp == Timestamp(nanoseconds: .max))
        #expect(span.links.map(\.context.spanID) == [bench.spanID(other)])
        #expect(span.links[0].attributes == [Attribute("messaging.system", .text("kafka"))])
        #expect(span.attributes.count == 1 && span.droppedAttributes == 1)
        #expect(bench.refused == ["span_attribute": 2, "span_event_name": 1, "span_link": 1])
        other.end()
    }

    @Test("a name that doesn't show is _OTHER, with the place in the source; another name may be given later")
    func names() throws {
        let bench = Bench()
        bench.bridges.tracer.withSpan("load Jane Doe") { _ in }
        let other = try #require(bench.span("_OTHER"))
        #expect(other.value("code.file.path") == .text("TriageBridgesTests/TracerTests.swift"))
        guard case .int(let line)? = other.value("code.line.number") else { return #expect(Bool(false), "no line") }
        #expect(line > 100)
        bench.bridges.tracer.startSpan("x", file: "jane doe.swift", line: 1).end()
        let span = bench.bridges.tracer.startSpan("GET /patients/4711", ofKind: .server, file: "a b/c.swift")
        #expect(span.operationName == "_OTHER")
        span.operationName = "GET /patients/{id}"
        #expect(span.operationName == "GET /patients/{id}")
        span.end()
        let renamed = try #require(bench.span("GET /patients/{id}"))
        #expect(renamed.template.kind == .server && renamed.value("code.file.path") == nil)
        #expect(bench.refused == ["span_name": 2])
    }

    @Test("with listed names nothing else shows, and there are only so many names")
    func listed() {
        var policy = BridgePolicy()
        policy.nameRule = .listed
        policy.names = ["Jane 4711"]
        let bench = Bench(policy: policy)
        for name in ["Jane 4711", "load"] { bench.bridges.tracer.startSpan(name).end() }
        #expect(bench.recorder.spans.map(\.name) == ["Jane 4711", "_OTHER"])
        var few = BridgePolicy()
        few.maximumNames = 2
        let small = Bench(policy: few)
        for name in ["a", "b", "c", "a"] { small.bridges.tracer.startSpan(name).end() }
        #expect(small.recorder.spans.map(\.name) == ["a", "b", "_OTHER", "a"])
    }

    @Test("misuse does no harm: ended twice, changed after the end, forgotten; the end is never before the start")
    func misuse() throws {
        let bench = Bench()
        var span: TriageSpan? = bench.bridges.tracer.startSpan("once")
        span?.end(at: DefaultTracerClock.Timestamp(nanosecondsSinceEpoch: 0))
        span?.end()
        span?.attributes["thread.id"] = 1
        span?.addEvent("late")
        span?.operationName = "late"
        span?.setStatus(.init(code: .error))
        span?.recordError(Broken(text: ""))
        #expect(span?.isRecording == false)
        let once = try #require(bench.span("once"))
        #expect(bench.recorder.spans.count == 1 && once.attributes.isEmpty && once.events.isEmpty && once.end == once.start)
        span = bench.bridges.tracer.startSpan("forgotten")
        span = nil
        #expect(bench.tracer.counts.sampled == 2)
        #expect(bench.recorder.spans.count == 1)
    }

    @Test("the active span is found by its context while it records")
    func active() {
        let bench = Bench()
        let span = bench.bridges.tracer.startSpan("work")
        bench.bridges.tracer.activeSpan(identifiedBy: span.context)?.attributes["thread.id"] = 7
        span.end()
        #expect(bench.span("work")?.value("thread.id") == .int(7))
        #expect(bench.bridges.tracer.activeSpan(identifiedBy: span.context) == nil)
        #expect(bench.bridges.tracer.activeSpan(identifiedBy: .topLevel) == nil)
    }

    @Test("many threads change and end one span: it is exported once")
    func threads() async {
        let bench = Bench()
        for _ in 0..<50 {
            let span = bench.bridges.tracer.startSpan("shared")
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<8 {
                    group.addTask {
                        span.attributes["thread.id"] = number
                        span.addEvent("seen")
                        span.operationName = "shared"
                        span.end()
                    }
                }
            }
        }
        #expect(bench.recorder.spans.count == 50 && bench.tracer.counts.ended == 50)
    }

    @Test("unsampled, disabled: contexts go on, nothing is recorded, nothing traps")
    func unsampled() {
        let off = Bench(.alwaysOff)
        off.bridges.tracer.withSpan("work", ofKind: .internal) { span in
            span.attributes["thread.id"] = 1
            #expect(ServiceContext.currentTraceContext?.isValid == true)
            #expect(ServiceContext.currentTraceContext?.isSampled == false)
        }
        let disabled = Bench(isEnabled: false)
        disabled.bridges.tracer.withSpan("work") { span in
            #expect(!span.isRecording)
            #expect(ServiceContext.currentTraceContext == nil)
        }
        #expect(off.recorder.spans.isEmpty && disabled.recorder.spans.isEmpty)
    }

    @Test("W3C in and out: traceparent, tracestate and baggage byte for byte; what breaks the grammar is ignored")
    func propagation() throws {
        let bench = Bench()
        let tracer = bench.bridges.tracer
        let headers = [
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate": "congo=t61rcWkgMzE,rojo=00f067",
            "baggage": "user=a%20b;secret,other=1",
        ]
        var context = ServiceContext.topLevel
        tracer.extract(headers, into: &context, using: Carrier())
        #expect(context.traceContext?.isRemote == true)
        #expect(context.w3cBaggage?["user"] == "a b")
        var same: [String: String] = [:]
        tracer.inject(context, into: &same, using: Carrier())
        #expect(same == headers)
        let span = tracer.startSpan("work", context: context)
        var out: [String: String] = [:]
        tracer.inject(span.context, into: &out, using: Carrier())
        span.end()
        let data = try #require(bench.span("work"))
        #expect(data.context.traceID.description == "0af7651916cd43dd8448eb211c80319c" && data.parentIsRemote)
        #expect(out["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-\(data.context.spanID)-01")
        #expect(out["tracestate"] == headers["tracestate"] && out["baggage"] == headers["baggage"])
        #expect(!"\(data)".contains("secret"))

        for bad in [
            "", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            var context = ServiceContext.topLevel
            tracer.extract(["traceparent": bad, "baggage": "a=b\r\nx: y"], into: &context, using: Carrier())
            var out: [String: String] = [:]
            tracer.inject(context, into: &out, using: Carrier())
            #expect(out.isEmpty, "\(bad)")
        }
        // Without a span of its own a context goes out as the attempt's.
        let attempt = bench.attempt()
        TriageTelemetry.Span.$current.withValue(attempt) {
            var out: [String: String] = [:]
            tracer.inject(.topLevel, into: &out, using: Carrier())
            #expect(out == ["traceparent": String(decoding: attempt.context.traceparent, as: UTF8.self)])
        }
    }

    @Test("only what is named travels, in and out", arguments: [Propagators.all, .traceContext, .baggage, []])
    func named(_ propagators: Propagators) {
        var named: Set<String> = []
        if propagators.contains(.traceContext) { named = ["traceparent", "tracestate"] }
        if propagators.contains(.baggage) { named.insert("baggage") }
        let headers = [
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "congo=t61rcWkgMzE",
            "baggage": "user=a",
        ]
        let all = Bench().bridges.tracer
        let some = Bench(propagators: propagators).bridges.tracer
        for (reader, writer) in [(some, all), (all, some)] {
            var context = ServiceContext.topLevel
            reader.extract(headers, into: &context, using: Carrier())
            var out: [String: String] = [:]
            writer.inject(context, into: &out, using: Carrier())
            #expect(out == headers.filter { named.contains($0.key) })
        }
        // Nor does the context of a span that was begun here.
        var out: [String: String] = [:]
        some.inject(some.startSpan("work").context, into: &out, using: Carrier())
        #expect(out.keys.contains("traceparent") == propagators.contains(.traceContext))
    }
}

extension Bench {
    func spanID(_ span: TriageSpan) -> SpanID? { span.context.carried?.context.spanID }
}

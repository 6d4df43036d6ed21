import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

/// Keeps the spans that ended.
final class EndedSpans: SpanProcessor {
    private let spans = Mutex<[SpanData]>([])
    var all: [SpanData] { spans.withLock { $0 } }
    func onEnd(_ span: borrowing SpanData) {
        let copy = copy span
        spans.withLock { $0.append(copy) }
    }
}

@Suite("Spans, their limits and their status")
struct SpanDataTests {
    let parent = TraceContext(
        traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), flags: .sampled, traceState: TraceState("a=1"), isRemote: true)
    let ended = EndedSpans()

    func tracer(_ sampler: Sampler = .parentBased(root: .alwaysOn), limits: SpanLimits = SpanLimits(), isEnabled: Bool = true)
        -> Tracer
    {
        Tracer(sampler: sampler, limits: limits, clock: StandingClock(), processors: [ended], isEnabled: isEnabled)
    }

    func at(_ nanoseconds: Int64) -> Timestamp { Timestamp(nanoseconds: nanoseconds) }

    @Test("A child keeps trace, tracestate and random flag; a root gets a new, random trace")
    func contexts() {
        let tracer = tracer()
        let template = tracer.template("x", kind: .internal, [])
        let child = tracer.start(template, parent: parent, at: at(1))
        #expect(child.context.traceID == parent.traceID && child.context.spanID != parent.spanID)
        #expect(child.context.traceState?.text == "a=1" && child.context.flags == .sampled && !child.context.isRemote)
        #expect(child.parentSpanID == parent.spanID && child.parentIsRemote)
        let root = tracer.start(template, parent: nil, at: at(1))
        #expect(root.context.isValid && root.context.flags == [.sampled, .random] && !root.parentSpanID.isValid)
        let invalid = TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(3), flags: .sampled)
        #expect(!tracer.start(template, parent: invalid, at: at(1)).parentSpanID.isValid)
    }

    @Test("An unsampled span has ids, ignores changes and isn't handed over")
    func unsampled() {
        let tracer = tracer(.alwaysOff)
        var span = tracer.start(tracer.template("x", kind: .internal, []), parent: nil, at: at(1))
        span.append("a", .int(1))
        span.set("b", .int(1))
        span.add(SpanEvent("e", at: at(1)))
        span.add(SpanLink(parent))
        span.set(.error("no"))
        #expect(span.context.isValid && !span.context.isSampled && !span.isRecording)
        #expect(span.attributes.isEmpty && span.events.isEmpty && span.links.isEmpty && span.status == .unset)
        tracer.end(span, at: at(2))
        #expect(ended.all.isEmpty)
        #expect(tracer.counts.unsampled == 1 && tracer.counts.sampled == 0 && tracer.counts.ended == 0)
    }

    @Test("A disabled SDK passes the parent on and makes no ids")
    func disabled() {
        let tracer = tracer(isEnabled: false)
        let template = tracer.template("x", kind: .internal, [])
        #expect(tracer.start(template, parent: parent, at: at(1)).context == parent)
        let root = tracer.start(template, parent: nil, at: at(1))
        #expect(!root.context.isValid && !root.isRecording)
    }

    @Test("An end before the start counts as the start")
    func end() {
        let tracer = tracer()
        let template = tracer.template("x", kind: .internal, [])
        tracer.end(tracer.start(template, parent: nil, at: at(10)), at: at(5))
        tracer.end(tracer.start(template, parent: nil, at: at(10)), at: at(15))
        #expect(ended.all.map(\.end) == [at(10), at(15)])
        #expect(tracer.counts.sampled == 2 && tracer.counts.ended == 2)
    }

    @Test("A second value for a key replaces the first; a template's key is refused and counted")
    func uniqueKeys() {
        let tracer = tracer()
        var span = tracer.start(tracer.template("x", kind: .internal, [Attribute("constant", .int(0))]), parent: nil, at: at(1))
        span.set("a", .int(1))
        span.set("b", .int(2))
        span.set("a", .int(3))
        span.set("constant", .int(4))
        #expect(span.attributes == [Attribute("a", .int(3)), Attribute("b", .int(2))])
        #expect(span.droppedAttributes == 1)
    }

    @Test("Limits drop what is new, not what is replaced, and count it")
    func limits() {
        var limits = SpanLimits()
        limits.attributes = 2
        limits.events = 1
        limits.links = 1
        let tracer = tracer(limits: limits)
        var span = tracer.start(tracer.template("x", kind: .internal, [Attribute("constant", .int(0))]), parent: nil, at: at(1))
        span.set("a", .int(1))
        span.set("b", .int(2))
        span.set("a", .int(3))
        for _ in 0..<3 {
            span.add(SpanEvent("e", at: at(1)))
            span.add(SpanLink(parent))
        }
        span.countDroppedLinks(5)
        #expect(span.attributes == [Attribute("a", .int(3))] && span.droppedAttributes == 1)
        #expect(span.events.count == 1 && span.droppedEvents == 2)
        #expect(span.links.count == 1 && span.droppedLinks == 7)
    }

    @Test("A template is cut to the limits once")
    func templateLimits() {
        var limits = SpanLimits()
        limits.attributes = 2
        limits.valueLength = 3
        let template = tracer(limits: limits).template(
            "long name", kind: .internal,
            [Attribute("a", .literal("größer")), Attribute("b", .text("kurz \(1)")), Attribute("c", .int(1))])
        #expect(template.name == "long name")
        #expect(
            template.attributes == [
                Attribute("a", .text(SafeText(vetted: "grö"))), Attribute("b", .text(SafeText(vetted: "kur"))),
            ])
    }

    @Test("A link to nothing is ignored unless it says something")
    func links() {
        let tracer = tracer()
        var span = tracer.start(tracer.template("x", kind: .internal, []), parent: nil, at: at(1))
        let nothing = TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(0), flags: [])
        span.add(SpanLink(nothing))
        #expect(span.links.isEmpty)
        span.add(SpanLink(nothing, [Attribute("a", .int(1))]))
        #expect(span.links.count == 1)
    }

    @Test("Status: an error beats unset, the last error counts, OK is final")
    func status() {
        let tracer = tracer()
        var span = tracer.start(tracer.template("x", kind: .internal, []), parent: nil, at: at(1))
        span.set(.error("first"))
        span.set(.unset)
        #expect(span.status == .error("first"))
        span.set(.error("second"))
        #expect(span.status == .error("second"))
        span.set(.ok)
        span.set(.error("third"))
        #expect(span.status == .ok)
    }

    @Test("A shared span is taken once; changes after that are lost quietly")
    func sharedSpan() {
        let tracer = tracer()
        let span = Span(tracer.start(tracer.template("x", kind: .internal, []), parent: nil, at: at(1)), clock: StandingClock())
        span.set("a", .int(1))
        let taken = span.take()
        span.set("b", .int(2))
        #expect(taken?.attributes == [Attribute("a", .int(1))])
        #expect(span.take() == nil)
    }
}

import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

/// Keeps the last span that ended.
final class LastSpan: SpanProcessor {
    private let last = Mutex<SpanData?>(nil)
    var span: SpanData? { last.withLock { $0 } }
    func onEnd(_ span: borrowing SpanData) {
        let copy = copy span
        last.withLock { $0 = copy }
    }
}

@Suite("Encoding spans")
struct OTLPSpanEncoderTests {
    let encoder = OTLPSpanEncoder(identifiers: .omitted)

    func template(_ name: String = "attempt", kind: SpanKind = .internal, _ attributes: [Attribute] = []) -> SpanTemplate {
        SpanTemplate(
            name: name, kind: kind, attributes: attributes, packed: encoder.pack(name: name, kind: kind, attributes: attributes))
    }

    func span(_ template: SpanTemplate, parent: TraceContext? = nil, limits: SpanLimits = SpanLimits()) -> SpanData {
        SpanData(template: template, context: context(1), parent: parent, start: t0, isRecording: true, limits: limits)
    }

    @Test("A root has no parent bytes, and its flags say that it isn't remote")
    func root() throws {
        let decoded = try #require(DecodedSpan(entry: entry(span(template()))))
        #expect(decoded.parentSpanID == [])
        #expect(decoded.flags == 0x101)
        #expect(decoded.traceID == bytes("0af7651916cd43dd8448eb211c80319c"))
        #expect(decoded.spanID == bytes("0000000000000001"))
        #expect(decoded.status == "")
        #expect(decoded.traceState == "")
        #expect(decoded.unknownFields == 0)
    }

    @Test("Bit 9 of the flags speaks about the parent, and in a link about the linked context")
    func flags() throws {
        var local = span(template(), parent: context(2))
        local.add(SpanLink(context(3, flags: 0, isRemote: true)))
        local.add(SpanLink(context(4, flags: 3, state: "a=1,ot=th:c,b=2")))
        let decoded = try #require(DecodedSpan(entry: entry(local)))
        #expect(decoded.flags == 0x101)
        #expect(decoded.parentSpanID == bytes("0000000000000002"))
        #expect(decoded.links[0].hasSuffix("  768 [] -0"))
        #expect(decoded.links[1].hasSuffix(" ot=th:c 259 [] -0"))
        let remote = try #require(DecodedSpan(entry: entry(span(template(), parent: context(2, isRemote: true)))))
        #expect(remote.flags == 0x301)
    }

    @Test("Every kind of value arrives, zero, false and the empty text included")
    func values() throws {
        var span = span(template("send T", kind: .producer, [Attribute("constant", .text("c"))]))
        span.append("literal", .literal("kafka"))
        span.append("text", .text("attempt \(3)"))
        span.append("empty literal", .literal(""))
        span.append("empty text", .text(""))
        span.append("zero", .int(0))
        span.append("negative", .int(.min))
        span.append("double", .double(0.25))
        span.append("no", .bool(false))
        span.append("yes", .bool(true))
        span.append("uuid", .uuid(0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210))
        let decoded = try #require(DecodedSpan(entry: entry(span)))
        #expect(
            decoded.attributes == [
                "constant": "s:c", "literal": "s:kafka", "text": "s:attempt 3", "empty literal": "s:", "empty text": "s:",
                "zero": "i:0", "negative": "i:-9223372036854775808", "double": "d:0.25", "no": "b:false", "yes": "b:true",
                "uuid": "s:01234567-89ab-cdef-fedc-ba9876543210",
            ])
        #expect(decoded.attributeCount == 11)
        #expect(decoded.name == "send T")
        #expect(decoded.kind == 4)
    }

    @Test("Identifiers follow the policy; an omitted one leaves no attribute")
    func identifiers() throws {
        var span = span(template())
        span.append("event.resource.id", .identifier(ByteSlice("p-1")))
        span.append("after", .int(1))
        #expect(try #require(DecodedSpan(entry: entry(span))).attributes == ["after": "i:1"])
        let plain = OTLPSpanEncoder(identifiers: .plain)
        #expect(
            try #require(DecodedSpan(entry: entry(span, plain))).attributes == ["event.resource.id": "s:p-1", "after": "i:1"])
        let key = try IdentifierKey([UInt8](repeating: 7, count: 32))
        let hashed = try #require(DecodedSpan(entry: entry(span, OTLPSpanEncoder(identifiers: .hashed(key)))))
        #expect(hashed.attributes["event.resource.id"] == "s:" + key.text(for: ByteSlice("p-1")))
    }

    @Test("An identifier that is no UTF-8 still makes a text")
    func binaryIdentifier() throws {
        var span = span(template())
        span.append("key", .identifier(ByteSlice([0x61, 0xFF, 0x62])))
        let decoded = try #require(DecodedSpan(entry: entry(span, OTLPSpanEncoder(identifiers: .plain))))
        #expect(decoded.attributes == ["key": "s:a\u{FFFD}b"])
    }

    @Test("Nothing behind a NUL is lost: it becomes U+FFFD")
    func embeddedNUL() throws {
        var span = span(template("a\0b"))
        span.append("key", .identifier(ByteSlice([0x61, 0x00, 0x62, 0x00])))
        let decoded = try #require(DecodedSpan(entry: entry(span, OTLPSpanEncoder(identifiers: .plain))))
        #expect(decoded.name == "a\u{FFFD}b")
        #expect(decoded.attributes == ["key": "s:a\u{FFFD}b\u{FFFD}"])
    }

    @Test("The value length limit counts characters and cuts texts alone, not keys, names or the status")
    func valueLength() throws {
        var limits = SpanLimits()
        limits.valueLength = 4
        let recorder = LastSpan()
        let tracer = Tracer(limits: limits, clock: FixedClock(), encoder: encoder, processors: [recorder])
        let template = tracer.template("long name", kind: .internal, [Attribute("constant", .text("constant"))])
        var span = tracer.start(template, parent: nil, at: t0)
        span.append("literal", .literal("literal"))
        span.append("text", .text("größer"))
        span.append("short", .text("kurz"))
        span.append("uuid", .uuid(0x0123_4567_89AB_CDEF, 0))
        span.append("key", .identifier(ByteSlice("ÄÖÜäöü")))
        span.append("number", .int(123_456))
        span.set(.error("description"))
        tracer.end(span, at: t0)
        let ended = try #require(recorder.span)
        let decoded = try #require(DecodedSpan(entry: entry(ended, OTLPSpanEncoder(identifiers: .plain))))
        #expect(
            decoded.attributes == [
                "constant": "s:cons", "literal": "s:lite", "text": "s:größ", "short": "s:kurz", "uuid": "s:0123", "key": "s:ÄÖÜä",
                "number": "i:123456",
            ])
        #expect(decoded.name == "long name")
        #expect(decoded.status == "2 description")
    }

    @Test("Attributes of events and links have limits of their own, and what they cost is counted")
    func eventAndLinkLimits() throws {
        var limits = SpanLimits()
        limits.eventAttributes = 1
        limits.linkAttributes = 0
        var span = span(template(), limits: limits)
        let attributes = [Attribute("a", .int(1)), Attribute("b", .int(2)), Attribute("c", .int(3))]
        span.add(SpanEvent("e", at: t0, attributes))
        span.add(SpanLink(context(2), attributes))
        let decoded = try #require(DecodedSpan(entry: entry(span)))
        #expect(decoded.events == ["e@1700000000000000000 [\"a=i:1\"] -2"])
        #expect(decoded.links[0].hasSuffix("[] -3"))
    }

    @Test("Dropped counts, OpenTelemetry's own member of tracestate, and OK are sent")
    func counts() throws {
        var limits = SpanLimits()
        limits.attributes = 1
        limits.events = 0
        limits.links = 0
        var span = SpanData(
            template: template(), context: context(1, state: "vendor=x,ot=th:8,other=y"), parent: nil, start: t0,
            isRecording: true,
            limits: limits)
        for _ in 0..<3 { span.append("a", .int(1)) }
        span.add(SpanEvent("e", at: t0))
        span.add(SpanLink(context(2)))
        span.set(.ok)
        let decoded = try #require(DecodedSpan(entry: entry(span)))
        #expect(decoded.dropped == [2, 1, 1])
        #expect(decoded.traceState == "ot=th:8")
        #expect(decoded.status == "1 ")
    }

    @Test("Packed once or spelled out, a receiver reads the same span", arguments: [UInt64.random(in: 1 ... .max)])
    func packedEqualsPlain(seed: UInt64) throws {
        var random = SplitMix(seed)
        for round in 0..<300 {
            let constants = RandomSpans.attributes(&random, "c")
            let name = RandomSpans.text(&random)
            let kind = SpanKind.allCases.randomElement(using: &random) ?? .internal
            let plain = SpanTemplate(name: name, kind: kind, attributes: constants, packed: ByteSlice(""))
            let quick = SpanTemplate(
                name: name, kind: kind, attributes: constants,
                packed: encoder.pack(name: name, kind: kind, attributes: constants))
            var state = random
            let first = DecodedSpan(entry: entry(RandomSpans.span(&random, plain)))
            let second = DecodedSpan(entry: entry(RandomSpans.span(&state, quick)))
            #expect(first != nil && first == second, "seed \(seed), round \(round)")
            #expect(first?.unknownFields == 0)
        }
    }

    @Test("A span inside a span's encoding doesn't disturb it")
    func reentrance() throws {
        var outer = span(template("outer"))
        outer.append("long", .literal("a value that lies in the arena while another span is encoded"))
        var bytes: [UInt8] = []
        encoder.withEncoded(outer) { first in
            for _ in 0..<100 { _ = entry(span(template("inner"))) }
            bytes = Array(first)
        }
        #expect(DecodedSpan(entry: bytes)?.name == "outer")
        #expect(bytes == entry(outer))
    }

    @Test("A span that outgrows the arena's first block is whole, and so is the next one")
    func largeSpan() throws {
        var large = span(template())
        for _ in 0..<128 {
            large.add(
                SpanEvent(
                    "an event with a name of some length, so that the block is too small", at: t0,
                    [
                        Attribute("one", .literal("value")), Attribute("two", .literal("value")), Attribute("three", .int(3)),
                    ]))
        }
        let decoded = try #require(DecodedSpan(entry: entry(large)))
        #expect(decoded.events.count == 128)
        #expect(DecodedSpan(entry: entry(span(template("small"))))?.name == "small")
    }
}

/// A generator whose seed a failing test prints (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

/// Spans with anything in them.
enum RandomSpans {
    static let keys: [StaticString] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"]
    static let constantKeys: [StaticString] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"]

    static func text(_ random: inout SplitMix) -> String {
        let pieces = ["process ", "", "ä", "\u{0}", "🩺", "fhir.Patient.created", "x"]
        return (0..<Int.random(in: 0...20, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
    }

    static func value(_ random: inout SplitMix) -> AttributeValue {
        switch Int.random(in: 0..<6, using: &random) {
        case 0: .literal("a literal")
        case 1: .text("number \(Int.random(in: 0...1000, using: &random))")
        case 2: .int(Int64.random(in: .min ... .max, using: &random))
        case 3: .double(Double.random(in: -1...1, using: &random))
        case 4: .bool(Bool.random(using: &random))
        default: .uuid(random.next(), random.next())
        }
    }

    static func attributes(_ random: inout SplitMix, _ prefix: String) -> [Attribute] {
        (prefix == "c" ? constantKeys : keys).prefix(Int.random(in: 0...8, using: &random)).map { Attribute($0, value(&random)) }
    }

    static func span(_ random: inout SplitMix, _ template: SpanTemplate) -> SpanData {
        let parent = Bool.random(using: &random) ? context(random.next() | 1, isRemote: Bool.random(using: &random)) : nil
        let own = context(random.next() | 1, state: Bool.random(using: &random) ? "a=b" : nil)
        var span = SpanData(template: template, context: own, parent: parent, start: t0, isRecording: true)
        for attribute in attributes(&random, "k") { span.append(attribute.key.literal, attribute.value) }
        for _ in 0..<Int.random(in: 0...3, using: &random) { span.add(SpanEvent("event", at: t0, attributes(&random, "k"))) }
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            span.add(SpanLink(context(random.next() | 1), attributes(&random, "k")))
        }
        if Bool.random(using: &random) { span.set(.error("failed \(Int.random(in: 0...9, using: &random))")) }
        return span
    }
}

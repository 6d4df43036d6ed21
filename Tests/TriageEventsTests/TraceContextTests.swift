import Testing

@testable import TriageEvents

@Suite("W3C trace context (reference §1)")
struct TraceContextTests {
    static let trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    static let span = "00f067aa0ba902b7"

    static func value(_ version: String = "00", trace: String = trace, span: String = span, flags: String = "01") -> String {
        "\(version)-\(trace)-\(span)-\(flags)"
    }

    /// The context that a value gives directly, and through a record's headers: always the same.
    func parse(_ text: String) -> TraceContext? {
        let direct = TraceContext(traceparent: ByteSlice(text))
        let carried = TraceContext(headers: [Header("x", text: "y"), Header("traceparent", text: text)])
        #expect(direct == carried)
        return direct
    }

    @Test("a version 00 value, and back again")
    func roundTrip() throws {
        let context = try #require(parse(TraceContextTests.value()))
        #expect(context.traceID.description == TraceContextTests.trace && context.spanID.description == TraceContextTests.span)
        #expect(context.traceID == TraceID(TraceContextTests.trace) && context.spanID == SpanID(TraceContextTests.span))
        #expect(context.isSampled && context.isRemote && context.isValid && context.traceState == nil)
        #expect(context.traceparent == ByteSlice(TraceContextTests.value()))
        #expect(context.traceparent.count == 55)
    }

    @Test(
        "only the two defined flags are read, copied unchanged, and sent",
        arguments: [
            ("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("04", "00"), ("fc", "00"), ("ff", "03"),
            (
                "09",
                "01"
            ), ("0a", "02"),
        ]
    )
    func flags(incoming: String, outgoing: String) throws {
        let context = try #require(parse(TraceContextTests.value(flags: incoming)))
        #expect(context.traceparent.utf8Text == TraceContextTests.value(flags: outgoing))
        #expect(context.isSampled == ["01", "03"].contains(outgoing))
        #expect(context.flags.contains(.random) == ["02", "03"].contains(outgoing))
    }

    @Test("a higher version is read as far as it is known, and sent on as version 00")
    func higherVersions() throws {
        for text in [
            TraceContextTests.value("01"), TraceContextTests.value("cc") + "-what-the-future-brings",
            TraceContextTests.value("fe") + "-",
        ] {
            #expect(try #require(parse(text)).traceparent.utf8Text == TraceContextTests.value())
        }
        #expect(
            try #require(
                parse(
                    TraceContextTests.value(
                        "01",
                        flags: "ff"))
            ).traceparent.utf8Text == TraceContextTests.value(flags: "03"))
    }

    @Test("spaces and tabs around the value are tolerated", arguments: [" ", "\t", " \t "])
    func whiteSpace(space: String) {
        #expect(parse(space + TraceContextTests.value() + space)?.traceparent.utf8Text == TraceContextTests.value())
    }

    @Test(
        "what starts a new trace",
        arguments: [
            "", " ", "00", value() + "-", value() + "-00", value() + "x", String(value().dropLast()), value("ff"), value("0"),
            value("000"),
            value("0A"), value("0g"), value("FF"), value("01") + "x", value("01") + ".extra", String(value("01").dropLast()),
            value(trace: String(repeating: "0", count: 32)), value(span: String(repeating: "0", count: 16)),
            value(trace: trace.uppercased()), value(span: "00F067aa0ba902b7"), value(trace: "4bf92f3577b34da6a3ce929d0e0e473g"),
            value(span: "00f067aa0ba902b"), value(trace: trace + "0"), value(flags: "0"), value(flags: "0g"), value(flags: "0A"),
            value(flags: "1"),
            value(flags: "001"), value().replacing("-", with: "_"), "00_" + value().dropFirst(3), value(span: "+0f067aa0ba902b7"),
            "00-" + value(),
            value().replacing("4bf9", with: "4b 9"), "é" + value().dropFirst(2),
        ]
    )
    func invalid(text: String) {
        #expect(parse(text) == nil)
    }

    @Test("a traceparent that is bad or absent takes its tracestate with it")
    func orphanedState() {
        #expect(TraceContext(headers: [Header("tracestate", text: "a=1")]) == nil)
        #expect(TraceContext(headers: [Header("traceparent", text: "bad"), Header("tracestate", text: "a=1")]) == nil)
        #expect(TraceContext(headers: [Header("traceparent", nil), Header("tracestate", text: "a=1")]) == nil)
        #expect(TraceContext(headers: [Header("traceparent", ByteSlice([0xFF, 0xFE]))]) == nil)
        #expect(
            TraceContext(headers: [Header("Traceparent", text: TraceContextTests.value())]) == nil,
            "names are case-sensitive")
    }

    @Test("a bad tracestate leaves the traceparent in use")
    func badState() throws {
        let context = try #require(
            TraceContext(headers: [Header("tracestate", text: "a=1,B=2"), Header("traceparent", text: TraceContextTests.value())])
        )
        #expect(context.traceState == nil && context.isSampled)
    }

    @Test("of several traceparent headers the last counts")
    func duplicates() throws {
        let other = TraceContextTests.value(span: "aaaaaaaaaaaaaaaa", flags: "00")
        let context = try #require(
            TraceContext(headers: [Header("traceparent", text: TraceContextTests.value()), Header("traceparent", text: other)])
        )
        #expect(context.traceparent.utf8Text == other)
        #expect(TraceContext(headers: [Header("traceparent", text: other), Header("traceparent", text: "bad")]) == nil)
    }

    @Test("several tracestate headers are joined in order")
    func joinedStates() throws {
        let context = try #require(
            TraceContext(headers: [
                Header("tracestate", text: "a=1,b=2"), Header("traceparent", text: TraceContextTests.value()),
                Header("tracestate", nil),
                Header("tracestate", text: ""), Header("tracestate", text: "c=3"),
            ])
        )
        #expect(context.traceState?.text == "a=1,b=2,c=3")
    }

    @Test("injecting replaces what was there, once each, and removes a stale tracestate")
    func injection() throws {
        let stale: Headers = [
            Header("traceparent", text: "old"), Header("k", text: "v"), Header("traceparent", text: "older"),
            Header(
                "tracestate",
                text: "x=y"),
            Header("baggage", text: "a=b"),
        ]
        let ids = (TraceID(high: 0x0102_0304_0506_0708, low: 9), SpanID(0xFF))
        let plain = TraceContext(traceID: ids.0, spanID: ids.1, flags: [])
        let text = "00-01020304050607080000000000000009-00000000000000ff-00"
        #expect(
            stale.replacing(plain.injectedHeaders) == [
                Header("k", text: "v"), Header("baggage", text: "a=b"),
                Header("traceparent", text: text),
            ],
            "a context that isn't sampled is injected as well"
        )
        let state = try #require(TraceState("v=1"))
        let full = TraceContext(traceID: ids.0, spanID: ids.1, flags: [.sampled, .random], traceState: state)
        let injected = stale.replacing(full.injectedHeaders)
        #expect(injected.count(of: "traceparent") == 1 && injected.text("tracestate") == "v=1")
        let extracted = try #require(TraceContext(headers: injected))
        #expect(
            extracted.traceID == ids.0 && extracted.spanID == ids.1 && extracted.flags == full.flags
                && extracted.traceState == state)
        #expect(extracted.isRemote && !full.isRemote)
        #expect(injected.text("traceparent") == text.dropLast() + "3")
    }

    @Test("an invalid context injects nothing")
    func invalidInjection() {
        let zero = TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(1), flags: .sampled)
        #expect(!zero.isValid && zero.injectedHeaders.isEmpty)
        let noSpan = TraceContext(traceID: TraceID(high: 0, low: 1), spanID: SpanID(0), flags: .sampled)
        #expect(!noSpan.isValid && noSpan.injectedHeaders.isEmpty)
    }

    @Test("ids as text")
    func ids() {
        for text in [
            "", TraceContextTests.trace + "0", TraceContextTests.trace.uppercased(), String(repeating: "0", count: 32),
            TraceContextTests.span,
        ] {
            #expect(TraceID(text) == nil)
        }
        for text in [
            "", TraceContextTests.span + "0", "00F067AA0BA902B7",
            String(
                repeating: "0",
                count: 16),
        ] { #expect(SpanID(text) == nil) }
        #expect(TraceID(high: 0, low: 10).description == "0000000000000000000000000000000a")
        #expect(UInt64(0xABC).hexadecimal == "0000000000000abc")
    }
}

@Suite("W3C tracestate (reference §1.2)")
struct TraceStateTests {
    @Test(
        "lists that are kept, and how they are sent on",
        arguments: [
            ("a=1", "a=1"), ("a=1,b=2", "a=1,b=2"), (" a=1 ,\tb=2\t", "a=1,b=2"), (",a=1,,b=2,", "a=1,b=2"), ("a= 1", "a= 1"),
            ("a=  x  ", "a=  x"),
            ("0a=1", "0a=1"), ("a_-*/@z=1", "a_-*/@z=1"), ("tenant@system=1", "tenant@system=1"), ("a=1,a=2", "a=1,a=2"),
            ("a=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~", "a=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~"),
            (
                "ot=th:8;rv:1234567890abcd",
                "ot=th:8;rv:1234567890abcd"
            ),
        ]
    )
    func valid(text: String, sent: String) {
        #expect(TraceState(text)?.text == sent)
    }

    @Test(
        "lists that are dropped",
        arguments: [
            "", ",", " , ", "a", "a=", "=1", "a=1,b", "A=1", "aB=1", "_a=1", "@a=1", "a b=1", "a =1", "a=1=2", "a=\u{1F}",
            "a=\u{7F}", "a=é", "é=1", "a=\t1",
            "a.b=1", "a=1;b,c",
        ]
    )
    func invalid(text: String) {
        #expect(TraceState(text) == nil)
    }

    @Test("the limits: 32 members, keys and values of 256")
    func limits() {
        func list(_ count: Int) -> String { (0..<count).map { "k\($0)=v" }.joined(separator: ",") }
        #expect(TraceState(list(32))?.text == list(32))
        #expect(TraceState(list(33)) == nil)
        #expect(TraceState(list(32) + ",,,")?.text == list(32), "empty members don't count")
        let key = String(repeating: "k", count: 256)
        let value = String(repeating: "v", count: 256)
        #expect(TraceState("\(key)=\(value)")?.text == "\(key)=\(value)")
        #expect(TraceState("\(key)k=v") == nil)
        #expect(TraceState("k=\(value)v") == nil)
        let long = (0..<32).map { "k\($0)=\(value)" }.joined(separator: ",")
        #expect(TraceState(long)?.text == long, "at least 512 characters are propagated")
        #expect(TraceState(joining: [ByteSlice(list(20)), ByteSlice(list(13))]) == nil)
        #expect(TraceState(joining: [ByteSlice([0xFF])]) == nil)
        #expect(TraceState(joining: []) == nil)
    }
}

@Suite("W3C baggage (reference §1.3)")
struct BaggageTests {
    func parse(_ values: String...) -> [String: String] {
        let baggage = Baggage(parsing: values.map { ByteSlice($0) })
        return Dictionary(baggage.members.map { ($0.name, $0.value) }) { $1 }
    }

    @Test("members, properties, spaces, percent-encoding")
    func parsing() {
        #expect(parse("k=v;prop;prop=x , k2=v2") == ["k": "v", "k2": "v2"])
        #expect(parse(" \tk\t = v ") == ["k": "v"])
        #expect(parse("k=a=b==") == ["k": "a=b=="])
        #expect(parse("k=%C3%A9%20%2c%25") == ["k": "é ,%"])
        #expect(parse("k=%c3%a9") == ["k": "é"])
        #expect(parse("k=%FF%C3") == ["k": "\u{FFFD}\u{FFFD}"])
        #expect(parse("k=%,l=%4,m=%zz,n=%+5,o=%-1") == ["k": "%", "l": "%4", "m": "%zz", "n": "%+5", "o": "%-1"])
        #expect(parse("k=") == ["k": ""])
        #expect(parse("!#$%&'*+-.^_`|~09azAZ=1") == ["!#$%&'*+-.^_`|~09azAZ": "1"])
    }

    @Test(
        "members that break the grammar are dropped whole, the others stay",
        arguments: [
            "=v", "k", "k k=v", "k=\"v\"", "k=a b",
            "k=a\\b", "k=é", "é=1", "(k)=1", ";k=v", "",
        ])
    func invalid(member: String) {
        #expect(parse("a=1,\(member),b=2") == ["a": "1", "b": "2"])
    }

    @Test("names are case-sensitive, the last value of one counts, several headers are joined")
    func duplicates() {
        #expect(parse("k=1,K=2,k=3") == ["k": "3", "K": "2"])
        #expect(parse("k=1,a=1", "k=2") == ["k": "2", "a": "1"])
    }

    @Test("64 members and 8,192 bytes are kept, over all headers; what lies beyond is dropped whole")
    func limits() {
        func list(_ range: Range<Int>) -> String { range.map { "k\($0)=v" }.joined(separator: ",") }
        #expect(parse(list(0..<64)).count == 64)
        #expect(parse(list(0..<40), list(40..<80)).count == 64)
        let exact = "k=" + String(repeating: "v", count: 8190)
        #expect(parse(exact)["k"]?.count == 8190)
        #expect(parse(exact + "v").isEmpty)
        #expect(parse("a=1", exact) == ["a": "1"])
    }

    @Test("what is written is read back, whatever the value")
    func roundTrip() throws {
        var baggage = Baggage()
        #expect(baggage.text == nil)
        baggage["k"] = "é, ;\\\"%=\u{0}\u{7F}~"
        baggage["l"] = "plain"
        baggage["not a token"] = "x"
        baggage[""] = "x"
        let text = try #require(baggage.text)
        #expect(text == "k=%C3%A9%2C%20%3B%5C%22%25=%00%7F~,l=plain")
        #expect(Baggage(parsing: [ByteSlice(text)]) == baggage)
        baggage["k"] = nil
        #expect(baggage.text == "l=plain" && baggage["k"] == nil && baggage["l"] == "plain")
    }

    @Test("a record's baggage header travels byte for byte through a replacement of others")
    func headers() {
        let raw = ByteSlice("k=v;prop , \u{FFFD}")
        let headers: Headers = [Header("baggage", raw), Header("traceparent", text: "x")]
        #expect(headers.replacing([Header("traceparent", text: "y")]).last("baggage") == raw)
        #expect(Baggage(parsing: [raw])["k"] == "v")
    }
}

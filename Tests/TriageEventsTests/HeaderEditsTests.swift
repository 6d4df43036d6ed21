import Testing

@testable import TriageEvents

@Suite("Header edits and text as bytes")
struct HeaderEditsTests {
    /// What replacing means, done with arrays.
    private func naive(_ headers: [Header], _ edits: [Header]) -> [Header] {
        headers.filter { header in !edits.contains { $0.name == header.name } } + edits.filter { $0.value != nil }
    }

    @Test("edits do what the same done with arrays does, one after the other as well as at once")
    func naiveModel() {
        let seed = UInt64.random(in: .min ... .max)
        var random = SeededGenerator(state: seed)
        let names = ["", "a", "b", "traceparent", "traceparenu", "retryCount", "é"]
        func some(_ most: Int) -> [Header] {
            (0..<Int.random(in: 0...most, using: &random)).map { _ in
                let value: ByteSlice? =
                    Int.random(in: 0..<4, using: &random) == 0
                    ? nil : ByteSlice((0..<Int.random(in: 0...20, using: &random)).map { UInt8($0) })
                return Header(names.randomElement(using: &random) ?? "", value)
            }
        }
        for _ in 0..<5000 {
            let (headers, first, second) = (some(6), some(5), some(3))
            let once = naive(headers, first)
            #expect(Array(Headers(headers).replacing(HeaderEdits(first))) == once, "seed \(seed)")
            let both = Headers(headers).replacing(HeaderEdits(first), HeaderEdits(second))
            #expect(Array(both) == naive(once, second), "seed \(seed)")
            #expect(both.count == Array(both).count, "seed \(seed)")
            let without = HeaderEdits(first).without(["a", "retryCount"])
            #expect(
                Array(Headers(headers).replacing(without))
                    == naive(headers, first.filter { $0.name != "a" && $0.name != "retryCount" }), "seed \(seed)")
        }
    }

    @Test("what is set piece by piece is what is set as text")
    func pieces() {
        var edits = HeaderEdits()
        edits.set("number", number: .min)
        edits.set("text", text: "é")
        edits.set("nothing", nil)
        edits.set("position") { $0.append(RecordPosition(topic: "t", partition: 3, offset: .max)) }
        edits.set("empty") { _ in }
        edits.remove("gone")
        let headers = Headers([Header("gone", text: "x"), Header("nothing", text: "y"), Header("kept", nil)]).replacing(edits)
        #expect(
            Array(headers) == [
                Header("kept", nil), Header("number", text: "\(Int64.min)"), Header("text", text: "é"),
                Header("position", text: "t/3/\(Int64.max)"), Header("empty", text: ""),
            ])
    }

    @Test("contexts are injected as their headers say")
    func contexts() {
        for flags in 0...3 {
            let context = TraceContext(
                traceID: TraceID(high: 1, low: .max), spanID: SpanID(0xABCD), flags: TraceFlags(rawValue: UInt8(flags)),
                traceState: flags == 2 ? TraceState("a=b") : nil)
            var edits = HeaderEdits()
            context.inject(into: &edits)
            let headers = Headers([Header("tracestate", text: "stale=1"), Header("traceparent", text: "x")])
            #expect(headers.replacing(edits) == headers.replacing(context.injectedHeaders))
            #expect(context.isWritten(as: context.traceparent))
            let other = TraceFlags(rawValue: UInt8(flags ^ 1))
            #expect(
                !context.isWritten(as: TraceContext(traceID: context.traceID, spanID: context.spanID, flags: other).traceparent))
        }
    }

    @Test("numbers are written and read as strings are")
    func numbers() {
        var random = SystemRandomNumberGenerator()
        let edges: [Int64] = [0, 9, 10, 99, 100, -1, -9, -10, .max, .min, .max - 1, .min + 1]
        let others = (0..<2000).map { _ in Int64.random(in: .min ... .max, using: &random) >> Int64.random(in: 0...63) }
        for number in edges + others {
            var text = TextBytes()
            text.append(number)
            #expect(text.text == "\(number)")
            #expect(TextBytes.count(of: number) == text.count)
            #expect(text.slice.decimal == number)
        }
        for text in [
            "", "+", "-", "+7", "-7", "007", "9223372036854775808", "-9223372036854775809", "1x", "x", " 1", "1 ", "--1",
        ] {
            #expect(ByteSlice(text).decimal == Int64(text), "\(text)")
        }
    }

    @Test("positions are read from bytes as from text")
    func positions() {
        let texts = [
            "t/0/0", "fhir.Patient.created/3/42", "t/2147483647/9223372036854775807", "t/2147483648/1", "t/1/9223372036854775808",
            "/1/2", "t/1", "t", "", "t//1", "t/1/", "t/01/1", "t/1/01", "t/+1/1", "t/1/-1", "t/1/1/1", "é/1/1", "t/1/1x",
            "t/00/0",
        ]
        for text in texts {
            #expect(RecordPosition(ByteSlice(text)) == RecordPosition(text), "\(text)")
            #expect(RecordPosition(ByteSlice(text), likely: "t") == RecordPosition(text), "\(text)")
        }
        #expect(RecordPosition(ByteSlice([0xFF, 0x2F, 0x31, 0x2F, 0x31])) == nil)
    }

    @Test("bytes are compared with text and told from what is none")
    func texts() {
        for text in ["", "a", "retry-group", "é", "a much longer name than fits into a small string"] {
            #expect(ByteSlice(text).equals(text))
            #expect(!ByteSlice(text + "x").equals(text))
            #expect(!ByteSlice("x" + text).equals(text + "x") || text.isEmpty)
            #expect(ByteSlice(text).isText)
        }
        #expect(!ByteSlice([0x61, 0xFF]).isText)
    }
}

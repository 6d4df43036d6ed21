import Testing
import TriageEvents
import TriageTelemetry

@testable import Triage
@testable import TriageCommand

@Suite("Asking for spans")
struct TraceFetcherTests {
    static let trace = ExplainWorld.trace
    /// The same ids in Base64, as Tempo writes them.
    static let tempoTrace = "S/kvNXezTaajzpKdDg5HNg=="
    static let batch = """
        {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"clinic"}},{"key":"telemetry.sdk.name","value":{"stringValue":"triage"}}]},
        "scopeSpans":[{"scope":{"name":"triage"},"spans":[{"traceId":"\(tempoTrace)","spanId":"AAAAAAAAAAI=","parentSpanId":"AAAAAAAAAAE=",
        "name":"process t","kind":"SPAN_KIND_CONSUMER","startTimeUnixNano":"1000","endTimeUnixNano":"3000",
        "attributes":[{"key":"messaging.kafka.offset","value":{"intValue":"18"}},{"key":"triage.stale","value":{"boolValue":true}}],
        "events":[{"timeUnixNano":"2000","name":"exception","attributes":[{"key":"exception.type","value":{"stringValue":"E"}}]}],
        "links":[{"traceId":"00000000000000070000000000000007","spanId":"0000000000000008"}],
        "status":{"code":"STATUS_CODE_ERROR","message":"E code"}}]}]}
        """

    func spans(_ places: [TraceFetcher.Place], _ answers: [String: String]) async -> TraceFetcher.Answer {
        await TraceFetcher(places: places, caller: StubCaller(answers: answers)).spans(of: Self.trace)
    }

    @Test("Tempo's newer API, its older one where that isn't known, and OTLP as it is sent; ids in Base64 and hexadecimal")
    func tempo() async throws {
        let newer = await spans(
            [.tempo("http://t")],
            ["http://t/api/v2/traces/\(Self.trace)": #"{"trace":{"resourceSpans":[\#(Self.batch)]},"metrics":{}}"#])
        let older = await spans([.tempo("http://t")], ["http://t/api/traces/\(Self.trace)": #"{"batches":[\#(Self.batch)]}"#])
        #expect(newer == older && newer.source == "Tempo" && newer.problems.isEmpty)
        let span = try #require(newer.spans.first)
        #expect(
            newer.spans.count == 1 && span.traceID == Self.trace && span.spanID == SpanID(2) && span.parentSpanID == SpanID(1))
        #expect(
            span.kind == .consumer && span.service == "clinic" && span.status == .error("E code")
                && span["triage.stale"] == "true")
        #expect(span["messaging.kafka.offset"] == "18" && span.duration == .nanoseconds(2000))
        #expect(span.links == [.init(TraceID(high: 7, low: 7), SpanID(8))] && span.events.map(\.name) == ["exception"])
        let none = await spans([.tempo("http://t")], ["http://t/api/v2/traces/\(Self.trace)": #"{"trace":{}}"#])
        #expect(none == TraceFetcher.Answer())
    }

    @Test("of Jaeger the parent is the first reference within the trace, whatever its kind; the rest are links")
    func jaeger() async throws {
        let answer = await spans(
            [.jaeger("http://j")],
            [
                "http://j/api/traces/\(Self.trace)": """
                {"data":[{"traceID":"\(Self.trace)","processes":{"p":{"serviceName":"shop","tags":[]}},"spans":[
                {"traceID":"\(Self.trace)","spanID":"2","operationName":"process t","processID":"p","startTime":1,"duration":2,
                "references":[{"refType":"FOLLOWS_FROM","traceID":"7","spanID":"9"},{"refType":"FOLLOWS_FROM","traceID":"\(Self.trace)","spanID":"1"},
                {"refType":"FOLLOWS_FROM","traceID":"\(Self.trace)","spanID":"3"}],
                "tags":[{"key":"error","type":"bool","value":true},{"key":"otel.status_description","type":"string","value":"MARKER"},
                {"key":"span.kind","type":"string","value":"consumer"}],"logs":[{"timestamp":1,"fields":[{"key":"event","value":"MARKER text"}]}]}]}]}
                """
            ])
        let span = try #require(answer.spans.first)
        #expect(span.parentSpanID == SpanID(1) && span.links.map(\.spanID.value) == [9, 3] && span.kind == .consumer)
        #expect(span.status == .error("") && span.service == "shop" && span.duration == .microseconds(2))
        #expect(!String(reflecting: span).contains("MARKER"))
    }

    @Test("the console first, then Jaeger, then Tempo, until one has it; what went wrong is told without what it said")
    func order() async {
        let own = TraceSpan(
            traceID: Self.trace, spanID: SpanID(5), name: "attempt", start: Timestamp(nanoseconds: 1),
            end: Timestamp(nanoseconds: 2))
        let document = TraceSpan.document([own]).utf8Text ?? ""
        let places: [TraceFetcher.Place] = [.console("http://c"), .jaeger("http://j"), .tempo("http://t")]
        let console = await spans(places, ["http://c/console/api/traces/\(Self.trace)": document])
        #expect(console.spans == [own] && console.source == "the console")
        let tempo = await spans(
            places,
            [
                "http://c/console/api/traces/\(Self.trace)": "down", "http://j/api/traces/\(Self.trace)": "[\"MARKER\"]",
                "http://t/api/traces/\(Self.trace)": #"{"batches":[\#(Self.batch)]}"#,
            ])
        #expect(tempo.source == "Tempo")
        #expect(tempo.problems == ["the console: nobody listens there", "Jaeger: its answer is no trace as JSON"])
        let nobody = await spans(places, ["http://j/api/traces/\(Self.trace)": ""])
        #expect(nobody.spans.isEmpty && nobody.source == nil && nobody.problems == ["Jaeger: answered 500"])
    }

    @Test("URLs that can't be asked are refused by name; the console's may name its page")
    func urls() throws {
        #expect(throws: ConfigurationError.self) { try TraceFetcher(console: "localhost:9464", traces: .init()) }
        #expect(try TraceFetcher(console: "http://localhost:9464/console/", traces: .init()).names == "the console")
        #expect(try TraceFetcher(traces: .init()).isEmpty)
        var traces = Configuration.Traces()
        traces.jaeger = "http://j"
        traces.headersFile = "/no/such/file"
        #expect(throws: ConfigurationError.self) { try TraceFetcher(traces: traces) }
        let fields = try withFile(Array("Authorization: Bearer x\nX-Scope-OrgID:tenant\n".utf8)) { path in
            traces.headersFile = path
            return try traces.headers()
        }
        #expect(fields.map { "\($0.name)=\($0.value)" } == ["Authorization=Bearer x", "X-Scope-OrgID=tenant"])
        #expect(throws: ConfigurationError.self) {
            try withFile(Array("nonsense\n".utf8)) { path in
                traces.headersFile = path
                _ = try traces.headers()
            }
        }
    }

    @Test("documents with anything cut out or put in are read or refused, never a trap", arguments: 0..<300)
    func anything(seed: UInt64) throws {
        var generator = SplitMix(seed: seed)
        var bytes = Array(
            #"{"trace":{"resourceSpans":[\#(Self.batch)]},"data":[{"spans":[{"traceID":"1","spanID":"2","startTime":9223372036854775807,"duration":9}]}],"spans":[{}]}"#
                .utf8)
        for _ in 0..<Int.random(in: 1...8, using: &generator) {
            let at = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0...2, using: &generator) {
            case 0: bytes.remove(at: at)
            case 1: bytes[at] = UInt8.random(in: 0...255, using: &generator)
            default: bytes.removeSubrange(at..<min(bytes.count - 1, at + Int.random(in: 0...200, using: &generator)))
            }
        }
        guard let value = JSONValue(ByteSlice(bytes)) else { return }
        for spans in [TraceDocument.otlp(value), TraceDocument.jaeger(value), TraceSpan.spans(ofDocument: value)] {
            _ = TraceWaterfall(spans: spans ?? [])
        }
    }
}

@Suite("Drawing waterfalls")
struct WaterfallTextTests {
    static func span(
        _ id: UInt64, _ parent: UInt64?, _ name: String, _ start: Int64, _ end: Int64, fails: Bool = false,
        _ attributes: [String: String] = [:]
    ) -> TraceSpan {
        TraceSpan(
            traceID: ExplainWorld.trace, spanID: SpanID(id), parentSpanID: parent.map { SpanID($0) }, name: name,
            start: Timestamp(milliseconds: start), end: Timestamp(milliseconds: end), status: fails ? .error("E") : .unset,
            attributes: attributes.sorted { $0.key < $1.key }.map { .init($0.key, $0.value) })
    }

    static let waterfall = TraceWaterfall(spans: [
        span(
            1, nil, "send fhir.Patient.created", 0, 10,
            ["messaging.kafka.offset": "1", "messaging.destination.name": "fhir.Patient.created"]),
        span(2, 1, "process fhir.Patient.created", 10, 30, fails: true, ["triage.outcome": "retry_scheduled"]),
        span(3, 2, "wait fhir.Patient.created.retry", 30, 100, ["triage.wait.reason": "backoff"]),
    ])

    @Test("names, bars, durations and what came of it, as wide as it may be; names give way first")
    func text() {
        let wide = WaterfallText(waterfall: Self.waterfall, style: PageStyle(width: 80))
        #expect((wide.lines + ["  " + wide.legend]).joined(separator: "\n") == golden("waterfall.txt"))
        let narrow = WaterfallText(waterfall: Self.waterfall, style: PageStyle(width: 60, isUnicode: false))
        #expect((narrow.lines + ["  " + narrow.legend]).joined(separator: "\n") == golden("waterfall-ascii.txt"))
    }

    @Test("no line is wider than the page, whatever the width", arguments: [60, 61, 79, 100, 200, 400])
    func widths(width: Int) {
        for isUnicode in [true, false] {
            let lines = WaterfallText(waterfall: Self.waterfall, style: PageStyle(width: width, isUnicode: isUnicode)).lines
            #expect(lines.allSatisfy { $0.count <= width } && lines.count == 3)
            #expect(isUnicode || lines.allSatisfy { $0.utf8.allSatisfy { $0 < 0x80 } })
        }
    }

    @Test("rows beyond the bound are counted; failures are coloured where there are colours")
    func bounds() {
        var text = WaterfallText(waterfall: Self.waterfall, style: PageStyle(hasColour: true), maximumRows: 2)
        #expect(text.lines.last == "  … and 1 more span" && text.lines[1].hasPrefix("\u{1B}[31m"))
        text.maximumRows = 60
        #expect(text.lines.count == 3)
    }

    @Test(
        "the locale says whether there is more than ASCII",
        arguments: [
            (["LANG": "C.UTF-8"], true), (["LANG": "en_GB.utf8"], true), (["LANG": "C"], false), ([:], false),
            (["LC_ALL": "C", "LANG": "de_DE.UTF-8"], false), (["LC_ALL": "", "LC_CTYPE": "de_DE.UTF-8@euro"], true),
        ] as [([String: String], Bool)])
    func locales(environment: [String: String], isUnicode: Bool) {
        #expect(PageStyle.isUTF8(environment) == isUnicode)
        #expect(PageStyle.standardOutput(width: 70, environment: environment).width == 70)
    }
}

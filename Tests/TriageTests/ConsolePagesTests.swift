import Synchronization
import Testing
import TriageEvents
import TriageIngress
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("The console's pages")
struct ConsolePagesTests {
    private static let id = RecordPosition(topic: "fhir.Patient.created.dlq", partition: 0, offset: 3)
    private let visitor = ConsoleVisitor(name: "Ann", formToken: "f0f0")

    private func world() -> FakeConsole {
        let console = FakeConsole()
        console.show(
            (0..<60).map {
                deadLetter(
                    $0, fingerprint: $0 < 50 ? "00000000000000aa" : "00000000000000bb",
                    error: $0 < 50 ? "RejectedError no_id" : "RejectedError other")
            })
        let record = deadLetter(3, key: "marker-key", more: [Header("x-foreign", text: "marker-header")])
        let entry = DeadLetterEntry(
            letter: DeadLetter(record),
            state: DeadLetterState(.replayed, time: console.now, by: "<b>bob</b>", reason: "a & b", replay: "r1"))
        let shape = JSONValue(ByteSlice("{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"marker\",\"marker\":1}]}")).map {
            PayloadShape(of: $0)
        }
        console.state.withLock {
            $0.details[ConsolePagesTests.id] = LetterDetail(
                entry: entry, headers: ShownHeader.all(of: record.headers).map { ($0.name, $0.bytes, $0.value) }, shape: shape,
                shapeNote: nil)
        }
        return console
    }

    private func check(_ html: String, _ page: String) throws {
        // Balanced, and nothing that the policy would refuse.
        for tag in ["table", "tr", "td", "th", "form", "div", "section", "dl", "ul", "p", "a", "details", "fieldset"] {
            let opened = html.matches(of: try Regex("<\(tag)[ >]")).count
            let closed = html.matches(of: try Regex("</\(tag)>")).count
            #expect(opened == closed, "\(page): \(tag) \(opened) \(closed)")
        }
        for bad in ["style=", "onclick", "<script", "javascript:", "<style", "src=\"http"] {
            #expect(!html.contains(bad), "\(page): \(bad)")
        }
        #expect(html.matches(of: /<table/).count == html.matches(of: /<caption>/).count, "\(page)")
        #expect(html.matches(of: /<h1>/).count == 1, "\(page)")
        let fields = html.matches(of: /<(?:input type="(?:text|number|password|radio)"|select) id="([a-z-]+)"/)
        for field in fields { #expect(html.contains("<label for=\"\(field.output.1)\""), "\(page): \(field.output.1)") }
    }

    @Test("Every page is whole, labelled, and has nothing that the policy refuses")
    func wellFormed() async throws {
        let console = world()
        let act = ("fingerprint", "00000000000000aa")
        let pages: [(String, [(String, String)], Int)] = [
            ("", [], 200), ("failures", [], 200), ("dead-letters", [], 200),
            ("dead-letters", [("status", "any"), ("from", "50")], 200),
            ("dead-letters/\(ConsolePagesTests.id)", [], 200), ("traces", [], 200), ("actions", [], 200),
            ("act", [("do", "replay"), act], 200), ("act", [("do", "discard"), act], 200),
            ("act", [("do", "reopen"), ("id", "a.dlq/0/1")], 200),
            ("act", [("do", "replay"), ("id", "a.dlq/0/1")], 200),
            ("export", [act], 200), ("export", [("id", "a.dlq/0/1")], 200), ("export", [], 400),
            ("act", [], 400), ("act", [("do", "replay")], 400), ("act", [("do", "replay"), ("id", "nonsense")], 400),
            ("act", [("do", "drop")], 400), ("dead-letters", [("class", "zz")], 400), ("dead-letters", [("from", "60")], 200),
            ("dead-letters/patient", [], 303),
            ("dead-letters/a/b/c", [], 404), ("dead-letters/none.dlq/0/1", [], 404), ("nothing", [], 404), ("traces/zz", [], 404),
            ("traces/0123456789abcdef0123456789abcdef", [], 404), ("actions/zz", [], 404), ("api/nothing", [], 404),
        ]
        for (path, query, status) in pages {
            for visitor in [nil, visitor] {
                let page = await console.page(path, query: query, visitor: visitor)
                #expect(page.status == status, "\(path)")
                if !path.hasPrefix("api"), status != 303 { try check(page.text, path) }
                #expect(!page.text.contains("marker"), "\(path)")
            }
        }
        #expect(console.state.withLock { $0.orders.isEmpty && $0.reveals.isEmpty })
    }

    @Test("The row of a cause, letter by letter")
    func golden() async throws {
        let console = world()
        let page = await console.page("failures").text
        let row = try #require(page.firstMatch(of: /<tr><th scope="row"><a(?:.|\n)*?<\/tr>/)).output
        #expect(
            row == """
                <tr><th scope="row"><a href="/console/dead-letters?fingerprint=00000000000000aa">RejectedError no_id</a><br>\
                <code class="quiet">00000000000000aa</code>
                <span class="hint">fhir.Patient.created</span></th>
                <td>persistent</td>
                <td class="number">50</td>
                <td><span class="nowrap">83.3 %</span><span class="share" aria-hidden="true"><i class="w166"></i></span></td>
                <td class="number">50</td>
                <td class="nowrap"><time datetime="2023-11-14T22:13:20.000Z" title="2023-11-14T22:13:20.000Z">22:13:20Z</time></td>
                <td class="nowrap"><time datetime="2023-11-14T22:14:09.000Z" title="2023-11-14T22:14:09.000Z">22:14:09Z</time></td>
                <td class="nowrap"><a href="/console/dead-letters/fhir.Patient.created.dlq/0/49">Example</a>
                · <a href="/console/act?do=replay&amp;fingerprint=00000000000000aa" aria-label="Replay RejectedError no_id">Replay</a>
                · <a href="/console/act?do=discard&amp;fingerprint=00000000000000aa" aria-label="Discard RejectedError no_id">Discard</a></td></tr>
                """)
    }

    @Test("One dead letter: facts, attempts, state, shape; names and reasons are text; what may be anything doesn't show")
    func letter() async {
        let console = world()
        let page = await console.page("dead-letters/\(ConsolePagesTests.id)", visitor: visitor).text
        for text in [
            "&lt;b&gt;bob&lt;/b&gt;", "a &amp; b", "<code>name[].family</code>", "<code>x-foreign</code>", "not shown",
            "http://jaeger.test/trace/0123456789abcdef0123456789abcdef", "name=\"form-token\" value=\"f0f0\"", "_OTHER",
        ] { #expect(page.contains(text), "\(text)") }
        // Who did it and why are people's words.
        let unsigned = await console.page("dead-letters/\(ConsolePagesTests.id)").text
        for text in ["form-token", "bob", "a &amp; b"] { #expect(!unsigned.contains(text), "\(text)") }
        #expect(unsigned.contains("shown to those who have signed in"))
    }

    @Test("Who asked for a replay, when and why, stays readable when its outcome is known")
    func outcome() async throws {
        let console = world()
        let text = """
            {"status":"completed","time":"2026-11-23T04:00:05Z","by":"care","reason":"mended","replay":"r1",\
            "replayed_by":"bob","replayed_at":"2026-11-23T04:00:00Z"}
            """
        let state = try #require(JSONValue(ByteSlice(text)).flatMap { DeadLetterState($0) })
        let entry = DeadLetterEntry(letter: DeadLetter(deadLetter(3)), state: state)
        console.state.withLock {
            $0.details[ConsolePagesTests.id] = LetterDetail(entry: entry, headers: [], shape: nil, shapeNote: nil)
        }
        let path = "dead-letters/\(ConsolePagesTests.id)"
        let page = await console.page(path, visitor: visitor).text
        for part in [
            "<dt>By</dt><dd>care</dd>", "<dt>Replayed by</dt><dd>bob</dd>", "<dd>mended</dd>", "2026-11-23T04:00:00.000Z",
        ] {
            #expect(page.contains(part), "\(part)")
        }
        let other = await console.page(path).text
        #expect(other.contains("<dd>care</dd>") && !other.contains("bob") && !other.contains("mended"))
    }

    @Test("Revealing takes a POST, is told to whoever writes it down, and escapes what it shows")
    func reveal() async throws {
        let console = world()
        let path = "dead-letters/\(ConsolePagesTests.id)/reveal"
        let reloaded = await console.page(path, visitor: visitor)
        #expect(reloaded.status == 303 && reloaded.text == "/console/dead-letters/\(ConsolePagesTests.id)")
        #expect(console.state.withLock { $0.reveals.isEmpty })
        let page = await console.post(path, [])
        #expect(
            page.status == 200 && page.text.contains("marker-key") && page.text.contains("&lt;marker&gt;")
                && page.text.contains("marker &amp; text") && page.text.contains("<code>marker &lt;header&gt;</code>"))
        try check(page.text, path)
        #expect(console.state.withLock { $0.reveals } == ["\(ConsolePagesTests.id) by Ann (console)"])
        #expect(await console.post("dead-letters/none.dlq/0/1/reveal", []).status == 404)
    }

    @Test("A trace: rows with places in half percents, hostile names as text, other traces linked")
    func waterfall() async throws {
        let console = FakeConsole()
        let trace = try #require(TraceID("0123456789abcdef0123456789abcdef"))
        let other = try #require(TraceID("fedcba9876543210fedcba9876543210"))
        func span(
            _ id: UInt64, _ parent: UInt64?, _ name: String, _ start: Int64, _ end: Int64, failed: Bool = false,
            links: [TraceSpan.Link] = []
        ) -> TraceSpan {
            TraceSpan(
                traceID: trace, spanID: SpanID(id), parentSpanID: parent.map { SpanID($0) }, name: name,
                kind: .consumer,
                service: "triage", start: Timestamp(milliseconds: start), end: Timestamp(milliseconds: end),
                status: failed ? .error("<i>") : .unset,
                attributes: failed ? [TraceSpan.Attribute("error.type", "Late")] : [], links: links)
        }
        console.state.withLock {
            $0.spans = [
                span(1, nil, "process <a>", 0, 1000, failed: true), span(2, 1, "attempt", 100, 350, failed: true),
                span(3, 1, "wait b.retry", 400, 1000, links: [TraceSpan.Link(other, SpanID(9))]),
            ]
            $0.failures = [SpanStore.FailedTrace(trace, $0.spans)].compactMap { $0 }
        }
        let page = await console.page("traces/\(trace)").text
        try check(page, "trace")
        for text in [
            "<i class=\"failed o0 w200\"></i>", "<i class=\"failed o20 w50\"></i>", "<i class=\"waiting o80 w120\"></i>",
            "process &lt;a&gt;",
            "<dd>&lt;i&gt;</dd>", "3 spans in 1 s, 2 failed.", "/console/traces/\(other)", "<span class=\"d1\">",
        ] { #expect(page.contains(text), "\(text)") }
        #expect(await console.page("traces").text.contains("/console/traces/\(trace)"))
        let json = await console.page("api/traces/\(trace)").text
        let value = try #require(JSONValue(ByteSlice(json)))
        #expect(TraceSpan.spans(ofDocument: value)?.count == 3)
    }

    @Test("What scripts are given is JSON")
    func json() async throws {
        let console = world()
        let decoder = EventDecoder()
        for path in ["api/overview", "api/groups", "api/dead-letters", "api/traces"] {
            let text = await console.page(path, query: [("limit", "3")]).text
            try decoder.checkObject(ByteSlice(text))
            #expect(!text.contains("marker"))
        }
        let list = try #require(JSONValue(ByteSlice(await console.page("api/dead-letters", query: [("limit", "3")]).text)))
        #expect(list["count"]?.integer == 60 && list["dead_letters"]?.elements.count == 3)
    }
}

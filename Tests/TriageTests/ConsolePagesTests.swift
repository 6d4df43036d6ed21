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
            ("act", [], 404), ("act", [("do", "replay")], 400), ("act", [("do", "replay"), ("id", "nonsense")], 404),
            ("act", [("do", "drop")], 404),
            ("dead-letters/a/b/c", [], 404), ("dead-letters/none.dlq/0/1", [], 404), ("nothing", [], 404), ("traces/zz", [], 404),
            ("traces/0123456789abcdef0123456789abcdef", [], 404), ("actions/zz", [], 404), ("api/nothing", [], 404),
        ]
        for (path, query, status) in pages {
            for visitor in [nil, visitor] {
                let page = await console.page(path, query: query, visitor: visitor)
                #expect(page.status == status, "\(path)")
                if !path.hasPrefix("api") { try check(page.text, path) }
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
        #expect(!(await console.page("dead-letters/\(ConsolePagesTests.id)").text.contains("form-token")))
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
                && page.text.contains("marker &amp; text"))
        try check(page.text, path)
        #expect(console.state.withLock { $0.reveals } == ["\(ConsolePagesTests.id) by Ann (console)"])
        #expect(await console.post("dead-letters/none.dlq/0/1/reveal", []).status == 404)
    }

    @Test("A form becomes an order; what it doesn't say right is refused, and nothing is done")
    func orders() async throws {
        let console = world()
        let one = ("id", "a.dlq/0/1")
        let bad: [[(String, String)]] = [
            [], [("do", "replay")], [("do", "drop"), one], [("do", "replay"), ("id", "x")],
            [("do", "replay"), ("fingerprint", "00")],
            [("do", "replay"), ("fingerprint", "zz")], [("do", "discard"), one], [("do", "discard"), one, ("reason", "  ")],
            [("do", "replay"), one, ("to", "nowhere")], [("do", "replay"), one, ("canary", "-5")],
            [("do", "replay"), one, ("canary", "many")], [("do", "replay")] + (0...200).map { ("id", "a.dlq/0/\($0)") },
        ]
        for form in bad { #expect(await console.post("act", form).status == 400, "\(form.prefix(3))") }
        #expect(console.state.withLock { $0.orders.isEmpty })
        let done = await console.post("act", [("do", "replay"), one, ("to", "origin"), ("canary", "7"), ("reason", "mended")])
        #expect(done.status == 303 && done.text == "/console/actions/t1")
        #expect(
            await console.post("act", [("do", "discard"), ("fingerprint", "00000000000000aa"), ("reason", "test data")]).status
                == 303)
        #expect(await console.post("act", [("do", "reopen"), one, ("canary", "-5"), ("to", "nowhere")]).status == 303)
        var replay = ConsoleOrder(kind: .replay, choice: .some([RecordPosition(topic: "a.dlq", partition: 0, offset: 1)]))
        replay.target = .origin
        replay.canary = 7
        replay.reason = "mended"
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        var discard = ConsoleOrder(kind: .discard, choice: .query(query))
        discard.reason = "test data"
        let reopen = ConsoleOrder(kind: .reopen, choice: replay.choice)
        #expect(console.state.withLock { $0.orders } == [replay, discard, reopen])
        let action = await console.page("actions/t1").text
        #expect(action.contains("1 dead letter replayed.") && action.contains("mended") && action.contains("Ann (console)"))
        try check(await console.page("actions").text, "actions")
        console.state.withLock { $0.failure = ConsoleBusy() }
        #expect(await console.post("act", [("do", "replay"), one]).status == 409)
        console.state.withLock { $0.failure = OperatorError.fenced(by: "bob", since: Timestamp(milliseconds: 0)) }
        let fenced = await console.post("act", [("do", "replay"), one])
        #expect(
            fenced.status == 503 && fenced.text.contains("bob operates the dead letters of this cluster now, since 1970-01-01"))
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

@Suite("A service's console over the broker in memory")
struct ServiceConsoleTests {
    /// Does something when an order begins; remembers that something happened.
    private final class Gate: Sendable {
        let act = Mutex<(@Sendable () -> Void)?>(nil)
        let isOpen = Mutex(false)
        func open() { isOpen.withLock { $0 = true } }
    }

    private func makeDesk(_ world: DeskWorld, _ gate: Gate = Gate()) -> (LetterReader, ConsoleDesk) {
        let access = world.access()
        let reader = LetterReader(access, clock: world.clock)
        return (
            reader,
            ConsoleDesk(
                access, clock: world.clock,
                makeOperator: {
                    gate.act.withLock { $0 }?()
                    return world.desk($0, access)
                }, changed: { await reader.changed() })
        )
    }

    @Test("What is replayed shows as replayed, and nobody is kept out afterwards")
    func replay() async throws {
        let world = DeskWorld()
        let letters = (0..<6).map { world.deadLetter(Int64($0), fingerprint: $0 < 4 ? "00000000000000aa" : "00000000000000bb") }
        let (reader, desk) = makeDesk(world)
        #expect(await reader.current().index.groups(LetterQuery()).map(\.count) == [4, 2])
        let bob = world.desk("bob")
        try await bob.begin()
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        let id = try desk.start(ConsoleOrder(kind: .replay, choice: .query(query)), by: "ann (console)")
        await desk.settle(.seconds(60))
        let task = try #require(desk.tasks.first)
        #expect(task.id == id && task.state == .done(["4 dead letters replayed."], isWell: true))
        #expect(world.replays().sorted() == Array(letters[..<4]).sorted())
        #expect(await reader.current().index.groups(LetterQuery()).map(\.count) == [2])
        #expect(world.states().lease?.by == "ann (console)")
        await #expect(throws: OperatorError.self) { try await bob.replay([letters[5]]) }
        try await bob.begin()
        #expect(try await bob.replay([letters[5]]).replayed == 1)
        // What somebody else did shows as soon as it is looked at again.
        world.clock.advance(by: .seconds(11))
        _ = await reader.current()
        await reader.changed()
        #expect(await reader.current().index.groups(LetterQuery()).map(\.count) == [1])
    }

    @Test("Discarding and opening again; a second order waits for the first one to end")
    func discard() async throws {
        let world = DeskWorld()
        let letter = world.deadLetter(1)
        let gate = Gate()
        let (reader, desk) = makeDesk(world, gate)
        var order = ConsoleOrder(kind: .discard, choice: .some([letter]))
        order.reason = "made up"
        let refused = Gate()
        gate.act.withLock {
            $0 = { [order] in
                // Before anything has been written.
                do { _ = try desk.start(order, by: "bob") } catch { refused.open() }
            }
        }
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        gate.act.withLock { $0 = nil }
        #expect(refused.isOpen.withLock { $0 })
        #expect(desk.tasks.first?.state == .done(["1 dead letter discarded."], isWell: true))
        #expect(world.status(letter) == .discarded)
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        #expect(
            desk.tasks.first?.state
                == .done(["0 dead letters discarded.", "1 dead letter left alone: discarded already."], isWell: true))
        _ = try desk.start(ConsoleOrder(kind: .reopen, choice: .some([letter])), by: "ann")
        await desk.settle(.seconds(60))
        #expect(world.status(letter) == .open)
        #expect(await reader.current().index.rows.map(\.status) == [.open])
    }

    @Test("A canary that fails again keeps the others back")
    func canary() async throws {
        let world = DeskWorld()
        for offset in 0..<5 { world.deadLetter(Int64(offset)) }
        world.meanwhile.withLock { $0 = { world.process { _ in .failedAgain } } }
        let (_, desk) = makeDesk(world)
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        var order = ConsoleOrder(kind: .replay, choice: .query(query))
        order.canary = 1
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        guard case .done(let lines, let isWell)? = desk.tasks.first?.state else {
            Issue.record("not done: \(String(describing: desk.tasks.first))")
            return
        }
        #expect(!isWell && lines.first == "1 dead letter replayed." && lines.contains { $0.contains("so 4 were left alone") })
        #expect(world.replays().count == 1)
    }

    @Test("A dead letter that isn't there fails the order, and says so")
    func missing() async throws {
        let world = DeskWorld()
        world.deadLetter(1)
        let (_, desk) = makeDesk(world)
        _ = try desk.start(
            ConsoleOrder(kind: .replay, choice: .some([RecordPosition(topic: DeskWorld.dlq, partition: 0, offset: 9)])), by: "ann"
        )
        await desk.settle(.seconds(60))
        #expect(desk.tasks.first?.state == .failed("fhir.Patient.created.dlq/0/9: the last offset of the partition is 0"))
    }
}

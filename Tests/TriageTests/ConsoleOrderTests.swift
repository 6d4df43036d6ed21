import Synchronization
import Testing
import TriageEvents
import TriageIngress
import TriageProcessing
import TriageTestKit

@testable import Triage

@Suite("What a console is asked for")
struct ConsoleOrderTests {
    private static let id = RecordPosition(topic: "a.dlq", partition: 0, offset: 1)
    private static let fingerprint = "00000000000000aa"
    private let one = ("id", "a.dlq/0/1")
    private let visitor = ConsoleVisitor(name: "Ann", formToken: "f0f0")

    @Test("A form becomes an order; what it doesn't say right is refused by name, and nothing is done")
    func orders() async throws {
        let console = FakeConsole()
        let replay = ("do", "replay")
        let bad: [([(String, String)], String)] = [
            ([], "do: expected replay, discard or reopen"), ([replay], "id: expected dead letters"),
            ([("do", "drop"), one], "do=drop"),
            ([replay, ("id", "x")], "id=x: expected TOPIC/PARTITION/OFFSET"),
            ([replay, ("fingerprint", "00")], "16 hexadecimal digits"),
            ([replay, ("fingerprint", "zz")], "fingerprint=zz"), ([("do", "discard"), one], "reason: expected"),
            ([("do", "discard"), one, ("reason", "  ")], "reason: expected"), ([replay, one, ("to", "nowhere")], "to=nowhere"),
            ([replay, one, ("canary", "-1")], "canary=-1: expected a number, 0 to 1000"),
            ([replay, one, ("canary", "many")], "canary=many"),
            ([replay, one, ("canary", "99999999999999999999")], "canary=9999"), ([replay, one, ("canary", "+1")], "canary=+1"),
            ([replay, one, ("canary-timeout", "0")], "canary-timeout=0"), ([replay, one, ("rate", "0")], "rate=0"),
            ([replay, one, ("rate", "nan")], "rate=nan"), ([replay, one, ("rate", "1e9")], "rate=1e9"),
            ([replay, one, ("rate", "-3")], "rate=-3"), ([replay, one, ("rate", "0.0000000001")], "rate=0.0000000001"),
            ([replay, one, ("limit", "5")], "no ids"), ([replay, ("fingerprint", Self.fingerprint), ("limit", "0")], "limit=0"),
            ([replay, ("fingerprint", Self.fingerprint), ("force", "on")], "force=on"),
            ([replay, one, ("force", "yes")], "force=yes"),
            ([replay, one, ("fingerprint", Self.fingerprint)], "either ids, or a fingerprint"),
            ([replay, one, ("class", "system")], "either ids"),
            ([replay, ("class", "system")], "fingerprint: expected one beside the class"),
            ([replay, one, ("unknown", "1")], "unknown=1"),
            ([replay, one, ("to", "retry"), ("to", "origin")], "expected it once"),
            ([replay, one, ("preview", "on")], "patch: expected"),
            ([replay, one, ("patch", "marker")], "the patch is no JSON"),
            ([replay, one, ("patch", "[{\"op\":\"marker\"}]")], "operation 1"),
            ([replay, ("fingerprint", Self.fingerprint), ("patch", "[]")], "one dead letter beside it"),
            ([replay] + (0...200).map { ("id", "a.dlq/0/\($0)") }, "at most 200 of them, not 201"),
        ]
        for (form, expected) in bad {
            let page = await console.post("act", form)
            #expect(
                page.status == 400 && page.text.contains(expected) && page.text.contains("Nothing was done."),
                "\(expected): \(page)")
            #expect(!page.text.contains("marker"), "\(expected)")
        }
        #expect(console.state.withLock { $0.orders.isEmpty })
        let done = await console.post(
            "act",
            [
                replay, one, ("to", "origin"), ("canary", "7"), ("canary-timeout", "30"), ("rate", "2.5"), ("limit", ""),
                ("force", "on"),
                ("patch", ""), ("reason", "mended"),
            ])
        #expect(done.status == 303 && done.text == "/console/actions/t1")
        let discarded = [
            ("do", "discard"), ("fingerprint", Self.fingerprint.uppercased()), ("class", "system"), ("reason", "test data"),
        ]
        #expect(await console.post("act", discarded).status == 303)
        // What another action would be asked for doesn't matter.
        #expect(await console.post("act", [("do", "reopen"), one, ("canary", "-5"), ("to", "nowhere")]).status == 303)
        #expect(await console.post("act", [replay, ("fingerprint", Self.fingerprint), ("limit", "20")]).status == 303)
        var first = ConsoleOrder(kind: .replay, choice: .some([Self.id]))
        first.target = .origin
        first.canary = 7
        first.canaryTimeout = .seconds(30)
        first.rate = 2.5
        first.force = true
        first.reason = "mended"
        var query = LetterQuery()
        query.fingerprint = Self.fingerprint
        var limited = ConsoleOrder(kind: .replay, choice: .query(query))
        limited.limit = 20
        query.errorClass = .system
        var discard = ConsoleOrder(kind: .discard, choice: .query(query))
        discard.reason = "test data"
        let reopen = ConsoleOrder(kind: .reopen, choice: first.choice)
        #expect(console.state.withLock { $0.orders } == [first, discard, reopen, limited])
        console.state.withLock { $0.failure = ConsoleBusy() }
        #expect(await console.post("act", [replay, one]).status == 409)
        console.state.withLock { $0.failure = OperatorError.fenced(by: "bob", since: Timestamp(milliseconds: 0)) }
        let fenced = await console.post("act", [replay, one])
        #expect(
            fenced.status == 503 && fenced.text.contains("bob operates the dead letters of this cluster now, since 1970-01-01"))
    }

    @Test("What was done is told to anyone; by whom and why to those who have signed in")
    func names() async {
        let console = FakeConsole()
        _ = await console.post("act", [("do", "discard"), one, ("reason", "no longer needed")])
        console.state.withLock {
            $0.tasks.append(
                ConsoleTask(
                    id: "t2", order: ConsoleOrder(kind: .replay, choice: .some([Self.id])), by: "Ann (console)",
                    begun: console.now,
                    state: .failed("bob operates now", nameless: "somebody else operates now")))
        }
        for path in ["actions", "actions/t1", "actions/t2"] {
            let signedIn = await console.page(path, visitor: visitor).text
            let other = await console.page(path).text
            #expect(signedIn.contains("Ann (console)") && !other.contains("Ann"), "\(path)")
            #expect(!other.contains("no longer needed") && !other.contains("bob"), "\(path)")
        }
        #expect(await console.page("actions/t1", visitor: visitor).text.contains("no longer needed"))
        #expect(await console.page("actions/t2", visitor: visitor).text.contains("bob operates now"))
        #expect(await console.page("actions/t2").text.contains("somebody else operates now"))
        #expect(!(await console.page("api/actions/t2").text.contains("bob")))
    }

    @Test(
        "Filters that say what they shouldn't are refused with the key, the value and what was expected, on pages as for scripts")
    func filters() async throws {
        let console = FakeConsole()
        console.show((0..<60).map { deadLetter($0) })
        let bad: [(String, (String, String))] = [
            ("dead-letters", ("class", "zz")), ("dead-letters", ("since", "zz")), ("dead-letters", ("since", "-1h")),
            ("dead-letters", ("since", "999999999999h")), ("dead-letters", ("status", "zz")),
            ("dead-letters", ("topic", "zz.dlq")),
            ("dead-letters", ("fingerprint", "xyz")), ("dead-letters", ("fingerprint", "00000000000000aa0")),
            ("dead-letters", ("from", "-1")), ("dead-letters", ("from", "9223372036854775807")),
            ("dead-letters", ("from", "99999999999999999999")),
            ("dead-letters", ("nonsense", "1")), ("failures", ("class", "zz")), ("failures", ("from", "1")),
            ("api/dead-letters", ("limit", "abc")), ("api/dead-letters", ("limit", "-1")), ("api/dead-letters", ("limit", "0")),
            ("api/dead-letters", ("limit", "1001")), ("api/dead-letters", ("limit", "99999999999999999999")),
            ("api/dead-letters", ("class", "zz")),
            ("api/dead-letters", ("since", "zz")), ("api/dead-letters", ("from", "-1")),
            ("api/dead-letters", ("Class", "system")),
            ("api/groups", ("status", "zz")), ("api/groups", ("limit", "1")), ("api/overview", ("limit", "1")),
            ("api/traces", ("limit", "1")),
            ("api/traces/0123456789abcdef0123456789abcdef", ("status", "any")),
        ]
        for (path, field) in bad {
            let page = await console.page(path, query: [field])
            #expect(page.status == 400 && page.text.contains("\(field.0)=\(field.1): expected "), "\(path) \(field): \(page)")
            guard path.hasPrefix("api") else { continue }
            try EventDecoder().checkObject(ByteSlice(page.text))
            let json = try #require(JSONValue(ByteSlice(page.text)))
            #expect(
                json["key"]?.string == field.0 && json["value"]?.string == field.1 && json["expected"]?.string?.isEmpty == false)
        }
        let twice = await console.page("api/dead-letters", query: [("class", "system"), ("class", "transient")])
        #expect(twice.status == 400 && twice.text.contains("expected it once"))
        let hostile = await console.page("dead-letters", query: [("class", "<b>\u{1B}")])
        #expect(hostile.status == 400 && hostile.text.contains("class=&lt;b&gt;?: expected transient, persistent or system"))
        // What a form sends for what isn't filled in is nothing.
        let empty = ConsoleFields.filters.map { ($0, "") }
        #expect(await console.page("dead-letters", query: empty).status == 200)
        let list = await console.page("api/dead-letters", query: empty + [("limit", "3"), ("from", "58")]).text
        #expect(try #require(JSONValue(ByteSlice(list)))["dead_letters"]?.elements.count == 2)
        for since in ["2h", "1d", "2026-11-23", "2026-11-23T04:00:00Z", "8784h"] {
            #expect(await console.page("api/groups", query: [("since", since)]).status == 200, "\(since)")
        }
    }

    @Test("An order on more than is known says that it is about at least so many; those that are named are just these")
    func atLeast() async {
        let console = FakeConsole()
        let act = [("do", "replay"), ("fingerprint", Self.fingerprint)]
        #expect(await console.page("act", query: act, visitor: visitor).text.contains("<h1>Replay at least 0 dead letters</h1>"))
        console.show((0..<3).map { deadLetter($0) })
        let all = await console.page("act", query: act, visitor: visitor).text
        #expect(all.contains("<h1>Replay 3 dead letters</h1>") && !all.contains("at least") && all.contains("name=\"limit\""))
        console.state.withLock { state in
            var index = LetterIndex(group: "care", capacity: 2)
            _ = index.survey([TopicPartition("fhir.Patient.created.dlq", 0): 0..<3])
            for offset in 1..<3 as Range<Int64> { index.add(deadLetter(offset)) }
            index.settle(DeadLetterStates())
            state.snapshot.index = index
        }
        for path in ["act", "export"] {
            let page = await console.page(path, query: path == "act" ? act : [act[1]], visitor: visitor).text
            #expect(page.contains("at least 2 dead letters</h1>") && page.contains("newest 2 of about 3 dead letters"), "\(path)")
        }
        let named = await console.page("act", query: [act[0], one], visitor: visitor).text
        #expect(
            named.contains("<h1>Replay 1 dead letter</h1>") && named.contains("name=\"patch\"")
                && named.contains("name=\"force\""))
        #expect(!named.contains("name=\"limit\"") && !named.contains("name=\"canary\""))
    }

    @Test("A patch is previewed by paths and types, and done only when it can be")
    func patch() async throws {
        let console = FakeConsole()
        let form = [
            ("do", "replay"), one, ("patch", "[{\"op\":\"remove\",\"path\":\"/data/gender\"}]"), ("reason", "a <gender>"),
        ]
        func shape(_ text: String) throws -> PayloadShape { PayloadShape(of: try #require(JSONValue(ByteSlice(text)))) }
        let preview = LetterPreview(
            before: try shape("{\"data\":{\"gender\":\"marker\",\"id\":\"marker\"}}"),
            after: try shape("{\"data\":{\"id\":\"marker\"}}"))
        #expect(preview.changes == [LetterPreview.Line(path: "data.gender", kind: .string, before: 1, after: 0)])
        console.state.withLock { $0.preview = .success(preview) }
        let page = await console.post("act", form + [("preview", "on")])
        #expect(
            page.status == 200 && page.text.contains("<code>data.gender</code>") && page.text.contains("Nothing was done yet."))
        #expect(page.text.contains("/data/gender&quot;}]</textarea>") && page.text.contains("value=\"a &lt;gender&gt;\""))
        #expect(!page.text.contains("marker"))
        #expect(console.state.withLock { $0.orders.isEmpty && $0.previews.count == 1 })
        console.state.withLock { $0.preview = .failure(LetterRepair.Fault.noEvent(rule: "no_id", path: "data.id")) }
        let refused = await console.post("act", form)
        #expect(
            refused.status == 400 && refused.text.contains("what it would be is no event: no_id at data.id. Nothing was done."))
        #expect(console.state.withLock { $0.orders.isEmpty })
        // The bytes are looked for when it is done.
        console.state.withLock { $0.preview = .failure(LetterRepair.Fault.isElsewhere) }
        #expect(await console.post("act", form + [("preview", "on")]).status == 400)
        #expect(await console.post("act", form).status == 303)
        console.state.withLock { $0.preview = .success(preview) }
        #expect(await console.post("act", form).status == 303)
        #expect(console.state.withLock { $0.orders.map { $0.patch?.operations.count } } == [1, 1])
    }

    @Test("An export is told before, handed over as lines, and refused whole if it can't be done")
    func export() async {
        let console = FakeConsole()
        console.show((0..<3).map { deadLetter($0) })
        let page = await console.page("export", query: [("fingerprint", Self.fingerprint), ("status", "open")], visitor: visitor)
        #expect(
            page.status == 200 && page.text.contains("Export 3 dead letters")
                && page.text.contains("name=\"status\" value=\"open\""))
        #expect(await console.page("export", query: [one]).text.contains("/console/login?next=/console/export%3Fid%3Da.dlq/0/1"))
        for form in [
            [], [("id", "x")], [("status", "zz"), one], [one, ("do", "replay")], [one, ("fingerprint", Self.fingerprint)],
        ] {
            #expect(await console.post("export", form).status == 400, "\(form)")
        }
        let done = await console.post("export", [one, ("reason", "for the vendor")])
        #expect(done.status == 200 && done.text == "dead-letters.ndjson\n{\"key\":\"marker\"}\n")
        #expect(console.state.withLock { $0.exports.count == 1 && $0.exports[0].hasSuffix("by Ann (console): for the vendor") })
        for (failure, status) in [
            (ConsoleTooMuch(), 413), (NoSuchDeadLetter(Self.id, .noTopic), 404),
            (BrokerError("_ALL_BROKERS_DOWN", operation: "read"), 503),
        ] as [(any Error, Int)] {
            console.state.withLock { $0.failure = failure }
            let refused = await console.post("export", [one])
            #expect(refused.status == status && !refused.text.contains("marker"), "\(failure)")
        }
    }

    @Test("A patient's dead letters are found by a form, and no page or address tells the id")
    func patient() async {
        let console = FakeConsole()
        console.show((0..<9).map { deadLetter($0, key: $0 % 3 == 0 ? "marker-1" : "marker-2") })
        for id in ["marker-1", " Patient/marker-1 "] {
            let page = await console.post("dead-letters/patient", [("patient", id)])
            #expect(
                page.status == 200 && page.text.contains("1 to 3 of 3 dead letters") && !page.text.contains("marker"), "\(id)")
            #expect(page.text.contains("fhir.Patient.created.dlq/0/6") && !page.text.contains("fhir.Patient.created.dlq/0/7"))
        }
        #expect(
            await console.post("dead-letters/patient", [("patient", "marker-3")]).text.contains(
                "No dead letter that is known here"))
        for form in [
            [], [("patient", "Patient/")], [("patient", String(repeating: "marker", count: 200))],
            [("patient", "a"), ("b", "c")],
        ] {
            let page = await console.post("dead-letters/patient", form)
            #expect(page.status == 400 && !page.text.contains("marker"))
        }
        #expect(await console.page("dead-letters", visitor: visitor).text.contains("name=\"patient\""))
        #expect(!(await console.page("dead-letters").text.contains("name=\"patient\"")))
    }
}

import HTTPTypes
import Synchronization
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry
import TriageTestKit

/// A server with a history of one change per millisecond, told a hundred a page.
private final class LongHistory: Sendable {
    let changes: Mutex<[(id: String, milliseconds: Int64)]>
    let most = Mutex(0)
    private let start = Timestamp(milliseconds: 1_767_225_600_000)

    init(_ changes: [(id: String, milliseconds: Int64)]) { self.changes = Mutex(changes) }

    func time(_ milliseconds: Int64) -> String { (start + .milliseconds(milliseconds)).iso8601 }

    func answer(_ query: SourceQuery) -> SourceAnswer {
        let since: String
        var skipped = 0
        switch query {
        case .history(let first, _): since = first
        case .page(let link):
            let parts = link.split(separator: "|")
            since = String(parts[0])
            skipped = Int(parts[1]) ?? 0
        default: return .refused
        }
        let wanted = changes.withLock { $0.filter { time($0.milliseconds) >= since } }
        let page = wanted.reversed().dropFirst(skipped).prefix(100)
        let next =
            wanted.count > skipped + 100 ? #""link":[{"relation":"next","url":"\#(since)|\#(skipped + 100)"}],"# : ""
        let entries = page.map { change in
            #"{"fullUrl":"http://s/Patient/\#(change.id)","request":{"method":"DELETE","url":"Patient/\#(change.id)"},"#
                + #""response":{"etag":"W/\"2\"","lastModified":"\#(time(change.milliseconds))"}}"#
        }
        return .body(
            ByteSlice(#"{"resourceType":"Bundle","type":"history",\#(next)"entry":[\#(entries.joined(separator: ","))]}"#))
    }
}

@Suite("Webhooks: the history", .timeLimit(.minutes(2)))
struct WebhookHistoryTests {
    private func keys(_ world: WebhookWorld) -> [String] {
        world.broker.records(in: "fhir.Patient.deleted").compactMap { $0.key?.utf8Text }
    }

    @Test("a history that is longer than what is held at once is published from its oldest end, in order, each change once")
    func long() async {
        let world = WebhookWorld(capacity: 100_000)
        let history = LongHistory((0..<12_345).map { ("p\($0)", Int64($0)) })
        world.server.answers { history.answer($0) }
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(keys(world) == (0..<12_345).map { "p\($0)" })
        // 124 pages, then those of what didn't fit.
        #expect(world.server.asked.count < 160)
        history.changes.withLock { $0.append(("last", 12_345)) }
        #expect(await world.ask("", type: nil).status == .ok && keys(world).count == 12_346)
    }

    @Test("more changes of one instant than are held at once are published once too, whatever is forgotten meanwhile")
    func oneInstant() async {
        let world = WebhookWorld(capacity: 100_000)
        let history = LongHistory((0..<10_500).map { ("p\($0)", 7) })
        world.server.answers { history.answer($0) }
        #expect(await world.ask("", type: nil).status == .ok && world.published == 10_500)
        #expect(await world.ask("", type: nil).status == .ok && world.published == 10_500)
    }

    @Test("one time that is yet to come doesn't hide what happens before it, and is published once")
    func future() async {
        let world = WebhookWorld(capacity: 1000)
        func tell(_ entries: [(method: String, id: String, version: Int, second: Int)]) {
            world.server.answers { _ in
                let text = Sent.history([("DELETE", "late", 1, 59)] + entries).utf8Text ?? ""
                return .body(ByteSlice(text.replacing("2026-01-01T00:00:59Z", with: "2262-01-01T00:00:00Z")))
            }
        }
        tell([("DELETE", "p1", 1, 1)])
        #expect(await world.ask("", type: nil).status == .ok)
        tell([("DELETE", "p1", 1, 1), ("DELETE", "p2", 1, 2)])
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(keys(world).sorted() == ["late", "p1", "p2"])
        let since = world.server.asked.compactMap { if case .history(let since, _) = $0 { since } else { nil } }
        #expect(since.allSatisfy { $0 < "2027" })
    }

    @Test("pages that lead in a circle are no history: nothing is published, and the log says so")
    func circle() async throws {
        let world = WebhookWorld()
        let page = #","link":[{"relation":"next","url":"n"}],"entry":"#
        let endless = try #require(Sent.history([("POST", "p1", 1, 1)]).utf8Text).replacing(#","entry":"#, with: page)
        world.server.answers { _ in .body(ByteSlice(endless)) }
        #expect(await world.ask("", type: nil).status == .serviceUnavailable && world.published == 0)
        #expect(world.server.asked.count == 2 && world.notices.all == [.historyReadable(false)])
        world.server.answers { _ in .body(Sent.history([("POST", "p1", 1, 1)])) }
        #expect(await world.ask("", type: nil).status == .ok && world.published == 1)
    }

    @Test("a page that is too long is asked for with fewer entries")
    func longPages() async {
        let world = WebhookWorld()
        world.server.answers { query in
            guard case .history(_, let count) = query, count <= 10 else { return .tooLarge }
            return .body(Sent.history([("POST", "p1", 1, 1)]))
        }
        #expect(await world.ask("", type: nil).status == .ok && world.published == 1)
        world.server.answers { _ in .tooLarge }
        #expect(await world.ask("", type: nil).status == .serviceUnavailable)
    }

    @Test("a malformed entry is counted and told once, and doesn't hold the others up")
    func malformed() async throws {
        let world = WebhookWorld { $0.historyInterval = .seconds(1) }
        let all = [("POST", "p1", 1, 1), ("PUT", "p2", 2, 2), ("PUT", "p3", 2, 3), ("PUT", "p5", 2, 4)]
        let text = try #require(Sent.history(all).utf8Text)
        let broken = text.replacing(#""method":"PUT","url":"Patient/p2""#, with: #""method":"PARTY","url":"Patient/p2""#)
            .replacing(#""id":"p3","meta""#, with: #""id":"p3","birthDate":"x","meta""#)
            .replacing(#""id":"p5","meta""#, with: #""id":"p5","id":"p6","meta""#)
        world.server.answers { _ in .body(ByteSlice(broken)) }
        for _ in 0..<3 {
            world.clock.advance(by: .seconds(1))
            await world.intake.tick()
        }
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(world.published == 1 && world.counted("refused") == 3)
        #expect(world.notices.all == [.entriesRefused(1), .entriesRefused(1), .entriesRefused(1)])
        // A page of nothing but bad entries isn't the end.
        let bad = #"{"resourceType":"Bundle","type":"history","link":[{"relation":"next","url":"n"}],"entry":[7]}"#
        world.server.answers { query in
            if case .page = query { .body(Sent.history([("POST", "p4", 1, 9)])) } else { .body(ByteSlice(bad)) }
        }
        #expect(await world.ask("", type: nil).status == .ok && world.published == 2)
    }

    @Test("entries with neither version nor time are known by their bytes and published once")
    func withoutIdentity() async throws {
        let world = WebhookWorld { $0.historyInterval = .seconds(1) }
        func entry(_ id: String) -> String {
            #"{"fullUrl":"http://s/Patient/\#(id)","request":{"method":"DELETE","url":"Patient/\#(id)"}}"#
        }
        func page(_ entries: [String]) -> SourceAnswer {
            .body(ByteSlice(#"{"resourceType":"Bundle","type":"history","entry":[\#(entries.joined(separator: ","))]}"#))
        }
        let first = page([entry("p2"), entry("p1")])
        world.server.answers { _ in first }
        for _ in 0..<4 {
            world.clock.advance(by: .seconds(1))
            await world.intake.tick()
        }
        #expect(keys(world) == ["p1", "p2"])
        let second = page([entry("p3"), entry("p2"), entry("p1")])
        world.server.answers { _ in second }
        for _ in 0..<2 { #expect(await world.ask("", type: nil).status == .ok) }
        #expect(keys(world) == ["p1", "p2", "p3"])
        let ids = world.events(.deleted).compactMap { $0["metadata"]?["eventId"]?.string }
        let restarted = WebhookWorld()
        restarted.server.answers { _ in second }
        #expect(await restarted.ask("", type: nil).status == .ok)
        #expect(restarted.events(.deleted).compactMap { $0["metadata"]?["eventId"]?.string } == ids)
    }

    @Test("a delete that was notified without a version isn't told again by the history, a later one is")
    func deletes() async {
        let world = WebhookWorld { $0.historyInterval = .seconds(1) }
        #expect(await world.ask(Sent.aidbox([(1, "DELETE", "p1", nil)])).status == .ok)
        let one: [(method: String, id: String, version: Int, second: Int)] = [("POST", "p1", 1, 0), ("DELETE", "p1", 2, 1)]
        world.server.answers { _ in .body(Sent.history([one[1]])) }
        for _ in 0..<3 {
            world.clock.advance(by: .seconds(1))
            await world.intake.tick()
        }
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(world.events(.deleted).count == 1 && world.counted("duplicate") > 0)
        // Made again and deleted again, of which only the history tells.
        world.server.answers { _ in .body(Sent.history([one[1], ("POST", "p1", 3, 2), ("DELETE", "p1", 4, 3)])) }
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(world.events(.deleted).count == 2 && world.events(.created).count == 1)
        // The other way round: the notification comes after the history told it.
        world.server.answers { _ in .body(Sent.history([("DELETE", "p2", 4, 5)])) }
        #expect(await world.ask("", type: nil).status == .ok && world.events(.deleted).count == 3)
        #expect(await world.ask(Sent.aidbox([(5, "DELETE", "p2", nil)])).status == .ok && world.events(.deleted).count == 3)
        #expect(await world.ask(Sent.aidbox([(6, "DELETE", "p2", nil)])).status == .ok && world.events(.deleted).count == 4)
    }

    @Test("a gap is looked for in the history from the last event before it on, and the history's own place stays")
    func gap() async {
        let world = WebhookWorld()
        func notify(_ number: Int) async {
            // Its time is 2026-01-01T00:00:0NZ; the service began at 00:00:00.
            _ = await world.ask(Sent.aidbox([(number, "PUT", "p\(number)", Sent.patient("p\(number)", version: "9"))]))
        }
        await notify(5)
        await notify(7)
        world.clock.advance(by: .seconds(5))
        world.server.answers { _ in .body(Sent.history([("DELETE", "p6", 2, 6)])) }
        await world.intake.tick()
        #expect(world.server.asked == [.history(since: "2026-01-01T00:00:03.000Z", count: 100)])
        #expect(keys(world) == ["p6"] && world.count("triage.event_number.gaps") == 1)
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(world.server.asked.last == .history(since: "2025-12-31T23:59:58.000Z", count: 100) && keys(world) == ["p6"])
        await notify(9)
        world.clock.advance(by: .seconds(5))
        await world.intake.tick()
        #expect(
            world.server.asked.last == .history(since: "2026-01-01T00:00:06Z", count: 100)
                || world.server.asked.last == .history(since: "2026-01-01T00:00:06.000Z", count: 100))
    }

    @Test("a large gap is asked for in portions, a jump not at all; each counts, a jump as one")
    func portions() async {
        let world = WebhookWorld()
        _ = await world.ask(Sent.backport("handshake", number: 0, focus: nil))
        _ = await world.ask(Sent.backport("heartbeat", number: 250, focus: nil))
        world.server.answers { query in
            guard case .events(_, let first, _) = query else { return .body(Sent.history([])) }
            return .body(
                ByteSlice(
                    Sent.backport("event-notification", number: Int(first), focus: "Observation/o")
                        .replacing("event-notification\"}", with: "query-event\"}")
                        .replacing("Observation/o", with: "Patient/p").replacing(#""entry":["#, with: #""entry":["#)))
        }
        world.clock.advance(by: .seconds(5))
        await world.intake.tick()
        #expect(world.count("triage.event_number.gaps") == 250)
        #expect(world.server.asked.first == .events(subscription: "s1", since: 1, until: 100))
        let before = world.server.asked.count
        let strange = Sent.backport("event-notification", number: 1 << 50, focus: "Observation/o")
        #expect(await world.ask(strange).status == .ok)
        #expect(world.count("triage.event_number.gaps") == 251 && world.notices.all.last == .unlikelyNumber)
        world.clock.advance(by: .seconds(4))
        await world.intake.tick()
        #expect(world.server.asked.count == before)
    }
}

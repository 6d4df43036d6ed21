import HTTPTypes
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry
import TriageTestKit

@Suite("Webhooks: what isn't told", .timeLimit(.minutes(1)))
struct WebhookFetchTests {
    @Test("id-only: the resource is fetched under the request's span, its version tells the action")
    func idOnly() async throws {
        let world = WebhookWorld()
        world.server.answers { _ in .body(ByteSlice(Sent.patient("p1", version: "1"))) }
        let answer = await world.ask(Sent.backport("event-notification", number: 1, focus: "http://s/Patient/p1"))
        #expect(answer.status == .ok && world.events(.created).count == 1)
        #expect(world.server.asked == [.patient(ByteSlice("p1"))])
        let span = try #require(world.span("POST /webhooks/fhir"))
        #expect(world.server.parents == [span.context])
        world.server.answers { _ in .body(ByteSlice(Sent.patient("p1", version: "2"))) }
        #expect(await world.ask(Sent.backport("event-notification", number: 2, focus: "Patient/p1")).status == .ok)
        #expect(world.events(.updated).count == 1)
        world.server.answers { _ in .gone }
        #expect(await world.ask(Sent.backport("event-notification", number: 3, focus: "Patient/p1")).status == .ok)
        #expect(world.events(.deleted).count == 1)
        #expect(await world.ask(Sent.aidbox([(4, "PUT", "p1", nil)])).status == .ok)
        #expect(world.published == 3 && world.counted("ignored") == 1)
    }

    private static func idOnly(_ count: Int, method: String = "PUT") -> String {
        Sent.aidbox((1...count).map { (number: $0, method: method, id: "p\($0)", resource: nil as String?) })
    }

    @Test(
        "of one bundle eight Patients are fetched at a time, each once; at the deadline that ends, and nothing of it is published"
    )
    func bundle() async throws {
        let world = WebhookWorld()
        world.server.answers { query in
            if case .patient(let id) = query { .body(ByteSlice(Sent.patient(id.utf8Text ?? "", version: "2"))) } else { .refused }
        }
        world.server.hold()
        async let first = world.ask(Self.idOnly(50))
        while world.server.open < 8 { await Task.yield() }
        world.clock.advance(by: .seconds(25))
        world.intake.expire()
        let late = await first
        #expect(late.status == .serviceUnavailable && late.headers[.retryAfter] == "5")
        #expect(world.span("POST /webhooks/fhir")?.status == .error("timeout"))
        while world.server.open > 0 { await Task.yield() }
        #expect(world.server.asked.count == 8 && world.published == 0)
        #expect(await world.ask(Self.idOnly(50)).status == .ok)
        #expect(world.events(.updated).count == 50 && world.server.asked.count == 58 && world.server.mostOpen == 8)
        let twice = Sent.aidbox([(51, "PUT", "q", nil), (52, "PUT", "q", nil)])
        #expect(await world.ask(twice).status == .ok)
        #expect(world.server.asked.count == 59 && world.published == 51 && world.counted("duplicate") == 1)
    }

    @Test("a part that failed in Kafka is published by the redelivery, the rest is known")
    func redelivery() async {
        let world = WebhookWorld()
        world.server.answers { query in
            if case .patient(let id) = query { .body(ByteSlice(Sent.patient(id.utf8Text ?? "", version: "2"))) } else { .refused }
        }
        world.broker.failNextProduces(1, with: BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true))
        #expect(await world.ask(Self.idOnly(10)).status == .serviceUnavailable && world.published == 9)
        #expect(await world.ask(Self.idOnly(10)).status == .ok)
        #expect(world.published == 10 && world.counted("duplicate") == 9)
    }

    @Test("what is fetched is bounded: a Patient or a bundle that is too long is 413")
    func lengths() async {
        let world = WebhookWorld()
        world.server.answers { _ in .tooLarge }
        #expect(await world.ask(Self.idOnly(1)).status == .contentTooLarge)
        let blanks = String(repeating: " ", count: 4_000_000)
        world.server.answers { query in
            if case .patient(let id) = query { .body(ByteSlice(Sent.patient(id.utf8Text ?? "") + blanks)) } else { .refused }
        }
        #expect(await world.ask(Self.idOnly(9)).status == .contentTooLarge && world.published == 0)
        // What was held is given back each time.
        for _ in 0..<5 { #expect(await world.ask(Self.idOnly(8)).status == .ok) }
        #expect(world.published == 8)
    }

    @Test("a PUT that created is told by version 1, by the time of creation that Aidbox and others write, or by the status 201")
    func putCreates() async {
        let world = WebhookWorld()
        @Sendable func patient(_ id: String, created: String, url: String = "https://aidbox.app/ex/createdAt") -> String {
            #"{"resourceType":"Patient","id":"\#(id)","meta":{"versionId":"77","lastUpdated":"2026-01-01T00:00:00.5Z","#
                + #""extension":[{"url":"\#(url)","valueInstant":"\#(created)"}]}}"#
        }
        let now = "2026-01-01T00:00:00.5Z"
        #expect(await world.ask(Sent.aidbox([(1, "PUT", "p1", patient("p1", created: now))])).status == .ok)
        #expect(world.events(.created).count == 1)
        let old = patient("p2", created: "2025-01-01T00:00:00Z")
        let other = patient("p3", created: now, url: "http://example.org/else")
        #expect(await world.ask(Sent.aidbox([(2, "PUT", "p2", old), (3, "PUT", "p3", other)])).status == .ok)
        #expect(world.events(.created).count == 1 && world.events(.updated).count == 2)
        // Only the id was told: what is fetched says it.
        world.server.answers { _ in .body(ByteSlice(patient("p4", created: now))) }
        #expect(await world.ask(Sent.aidbox([(4, "PUT", "p4", nil)])).status == .ok)
        #expect(world.events(.created).count == 2)
        let history = Sent.history([("PUT", "p5", 5, 1), ("PUT", "p1", 77, 2)]).utf8Text ?? ""
        world.server.answers { _ in .body(ByteSlice(history.replacing(#""response":{"#, with: #""response":{"status":"201","#))) }
        #expect(await world.ask("", type: nil).status == .ok)
        // Who else tells of the same version in other words tells the same change.
        #expect(world.events(.created).compactMap { $0["data"]?["id"]?.string } == ["p1", "p4", "p5"] && world.published == 5)
    }

    @Test("a server that doesn't answer, or with something else, is 503; without a server it is 422")
    func unavailable() async throws {
        let world = WebhookWorld()
        let body = Sent.backport("event-notification", number: 1, focus: "Patient/p1")
        for answer in [.unavailable, .refused, .body(ByteSlice("{")), .body(ByteSlice(Sent.patient("p2")))] as [SourceAnswer] {
            world.server.answers { _ in answer }
            #expect(await world.ask(body).status == .serviceUnavailable)
        }
        #expect(world.span("POST /webhooks/fhir")?.status == .error("source_unavailable") && world.notices.all.isEmpty)
        for _ in 0..<2 {
            world.server.answers { _ in .missing }
            #expect(await world.ask(body).status == .serviceUnavailable, "a wrong base URL loses nothing")
        }
        #expect(world.span("POST /webhooks/fhir")?.status == .error("source_missing") && world.notices.all == [.patientMissing])
        let alone = WebhookWorld(hasServer: false)
        #expect(await alone.ask(body).status == .unprocessableContent)
        #expect(await alone.ask("", type: nil).status == .unprocessableContent)
        #expect(world.published + alone.published == 0)
    }

    @Test("an empty notification has the history read: creations, updates and deletions since the service began")
    func empty() async throws {
        let world = WebhookWorld()
        world.server.answers { query in
            query == .history(since: "2025-12-31T23:59:58.000Z", count: 100)
                ? .body(Sent.history([("POST", "p1", 1, 1), ("PUT", "p1", 2, 2), ("DELETE", "p1", 3, 3)])) : .unavailable
        }
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(ChangeAction.allCases.map { world.events($0).count } == [1, 1, 1])
        let span = try #require(world.span("POST /webhooks/fhir"))
        #expect(
            world.spans.spans.filter { $0.template.kind == .producer }.allSatisfy { $0.links.map(\.context) == [span.context] })
        // The cursor has moved on; what lies at it comes again and is known.
        world.server.answers { query in
            query == .history(since: "2026-01-01T00:00:03Z", count: 100)
                ? .body(Sent.history([("DELETE", "p1", 3, 3), ("POST", "p2", 1, 4)])) : .unavailable
        }
        #expect(await world.ask(Sent.backport("event-notification", number: 1, focus: nil)).status == .ok)
        #expect(ChangeAction.allCases.map { world.events($0).count } == [2, 1, 1])
        world.server.answers { _ in .unavailable }
        #expect(await world.ask("", type: nil).status == .serviceUnavailable)
        #expect(world.notices.all == [.historyReadable(false)])
    }

    @Test("pages are followed as long as they bring something new")
    func pages() async {
        let world = WebhookWorld()
        world.server.answers { query in
            switch query {
            case .history:
                let page = Sent.history([("POST", "p2", 1, 5)]).utf8Text ?? ""
                return .body(
                    ByteSlice(
                        page.replacing(#""type":"history","#, with: #""type":"history","link":[{"relation":"next","url":"n"}],"#))
                )
            case .page("n"):
                return .body(Sent.history([("POST", "p1", 1, 4)]))
            default: return .unavailable
            }
        }
        #expect(await world.ask("", type: nil).status == .ok)
        #expect(world.broker.records(in: "fhir.Patient.created").map(\.key) == [ByteSlice("p1"), ByteSlice("p2")])
    }

    @Test("a regular look leaves what is new to the notification that is on its way, and publishes what none brings")
    func poll() async {
        let world = WebhookWorld { $0.historyInterval = .seconds(1) }
        world.server.answers { _ in .body(Sent.history([("POST", "p1", 1, 1), ("DELETE", "p2", 4, 2)])) }
        await world.intake.tick()
        #expect(world.published == 0)
        #expect(await world.ask(Sent.patient("p1", version: "1")).status == .ok)
        await world.intake.tick()
        #expect(world.server.asked.count == 1 && world.published == 1)
        world.clock.advance(by: .seconds(1))
        await world.intake.tick()
        #expect(ChangeAction.allCases.map { world.events($0).count } == [1, 0, 1])
        world.clock.advance(by: .seconds(1))
        await world.intake.tick()
        #expect(world.published == 2)
        // What Kafka refuses is tried again.
        world.server.answers { _ in .body(Sent.history([("DELETE", "p3", 4, 3)])) }
        world.broker.failNextProduces(1, with: BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true))
        for _ in 0..<2 {
            world.clock.advance(by: .seconds(1))
            await world.intake.tick()
        }
        #expect(world.published == 2)
        world.clock.advance(by: .seconds(1))
        await world.intake.tick()
        #expect(world.published == 3)
    }

    @Test("a gap is an event of the request's span at once, a metric when it lasts, and is closed by $events")
    func gap() async throws {
        let world = WebhookWorld()
        func notify(_ number: Int) async -> IngressAnswer {
            world.server.answers { _ in .body(ByteSlice(Sent.patient("p\(number)"))) }
            return await world.ask(Sent.backport("event-notification", number: number, focus: "Patient/p\(number)"))
        }
        _ = await world.ask(Sent.backport("handshake", number: 0, focus: nil))
        #expect(await notify(1).status == .ok)
        #expect(await notify(4).status == .ok)
        let span = try #require(world.span("POST /webhooks/fhir"))
        #expect(span.events.map(\.name) == ["triage.event_number.gap"])
        #expect(
            span.events.first?.attributes == [
                Attribute("triage.event_number.first", .int(2)), Attribute("triage.event_number.last", .int(3)),
            ])
        #expect(await notify(3).status == .ok)
        await world.intake.tick()
        #expect(world.count("triage.event_number.gaps") == 0)
        world.server.answers { query in
            switch query {
            case .events("s1", since: 2, until: 2):
                .body(
                    ByteSlice(
                        Sent.backport("event-notification", number: 2, focus: "Patient/p2").replacing(
                            "event-notification\"}", with: "query-event\"}")))
            case .patient: .body(ByteSlice(Sent.patient("p2")))
            default: .unavailable
            }
        }
        world.clock.advance(by: .seconds(5))
        await world.intake.tick()
        #expect(world.count("triage.event_number.gaps") == 1 && world.notices.all == [.gap(numbers: 1)])
        #expect(world.events(.created).count == 4)
        world.clock.advance(by: .seconds(60))
        let before = world.server.asked.count
        await world.intake.tick()
        #expect(world.server.asked.count == before)
    }

    @Test("a gap among the largest numbers there are is asked for like any other")
    func gapAtTheEnd() async {
        let world = WebhookWorld()
        let last = (1 << 53) - 1
        world.server.answers { _ in .body(ByteSlice(Sent.patient("p1"))) }
        for number in [last - 20, last - 5, last] {
            #expect(await world.ask(Sent.backport("event-notification", number: number, focus: "Patient/p1")).status == .ok)
        }
        world.server.answers { _ in .refused }
        world.clock.advance(by: .seconds(6))
        await world.intake.tick()
        let asked = world.server.asked.compactMap { query in
            if case .events(_, let since, let until) = query { [since, until] } else { nil }
        }
        #expect(asked == [[Int64(last) - 19, Int64(last) - 6], [Int64(last) - 4, Int64(last) - 1]])
    }

    @Test("a server without $events has its history read for a gap; one that is away is asked again")
    func gapWithoutEvents() async {
        let world = WebhookWorld()
        _ = await world.ask(Sent.backport("handshake", number: 0, focus: nil))
        _ = await world.ask(Sent.backport("heartbeat", number: 1, focus: nil))
        world.clock.advance(by: .seconds(5))
        world.server.answers { _ in .unavailable }
        await world.intake.tick()
        #expect(world.published == 0)
        world.server.answers { query in
            if case .history = query { .body(Sent.history([("POST", "p1", 1, 1)])) } else { .refused }
        }
        world.clock.advance(by: .seconds(5))
        await world.intake.tick()
        #expect(world.events(.created).count == 1 && world.count("triage.event_number.gaps") == 1)
    }
}

import HTTPTypes
import Testing
import TriageEvents
import TriageTestKit

@testable import TriageIngress

private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

private func news(_ topic: String, _ value: String) throws -> CommandNews {
    try #require(
        CommandNews(
            Record(
                topic: topic, partition: 0, offset: 0, timestamp: at(0), key: nil, value: ByteSlice(value), headers: Headers([])),
            decoder: EventDecoder()))
}

private func result(
    _ request: String, _ action: String = "updated", of patient: String? = "p1", version: String? = nil
) throws -> CommandNews {
    let text = { (value: String?) in value.map { JSONText($0).quoted } ?? "null" }
    return try news(
        "fhir.commands.results",
        """
        {"requestId":"\(request)","status":"completed","action":"\(action)","resource":\(text(patient.map { "Patient/" + $0 })),\
        "versionId":\(text(version)),"finishedAt":"2026-01-01T00:00:00.000Z"}
        """)
}

private func deletion(_ request: String, of patient: String = "p1", on topic: String = "fhir.commands") throws -> CommandNews {
    try news(
        topic,
        #"{"type":"DeletePatient","data":{"resourceType":"Patient","id":"\#(patient)"},"metadata":{"requestId":"\#(request)"}}"#)
}

@Suite("Which command made a change")
struct RequestAttributionTests {
    private func request(
        _ attribution: inout RequestAttribution, _ patient: String = "p1", version: String?, tags: [String] = ["r1"]
    ) throws -> String? {
        let resource = try #require(JSONValue(ByteSlice(Sent.patient(patient, version: version, tags: tags))))
        return attribution.request(in: resource, version: version)
    }

    @Test("The version that the result names is the command's, and no later one that still has its tag")
    func exact() throws {
        // As after a restart, which saw nothing of the command's own version.
        var attribution = RequestAttribution()
        attribution.learn(try result("r1", version: "2"), at: at(0))
        #expect(try request(&attribution, version: "3") == nil)
        #expect(try request(&attribution, version: "2") == "r1")
        #expect(try request(&attribution, version: "3") == nil)
        // Versions without an order.
        attribution.learn(try result("r2", version: "abc"), at: at(0))
        #expect(try request(&attribution, version: "def", tags: ["r2"]) == nil)
        #expect(try request(&attribution, version: "abc", tags: ["r2"]) == "r2")
    }

    @Test("A result that comes after a later version was taken for the command's puts it right")
    func corrected() throws {
        for versions in [("3", "2"), ("def", "abc")] {
            var attribution = RequestAttribution()
            #expect(try request(&attribution, version: versions.0) == "r1")
            attribution.learn(try result("r1", version: versions.1), at: at(0))
            #expect(try request(&attribution, version: versions.0) == nil)
            #expect(try request(&attribution, version: versions.1) == "r1")
        }
    }

    @Test("A command that was found done names the current version: what was seen before stays its own")
    func foundDone() throws {
        var attribution = RequestAttribution()
        #expect(try request(&attribution, version: "2") == "r1")
        attribution.learn(try result("r1", version: "3"), at: at(0))
        #expect(try request(&attribution, version: "2") == "r1")
        #expect(try request(&attribution, version: "3") == nil)
    }

    @Test("A result without a version changes nothing; a copy of the Patient under another id isn't the command's")
    func otherPatient() throws {
        var attribution = RequestAttribution()
        #expect(try request(&attribution, version: "2") == "r1")
        attribution.learn(try result("r1"), at: at(0))
        #expect(try request(&attribution, version: "2") == "r1")
        #expect(try request(&attribution, version: "3") == nil)
        #expect(try request(&attribution, "p2", version: "1") == nil)
        // The result goes before what was seen first.
        var copied = RequestAttribution()
        #expect(try request(&copied, "p2", version: "1") == "r1")
        copied.learn(try result("r1", version: "2"), at: at(0))
        #expect(try request(&copied, "p2", version: "1") == nil)
        #expect(try request(&copied, version: "2") == "r1")
    }

    @Test("A deletion is the command's that asks for it, within its time, unless it failed")
    func deletions() throws {
        var attribution = RequestAttribution()
        func deleted(_ patient: String = "p1", version: String? = nil, told: String? = nil, at now: Int64 = 1) -> String? {
            attribution.request(deleting: patient, version: version, toldAt: told, at: at(now))
        }
        #expect(deleted() == nil)
        attribution.learn(try deletion("r1"), at: at(0))
        #expect(deleted("p2") == nil)
        #expect(deleted(at: 601) == nil && deleted(at: 600) == "r1")
        attribution.learn(try deletion("r1", on: "fhir.commands.dlq"), at: at(1))
        #expect(deleted() == nil)
        attribution.learn(try deletion("r2"), at: at(2))
        attribution.learn(try result("r2", "deleted", version: "4"), at: at(3))
        #expect(deleted(version: "5") == nil && deleted(version: "4") == "r2")
        #expect(deleted(version: "4", at: 10_000) == "r2", "the version is exact")
    }

    @Test("A command makes one deletion, however often that is told")
    func once() throws {
        var attribution = RequestAttribution()
        attribution.learn(try deletion("r1"), at: at(0))
        for _ in 0..<2 { #expect(attribution.request(deleting: "p1", version: nil, toldAt: "t1", at: at(1)) == "r1") }
        #expect(attribution.request(deleting: "p1", version: nil, toldAt: "t2", at: at(1)) == nil)
        attribution.learn(try deletion("r2"), at: at(1))
        #expect(attribution.request(deleting: "p1", version: nil, toldAt: "t2", at: at(2)) == "r2")
        #expect(attribution.request(deleting: "p1", version: nil, toldAt: "t1", at: at(2)) == "r1")
        // The server tells the version, the result doesn't.
        var numbered = RequestAttribution()
        numbered.learn(try result("r1", "deleted"), at: at(0))
        #expect(numbered.request(deleting: "p1", version: "4", toldAt: "t1", at: at(1)) == "r1")
        #expect(numbered.request(deleting: "p1", version: "6", toldAt: "t2", at: at(1)) == nil)
        #expect(numbered.request(deleting: "p1", version: "4", toldAt: "t3", at: at(1)) == "r1")
    }

    @Test("It is bounded")
    func bounded() throws {
        var attribution = RequestAttribution(capacity: 3)
        for index in 0..<20 {
            attribution.learn(try deletion("d\(index)", of: "p\(index % 10)"), at: at(0))
            attribution.learn(try result("w\(index)", of: "p\(index)", version: "2"), at: at(0))
        }
        let found = (0..<10).compactMap { attribution.request(deleting: "p\($0)", version: nil, toldAt: nil, at: at(1)) }
        #expect(found == ["d17", "d18", "d19"])
        #expect(try request(&attribution, "p16", version: "3", tags: ["w16"]) == "w16", "forgotten, so the first that is seen")
        #expect(try request(&attribution, "p19", version: "3", tags: ["w19"]) == nil)
    }

    @Test("The event of a deletion that a server notifies has its command's request id as correlation id; the history's as well")
    func events() async throws {
        let world = WebhookWorld { $0.historyInterval = .seconds(1) }
        world.intake.observe(try deletion("r1"))
        let notified = Sent.aidbox([(1, "DELETE", "p1", nil), (2, "DELETE", "p2", nil)])
        #expect(await world.ask(notified).status == .ok)
        world.intake.observe(try deletion("r3", of: "p3"))
        world.server.answers { query in
            if case .history = query { .body(Sent.history([("DELETE", "p3", 2, 1)])) } else { .unavailable }
        }
        for _ in 0..<3 {
            world.clock.advance(by: .seconds(2))
            await world.intake.tick()
        }
        let events = world.events(.deleted)
        let ids = events.map { $0["metadata"]?["correlationId"]?.string }
        #expect(ids.count == 3 && ids[0] == "r1" && ids[1] != "r1" && ids[1]?.utf8.count == 36 && ids[2] == "r3")
    }
}

import HTTPTypes
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry
import TriageTestKit

@Suite("Webhooks: CloudEvents", .timeLimit(.minutes(1)))
struct WebhookCloudEventsTests {
    private static func structured(_ id: String, _ patient: String, type: String = "org.example.Patient.created") -> String {
        #"{"specversion":"1.0","id":"\#(id)","source":"/his","type":"\#(type)","time":"2026-01-01T00:00:00Z","data":\#(patient)}"#
    }

    @Test("binary mode: the attributes stand in headers, the body is the resource")
    func binary() async throws {
        let world = WebhookWorld()
        let body = Sent.patient("p1", version: "1")
        let answer = await world.ask(
            body,
            [
                .init("ce-specversion")!: "1.0", .init("ce-id")!: "e%2D1", .init("ce-source")!: "/his",
                .init("ce-type")!: "PatientUpdated",
            ])
        #expect(answer.status == .ok)
        let event = try #require(world.events(.updated).first)
        #expect(event["metadata"]?["eventId"]?.string == "e-1" && event["data"]?.text == ByteSlice(body))
        let server = try #require(world.span("POST /webhooks/fhir"))
        #expect(world.span("send fhir.Patient.updated")?.parentSpanID == server.context.spanID)
    }

    @Test("structured mode and batches; what comes twice keeps its id and is published twice")
    func structuredAndBatch() async throws {
        let world = WebhookWorld()
        let one = Self.structured("1", Sent.patient("p1", version: "1"))
        #expect(await world.ask(one, type: "application/cloudevents+json; charset=UTF-8").status == .ok)
        #expect(await world.ask(one, type: "application/cloudevents+json").status == .ok)
        #expect(world.events(.created).compactMap { $0["metadata"]?["eventId"]?.string } == ["1", "1"])
        let batch =
            "[\(Self.structured("2", Sent.patient("p2", version: "1"))),\(Self.structured("3", Sent.patient("p3", version: "2"), type: "PatientDeleted"))]"
        #expect(await world.ask(batch, type: "application/cloudevents-batch+json").status == .ok)
        #expect(world.events(.created).count == 3 && world.events(.deleted).count == 1)
        let server = try #require(world.span("POST /webhooks/fhir"))
        let send = try #require(world.span("send fhir.Patient.deleted"))
        #expect(send.parentSpanID == SpanID(0) && send.links.map(\.context.spanID) == [server.context.spanID])
        #expect(await world.ask("[]", type: "application/cloudevents-batch+json").status == .ok)
    }

    @Test(
        "what is none is answered 400 and nothing of it is published",
        arguments: [
            (#"{"specversion":"0.3","id":"1","source":"/his","type":"PatientCreated"}"#, "application/cloudevents+json"),
            (#"{"specversion":"1.0","source":"/his","type":"PatientCreated"}"#, "application/cloudevents+json"),
            (#"[{"specversion":"1.0"},3]"#, "application/cloudevents-batch+json"), ("[", "application/cloudevents-batch+json"),
            ("", "application/cloudevents+json"), (#"[],"b":1"#, "application/cloudevents-batch+json"),
        ])
    func malformed(body: String, type: String) async {
        let world = WebhookWorld()
        let answer = await world.ask(body, type: type)
        #expect(answer.status == .badRequest && world.published == 0)
        #expect(JSONValue(answer.body)?["resourceType"]?.string == "OperationOutcome")
        #expect(world.counted("refused") == 1)
    }

    @Test("one bad event keeps a batch back; a full queue is 503; without the token it is 401")
    func refusals() async {
        let world = WebhookWorld(capacity: 0)
        let good = Self.structured("1", Sent.patient("p1", version: "1"))
        #expect(await world.ask("[\(good),{}]", type: "application/cloudevents-batch+json").status == .badRequest)
        let full = await world.ask(good, type: "application/cloudevents+json")
        #expect(full.status == .serviceUnavailable && full.headers[.retryAfter] == "5" && world.published == 0)
        #expect(await world.ask(good, token: "other", type: "application/cloudevents+json").status == .unauthorized)
    }
}

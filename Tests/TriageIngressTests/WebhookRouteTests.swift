import HTTPTypes
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry
import TriageTestKit

@Suite("Webhooks: the routes", .timeLimit(.minutes(1)))
struct WebhookRouteTests {
    private let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    private func outcome(_ answer: IngressAnswer) -> (code: String?, text: String?, place: String?) {
        let issue = JSONValue(answer.body)?["issue"]?.elements.first
        return (issue?["code"]?.string, issue?["diagnostics"]?.string, issue?["expression"]?.elements.first?.string)
    }

    @Test("one event is published under the request's span, whose parent is the caller's")
    func one() async throws {
        let world = WebhookWorld()
        let answer = await world.ask(
            Sent.aidbox([(1, "POST", "p1", Sent.patient("p1", version: "7"))]), [.init("traceparent")!: caller])
        #expect(answer.status == .ok && answer.body.isEmpty)
        let event = try #require(world.events(.created).first)
        #expect(event["type"]?.string == "PatientCreated" && event["data"]?["id"]?.string == "p1")
        #expect(event["data"]?.text == ByteSlice(Sent.patient("p1", version: "7")))
        #expect(event["metadata"]?["timestamp"]?.string == "2026-01-01T00:00:01Z")
        let server = try #require(world.span("POST /webhooks/fhir"))
        let send = try #require(world.span("send fhir.Patient.created"))
        #expect(server.context.traceID.description == "4bf92f3577b34da6a3ce929d0e0e4736" && server.template.kind == .server)
        #expect(server.parentSpanID.description == "00f067aa0ba902b7" && server.status == .unset)
        #expect(send.parentSpanID == server.context.spanID && answer.context == server.context)
        #expect(server.attributes.contains(Attribute("http.response.status_code", .int(200))))
        #expect(server.template.attributes.contains(Attribute("url.path", .text("/webhooks/fhir"))))
    }

    @Test("at a trust boundary the caller is linked to; without a caller a redelivery has the same trace and event id")
    func traces() async throws {
        let world = WebhookWorld { $0.trust = .link }
        let body = Sent.aidbox([(1, "POST", "p1", Sent.patient("p1", version: "7"))])
        _ = await world.ask(body, [.init("traceparent")!: caller])
        let server = try #require(world.span("POST /webhooks/fhir"))
        #expect(server.parentSpanID == SpanID(0) && server.links.map(\.context.spanID.description) == ["00f067aa0ba902b7"])
        let first = WebhookWorld()
        let second = WebhookWorld()
        _ = await first.ask(body)
        _ = await second.ask(body)
        let traces = [first, second].compactMap { $0.span("POST /webhooks/fhir")?.context }
        #expect(traces.count == 2 && traces[0].traceID == traces[1].traceID && traces[0].flags == .sampled)
        #expect(first.events(.created)[0]["metadata"]?["eventId"] == second.events(.created)[0]["metadata"]?["eventId"])
        let id = try #require(first.events(.created)[0]["metadata"]?["eventId"]?.stringBytes)
        #expect(AttributeValue.uuid(id) != nil && id[14] == UInt8(ascii: "8"))
        let other = WebhookWorld { $0.namespace = "elsewhere" }
        _ = await other.ask(body)
        #expect(other.events(.created)[0]["metadata"]?["eventId"]?.stringBytes != id)
        #expect(other.span("POST /webhooks/fhir")?.context.traceID != traces[0].traceID)
    }

    @Test("several events are traces of their own that link to the request; what is told again is not published again")
    func several() async throws {
        let world = WebhookWorld()
        let body = Sent.aidbox([
            (1, "POST", "p1", Sent.patient("p1")), (2, "PUT", "p1", Sent.patient("p1", version: "2")), (3, "DELETE", "p2", nil),
        ])
        #expect(await world.ask(body).status == .ok)
        #expect(ChangeAction.allCases.map { world.events($0).count } == [1, 1, 1])
        #expect(world.broker.records(in: "fhir.Patient.deleted").map { $0.key } == [ByteSlice("p2")])
        #expect(world.events(.deleted)[0]["data"]?.text == ByteSlice(#"{"resourceType":"Patient","id":"p2"}"#))
        let server = try #require(world.span("POST /webhooks/fhir"))
        let sends = world.spans.spans.filter { $0.template.kind == .producer }
        #expect(sends.count == 3 && sends.allSatisfy { $0.parentSpanID == SpanID(0) })
        #expect(sends.allSatisfy { $0.links.map(\.context.spanID) == [server.context.spanID] })
        #expect(Set(sends.map(\.context.traceID)).count == 3)
        #expect(await world.ask(body).status == .ok)
        #expect(world.published == 3 && world.counted("duplicate") == 3 && world.counted("published") == 3)
    }

    @Test("handshakes and heartbeats are answered and never published", arguments: ["handshake", "heartbeat", "query-status"])
    func silent(type: String) async {
        let world = WebhookWorld()
        #expect(await world.ask(Sent.backport(type, number: 0, focus: nil)).status == .ok)
        #expect(await world.ask(Sent.aidbox([], type: type)).status == .ok)
        #expect(world.published == 0)
    }

    @Test("who isn't known is told nothing, and his trace isn't continued")
    func unauthorized() async throws {
        let world = WebhookWorld { settings in
            settings.authenticator = Authenticator(
                bearerTokens: ["secret"], fields: [(HTTPField.Name("X-Webhook-Key")!, "key")])
        }
        let body = Sent.patient("p1")
        for token in [nil, "", "wrong", "secre", "secrets"] {
            let answer = await world.ask(body, [.init("traceparent")!: caller], token: token)
            #expect(answer.status == .unauthorized && answer.headers[.wwwAuthenticate] == "Bearer")
            #expect(outcome(answer).code == "login")
        }
        #expect(world.published == 0)
        let span = try #require(world.span("POST /webhooks/fhir"))
        #expect(span.context.traceID.description != "4bf92f3577b34da6a3ce929d0e0e4736" && span.status == .unset)
        #expect(await world.ask(body, [HTTPField.Name("X-Webhook-Key")!: "key"], token: nil).status == .ok)
        #expect(world.published == 1)
    }

    @Test(
        "other media types are refused",
        arguments: [
            nil, "text/plain", "application/fhir+xml", "application/fhir+json; charset=latin1", "application/x-ndjson",
        ] as [String?])
    func mediaType(type: String?) async {
        let world = WebhookWorld()
        #expect(await world.ask(Sent.patient("p1"), type: type).status == .unsupportedMediaType)
        #expect(await world.ask(Sent.patient("p1"), [.contentEncoding: "gzip"]).status == .unsupportedMediaType)
        #expect(await world.ask(Sent.patient("p1"), type: "application/json ; charset=\"UTF-8\"").status == .ok)
        #expect(world.published == 1)
    }

    @Test("what is malformed is answered 400 with the rule and an index-free path, and nothing of it is published")
    func malformed() async {
        let world = WebhookWorld()
        let good = Sent.patient("p1")
        for (body, rule, place) in [
            ("{", "invalid_json", nil), ("[]", "not_an_object", nil), ("{}", "resource_type_missing", "resourceType"),
            (#"{"resourceType":"Observation","id":"\#(WebhookWorld.marker)"}"#, "resource_type_foreign", "resourceType"),
            (good.replacing(#""id":"p1""#, with: #""id":"\#(WebhookWorld.marker)!""#), "invalid_id", "Patient.id"),
            (
                good.replacing(#""name""#, with: #""birthDate":"\#(WebhookWorld.marker)","name""#), "invalid_birth_date",
                "Patient.birthDate"
            ),
            (
                Sent.aidbox([(1, "POST", "p1", good), (2, "PUT", "p2", #"{"resourceType":"Patient","id":"p2","name":"x"}"#)]),
                "invalid_element_type", "Patient.name"
            ),
            (Sent.aidbox([(1, "POST", "p1", Sent.patient("p2"))]), "invalid_id", "Bundle.entry.fullUrl"),
        ] as [(String, String, String?)] {
            let answer = await world.ask(body)
            #expect(answer.status == .badRequest, "\(rule)")
            #expect(answer.headers[.contentType] == "application/fhir+json")
            #expect(outcome(answer).text == rule && outcome(answer).place == place, "\(rule)")
            #expect(!(answer.body.utf8Text ?? "").contains(WebhookWorld.marker))
        }
        #expect(world.published == 0 && world.counted("refused") == 8)
    }

    @Test("a member that is told twice is 400: we would take another one than who reads the event")
    func repeatedMembers() async {
        let world = WebhookWorld()
        let good = Sent.patient("p1")
        let bundle = Sent.aidbox([(1, "POST", "p1", good)])
        for body in [
            good.replacing(#""id":"p1""#, with: #""id":"p1","id":"p2""#),
            good.replacing(#""versionId":"1""#, with: #""versionId":"1","versionId":"2""#),
            good.replacing(#""meta""#, with: #""name":[{"family":"A"}],"meta""#),
            bundle.replacing(#""method":"POST""#, with: #""method":"POST","method":"DELETE""#),
            bundle.replacing(#""type":"history""#, with: #""type":"history","type":"batch""#),
        ] {
            let answer = await world.ask(body)
            #expect(answer.status == .badRequest && outcome(answer).text == "repeated_member", "\(body)")
        }
        let cloud = #"{"specversion":"1.0","id":"1","source":"/s","type":"PatientCreated","data":"#
        let inner = good.replacing(#""id":"p1""#, with: #""id":"p1","id":"p2""#)
        for body in [cloud + inner + "}", cloud + JSONText(inner).quoted + "}", cloud + good + #","type":"x"}"#] {
            let answer = await world.ask(body, type: "application/cloudevents+json")
            #expect(answer.status == .badRequest && outcome(answer).text == "repeated_member", "\(body)")
        }
        #expect(world.published == 0 && world.counted("refused") == 8)
        #expect(await world.ask(good).status == .ok)
    }

    @Test("more events in one bundle than are taken at once are 413, with what to do about it")
    func tooMany() async {
        let world = WebhookWorld()
        let all = (1...1001).map { (number: $0, method: "DELETE", id: "p\($0)", resource: nil as String?) }
        let answer = await world.ask(Sent.aidbox(all))
        #expect(answer.status == .contentTooLarge && outcome(answer).code == "too-long" && world.published == 0)
        #expect(
            outcome(answer).text
                == "more than 1000 events or 32 MiB of resources in one body: have the server send fewer at a time")
        #expect(world.counted("refused") == 1)
        #expect(await world.ask(Sent.aidbox(Array(all.dropLast()))).status == .ok && world.published == 1000)
    }

    @Test("one resource that serves for many events is told as long as all of them together have 32 MiB")
    func amplified() async {
        let world = WebhookWorld()
        let long = Sent.patient("p1", version: nil).replacing(WebhookWorld.marker, with: String(repeating: "x", count: 900_000))
        func body(_ events: Int) -> String {
            let told = (1...events).map { #"{"eventNumber":\#($0),"focus":{"reference":"Patient/p1"}}"# }
            return Sent.aidbox([(1, "PUT", "p1", long)]).replacing(
                #"[{"eventNumber":1,"timestamp":"2026-01-01T00:00:01Z","focus":{"reference":"Patient/p1"}}]"#,
                with: "[\(told.joined(separator: ","))]")
        }
        #expect(await world.ask(body(3)).status == .ok && world.published == 3)
        let answer = await world.ask(body(40))
        #expect(answer.status == .contentTooLarge && outcome(answer).code == "too-long" && world.published == 3)
    }

    @Test(
        "numbers beyond what JSON says exactly are refused, also as strings",
        arguments: ["9007199254740992", "9223372036854775807"])
    func hugeNumbers(_ number: String) async {
        let world = WebhookWorld()
        let sent = Sent.backport("event-notification", number: 7, focus: "Patient/p1").replacing("\"7\"", with: "\"\(number)\"")
        #expect(await world.ask(sent).status == .badRequest)
        #expect(
            await world.ask(Sent.aidbox([(7, "DELETE", "p1", nil)]).replacing(":7,", with: ":\(number),")).status == .badRequest)
    }

    @Test("the path of a rest-hook names the resource that comes, or was deleted")
    func resourceRoute() async throws {
        let world = WebhookWorld()
        let p1 = ["type": "Patient", "id": "p1"]
        #expect(await world.ask(Sent.patient("p1"), route: 1, method: .put, parameters: p1).status == .ok)
        #expect(await world.ask(Sent.patient("p1", version: "2"), route: 1, method: .post, parameters: p1).status == .ok)
        #expect(await world.ask("", route: 1, method: .delete, parameters: p1, type: nil).status == .ok)
        #expect(ChangeAction.allCases.map { world.events($0).count } == [1, 1, 1])
        #expect(world.span("PUT /webhooks/fhir/{type}/{id}") != nil)
        let wrong = await world.ask(Sent.patient("p2"), route: 1, method: .put, parameters: p1)
        #expect(outcome(wrong).text == "invalid_id" && outcome(wrong).place == "Patient.id")
        let foreign = ["type": "Observation", "id": "p1"]
        #expect(await world.ask("", route: 1, method: .put, parameters: foreign, type: nil).status == .badRequest)
        let bundle = Sent.aidbox([(1, "POST", "p1", Sent.patient("p1"))])
        #expect(await world.ask(bundle, route: 1, method: .put, parameters: p1).status == .badRequest)
    }

    @Test("without an acknowledgement of all of it the answer is 503, and the retry publishes what is missing")
    func refused() async throws {
        let world = WebhookWorld()
        let body = Sent.aidbox([(1, "POST", "p1", Sent.patient("p1")), (2, "POST", "p2", Sent.patient("p2"))])
        world.broker.failNextProduces(1, with: BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true))
        let answer = await world.ask(body)
        #expect(answer.status == .serviceUnavailable && answer.headers[.retryAfter] == "5")
        #expect(outcome(answer).code == "transient" && world.published == 1)
        let span = try #require(world.span("POST /webhooks/fhir"))
        #expect(span.status == .error("_MSG_TIMED_OUT"))
        #expect(span.attributes.contains(Attribute("error.type", .text("_MSG_TIMED_OUT"))))
        #expect(await world.ask(body).status == .ok)
        #expect(world.published == 2)
        world.broker.setMaximumRecordSize(10)
        #expect(await world.ask(Sent.patient("p3")).status == .contentTooLarge)
    }

    @Test("a full queue, too many waiting requests and a time that is over are 503 at once")
    func backPressure() async throws {
        let world = WebhookWorld(capacity: 1) { $0.maximumWaiting = 2 }
        world.broker.holdProduces()
        async let first = world.ask(Sent.patient("p1"))
        while world.broker.heldProduces < 1 { await Task.yield() }
        let full = await world.ask(Sent.patient("p2"))
        #expect(full.status == .serviceUnavailable && outcome(full).code == "throttled")
        #expect(world.span("POST /webhooks/fhir")?.status == .error("queue_full"))
        // The same change is under way: whoever sends it again has to come back.
        #expect(await world.ask(Sent.patient("p1")).status == .serviceUnavailable)
        world.clock.advance(by: .seconds(26))
        await world.intake.tick()
        let late = await first
        #expect(late.status == .serviceUnavailable && outcome(late).code == "timeout")
        #expect(world.span("POST /webhooks/fhir")?.status == .error("timeout"))
        world.broker.releaseProduces()
        while world.published < 1 { await Task.yield() }
        while await world.ask(Sent.patient("p1")).status != .ok { await Task.yield() }
        #expect(world.published == 1)
    }

    @Test("requests beyond the bound aren't even begun")
    func overload() async {
        let world = WebhookWorld { $0.maximumWaiting = 1 }
        world.broker.holdProduces()
        async let first = world.ask(Sent.patient("p1"))
        while world.broker.heldProduces < 1 { await Task.yield() }
        let answer = await world.ask(Sent.patient("p2"))
        #expect(answer.status == .serviceUnavailable && answer.headers[.retryAfter] == "5")
        #expect(world.span("POST /webhooks/fhir")?.status == .error("overloaded"))
        world.broker.releaseProduces()
        #expect(await first.status == .ok)
        #expect(world.published == 1)
    }

    @Test("a command's tag is the correlation id of the version it wrote, not of later ones")
    func correlation() async {
        let world = WebhookWorld()
        for (version, tags) in [("1", ["r1"]), ("2", ["r1"]), ("3", ["r1", "r2"]), ("4", ["r1", "r2"])] {
            #expect(await world.ask(Sent.patient("p1", version: version, tags: tags)).status == .ok)
        }
        let all = world.events(.created) + world.events(.updated)
        let ids = all.compactMap { $0["metadata"]?["correlationId"]?.string }
        #expect(ids.count == 4 && ids[0] == "r1" && ids[2] == "r2")
        #expect(!["r1", "r2"].contains(ids[1]) && !["r1", "r2"].contains(ids[3]))
    }

    @Test("an unsampled request is exported if it fails")
    func failureTrace() async {
        let world = WebhookWorld(sampler: .parentBased(root: .alwaysOff))
        _ = await world.ask(Sent.patient("p1"))
        #expect(world.spans.spans.isEmpty)
        world.broker.failNextProduces(1, with: BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true))
        _ = await world.ask(Sent.patient("p2"))
        #expect(Set(world.spans.spans.map(\.template.name)) == ["POST /webhooks/fhir", "send fhir.Patient.created"])
    }

    @Test("nothing of a body is in answers and spans")
    func patientMarker() async throws {
        let world = WebhookWorld()
        let marker = WebhookWorld.marker
        let bodies = [
            Sent.patient(marker), Sent.aidbox([(1, "POST", marker, Sent.patient(marker, version: "9"))]),
            Sent.aidbox([(1, marker, marker, Sent.patient(marker))]), Sent.backport(marker, number: 1, focus: marker),
            Sent.backport("event-notification", number: 9, focus: "Patient/\(marker)", subscription: marker),
            #"{"resourceType":"\#(marker)"}"#, marker,
        ]
        for body in bodies {
            let answer = await world.ask(body)
            #expect(!(answer.body.utf8Text ?? "").contains(marker))
            #expect(!answer.headers.contains { $0.value.contains(marker) })
        }
        for span in world.spans.spans {
            // Identifiers are hashed or omitted where they leave.
            let own = span.attributes.filter { if case .identifier = $0.value { false } else { true } }
            #expect(!"\(own) \(span.template.name) \(span.template.attributes) \(span.events) \(span.status)".contains(marker))
        }
        #expect(!"\(world.meter.collect(at: world.clock.now()))".contains(marker))
    }
}

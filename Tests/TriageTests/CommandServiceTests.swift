import Synchronization
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry

@testable import Triage

@Suite("Commands over an embedded cluster and a FHIR server", .serialized, .timeLimit(.minutes(3)))
struct CommandServiceTests {
    let patient = #"{"resourceType":"Patient","name":[{"family":"Doe"}]}"#

    private func named(_ id: String, _ more: String = "") -> String { #"{"resourceType":"Patient","id":"\#(id)"\#(more)}"# }

    @Test("A command is carried out, its result stands on the results' topic, and the status endpoint tells it")
    func carriedOut() async throws {
        try await CommandWorld.run { world in
            let result = try #require(try await world.command("CreatePatient", patient, "r-1"))
            #expect(result["status"]?.says("completed") == true && result["action"]?.says("created") == true)
            #expect(result["resource"]?.says("Patient/p0") == true && result["versionId"]?.says("1") == true)
            let told = try await world.results(1)
            #expect(told.map { $0.text.utf8Text } == [result.text.utf8Text])
            let status = try await world.ask(.get, "/commands/r-1")
            #expect(status.status == 200 && status.body == (result.text.utf8Text ?? "") + "\n")
            #expect(try await world.ask(.get, "/commands/r-2").status == 404)
            let kept = world.server.state.withLock { $0.patients["p0"]?.text }.flatMap { JSONValue($0) }
            #expect(kept.flatMap { RequestTag.requestID(in: $0) } == "r-1")
            #expect(world.server.calls == ["POST "])
        }
    }

    @Test("503 is tried again, through the retry topic")
    func retried() async throws {
        try await CommandWorld.run { world in
            world.server.plant(503)
            let result = try #require(try await world.command("CreatePatient", patient, "r-1"))
            #expect(result["status"]?.says("completed") == true && world.server.calls == ["POST ", "POST "])
            let retries = try await world.records(in: "fhir.commands.retry", 1)
            #expect(retries.map { $0.headers.text("error") } == ["RetryableError http_503"])
            #expect(try await world.records(in: "fhir.commands.dlq", 0).isEmpty)
        }
    }

    @Test("422 is a dead letter, which whoever waits is told of, but nothing that the server said about a Patient")
    func failed() async throws {
        try await CommandWorld.run { world in
            world.server.plant(
                422,
                body: #"""
                    {"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"business-rule","diagnostics":"Jane"}]}
                    """#)
            let answer = try await world.ask(.post, "/commands?wait=30s", CommandWorld.text("CreatePatient", patient, "r-1"))
            let expected =
                #"{"requestId":"r-1","status":"failed","class":"persistent","error":"RejectedError http_422_business-rule"}"#
                + "\n"
            #expect(answer.status == 200 && answer.body == expected)
            #expect(try await world.ask(.get, "/commands/r-1").body == expected)
            let dead = try await world.records(in: "fhir.commands.dlq", 1)
            #expect(dead.map { $0.headers.text("triage-origin") } == ["fhir.commands/0/0"])
            // Sent again it is another try, whose end is waited for and not the first one's.
            let again = try #require(try await world.command("CreatePatient", patient, "r-1"))
            #expect(again["status"]?.says("completed") == true && world.server.calls.count == 2)
            // Written by others, not by the endpoint, which refuses it.
            try await world.send("UpdatePatient", named("p0", #","meta":{},"meta":{"versionId":"1"}"#), "r-2")
            #expect(
                try await world.records(in: "fhir.commands.dlq", 2).last?.headers.text("error") == "InvalidEvent repeated_member")
            #expect(world.server.calls.count == 2)
        }
    }

    @Test("A command that has a result isn't carried out again by another record, and its result is told again")
    func sentAgain() async throws {
        try await CommandWorld.run { world in
            _ = try await world.command("CreatePatient", patient, "r-1")
            #expect(try await world.command("UpdatePatient", named("p0"), "r-2")?["versionId"]?.says("2") == true)
            // Somebody else's version, without the tag.
            world.server.state.withLock { $0.patients["p0"] = (3, ByteSlice(patient), false) }
            try await world.send("UpdatePatient", named("p0"), "r-2")
            let updates = try await world.results(3)
            #expect(updates.map { $0["versionId"]?.string } == ["1", "2", "2"])
            #expect(world.server.state.withLock { $0.patients["p0"]?.version } == 3)
            #expect(try await world.command("DeletePatient", named("p0"), "r-3")?["action"]?.says("deleted") == true)
            // Somebody made it anew.
            world.server.state.withLock { $0.patients["p0"] = (5, ByteSlice(patient), false) }
            try await world.send("DeletePatient", named("p0"), "r-3")
            #expect(
                try await world.results(5).map { $0["action"]?.string } == [
                    "created", "updated", "updated", "deleted", "deleted",
                ])
            #expect(world.server.state.withLock { $0.patients["p0"]?.isDeleted } == false)
            #expect(world.server.calls == ["POST ", "GET p0", "PUT p0", "DELETE p0"])
        }
    }

    @Test("The event of a command's deletion, which the server notifies before it answers, has its request id")
    func deletionsEvent() async throws {
        try await CommandWorld.run({ $0.webhooks = Configuration.Webhooks() }) { world in
            _ = try await world.command("CreatePatient", patient, "r-1")
            world.server.notify { id in _ = try? await world.ask(.delete, "/webhooks/fhir/Patient/\(id)") }
            #expect(try await world.command("DeletePatient", named("p0"), "r-2")?["action"]?.says("deleted") == true)
            // Nobody's command.
            _ = try await world.ask(.delete, "/webhooks/fhir/Patient/p9")
            let events = try await world.records(in: "fhir.Patient.deleted", 2).map { try EventDecoder().decode($0) }
            #expect(events.map(\.resourceID) == ["p0", "p9"])
            #expect(events.first?.correlationID == "r-2" && events.last?.correlationID?.utf8.count == 36)
        }
    }

    @Test("Events that the handler publishes: an update that made the Patient created it, and a deleted Patient is named")
    func publishedEvents() async throws {
        try await CommandWorld.run({ $0.commands?.events = .publish }) { world in
            #expect(try await world.command("UpdatePatient", named("n1"), "r-1")?["action"]?.says("created") == true)
            #expect(try await world.command("UpdatePatient", named("n1"), "r-2")?["action"]?.says("updated") == true)
            #expect(try await world.command("DeletePatient", named("n1"), "r-3")?["action"]?.says("deleted") == true)
            for (action, request) in [(ChangeAction.created, "r-1"), (.updated, "r-2"), (.deleted, "r-3")] {
                let found = try await world.records(in: "fhir.Patient.\(action.rawValue)", 1)
                let event = try EventDecoder().decode(try #require(found.first))
                #expect(found.count == 1 && event.correlationID == request && event.resourceID == "n1" && event.action == action)
            }
            let deleted = try await world.records(in: "fhir.Patient.deleted", 1).first?.value.flatMap { JSONValue($0) }
            #expect(deleted?["data"]?.text.utf8Text == #"{"resourceType":"Patient","id":"n1"}"#)
        }
    }

    @Test("The groups of a service are those that it reads as")
    func groups() {
        var configuration = Configuration(kafka: .init(bootstrapServers: "x"))
        configuration.group = "g"
        configuration.topics = ["t"]
        #expect(configuration.consumerGroups == [.init(name: "g", topics: ["t"])])
        configuration.handlesEvents = false
        #expect(configuration.consumerGroups.isEmpty)
        configuration.changeDataTopics = ["c"]
        configuration.commands = Configuration.Commands()
        configuration.fhir = Configuration.FHIR("http://x/r4")
        #expect(
            configuration.consumerGroups == [
                .init(name: "g-change-data", topics: ["c"]), .init(name: "g-commands", topics: ["fhir.commands"]),
            ])
        #expect(CommandPart.configuration(of: configuration).group == "g-commands")
        configuration.webhooks = Configuration.Webhooks()
        #expect(configuration.attributesToCommands)
        configuration.commands = nil
        #expect(!configuration.attributesToCommands && !configuration.followsCommands)
        configuration.webhooks?.followsCommands = true
        #expect(configuration.attributesToCommands && configuration.followsCommands)
    }
}

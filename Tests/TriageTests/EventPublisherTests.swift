import Testing
import TriageEvents
import TriageKafka
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Publishing", .serialized)
struct EventPublisherTests {
    let created = "fhir.Patient.created"

    @Test("A resource is wrapped byte for byte; the key is its id, or null")
    func envelope() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let recorder = SpanRecorder()
        let telemetry = makeTelemetry([recorder])
        let withID = #"  {"resourceType" : "Patient", "id":"p-1", "name":[{"family":"Ünïcode \"quoted\" \\ 𝕏"}], "x": 1.0e2 }"#
        let withoutID = #"{"resourceType":"Patient","active":true}"#
        let answers = try await publish(
            [withID, withoutID], action: .created, to: cluster, telemetry: telemetry, source: #"a "b"\"# + "\n")
        #expect(answers.count == 2)
        let found = try await records(of: [created], in: cluster)
        #expect(found.count == 2)
        let decoder = EventDecoder()
        for record in found {
            let event = try decoder.decode(record)
            #expect(event.form == .envelope && event.action == .created)
            let text = record.key == nil ? withoutID : withID
            #expect(record.key == (record.key == nil ? nil : ByteSlice("p-1")))
            let value = try #require(record.value?.utf8Text)
            #expect(value.hasPrefix(#"{"type":"PatientCreated","data":"# + text + #","metadata":{"eventId":""#))
            #expect(event.resource.map { Array($0) } == Array(text.utf8.drop { $0 == 0x20 }))
            #expect(event.source == #"a "b"\"# + "\n")
            #expect(event.eventID?.utf8.count == 36 && event.correlationID?.utf8.count == 36)
            #expect(record.headers.last("content-type")?.utf8Text == "application/fhir+json")
        }
        #expect(Set(found.map { $0.key?.utf8Text }) == ["p-1", nil])
        // The context in the headers is that of the send span.
        let spans = recorder.spans
        #expect(spans.map(\.template.name) == ["send \(created)", "send \(created)"])
        let contexts = Set(spans.map { "\($0.context.traceID)-\($0.context.spanID)" })
        #expect(
            Set(found.compactMap { $0.headers.last("traceparent")?.utf8Text?.dropFirst(3).dropLast(3) }.map(String.init))
                == contexts)
        #expect(
            Set(spans.compactMap { span in span.attributes.first { $0.key == "event.type" }?.value }) == [.text("PatientCreated")]
        )
    }

    @Test("An event says itself what happened and is sent as it is")
    func events() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let flat =
            #"{"resourceType":"Patient","action":"deleted","timestamp":"2026-01-01T00:00:00Z","resource":{"resourceType":"Patient","id":"p-2"}}"#
        let envelope = #"{"type":"PatientUpdated","data":{"resourceType":"Patient","id":"p-3"},"metadata":{"eventId":"e"}}"#
        try await publish([flat, envelope], action: .created, to: cluster, telemetry: makeTelemetry())
        let found = try await records(of: TopicPattern.hybrid.patientTopics, in: cluster)
        let byTopic = Dictionary(uniqueKeysWithValues: found.map { ($0.topic, $0) })
        #expect(byTopic["fhir.Patient.deleted"]?.value?.utf8Text == flat)
        #expect(byTopic["fhir.Patient.deleted"]?.key?.utf8Text == "p-2")
        #expect(byTopic["fhir.Patient.updated"]?.value?.utf8Text == envelope)
        #expect(found.count == 2)
    }

    @Test(
        "What a FHIR server would refuse is not sent",
        arguments: [
            #"{"resourceType":"Pet"}"#, #"{"resourceType":"Patient""#, "", #"{"resourceType":"Patient","gender":"x"}"#,
        ])
    func refused(text: String) async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let recorder = SpanRecorder()
        await #expect(throws: InvalidEvent.self) {
            try await publish([text], action: .created, to: cluster, telemetry: makeTelemetry([recorder]))
        }
        #expect(recorder.spans.isEmpty)
    }

    @Test("A bare resource needs an action")
    func actionNeeded() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        await #expect(throws: InvalidEvent(.action, at: "")) {
            try await publish([#"{"resourceType":"Patient"}"#], action: nil, to: cluster, telemetry: makeTelemetry())
        }
    }

    @Test(
        "Strings are escaped as JSON asks for",
        arguments: [
            ("plain ü", "\"plain ü\""), ("\"\\", #""\"\\""#), ("\n\t\u{1}\u{1F}", #""\u000a\u0009\u0001\u001f""#), ("", "\"\""),
        ])
    func escaping(text: String, quoted: String) { #expect(JSONText(text).quoted == quoted) }

    private func publisher(_ cluster: EmbeddedCluster) throws -> EventPublisher {
        var kafka = KafkaConfiguration(bootstrapServers: cluster.bootstrapServers)
        kafka.additional["message.max.bytes"] = "100000"
        return try EventPublisher(kafka, telemetry: makeTelemetry(), logger: quiet())
    }

    @Test("One change by bytes or text, with ids of one's own; where it stands is told")
    func changes() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let publisher = try publisher(cluster)
        defer { publisher.close() }
        let patient = #"{"resourceType":"Patient","id":"p1"}"#
        let first = try await publisher.publish(.created, patient, eventID: "e-1", correlationID: "c-1")
        let second = try await publisher.publish(.created, Array(patient.utf8))
        #expect(first.partition == second.partition && second.offset == first.offset + 1)
        let found = try await records(of: [created], in: cluster).sorted { $0.offset < $1.offset }
        let events = try found.map { try EventDecoder().decode($0) }
        #expect(events.map(\.resource) == [ByteSlice(patient), ByteSlice(patient)])
        #expect(events[0].eventID == "e-1" && events[0].correlationID == "c-1" && events[1].eventID?.utf8.count == 36)
        await #expect(throws: InvalidEvent(.idMissing, at: "Patient.id")) {
            try await publisher.publish(.updated, #"{"resourceType":"Patient"}"#)
        }
        // What says itself what happened isn't wrapped once more.
        await #expect(throws: InvalidEvent(.unknownForm, at: "")) {
            try await publisher.publish(.created, #"{"type":"PatientCreated","data":\#(patient)}"#)
        }
    }

    @Test(
        "Several changes in one call: in order; an invalid one keeps all back and is named, a refused one is named with the others' places"
    )
    func batches() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let publisher = try publisher(cluster)
        defer { publisher.close() }
        func change(_ id: String, _ more: String = "") -> PatientChange {
            PatientChange(.created, #"{"resourceType":"Patient","id":"\#(id)"\#(more)}"#)
        }
        #expect(try await publisher.publish([]).isEmpty)
        do {
            try await publisher.publish([change("a"), change("b", #","gender":"x""#), change("c/d")])
            Issue.record("it was published")
        } catch let error as PublishError {
            #expect(error.failures.keys.sorted() == [1, 2] && error.acknowledgements.isEmpty)
            #expect(error.failures[1] as? InvalidEvent == InvalidEvent(.gender, at: "Patient.gender"))
        }
        #expect(try await records(of: [created], in: cluster).isEmpty)
        let huge = String(repeating: "x", count: 200_000)
        do {
            try await publisher.publish([change("a"), change("b", #","language":"\#(huge)""#), change("c")])
            Issue.record("it was published")
        } catch let error as PublishError {
            #expect(error.failures.keys.sorted() == [1] && error.acknowledgements.keys.sorted() == [0, 2])
            #expect((error.failures[1] as? BrokerError)?.isTooLarge == true)
            #expect(error.description.hasPrefix("1 of 3 not published; number 1: "))
        }
        #expect(try await publisher.publish([change("a"), change("a")]).count == 2)
        #expect(try await records(of: [created], in: cluster).count == 4)
    }
}

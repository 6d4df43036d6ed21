import Testing
import TriageEvents

@testable import TriageIngress

@Suite("CloudEvents over HTTP and in records")
struct CloudEventHTTPTests {
    private let patient = #"{"resourceType":"Patient","id":"p1"}"#

    private func read(_ headers: [String: String], _ body: String, action: ChangeAction? = nil) throws -> [CapturedEvent]? {
        try CloudEventHTTP.events(
            header: { headers[$0] }, body: ByteSlice(body), topicAction: action, decoder: EventDecoder())
    }

    private func structured(_ id: String, _ more: String = "") -> String {
        #"{"specversion":"1.0","id":"\#(id)","source":"s","type":"PatientUpdated","data":\#(patient)\#(more)}"#
    }

    @Test("structured, batched and binary requests; anything else is none")
    func modes() throws {
        let one = try #require(try read(["content-type": "application/cloudevents+json"], structured("a")))
        #expect(one.map(\.eventID) == ["a"] && one[0].action == .updated && one[0].resource == ByteSlice(patient))
        let batchType = ["content-type": "application/cloudevents-batch+json; charset=utf-8"]
        let batch = try #require(try read(batchType, "[\(structured("a")) , \(structured("b"))]"))
        #expect(batch.map(\.eventID) == ["a", "b"] && batch.allSatisfy { $0.resourceID == ByteSlice("p1") })
        #expect(try read(batchType, "[]")?.isEmpty == true)
        let binary = try #require(
            try read(
                [
                    "content-type": "application/fhir+json", "ce-specversion": "1.0", "ce-id": "a%20%22b%22", "ce-source": "s",
                    "ce-type": "x.Patient.created", "ce-time": "2026-01-01T00:00:00Z", "ce-correlationid": "c",
                ], patient))
        #expect(binary[0].eventID == #"a "b""# && binary[0].action == .created && binary[0].correlationID == "c")
        #expect(binary[0].timestamp == "2026-01-01T00:00:00Z")
        #expect(try read(["content-type": "application/fhir+json"], patient) == nil)
        let deleted = try read(
            ["ce-specversion": "1.0", "ce-id": "a", "ce-source": "s", "ce-type": "PatientDeleted", "ce-subject": "Patient/p3"], ""
        )
        #expect(deleted?.first?.action == .deleted && deleted?.first?.resourceID == ByteSlice("p3"))
    }

    @Test("an event within an event is none that a consumer would understand")
    func nested() throws {
        let inner = #"{"specversion":"1.0","id":"b","source":"s","type":"PatientUpdated","data":\#(patient)}"#
        let outer = #"{"specversion":"1.0","id":"a","source":"s","type":"PatientUpdated","data":\#(inner)}"#
        #expect(throws: InvalidEvent.self) {
            try CloudEventHTTP.events(
                header: { $0 == "content-type" ? CloudEvent.structuredType : nil }, body: ByteSlice(outer),
                decoder: EventDecoder())
        }
    }

    @Test("one broken event refuses the batch")
    func broken() throws {
        let type = ["content-type": "application/cloudevents-batch+json"]
        for (body, rule) in [
            ("[\(structured("a")),{}]", InvalidEvent.Rule.cloudEvent), ("[\(structured("a"))", .json), ("[1]", .notAnObject),
            (structured("a"), .cloudEvent), ("[]}{", .json), ("", .json), ("[\(structured("a"))],\"b\":[1", .json),
        ] {
            #expect { try read(type, body) } throws: { ($0 as? InvalidEvent)?.rule == rule }
        }
        let many = "[" + Array(repeating: structured("a"), count: 1001).joined(separator: ",") + "]"
        #expect { try read(type, many) } throws: { ($0 as? InvalidEvent)?.rule == .tooManyEvents }
    }

    @Test("what is written for a delivery is read again")
    func written() throws {
        let record = Record(
            topic: "fhir.Patient", partition: 0, offset: 0, timestamp: nil, key: nil,
            value: ByteSlice(#"{"type":"PatientUpdated","data":\#(patient),"metadata":{"eventId":"ä 1","source":"clinic"}}"#))
        let cloud = CloudEvent(try EventDecoder().decode(record), id: "other", source: "triage")
        for mode in [CloudEventMode.binary, .structured] {
            let request = CloudEventHTTP.request(for: cloud, mode: mode)
            let headers = Dictionary(uniqueKeysWithValues: request.headers.map { ($0.name, $0.value) })
            #expect(headers.values.allSatisfy { $0.utf8.allSatisfy { (0x20...0x7E).contains($0) } })
            let read = try #require(
                try CloudEventHTTP.events(header: { headers[$0] }, body: request.body, decoder: EventDecoder()))
            #expect(read[0].eventID == "ä 1" && read[0].action == .updated && read[0].resource == ByteSlice(patient))
        }
        let plain = CloudEventHTTP.request(for: cloud, mode: .off)
        #expect(plain.headers.map(\.name) == ["content-type"] && plain.body == ByteSlice(patient))
    }

    @Test("records in each format are read as the same event", arguments: CloudEventMode.allCases, ChangeAction.allCases)
    func formats(mode: CloudEventMode, action: ChangeAction) throws {
        let format = EventFormat(source: "clinic", cloudEvents: mode)
        for resource in action == .deleted ? [nil, ByteSlice(patient)] : [ByteSlice(patient)] {
            let captured = CapturedEvent(
                action, resourceID: ByteSlice("p1"), resource: resource, timestamp: "2026-01-01T00:00:00Z", correlationID: "c")
            let (value, headers) = format.value(of: captured, eventID: "e", now: Timestamp(nanoseconds: 0))
            for topic in ["fhir.Patient", "fhir.Patient.\(action.rawValue)"] {
                let record = Record(
                    topic: topic, partition: 0, offset: 0, timestamp: nil, key: ByteSlice("p1"), value: value,
                    headers: Headers(headers))
                let event = try EventDecoder().decode(record)
                // An envelope names the Patient that is gone, for those who aren't told the key.
                let named = mode == .off ? ByteSlice(#"{"resourceType":"Patient","id":"p1"}"#) : nil
                #expect(event.action == action && event.resourceID == "p1" && event.resource == resource ?? named)
                #expect(event.eventID == "e" && event.source == "clinic" && event.correlationID == "c")
                #expect(event.timestamp == "2026-01-01T00:00:00Z")
            }
            let type = headers.last { $0.name == "content-type" }?.value?.utf8Text
            #expect(type == (mode == .structured ? "application/cloudevents+json; charset=UTF-8" : "application/fhir+json"))
        }
    }
}

import Foundation
import Testing

@testable import TriageEvents

@Suite("Event decoder: the forms")
struct EventDecoderTests {
    @Test("an envelope with everything in it")
    func wholeEnvelope() throws {
        // The type rules even where the topic says otherwise.
        let event = try decode(fullEnvelope, topic: .created).get()
        #expect(event.form == .envelope)
        #expect(event.action == .updated)
        #expect(event.type == "PatientUpdated")
        #expect(event.resourceType == "Patient")
        #expect(event.resourceID == "a-1.B")
        #expect(event.resourceIDBytes == ByteSlice("a-1.B"))
        #expect(event.versionID == "7")
        #expect(event.lastUpdated == "2024-02-29T23:59:60.123+14:00")
        #expect(event.eventID == "e-1")
        #expect(event.eventIDBytes == ByteSlice("e-1"))
        #expect(event.timestamp == "2024-03-01T00:00:00Z")
        #expect(event.timestampBytes.flatMap { Timestamp(instant: $0) } == Timestamp(milliseconds: 1_709_251_200_000))
        #expect(event.source == "fhir-server")
        #expect(event.correlationID == "c-1")
        #expect(event.correlationIDBytes == ByteSlice("c-1"))
        #expect(event.gender == "female")
        #expect(event.birthDate == "1984-02-29")
        #expect(event.value == ByteSlice(fullEnvelope))
        let start = try #require(fullEnvelope.range(of: #"{"resourceType""#)?.lowerBound)
        let end = try #require(fullEnvelope.range(of: #""unknown":null}"#)?.upperBound)
        #expect(event.resource == ByteSlice(String(fullEnvelope[start..<end])))
    }

    @Test("an envelope's data is found byte for byte, whatever stands around it and however its name is written")
    func resourceBytes() throws {
        let data = #"{"resourceType":"Patient","id":"1","name":[{"family":"a\"}]\\","given":["{[\u0022"]}]}"#
        for text in [
            envelope(data: data), #"{"metadata":{"x":"}\"data\":{"},"data":\#(data),"type":"PatientCreated"}"#,
            " \n\t{\"data\" :\r\n \(data) ,\"type\":\"PatientCreated\"} \n",
            #"{"type":"PatientCreated","d\u0061t\u0061":\#(data)}"#,
            #"{"n":-1.5e+3,"t":true,"a":[],"data":\#(data),"type":"PatientCreated","data":{}}"#,
        ] {
            let event = try decode(text).get()
            #expect(event.resource == ByteSlice(data))
            #expect(event.resourceID == "1")
        }
    }

    @Test(
        "the flat form, past tense and imperative",
        arguments: [
            ("created", ChangeAction.created), ("create", .created), ("updated", .updated), ("update", .updated),
            ("deleted", .deleted), ("delete", .deleted),
        ]
    )
    func flat(action: String, expected: ChangeAction) throws {
        let inner = patient(#""gender":"other""#)
        let text = #"{"resourceType":"Patient","action":"\#(action)","timestamp":"2024-01-02","resource":\#(inner)}"#
        let event = try decode(text).get()
        #expect(event.form == .flat)
        #expect(event.action == expected)
        #expect(event.timestamp == "2024-01-02")
        #expect(event.gender == "other")
        #expect(event.resource == ByteSlice(inner))
    }

    @Test("the flat form may carry metadata; its own timestamp counts first")
    func flatMetadata() throws {
        let metadata = #""metadata":{"eventId":"e","timestamp":"2023","source":"s","correlationId":"c"}"#
        let text = #"{\#(metadata),"resourceType":"Patient","action":"created","timestamp":"2024","resource":\#(patient())}"#
        let event = try decode(text).get()
        #expect(event.timestamp == "2024")
        #expect(event.eventID == "e" && event.source == "s" && event.correlationID == "c")
        let without = #"{\#(metadata),"resourceType":"Patient","action":"created","resource":\#(patient())}"#
        #expect(try decode(without).get().timestamp == "2023")
    }

    @Test("a bare resource takes its action from the topic", arguments: ChangeAction.allCases)
    func bare(action: ChangeAction) throws {
        let text = patient(#""type":"x","data":1,"metadata":2,"timestamp":3"#)
        let event = try decode(text, topic: action).get()
        #expect(event.form == .resource)
        #expect(event.action == action)
        #expect(event.resourceID == "p1")
        #expect(event.timestamp == nil)
        #expect(event.resource == ByteSlice(text))
    }

    @Test("the topic also stands in for a missing type or action")
    func topicAction() {
        #expect(decode(#"{"data":\#(patient())}"#, topic: .updated).event?.action == .updated)
        #expect(decode(#"{"data":\#(patient())}"#).broken == "unknown_action@type")
        #expect(decode(#"{"resourceType":"Patient","resource":\#(patient())}"#, topic: .updated).event?.action == .updated)
        #expect(decode(#"{"resourceType":"Patient","resource":\#(patient())}"#).broken == "unknown_action@action")
        #expect(decode(patient()).broken == "unknown_action@")
    }

    @Test("a null value deletes the resource that the key names")
    func tombstones() {
        for action in [ChangeAction?.none, .created, .updated, .deleted] {
            let event = decode(nil, key: "p-9", topic: action).event
            #expect(event?.action == .deleted)
            #expect(event?.form == .tombstone)
            #expect(event?.resourceID == "p-9")
            #expect(event?.value == nil && event?.resource == nil && event?.gender == nil && event?.eventID == nil)
        }
        #expect(decode(nil, topic: .deleted).broken == "id_missing@key")
        #expect(decode(nil).broken == "null_value@")
        #expect(decode(nil, key: "a/b", topic: .deleted).broken == "invalid_id@key")
        #expect(decode(nil, key: "", topic: .deleted).broken == "invalid_id@key")
        #expect(decode(nil, key: String(repeating: "k", count: 65)).broken == "invalid_id@key")
    }

    @Test("a delete may lack the resource, or its id, if the key names it")
    func deletes() throws {
        for text in [
            #"{"type":"PatientDeleted"}"#, #"{"type":"PatientDeleted","data":null}"#,
            #"{"resourceType":"Patient","action":"deleted"}"#, #"{"resourceType":"Patient","action":"delete","resource":null}"#,
            #"{"type":"PatientDeleted","data":{"resourceType":"Patient"}}"#,
        ] {
            let event = try decode(text, key: "k1").get()
            #expect(event.action == .deleted)
            #expect(event.resourceID == "k1")
            #expect(decode(text).broken == "id_missing@Patient.id")
            #expect(decode(text, key: "k 1").broken == "invalid_id@key")
        }
        #expect(decode(#"{"type":"PatientDeleted","data":null}"#, key: "k1").event?.resource == nil)
        let event = try decode(
            envelope("PatientDeleted", data: patient(#""birthDate":"1990""#), metadata: #"{"eventId":"e"}"#), key: "other"
        ).get()
        #expect(event.resourceID == "p1")
        let keyed = try decode(
            envelope("PatientDeleted", data: #"{"resourceType":"Patient","gender":"male"}"#, metadata: #"{"source":"s"}"#),
            key: "k"
        ).get()
        #expect(keyed.resourceID == "k" && keyed.gender == "male" && keyed.source == "s")
    }

    @Test("only a created resource may lack its id")
    func missingID() {
        let data = #"{"resourceType":"Patient"}"#
        #expect(decode(envelope(data: data)).event?.resourceID == .some(nil))
        #expect(decode(envelope(data: data), key: "k").event?.resourceID == .some(nil))
        #expect(decode(envelope("PatientUpdated", data: data)).broken == "id_missing@Patient.id")
        #expect(decode(envelope("PatientUpdated", data: data), key: "k").broken == "id_missing@Patient.id")
        #expect(decode(data, topic: .deleted).broken == "id_missing@Patient.id")
        #expect(decode(data, key: "k", topic: .deleted).event?.resourceID == "k")
    }

    @Test("a record's topic gives the action, and the last one is remembered without mistakes")
    func records() throws {
        let decoder = EventDecoder()
        func action(_ topic: String) -> ChangeAction? {
            let record = Record(
                topic: topic, partition: 0, offset: 1, timestamp: nil, key: ByteSlice("k"), value: ByteSlice(patient()),
                headers: [Header("a", text: "b")]
            )
            return try? decoder.decode(record).action
        }
        #expect(action("fhir.Patient.created") == .created)
        #expect(action("fhir.Patient.created") == .created)
        #expect(action("fhir.Patient.updated") == .updated)
        #expect(action("fhir.Patient.created.retry") == .created)
        #expect(action("fhir.deleted.dlq") == .deleted)
        #expect(action("fhir.Patient") == nil)
        #expect(action("fhir.Patient.created") == .created)
        let tombstone = Record(topic: "fhir.Patient", partition: 0, offset: 1, timestamp: nil, key: ByteSlice("k"), value: nil)
        #expect(try decoder.decode(tombstone).resourceID == "k")
    }

    @Test("escapes in texts are resolved")
    func escapes() throws {
        let event = try decode(
            envelope(
                data: #"{"resourceType":"P\u0061tient","id":"\u0070\u002d1","gender":"\u006dale"}"#,
                metadata: #"{"eventId":"\u00e9\ud83d\ude00\n\"\\\/","source":"a\u0000b"}"#
            )
        ).get()
        #expect(event.resourceID == "p-1")
        #expect(event.gender == "male")
        #expect(event.eventID == "é😀\n\"\\/")
        #expect(event.source == "a\0b")
        #expect(decode(#"{"type":"Patient\u0043reated","data":\#(patient())}"#).event?.action == .created)
    }

    @Test("of members with one name the first counts, everywhere")
    func duplicates() throws {
        let data = #"""
            {"resourceType":"Patient","resourceType":"Observation","id":"1","id":"!","gender":"male","gender":7,
             "meta":{"versionId":"1","versionId":2},"meta":3,"name":[{}],"name":4}
            """#
        let metadata = #"{"eventId":"a","eventId":"b","source":1,"source":"s"}"#
        let text = #"""
            {"type":"PatientUpdated","type":"PatientDeleted","data":\#(data),"data":{},"metadata":\#(metadata),"metadata":4}
            """#
        let event = try decode(text).get()
        #expect(event.action == .updated)
        #expect(event.resourceID == "1" && event.gender == "male" && event.versionID == "1" && event.eventID == "a")
        #expect(event.source == nil)
        #expect(event.resource == ByteSlice(data))
        #expect(decode(#"{"type":"PatientCreated","data":null,"data":\#(patient())}"#).broken == "resource_missing@data")
    }

    @Test("where what comes from outside is checked, no object has two members of one name")
    func uniqueNames() {
        let decoder = EventDecoder()
        func rule(_ text: String) -> InvalidEvent.Rule? {
            do {
                try decoder.checkUniqueNames(ByteSlice(text))
                return nil
            } catch {
                return error.rule
            }
        }
        let many = (0..<100).map { #""m\#($0)":0"# }.joined(separator: ",")
        let deep = String(repeating: "[", count: 500) + #"{"a":1,"a":2}"# + String(repeating: "]", count: 500)
        for text in [
            "{}", #"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, "{\(many)}", #"{"":1,"a":"a"}"#, #"{"a\u0000":1,"a":2}"#,
        ] {
            #expect(rule(text) == nil, "\(text)")
        }
        for text in [
            #"{"a":1,"a":1}"#, #"{"b":[[{"c":{"a":1,"x":0,"a":2}}]]}"#, #"{"id":1,"i\u0064":2}"#, "{\(many),\"m7\":1}",
            #"{"x":\#(deep)}"#, #"{"":1,"":2}"#,
        ] {
            #expect(rule(text) == .repeatedMember, "\(text)")
        }
        #expect(rule("") == .empty && rule("{") == .json && rule("[]") == .notAnObject && rule("{\"a\":1}x") == .json)
    }

    @Test("the sender's own metadata is left out where it is of no use, and never refused")
    func metadata() throws {
        let long = String(repeating: "x", count: 257)
        let limit = String(repeating: "y", count: 256)
        let event = try decode(
            envelope(
                data: patient(),
                metadata: #"{"eventId":"\#(long)","source":5,"correlationId":"\#(limit)","timestamp":null}"#
            )
        ).get()
        #expect(event.eventID == nil && event.source == nil && event.timestamp == nil)
        #expect(event.correlationID == limit)
        #expect(decode(envelope(data: patient(), metadata: "null")).broken == nil)
        #expect(decode(envelope(data: patient(), metadata: "[]")).broken == "invalid_element_type@metadata")
        #expect(decode(#"{"type":"PatientCreated","data":\#(patient())}"#).broken == nil)
    }

    @Test("the texts of an event outlive its decoder and the next event")
    func ownership() throws {
        var decoder: EventDecoder? = EventDecoder()
        let first = try #require(try decoder?.decode(value: ByteSlice(fullEnvelope), key: nil, topicAction: nil))
        _ = try decoder?.decode(value: ByteSlice(envelope(data: patient())), key: nil, topicAction: nil)
        decoder = nil
        #expect(first.resourceID == "a-1.B" && first.birthDate == "1984-02-29" && first.eventID == "e-1")
    }
}

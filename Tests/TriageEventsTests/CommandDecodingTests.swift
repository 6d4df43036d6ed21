import Testing

@testable import TriageEvents

@Suite("Event decoder: commands")
struct CommandDecodingTests {
    private func command(
        _ type: String = "CreatePatient", data: String = #"{"resourceType":"Patient"}"#,
        metadata: String = #"{"requestId":"r-1","timestamp":"2026-01-01T00:00:00Z","source":"portal","correlationId":"other"}"#
    ) -> String {
        #"{"type":"\#(type)","data":\#(data),"metadata":\#(metadata)}"#
    }

    private func decode(
        _ value: String?, key: String? = nil, on topic: String = "fhir.commands", roles: TopicRoles = TopicRoles()
    ) -> Result<PatientEvent, InvalidEvent> {
        let record = Record(
            topic: topic, partition: 0, offset: 0, timestamp: nil, key: key.map { ByteSlice($0) },
            value: value.map { ByteSlice($0) })
        return Result { () throws(InvalidEvent) in try EventDecoder(roles: roles).decode(record) }
    }

    @Test(
        "each type on the commands' topic, with the request id as event id and correlation id", arguments: ChangeAction.allCases)
    func types(action: ChangeAction) throws {
        let type = PatientEvent.commandType(action)
        let data = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"3"}}"#
        for topic in ["fhir.commands", "fhir.commands.retry", "fhir.commands.dlq"] {
            let event = try decode(command(type, data: data), on: topic).get()
            #expect(event.form == .command && event.action == action && event.type == type)
            #expect(event.eventID == "r-1" && event.correlationID == "r-1")
            #expect(event.resourceID == "p1" && event.versionID == "3" && event.resource == ByteSlice(data))
            #expect(event.source == "portal" && event.timestamp == "2026-01-01T00:00:00Z")
        }
        let named = TopicRoles(commands: ["clinic.orders"])
        #expect(try decode(command(type, data: data), on: "clinic.orders.retry", roles: named).get().form == .command)
        #expect(decode(command(type, data: data), on: "fhir.commands", roles: named).broken == "unknown_action@type")
    }

    @Test("a command elsewhere and an event on the commands' topic are refused")
    func apart() {
        for topic in ["fhir.Patient.created", "fhir.Patient", "fhir.commands.x"] {
            #expect(decode(command(), on: topic).broken == "unknown_action@type")
        }
        #expect(decode(command("PatientCreated")).broken == "unknown_action@type")
        #expect(decode(#"{"resourceType":"Patient"}"#).broken == "unknown_action@type")
        #expect(decode(command("CreateObservation")).broken == "unknown_action@type")
        #expect(decode(nil, key: "p1").broken == "null_value@")
        #expect(decode("{").broken == "invalid_json@")
    }

    @Test("a command without a usable request id has a rule of its own")
    func requestIDs() throws {
        for metadata in ["{}", "null", #"{"requestId":""}"#, #"{"requestId":7}"#, #"{"requestId":null}"#] {
            #expect(decode(command(metadata: metadata)).broken == "request_id_missing@metadata.requestId", "\(metadata)")
        }
        for id in ["a b", #"a\r\nb"#, "ü", String(repeating: "x", count: 129)] {
            #expect(decode(command(metadata: #"{"requestId":"\#(id)"}"#)).broken == "invalid_request_id@metadata.requestId")
        }
        let escaped = try decode(command(metadata: #"{"requestId":"a\u002db"}"#)).get()
        #expect(escaped.eventID == "a-b" && escaped.correlationID == "a-b" && escaped.timestamp == nil)
        let long = String(repeating: "x", count: 128)
        #expect(try decode(command(metadata: #"{"requestId":"\#(long)"}"#)).get().eventID == long)
    }

    @Test("update and delete need the id in their data; the key doesn't stand for it")
    func ids() throws {
        #expect(try decode(command()).get().resourceID == nil)
        for type in ["UpdatePatient", "DeletePatient"] {
            #expect(decode(command(type), key: "p1").broken == "id_missing@data.id")
            #expect(decode(command(type, data: "null"), key: "p1").broken == "resource_missing@data")
            #expect(decode(command(type, data: #"{"id":"p1"}"#)).broken == "resource_type_missing@data.resourceType")
        }
        #expect(
            decode(command(data: #"{"resourceType":"Patient","gender":"x"}"#)).broken == "invalid_gender@Patient.gender")
        #expect(decode(command(data: #"{"resourceType":"Pet"}"#)).broken == "resource_type_foreign@data.resourceType")
    }
}

import Testing

@testable import TriageEvents

/// Decodes a record on a topic of change data, or of events.
func decode(
    _ value: String?, key: String? = nil, on topic: String, headers: Headers = Headers(),
    roles: TopicRoles = TopicRoles(changeData: ["db.public.patient", "outbox.event.Patient"])
) -> Result<PatientEvent, InvalidEvent> {
    let record = Record(
        topic: topic, partition: 0, offset: 0, timestamp: nil, key: key.map { ByteSlice($0) }, value: value.map { ByteSlice($0) },
        headers: headers)
    return Result { () throws(InvalidEvent) in try EventDecoder(roles: roles).decode(record) }
}

@Suite("Event decoder: change data")
struct ChangeRecordTests {
    let table = "db.public.patient"
    static let source = #"""
        {"connector":"postgresql","db":"d","schema":"public","table":"patient","txId":555,"lsn":24023128,"ts_ms":1700000000000,"snapshot":false}
        """#

    private func change(_ op: String, before: String = "null", after: String = "null", source: String = source) -> String {
        #"{"before":\#(before),"after":\#(after),"op":"\#(op)","ts_ms":1700000000001,"source":\#(source)}"#
    }

    private func quoted(_ json: String) -> String { JSONText(json).quoted }

    @Test("c, u and r with a row that is the resource, bare and under schema and payload; r is an update")
    func operations() throws {
        let patient = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"4"},"gender":"female"}"#
        for (op, action) in [("c", ChangeAction.created), ("u", .updated), ("r", .updated)] {
            let bare = change(op, after: patient)
            for value in [bare, #"{"schema":{"type":"struct"},"payload":\#(bare)}"#, change(op, after: quoted(patient))] {
                for topic in [table, "fhir.Patient", "fhir.Patient.created"] {
                    let event = try decode(value, on: topic).get()
                    #expect(event.action == action && event.form == .changeData)
                    #expect(event.resource == ByteSlice(patient) && event.value == ByteSlice(value))
                    #expect(event.resourceID == "p1" && event.versionNumber == 4 && event.gender == "female")
                    #expect(event.timestamp == "2023-11-14T22:13:20.000Z")
                    #expect(event.eventID == "postgresql/d/public/patient/24023128/555")
                }
            }
        }
        #expect(try decode(change("c", after: #"{"resourceType":"Patient"}"#), on: table).get().resourceID == nil)
        #expect(decode(change("u", after: #"{"resourceType":"Patient"}"#), on: table).broken == "id_missing@Patient.id")
        #expect(
            try decode(change("u", after: #"{"resourceType":"Patient"}"#), key: #"{"id":"k"}"#, on: table).get().resourceID == "k"
        )
    }

    @Test("Aidbox's row: jsonb as a string or as an object; what its columns say is filled in where it is missing")
    func aidbox() throws {
        let row = { (resource: String) in
            #"{"id":"p1","txid":77,"ts":"2026-01-01T00:00:00.123456Z","resource_type":"Patient","status":"updated","resource":\#(resource)}"#
        }
        let whole =
            #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"77","lastUpdated":"2026-01-01T00:00:00.123456Z"},"gender":"male"}"#
        for resource in [#"{"gender":"male"}"#, quoted(#"{"gender":"male"}"#)] {
            let event = try decode(change("u", after: row(resource)), on: table).get()
            #expect(event.resource?.utf8Text == whole)
            #expect(event.resourceID == "p1" && event.versionID == "77" && event.gender == "male")
            #expect(event.lastUpdated == "2026-01-01T00:00:00.123456Z")
        }
        // What the resource says goes before the columns, and complete ones keep their bytes.
        let complete = #" {"resourceType":"Patient", "id":"x","meta":{"versionId":"1","lastUpdated":"2020-01-01T00:00:00Z"}} "#
        #expect(try decode(change("u", after: row(complete)), on: table).get().resource?.utf8Text == complete.trimmed)
        let partial = #"{"id":null,"meta":{"tag":[{"code":"{\"a\""}],"versionId":null}}"#
        #expect(
            try decode(change("u", after: row(partial)), on: table).get().resource?.utf8Text == #"""
                {"resourceType":"Patient","id":"p1","meta":{"versionId":"77","lastUpdated":"2026-01-01T00:00:00.123456Z","tag":[{"code":"{\"a\""}]}}
                """#)
        // Time columns without zone are numbers: milliseconds or microseconds.
        for ts in ["1767225600000", "1767225600000000"] {
            let numbered = row("{}").replacing(#""2026-01-01T00:00:00.123456Z""#, with: ts)
            #expect(try decode(change("c", after: numbered), on: table).get().lastUpdated == "2026-01-01T00:00:00.000Z")
        }
        // A row that is marked as deleted.
        let marked = row("{}").replacing("updated", with: "deleted")
        #expect(try decode(change("u", after: marked), on: table).get().action == .deleted)
    }

    @Test("a row with its resource in another column, JSON or text")
    func otherColumns() throws {
        let patient = #"{"resourceType":"Patient","id":"p9"}"#
        for column in [patient, quoted(patient)] {
            let row = #"{"res_id":1,"note":"{not it}","body":\#(column),"x":{"resourceType":1}}"#
            #expect(try decode(change("c", after: row), on: table).get().resource == ByteSlice(patient))
        }
    }

    @Test("deletes: the whole row before, its key alone, the record's key; a key change is a delete and a create")
    func deletes() throws {
        let full = try decode(change("d", before: #"{"resourceType":"Patient","id":"p1","gender":"other"}"#), on: table).get()
        #expect(full.action == .deleted && full.resourceID == "p1" && full.gender == "other" && full.resource != nil)
        for (before, key) in [
            (#"{"id":"p1"}"#, nil), ("null", #"{"id":"p1"}"#), ("null", #"{"schema":{},"payload":{"id":"p1"}}"#), ("null", "p1"),
            ("null", #""p1""#), (#"{"id":"p1","resource":null,"resource_type":null}"#, nil),
        ] {
            let event = try decode(change("d", before: before), key: key, on: table).get()
            #expect(event.action == .deleted && event.resourceID == "p1" && event.resource == nil)
        }
        #expect(try decode(change("d", before: #"{"id":42}"#), on: table).get().resourceID == "42")
        #expect(decode(change("d"), on: table).broken == "id_missing@Patient.id")
        #expect(decode(change("d", before: #"{"id":"a/b"}"#), on: table).broken == "invalid_id@key")
        let moved = Headers([Header("__debezium.newkey", text: #"{"id":"new"}"#)])
        #expect(try decode(change("d", before: #"{"id":"old"}"#), on: table, headers: moved).get().resourceID == "old")
        #expect(decode(nil, key: #"{"id":"old"}"#, on: table).broken == "nothing_to_handle@value")
        let made = Headers([Header("__debezium.oldkey", text: #"{"id":"old"}"#)])
        let created = try decode(
            change("c", after: #"{"resourceType":"Patient","id":"new"}"#), key: #"{"id":"new"}"#, on: table, headers: made
        ).get()
        #expect(created.action == .created && created.resourceID == "new")
    }

    @Test("nothing to handle: truncation, messages, tombstones, other resource types; on other topics a tombstone is a delete")
    func nothing() throws {
        #expect(decode(change("t"), on: table).broken == "nothing_to_handle@op")
        #expect(decode(change("m"), on: table).broken == "nothing_to_handle@op")
        for topic in [table, table + ".retry"] { #expect(decode(nil, key: "p1", on: topic).broken == "nothing_to_handle@value") }
        for topic in [table, "fhir.Patient"] {
            #expect(
                decode(change("c", after: #"{"resourceType":"Observation","id":"o"}"#), on: topic).broken
                    == "nothing_to_handle@resourceType")
            #expect(
                decode(change("d", before: #"{"id":"o","resource_type":"Observation"}"#), on: topic).broken
                    == "nothing_to_handle@resourceType")
        }
        #expect(decode(#"{"resourceType":"Observation","id":"o"}"#, on: table).broken == "nothing_to_handle@resourceType")
        #expect(try decode(nil, key: "p1", on: "fhir.Patient").get().action == .deleted)
        let error = InvalidEvent(.nothing, at: "op")
        #expect(error.isNothing && !InvalidEvent(.json, at: "").isNothing)
    }

    @Test("what is no FHIR resource has a rule of its own, and so have a left-out column, an unknown op and a foreign table")
    func broken() {
        #expect(decode(change("c", after: #"{"id":1,"name":"x"}"#), on: table).broken == "row_without_resource@after")
        #expect(decode(change("c", after: "7"), on: table).broken == "row_without_resource@after")
        #expect(decode(change("c"), on: table).broken == "resource_missing@after")
        #expect(decode(change("c", after: #""{""#), on: table).broken == "invalid_json@")
        #expect(
            decode(change("u", after: #"{"id":"p","resource":"__debezium_unavailable_value"}"#), on: table).broken
                == "row_without_resource@after")
        #expect(decode(change("x", after: "{}"), on: table).broken == "unknown_action@op")
        #expect(decode(#"{"op":"c"}"#, on: table).broken == "unknown_form@")
        let elsewhere = ChangeRecordTests.source.replacing("\"patient\"", with: "\"resources\"")
        #expect(
            decode(change("d", before: #"{"id":"p"}"#, source: elsewhere), on: table).broken == "resource_type_missing@before")
        #expect(
            decode(change("c", after: #"{"resourceType":"Patient","gender":"x"}"#), on: table).broken
                == "invalid_gender@Patient.gender")
        #expect(decode("{", on: table).broken == "invalid_json@" && decode("", on: table).broken == "empty_value@")
    }

    @Test("an outbox: payload as it is or as an escaped string, id and type from the headers")
    func outbox() throws {
        let topic = "outbox.event.Patient"
        let patient = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"2"}}"#
        let id = "4f1c7d2e-0000-4000-8000-000000000001"
        for value in [patient, quoted(patient)] {
            for (type, action) in [
                (nil, ChangeAction.updated), ("PatientCreated", .created), ("updated", .updated), ("x.Patient.Deleted", .deleted),
            ] {
                let headers = Headers([Header("id", text: id)] + (type.map { [Header("eventType", text: $0)] } ?? []))
                let event = try decode(value, key: "p1", on: topic, headers: headers).get()
                #expect(event.action == action && event.eventID == id && event.resource == ByteSlice(patient))
                #expect(event.value == ByteSlice(value))
            }
        }
        let first = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"1"}}"#
        #expect(try decode(first, key: "p1", on: topic).get().action == .created)
        let envelope = envelope("PatientUpdated", data: patient, metadata: #"{"eventId":"own","correlationId":"c"}"#)
        let event = try decode(quoted(envelope), on: topic, headers: Headers([Header("id", text: id)])).get()
        #expect(event.action == .updated && event.eventID == "own" && event.correlationID == "c")
        #expect(event.resource == ByteSlice(patient))
        #expect(decode(quoted(quoted(patient)), on: topic).broken == "not_an_object@")
        #expect(decode(quoted("{"), on: topic).broken == "invalid_json@")
    }

    @Test("notifications: one event anywhere, several only where records are expanded")
    func notifications() throws {
        let bundle = { (events: String, entries: String) in
            #"""
            {"resourceType":"Bundle","type":"history","timestamp":"2026-01-01T00:00:00Z","entry":[{"resource":{"resourceType":
            "AidboxSubscriptionStatus","status":"active","type":"event-notification","notificationEvent":[\#(events)]}},\#(entries)]}
            """#
        }
        let patient = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"7"}}"#
        let entry =
            #"{"fullUrl":"http://a/fhir/Patient/p1","request":{"method":"POST","url":"/fhir/Patient"},"resource":\#(patient)}"#
        let one = bundle(#"{"eventNumber":1,"focus":{"reference":"Patient/p1"}}"#, entry)
        for topic in [table, "fhir.Patient", "fhir.Patient.updated"] {
            for value in [one, #"{"topic":"http://example.org/patient","value":\#(one)}"#] {
                let event = try decode(value, on: topic).get()
                #expect(event.form == .notification && event.action == .created && event.resource == ByteSlice(patient))
                #expect(event.resourceID == "p1" && event.versionID == "7")
            }
        }
        let two = bundle(
            #"{"eventNumber":1,"focus":{"reference":"Patient/p1"}},{"eventNumber":2,"focus":{"reference":"Patient/p2"}}"#,
            entry + #",{"fullUrl":"http://a/fhir/Patient/p2","request":{"method":"DELETE","url":"/fhir/Patient/p2"}}"#)
        #expect(decode(two, on: "fhir.Patient").broken == "several_events@Bundle.entry")
        #expect(try decode(two, on: table).get().resourceID == "p1")
        let handshake = one.replacing("event-notification", with: "handshake")
        #expect(decode(handshake, on: "fhir.Patient").broken == "nothing_to_handle@Bundle")
        let idOnly = bundle(
            #"{"eventNumber":1,"focus":{"reference":"Patient/p1"}}"#,
            #"{"fullUrl":"http://a/fhir/Patient/p1","request":{"method":"PUT","url":"/fhir/Patient/p1"}}"#)
        #expect(decode(idOnly, on: table).broken == "resource_missing@Bundle.entry.resource")
        #expect(
            decode(#"{"resourceType":"Bundle","type":"transaction"}"#, on: "fhir.Patient").broken == "unknown_form@Bundle.type")
    }
}

extension String {
    fileprivate var trimmed: String { String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) }
}

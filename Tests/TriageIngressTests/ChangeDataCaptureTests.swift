import Testing
import TriageEvents

@testable import TriageIngress

@Suite("Events of change data")
struct ChangeDataCaptureTests {
    private func events(
        _ value: String?, key: String? = nil, offset: Int64 = 7, headers: Headers = Headers()
    ) throws -> [CapturedEvent] {
        let record = Record(
            topic: "db.public.patient", partition: 2, offset: offset,
            timestamp: Timestamp(nanoseconds: 1_700_000_000_000_000_000),
            key: key.map { ByteSlice($0) }, value: value.map { ByteSlice($0) }, headers: headers)
        let decoder = EventDecoder(roles: TopicRoles(changeData: ["db.public.patient"]))
        return try ChangeDataCapture.events(
            of: try decoder.decode(record), in: record, from: record.position, decoder: decoder)
    }

    private let patient = #"{"resourceType":"Patient","id":"p1"}"#

    private func change(_ op: String, _ lsn: Int = 9, id: String = "p1") -> String {
        let row = #"{"resourceType":"Patient","id":"\#(id)"}"#
        return #"""
            {"before":\#(op == "d" ? row : "null"),"after":\#(op == "d" ? "null" : row),"op":"\#(op)",
            "source":{"connector":"postgresql","db":"d","table":"patient","lsn":\#(lsn),"txId":1,"ts_ms":1600000000000}}
            """#
    }

    @Test("an event has an id by its place in the log: the same when it is sent again, another for another row, place or action")
    func ids() throws {
        let first = try events(change("u"))
        #expect(first.count == 1 && first[0].action == .updated && first[0].resource == ByteSlice(patient))
        #expect(first[0].resourceID == ByteSlice("p1") && first[0].timestamp == "2020-09-13T12:26:40.000Z")
        let id = try #require(first[0].eventID)
        #expect(id.utf8.count == 36 && id.dropFirst(14).first == "8" && first[0].correlationID == id)
        #expect(try events(change("u"), offset: 99)[0].eventID == id)
        for other in [change("u", 10), change("d"), change("u", id: "p2")] { #expect(try events(other)[0].eventID != id) }
    }

    @Test("without a place in the log the record's own place counts; an outbox's id is kept, and so is an event's own")
    func otherIDs() throws {
        let plain = #"{"op":"c","after":\#(patient)}"#
        let one = try events(plain)
        #expect(try events(plain)[0].eventID == one[0].eventID && events(plain, offset: 8)[0].eventID != one[0].eventID)
        #expect(one[0].timestamp == "2023-11-14T22:13:20.000Z")
        let outbox = Headers([Header("id", text: "out-1"), Header("eventType", text: "created")])
        for value in [patient, JSONText(patient).quoted] {
            let event = try events(value, headers: outbox)[0]
            #expect(event.eventID == "out-1" && event.action == .created && event.resource == ByteSlice(patient))
        }
        #expect(throws: InvalidEvent.self) {
            try events(#"{"op":"c","after":{"resourceType":"Patient","id":"p1","id":"p2"}}"#)
        }
        let envelope = #"{"type":"PatientUpdated","data":\#(patient),"metadata":{"eventId":"e","correlationId":"c"}}"#
        let own = try events(envelope, headers: outbox)[0]
        #expect(own.eventID == "e" && own.correlationID == "c")
    }

    @Test("a notification of several events becomes as many, or none if one is broken")
    func notifications() throws {
        let bundle = { (second: String) in
            #"""
            {"resourceType":"Bundle","type":"history","entry":[{"resource":{"resourceType":"SubscriptionStatus","type":"event-notification",
            "notificationEvent":[{"eventNumber":1,"focus":{"reference":"Patient/p1"}},{"eventNumber":2,"focus":{"reference":"Patient/p2"}}]}},
            {"fullUrl":"http://a/Patient/p1","request":{"method":"POST","url":"Patient"},"resource":\#(patient)},
            {"fullUrl":"http://a/Patient/p2",\#(second)}]}
            """#
        }
        let made = try events(bundle(#""request":{"method":"DELETE","url":"Patient/p2"}"#))
        #expect(made.map(\.action) == [.created, .deleted])
        #expect(made.map(\.resourceID) == [ByteSlice("p1"), ByteSlice("p2")])
        #expect(made[0].resource == ByteSlice(patient) && made[1].resource == nil)
        #expect(Set(made.map(\.eventID)).count == 2)
        #expect(throws: InvalidEvent(.resourceMissing, at: "Bundle.entry.resource")) {
            try events(bundle(#""request":{"method":"PUT","url":"Patient/p2"}"#))
        }
    }
}

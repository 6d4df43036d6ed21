import Testing

@testable import TriageEvents

@Suite("CloudEvents")
struct CloudEventTests {
    let patient = #"{"resourceType":"Patient","id":"p1","gender":"male"}"#

    private func structured(_ members: String) -> String {
        #"{"specversion":"1.0","id":"e-1","source":"/clinic","type":"PatientUpdated","time":"2026-01-01T00:00:00Z"\#(members)}"#
    }

    private func binary(type: String = "org.example.Patient.updated", _ more: [Header] = []) -> Headers {
        Headers(
            [
                Header("ce_specversion", text: "1.0"), Header("ce_id", text: "e-1"), Header("ce_source", text: "/clinic"),
                Header("ce_type", text: type), Header("ce_time", text: "2026-01-01T00:00:00Z"),
                Header("ce_correlationid", text: "c-1"), Header("content-type", text: "application/fhir+json"),
            ] + more)
    }

    private func expectClinic(_ event: PatientEvent, _ value: String) {
        #expect(event.form == .cloudEvent && event.action == .updated && event.value == ByteSlice(value))
        #expect(event.eventID == "e-1" && event.source == "/clinic" && event.timestamp == "2026-01-01T00:00:00Z")
        #expect(event.resourceID == "p1" && event.gender == "male" && event.resource == ByteSlice(patient))
    }

    @Test("structured mode on Kafka: data as JSON, as text, in Base64; the type goes before the topic")
    func structuredMode() throws {
        let encoded = "eyJyZXNvdXJjZVR5cGUiOiJQYXRpZW50IiwiaWQiOiJwMSIsImdlbmRlciI6Im1hbGUifQ=="
        for data in [#""data":\#(patient)"#, #""data":\#(JSONText(patient).quoted)"#, #""data_base64":"\#(encoded)""#] {
            for topic in ["fhir.Patient", "fhir.Patient.created", "db.public.patient"] {
                let value = structured(",\(data)")
                expectClinic(try decode(value, on: topic).get(), value)
            }
        }
        // An unknown type leaves it to the topic.
        let foreign = structured(#","data":\#(patient)"#).replacing("PatientUpdated", with: "com.example.thing")
        #expect(try decode(foreign, on: "fhir.Patient.created").get().action == .created)
        #expect(decode(foreign, on: "fhir.Patient").broken == "unknown_action@")
    }

    @Test("binary mode on Kafka")
    func binaryMode() throws {
        for topic in ["fhir.Patient", "fhir.Patient.created", "db.public.patient"] {
            let event = try decode(patient, on: topic, headers: binary()).get()
            expectClinic(event, patient)
            #expect(event.correlationID == "c-1")
        }
        #expect(try decode(patient, on: "fhir.created", headers: binary(type: "x")).get().action == .created)
        // An envelope says more of itself than its carrier.
        let own = envelope("PatientCreated", data: patient, metadata: #"{"eventId":"own"}"#)
        #expect(try decode(own, on: "fhir.Patient", headers: binary()).get().eventID == "own")
    }

    @Test("a delete without data names its Patient by subject or key")
    func deletes() throws {
        let value = structured("").replacing("Updated", with: "Deleted")
        let named = value.replacing("}", with: #","subject":"Patient/p7"}"#)
        #expect(try decode(named, key: "other", on: "fhir.Patient").get().resourceID == "p7")
        let event = try decode(value, key: "p8", on: "fhir.Patient").get()
        #expect(event.action == .deleted && event.resourceID == "p8" && event.resource == nil && event.eventID == "e-1")
        #expect(decode(value, on: "fhir.Patient").broken == "id_missing@Patient.id")
        #expect(decode(structured(""), key: "p8", on: "fhir.Patient").broken == "resource_missing@data")
    }

    @Test(
        "what a CloudEvent must have",
        arguments: [
            (#""specversion":"1.0""#, #""specversion":"0.3""#, "invalid_cloud_event@specversion"),
            (#""id":"e-1""#, #""id":"""#, "invalid_cloud_event@id"),
            (#""source":"/clinic","#, "", "invalid_cloud_event@source"),
            ("2026-01-01T00:00:00Z", "yesterday", "invalid_timestamp@time"),
            (#""data":{"#, #""data_base64":"%%%%","x":{"#, "invalid_cloud_event@data_base64"),
            (#""gender":"male""#, #""gender":"x""#, "invalid_gender@Patient.gender"),
            (#""resourceType":"Patient""#, #""resourceType":"Pet""#, "resource_type_foreign@resourceType"),
        ])
    func broken(what: String, by: String, rule: String) {
        let value = structured(#","data":\#(patient)"#).replacing(what, with: by)
        #expect(decode(value, on: "fhir.Patient").broken == rule)
    }

    @Test("a CloudEvent in a CloudEvent is refused, however deep")
    func nested() {
        var value = patient
        for _ in 0..<50 { value = structured(#","data":\#(value)"#) }
        #expect(decode(value, on: "fhir.Patient.created").broken != nil)
    }

    @Test("what is written is read again")
    func written() throws {
        let event = CloudEvent(
            id: "a\"b", source: "urn:x", type: "PatientCreated", subject: "Patient/p1", time: "2026-01-01T00:00:00.000Z",
            correlationID: "c", data: ByteSlice(patient))
        let text = event.structured
        try EventDecoder().checkObject(text)
        let value = try #require(JSONValue(text))
        var read = try CloudEvent(structured: value)
        #expect(read.dataContentType == "application/fhir+json")
        read.dataContentType = nil
        #expect(read == event)
        #expect(event.attributes.map(\.name) == ["specversion", "id", "type", "source", "time", "subject", "correlationid"])
        #expect(CloudEvent.isStructured("Application/CloudEvents+JSON ; charset=utf-8"))
        #expect(CloudEvent.isBatch(CloudEvent.batchType) && !CloudEvent.isStructured(CloudEvent.batchType))
    }

    @Test("Base64 as RFC 4648 has it")
    func base64() {
        for (text, bytes) in [
            ("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] { #expect(Base64.decode(ByteSlice(text)) == ByteSlice(bytes)) }
        for text in ["Z", "Zg=", "Z===", "====", "Zg=a", "Zg==Zg==", "Z g=", "Zm9\n"] {
            #expect(Base64.decode(ByteSlice(text)) == nil, "\(text)")
        }
    }
}

import Testing

@testable import TriageEvents

@Suite("Event decoder: the rules")
struct EventRuleTests {
    @Test(
        "form, action and type",
        arguments: [
            ("", "empty_value@"), (" \n", "empty_value@"), ("[]", "not_an_object@"), ("\"x\"", "not_an_object@"),
            ("null", "not_an_object@"), ("{}", "unknown_form@"), (#"{"foo":1}"#, "unknown_form@"),
            (#"{"before":null,"after":{},"op":"c"}"#, "row_without_resource@after"),
            (#"{"type":"PatientMerged","data":{}}"#, "unknown_action@type"),
            (#"{"type":"Created","data":{}}"#, "unknown_action@type"),
            (#"{"type":"patientCreated","data":{}}"#, "unknown_action@type"),
            (#"{"type":"Patient Created","data":{}}"#, "unknown_action@type"),
            (#"{"type":"","data":{}}"#, "unknown_action@type"), (#"{"type":7,"data":{}}"#, "unknown_action@type"),
            (#"{"type":null,"data":{}}"#, "unknown_action@type"),
            (#"{"type":"\#(String(repeating: "A", count: 300))Created"}"#, "unknown_action@type"),
            (#"{"type":"ObservationCreated","data":{}}"#, "resource_type_foreign@type"),
            (#"{"type":"PatientXDeleted"}"#, "resource_type_foreign@type"),
            (#"{"resourceType":"Patient","action":"merged"}"#, "unknown_action@action"),
            (#"{"resourceType":"Patient","action":1}"#, "unknown_action@action"),
            (#"{"resourceType":"Patient","action":"created"}"#, "resource_missing@resource"),
            (#"{"resourceType":"Patient","action":"updated","resource":null}"#, "resource_missing@resource"),
            (#"{"resourceType":"Patient","action":"created","resource":[]}"#, "invalid_element_type@resource"),
            (#"{"resourceType":"Group","action":"created","resource":{}}"#, "resource_type_foreign@resourceType"),
            (#"{"resourceType":7,"action":"created","resource":{}}"#, "resource_type_missing@resourceType"),
            (#"{"resourceType":"Patient","action":"created","resource":{}}"#, "resource_type_missing@resource.resourceType"),
            (
                #"{"resourceType":"Patient","action":"created","resource":{"resourceType":"Group"}}"#,
                "resource_type_foreign@resource.resourceType"
            ),
            (
                #"{"resourceType":"Patient","action":"deleted","resource":{"id":"1"}}"#,
                "resource_type_missing@resource.resourceType"
            ),
            (#"{"type":"PatientCreated"}"#, "resource_missing@data"),
            (#"{"type":"PatientUpdated","data":null}"#, "resource_missing@data"),
            (#"{"type":"PatientCreated","data":"{}"}"#, "invalid_element_type@data"),
            (#"{"type":"PatientCreated","data":{}}"#, "resource_type_missing@data.resourceType"),
            (#"{"type":"PatientCreated","data":{"resourceType":null}}"#, "resource_type_missing@data.resourceType"),
            // A foreign resource is called foreign, whatever its elements are.
            (
                #"{"type":"PatientCreated","data":{"name":"x","id":"!","resourceType":"Organization"}}"#,
                "resource_type_foreign@data.resourceType"
            ),
        ]
    )
    func forms(text: String, broken: String) {
        #expect(decode(text).broken == broken)
    }

    @Test("bare resources of another type")
    func bare() {
        #expect(decode(#"{"resourceType":"Observation"}"#, topic: .created).broken == "resource_type_foreign@resourceType")
        #expect(decode(#"{"resourceType":"patient"}"#, topic: .created).broken == "resource_type_foreign@resourceType")
        #expect(decode(#"{"resourceType":["Patient"]}"#, topic: .created).broken == "resource_type_missing@resourceType")
        #expect(
            decode(#"{"resourceType":"\#(String(repeating: "P", count: 257))"}"#, topic: .created).broken
                == "resource_type_foreign@resourceType"
        )
    }

    static let elements: [(name: String, good: [String])] =
        [
            "name", "identifier", "telecom", "address", "contact", "communication", "generalPractitioner", "link", "photo",
            "contained", "extension", "modifierExtension",
        ].map { ($0, ["[]", "[{}]", #"[{"a":1},{}]"#]) }
        + ["maritalStatus", "managingOrganization", "text", "meta"].map { ($0, ["{}", #"{"x":[1]}"#]) }
        + ["active", "deceasedBoolean", "multipleBirthBoolean"].map { ($0, ["true", "false"]) }
        + [
            ("language", [#""de""#]), ("implicitRules", [#""http://x""#]), ("gender", [#""male""#]), ("birthDate", [#""1999""#]),
            ("deceasedDateTime", [#""1999""#]), ("multipleBirthInteger", ["1", "-1", "0"]),
        ]

    @Test("every element has the JSON type that FHIR gives it, in every form; null is none")
    func elementTypes() {
        let all = [
            "null", "true", "1", "1.5", "18446744073709551615", #""text""#, "[]", "[1]", "[null]", "[[]]", "[{},\"x\"]", "{}",
            "[{}]",
        ]
        for (name, good) in EventRuleTests.elements {
            for value in good {
                #expect(decode(patient(#""\#(name)":\#(value)"#), topic: .created).broken == nil, "\(name) \(value)")
            }
            let kind = good[0].first
            for value in all where !good.contains(value) {
                // Texts, numbers and the like of the right type are judged by their grammar, in another test.
                if kind == "\"" && value.first == "\"" || kind == "t" && value == "true"
                    || kind == "{"
                        && value == "{}"
                {
                    continue
                }
                let member = #""\#(name)":\#(value)"#
                let broken = "invalid_element_type@Patient.\(name)"
                #expect(decode(patient(member), topic: .created).broken == broken, "\(name) \(value)")
                #expect(decode(envelope(data: patient(member))).broken == broken)
                let flat = #"{"resourceType":"Patient","action":"created","resource":\#(patient(member))}"#
                #expect(decode(flat).broken == broken)
            }
        }
    }

    @Test(
        "id and meta",
        arguments: [
            (#""id":null"#, "invalid_element_type@Patient.id"), (#""id":7"#, "invalid_element_type@Patient.id"),
            (#""id":"""#, "invalid_id@Patient.id"), (#""id":"a b""#, "invalid_id@Patient.id"),
            (#""id":"a_b""#, "invalid_id@Patient.id"), (#""id":"é""#, "invalid_id@Patient.id"),
            (#""id":"a\u0000""#, "invalid_id@Patient.id"),
            (#""id":"\#(String(repeating: "a", count: 65))""#, "invalid_id@Patient.id"),
            (#""id":"\#(String(repeating: "a", count: 300))""#, "invalid_id@Patient.id"),
            (#""meta":{"versionId":1}"#, "invalid_element_type@Patient.meta.versionId"),
            (#""meta":{"versionId":null}"#, "invalid_element_type@Patient.meta.versionId"),
            (#""meta":{"versionId":"W/1"}"#, "invalid_id@Patient.meta.versionId"),
            (#""meta":{"lastUpdated":0}"#, "invalid_element_type@Patient.meta.lastUpdated"),
            (#""meta":{"lastUpdated":"2024-01-01"}"#, "invalid_timestamp@Patient.meta.lastUpdated"),
            (#""meta":{"lastUpdated":"2024-01-01T00:00:00"}"#, "invalid_timestamp@Patient.meta.lastUpdated"),
            (#""gender":"Male""#, "invalid_gender@Patient.gender"), (#""gender":"""#, "invalid_gender@Patient.gender"),
            (#""gender":"\#(String(repeating: "m", count: 257))""#, "invalid_gender@Patient.gender"),
            (#""birthDate":"1999-02-29""#, "invalid_birth_date@Patient.birthDate"),
            (#""birthDate":"1999-01-01T00:00:00Z""#, "invalid_birth_date@Patient.birthDate"),
            (#""birthDate":"""#, "invalid_birth_date@Patient.birthDate"),
            (#""deceasedDateTime":"yesterday""#, "invalid_timestamp@Patient.deceasedDateTime"),
        ]
    )
    func grammars(member: String, broken: String) {
        let text = #"{"resourceType":"Patient",\#(member)}"#
        #expect(decode(text, topic: .created).broken == broken)
        #expect(decode(envelope(data: text)).broken == broken)
    }

    @Test("the longest id there is, and every character of one")
    func longestID() {
        let id = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-."
        #expect(id.utf8.count == 64)
        #expect(decode(#"{"resourceType":"Patient","id":"\#(id)"}"#, topic: .updated).event?.resourceID == id)
    }

    @Test(
        "timestamps of events are FHIR dateTimes",
        arguments: [
            (#""2024""#, true), (#""2024-01""#, true), (#""2024-01-31""#, true), (#""2024-01-31T10:00:00.1-03:30""#, true),
            (#""2024-01-31T10:00:00""#, false), (#""2024-01-31T10:00Z""#, false), (#""""#, false), ("1706695200000", false),
            (#""1706695200000""#, false), ("{}", false), (#""\#(String(repeating: "2", count: 300))""#, false), ("null", true),
        ]
    )
    func timestamps(value: String, isValid: Bool) {
        let broken = isValid ? nil : "invalid_timestamp@timestamp"
        #expect(decode(envelope(data: patient(), metadata: #"{"timestamp":\#(value)}"#)).broken == broken)
        let flat = #"{"resourceType":"Patient","action":"created","timestamp":\#(value),"resource":\#(patient())}"#
        #expect(decode(flat).broken == broken)
    }

    @Test("extensions of primitives and unknown elements are kept, whatever they are")
    func unknown() {
        let members = #""_gender":{"extension":[]},"_birthDate":null,"_active":7,"nested":[[[1]]],"idx":null,"":0,"GENDER":1"#
        #expect(decode(patient(members), topic: .created).broken == nil)
    }

    @Test("what is refused tells the rule and the element, never the value")
    func noPatientData() {
        let secrets = ["Zaphod", "zz9"]
        for text in [
            #"{"resourceType":"Patient","id":"zz9!","name":"Zaphod"}"#, #"{"resourceType":"Patient","id":"zz9!"}"#,
            #"{"resourceType":"Zaphod"}"#, #"{"type":"ZaphodCreated"}"#, #"{"Zaphod":"zz9"}"#,
        ] {
            let broken = decode(text, key: "zz9", topic: .created).broken ?? ""
            #expect(!broken.isEmpty)
            for secret in secrets { #expect(!broken.contains(secret)) }
        }
    }
}

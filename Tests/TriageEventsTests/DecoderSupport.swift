import Testing

@testable import TriageEvents

/// What a decoder made of an event.
func decode(
    _ json: String?, key: String? = nil, topic action: ChangeAction? = nil
) -> Result<PatientEvent, InvalidEvent> {
    decode(bytes: json.map { Array($0.utf8) }, key: key, topic: action)
}

func decode(
    bytes: [UInt8]?, key: String? = nil, topic action: ChangeAction? = nil
) -> Result<PatientEvent, InvalidEvent> {
    let decoder = EventDecoder()
    do throws(InvalidEvent) {
        return .success(
            try decoder.decode(value: bytes.map { ByteSlice($0) }, key: key.map { ByteSlice($0) }, topicAction: action)
        )
    } catch {
        return .failure(error)
    }
}

extension Result where Success == PatientEvent, Failure == InvalidEvent {
    /// The rule and path that were broken, as `rule@path`; nil for a valid event.
    var broken: String? {
        guard case .failure(let error) = self else { return nil }
        return "\(error.rule.rawValue)@\(error.path)"
    }

    var event: PatientEvent? { try? get() }
}

/// An envelope around a Patient with these further members.
func envelope(_ type: String = "PatientCreated", data: String, metadata: String = "{}") -> String {
    #"{"type":"\#(type)","data":\#(data),"metadata":\#(metadata)}"#
}

/// A Patient with id `p1` and these further members.
func patient(_ members: String = "") -> String {
    #"{"resourceType":"Patient","id":"p1"\#(members.isEmpty ? "" : ",")\#(members)}"#
}

/// SplitMix64 (Steele, Lea, Flood 2014): a test that fails can be run again with its seed.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// An event in the envelope's form with everything in it.
let fullEnvelope = #"""
    { "type" : "PatientUpdated",
      "data": {"resourceType":"Patient","id":"a-1.B","meta":{"versionId":"7","lastUpdated":"2024-02-29T23:59:60.123+14:00"},
        "implicitRules":"http://example.org/rules","language":"de","text":{"status":"generated"},"contained":[],
        "extension":[{"url":"u","valueDecimal":1.5e3}],"modifierExtension":[],
        "identifier":[{"value":"1"}],"active":true,"name":[{"family":"Sørensen","given":["A","B"]}],
        "telecom":[{"system":"phone"}],"gender":"female","_gender":{"extension":[{"url":"u"}]},"birthDate":"1984-02-29",
        "deceasedDateTime":"2020-01","address":[{"line":["1"]}],"maritalStatus":{"text":"M"},"multipleBirthInteger":2,
        "photo":[{}],"contact":[{}],"communication":[{}],"generalPractitioner":[{}],"managingOrganization":{},
        "link":[{"type":"seealso"}],"unknown":null},
      "metadata" : {"eventId":"e-1","timestamp":"2024-03-01T00:00:00Z","source":"fhir-server","correlationId":"c-1","more":[1]}
    }
    """#

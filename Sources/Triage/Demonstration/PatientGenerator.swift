internal import TriageEvents

/// What shall happen to a generated event.
enum FailurePlan: Sendable, Hashable {
    /// The handler accepts it.
    case none
    /// The handler fails until this attempt, which succeeds; nil: it always fails.
    case transient(healsOnAttempt: Int?)
    /// The handler refuses it for a rule of the business.
    case rejected
    /// Its bytes are no valid event.
    case invalid
}

/// A generated event.
struct GeneratedEvent: Sendable {
    let action: ChangeAction
    let key: String
    let eventID: String
    let value: [UInt8]
    let plan: FailurePlan
}

/// Makes plausible Patient events out of a seed: created, then updated several times, some deleted. All synthetic.
struct PatientGenerator {
    private struct Patient {
        let id: String
        var version: Int
        let family: String
        let given: String
        let birthDate: String
        let gender: String
    }

    private var random: SplitMix64
    private let transient: Double
    private let persistent: Double
    private var patients: [Patient] = []
    private var number = 0

    /// - Parameters:
    ///   - transient: share of events whose handler fails at first, 0 to 1.
    ///   - persistent: share of events that are invalid or rejected, 0 to 1.
    init(seed: UInt64, transient: Double, persistent: Double) {
        random = SplitMix64(state: seed)
        self.transient = transient
        self.persistent = persistent
    }

    private static let families = [
        "Abara", "Berg", "Castillo", "Dubois", "Eriksen", "Fujita", "Göransson", "Haddad", "Ito", "Jansen",
    ]
    private static let givens = ["Ada", "Bela", "Chidi", "Dana", "Emil", "Farah", "Gita", "Hugo", "Ines", "Jonas"]
    private static let cities = ["Northfield", "Eastmere", "Southwick", "Westbrook", "Midvale"]
    private static let genders = ["female", "male", "other", "unknown"]

    mutating func next() -> GeneratedEvent {
        number += 1
        // A quarter of the events create a patient, so each has about four; the rest update, one in thirty deletes.
        let action: ChangeAction
        let index: Int
        if patients.isEmpty || random.unit() < 0.25 {
            action = .created
            patients.append(makePatient())
            index = patients.count - 1
        } else {
            index = Int(random.next() % UInt64(patients.count))
            action = random.unit() < 0.035 ? .deleted : .updated
            patients[index].version += 1
        }
        let patient = patients[index]
        if action == .deleted || patients.count > 50_000 {
            patients.swapAt(index, patients.count - 1)
            patients.removeLast()
        }
        let plan = makePlan()
        let eventID = uuid()
        var value = Array(json(patient, action: action, eventID: eventID).utf8)
        if plan == .invalid { corrupt(&value) }
        return GeneratedEvent(action: action, key: patient.id, eventID: eventID, value: value, plan: plan)
    }

    private mutating func makePlan() -> FailurePlan {
        let draw = random.unit()
        if draw < persistent { return random.unit() < 0.5 ? .invalid : .rejected }
        guard draw < persistent + transient else { return .none }
        switch random.unit() {
        case ..<0.35: return .transient(healsOnAttempt: 2)
        case ..<0.60: return .transient(healsOnAttempt: 3)
        case ..<0.80: return .transient(healsOnAttempt: 4)
        default: return .transient(healsOnAttempt: nil)
        }
    }

    private mutating func makePatient() -> Patient {
        Patient(
            id: uuid(), version: 1, family: pick(PatientGenerator.families), given: pick(PatientGenerator.givens),
            birthDate: "\(1930 + random.next() % 90)-0\(1 + random.next() % 9)-1\(random.next() % 10)",
            gender: pick(PatientGenerator.genders)
        )
    }

    private mutating func json(_ patient: Patient, action: ChangeAction, eventID: String) -> String {
        let type = "Patient" + action.rawValue.prefix(1).uppercased() + action.rawValue.dropFirst()
        let timestamp = Timestamp(milliseconds: 1_760_000_000_000 + Int64(number) * 7).iso8601
        return """
            {"type":"\(type)","data":{"resourceType":"Patient","id":"\(patient.id)","meta":{"versionId":"\(patient.version)",\
            "lastUpdated":"\(timestamp)"},"active":\(action != .deleted),"identifier":[{"system":"urn:example:mrn","value":"\(number)"}],\
            "name":[{"use":"official","family":"\(patient.family)","given":["\(patient.given)"]}],\
            "telecom":[{"system":"phone","value":"+1-555-01\(number % 90 + 10)","use":"home"}],"gender":"\(patient.gender)",\
            "birthDate":"\(patient.birthDate)","address":[{"use":"home","line":["\(random.next() % 900 + 1) Example Street"],\
            "city":"\(pick(PatientGenerator.cities))","country":"XX"}]},"metadata":{"eventId":"\(eventID)",\
            "timestamp":"\(timestamp)","source":"fhir-server","correlationId":"\(uuid())"}}
            """
    }

    /// The ways in which real producers break events.
    private mutating func corrupt(_ value: inout [UInt8]) {
        switch random.next() % 4 {
        case 0: value.removeLast(value.count / 3)
        case 1:
            value = Array(
                String(decoding: value, as: UTF8.self).replacing("\"resourceType\":\"Patient\"", with: "\"resourceType\":\"Pet\"")
                    .utf8)
        case 2: value = Array(String(decoding: value, as: UTF8.self).replacing("\"gender\":\"", with: "\"gender\":\"x-").utf8)
        default: value[value.count / 2] = 0xFF
        }
    }

    private mutating func pick(_ values: [String]) -> String { values[Int(random.next() % UInt64(values.count))] }

    private mutating func uuid() -> String { randomUUID(using: &random) }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): small, seeded, the same everywhere.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    /// Uniform in 0..<1.
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}

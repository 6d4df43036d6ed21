/// What happened to the resource.
public enum ChangeAction: String, Sendable, CaseIterable {
    /// It was created.
    case created
    /// It was updated.
    case updated
    /// It was deleted.
    case deleted
}

/// The form in which an event's value was written (design §2).
public enum EventForm: String, Sendable, CaseIterable {
    /// `{type, data, metadata}`.
    case envelope
    /// `{resourceType, action, timestamp, resource}`.
    case flat
    /// A bare FHIR resource; the action comes from the topic.
    case resource
    /// A null value: a delete.
    case tombstone
    /// `{type, data, metadata}` that asks for a change (`CreatePatient`), on a topic of commands.
    case command
    /// A Debezium change record.
    case changeData
    /// A notification of a FHIR server.
    case notification
    /// A CloudEvent, in binary or structured mode.
    case cloudEvent
}

/// A Patient event as it was decoded from a record: the few fields that processing needs; the bytes stay as they came.
public struct PatientEvent: Sendable {
    /// What happened.
    public let action: ChangeAction
    /// How the value was written.
    public let form: EventForm
    /// The record's value, byte for byte; nil for a tombstone.
    public let value: ByteSlice?
    let fields: DecodedFields

    init(action: ChangeAction, form: EventForm, value: ByteSlice?, fields: DecodedFields) {
        self.action = action
        self.form = form
        self.value = value
        self.fields = fields
    }

    /// The FHIR resource type: `Patient`.
    public var resourceType: String { "Patient" }
    /// The event's type as the envelope writes it, such as `PatientCreated`; of a command such as `CreatePatient`.
    public var type: String {
        if form == .command { return PatientEvent.commandType(action) }
        return switch action {
        case .created: "PatientCreated"
        case .updated: "PatientUpdated"
        case .deleted: "PatientDeleted"
        }
    }
    /// The `type` of a command that asks for this.
    public static func commandType(_ action: ChangeAction) -> String {
        switch action {
        case .created: "CreatePatient"
        case .updated: "UpdatePatient"
        case .deleted: "DeletePatient"
        }
    }
    /// The logical id of the Patient; a created one may have none. Patient data: not for telemetry.
    public var resourceID: String? { fields.text(.resourceID) }
    /// The logical id's bytes.
    public var resourceIDBytes: ByteSlice? { fields[.resourceID] }
    /// `meta.versionId` of the resource.
    public var versionID: String? { fields.text(.versionID) }
    /// The version id's bytes.
    public var versionIDBytes: ByteSlice? { fields[.versionID] }
    /// The version id as a number, if it is one: up to 18 decimal digits. FHIR says only that versions differ (R4 §3.1.0.1.6);
    /// numbers are compared where a server gives them.
    public var versionNumber: UInt64? { fields.number(.versionID) }
    /// `meta.lastUpdated` of the resource: a FHIR instant.
    public var lastUpdated: String? { fields.text(.lastUpdated) }
    /// The event's own id, `metadata.eventId`; of a command `metadata.requestId`.
    public var eventID: String? { fields.text(.eventID) }
    /// The event id's bytes.
    public var eventIDBytes: ByteSlice? { fields[.eventID] }
    /// When the source says the change happened.
    public var timestamp: String? { fields.text(.timestamp) }
    /// The timestamp's bytes: a FHIR dateTime, for ``Timestamp/init(instant:)``.
    public var timestampBytes: ByteSlice? { fields[.timestamp] }
    /// Who sent the event, `metadata.source`.
    public var source: String? { fields.text(.source) }
    /// `metadata.correlationId`: the request that caused the event; of a command its own `metadata.requestId`.
    public var correlationID: String? { fields.text(.correlationID) }
    /// The correlation id's bytes.
    public var correlationIDBytes: ByteSlice? { fields[.correlationID] }
    /// The Patient's administrative gender code. Patient data: not for telemetry.
    public var gender: String? { fields.text(.gender) }
    /// The Patient's birth date, possibly only a year or month. Patient data: not for telemetry.
    public var birthDate: String? { fields.text(.birthDate) }

    /// The bytes of the Patient resource inside ``value``: the whole value of a bare resource, `data` of an envelope,
    /// `resource` of the flat form, `data` of a command; of a change record, a notification and a CloudEvent the resource in it,
    /// completed with what only a row says of it; nil if there is none (a tombstone, a delete without data).
    public var resource: ByteSlice? {
        guard let value else { return nil }
        switch form {
        case .tombstone: return nil
        case .resource: return value
        case .envelope, .command: return JSONScanner.range(of: "data", in: value).map { value.subslice($0) }
        case .flat: return JSONScanner.range(of: "resource", in: value).map { value.subslice($0) }
        case .changeData, .notification, .cloudEvent: return fields.resource
        }
    }
}

/// The short texts that a decoder took out of an event, in one block: a table of starts and counts, then the texts.
struct DecodedFields: Sendable {
    /// The order is the order of `triage_field_index` in CSimdJSON.h.
    enum Field: Int, CaseIterable {
        case resourceID, versionID, lastUpdated, eventID, timestamp, source, correlationID, gender, birthDate
    }

    /// For each field two `Int16`, its start in the block (negative: absent) and its count; then the texts.
    let block: ByteSlice

    subscript(field: Field) -> ByteSlice? {
        let (start, count) = block.withUnsafeBytes {
            (
                Int($0.loadUnaligned(fromByteOffset: field.rawValue * 4, as: Int16.self)),
                Int($0.loadUnaligned(fromByteOffset: field.rawValue * 4 + 2, as: Int16.self))
            )
        }
        return start < 0 ? nil : block.subslice(start..<start + count)
    }

    func text(_ field: Field) -> String? { self[field]?.utf8Text }

    @inline(__always)
    func has(_ field: Field) -> Bool {
        block.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: field.rawValue * 4, as: Int16.self) >= 0 }
    }

    /// A resource that was taken out of something else: it lies behind the texts, and its start, or −1, in the last eight bytes. To be
    /// asked of blocks that were made so (`EventDecoder.converted`).
    var resource: ByteSlice? {
        guard block.count >= 8 else { return nil }
        let start = block.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: $0.count - 8, as: Int64.self)) }
        return start >= 0 && start <= block.count - 8 ? block.subslice(start..<block.count - 8) : nil
    }

    /// The field as a number without sign, if it has 1 to 18 bytes and all are decimal digits; copies nothing.
    func number(_ field: Field) -> UInt64? {
        block.withUnsafeBytes { bytes in
            let start = Int(bytes.loadUnaligned(fromByteOffset: field.rawValue * 4, as: Int16.self))
            let count = Int(bytes.loadUnaligned(fromByteOffset: field.rawValue * 4 + 2, as: Int16.self))
            guard start >= 0, (1...18).contains(count) else { return nil }
            var number: UInt64 = 0
            for index in start..<start + count {
                let digit = bytes[index] &- 0x30
                guard digit < 10 else { return nil }
                number = number &* 10 &+ UInt64(digit)
            }
            return number
        }
    }
}

/// Why an event was refused: always *persistent*. The rule's name and an index-free path, never a value from the event.
///
/// But for ``isNothing``: a record that tells of nothing that could be handled is skipped, which is no failure.
public struct InvalidEvent: Error, Sendable, Hashable {
    /// The rules, by the name that stands in `error.type`.
    public enum Rule: String, Sendable, CaseIterable {
        /// There is nothing to handle: see ``InvalidEvent/isNothing``.
        case nothing = "nothing_to_handle"
        /// A change record's row holds no FHIR resource, or PostgreSQL left it out since it didn't change.
        case row = "row_without_resource"
        /// A notification tells of several events where one record is one event.
        case severalEvents = "several_events"
        /// A bundle or batch from outside has more events than are taken at once.
        case tooManyEvents = "too_many_events"
        /// A CloudEvent lacks a required attribute, or is of another version than 1.0.
        case cloudEvent = "invalid_cloud_event"
        /// The value is empty.
        case empty = "empty_value"
        /// A null value where a tombstone means nothing (a topic whose action is not known, without a key).
        case nullValue = "null_value"
        /// Not one JSON text (RFC 8259), nested deeper than 1,024, or with a number beyond 64 bits and a double's range.
        case json = "invalid_json"
        /// What came from outside has an object with two members of one name: whoever reads it would take another one.
        case repeatedMember = "repeated_member"
        /// Longer than 64 MiB.
        case tooLarge = "value_too_large"
        /// Not UTF-8.
        case utf8 = "invalid_utf8"
        /// The JSON text is no object.
        case notAnObject = "not_an_object"
        /// None of the forms that are understood.
        case unknownForm = "unknown_form"
        /// `resourceType` is missing or no string.
        case resourceTypeMissing = "resource_type_missing"
        /// `resourceType` is not Patient.
        case resourceTypeForeign = "resource_type_foreign"
        /// The resource is missing where one is needed.
        case resourceMissing = "resource_missing"
        /// An id, or a key that stands for one, breaks the grammar `[A-Za-z0-9\-\.]{1,64}` (FHIR R4 §2.24.0.1, id).
        case id = "invalid_id"
        /// An updated or deleted resource has no id, and the record no key.
        case idMissing = "id_missing"
        /// The action or type is unknown, or missing and not implied by the topic.
        case action = "unknown_action"
        /// A command has no `metadata.requestId`, so nobody could tell its redelivery from another one.
        case requestIDMissing = "request_id_missing"
        /// A request id is longer than 128 bytes, or has other characters than visible ASCII.
        case requestID = "invalid_request_id"
        /// The gender is none of male, female, other, unknown (FHIR R4 AdministrativeGender).
        case gender = "invalid_gender"
        /// The birth date is no FHIR date.
        case birthDate = "invalid_birth_date"
        /// A timestamp is no FHIR instant or dateTime.
        case timestamp = "invalid_timestamp"
        /// An element has another JSON type than FHIR gives it.
        case elementType = "invalid_element_type"
    }

    /// The rule that was broken.
    public let rule: Rule
    /// Whether the record is right, but tells of nothing: a tombstone, truncation or message on a topic of change data, a change of
    /// another resource type, a handshake or heartbeat. ``path`` says which member told so.
    public var isNothing: Bool { rule == .nothing }
    /// Where: element names without indexes, such as `Patient.birthDate`; only names of FHIR or of the envelope.
    public let path: String

    /// `rule` was broken at `path`, a literal: the path leaves the process, so it can't be made of what was read.
    public init(_ rule: Rule, at path: StaticString) {
        self.rule = rule
        self.path = path.description
    }

    /// `rule` was broken at `path`, which the caller made of element names of FHIR or of the envelope.
    package init(_ rule: Rule, at path: String) {
        self.rule = rule
        self.path = path
    }
}

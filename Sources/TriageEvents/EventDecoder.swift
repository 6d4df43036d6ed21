import CSimdJSON

/// Decodes and validates Patient events in the forms of design §2, with one pass over the bytes where they lie.
///
/// Envelopes, flat events and bare resources take that one pass. What is none of them is looked at again: a change record, a
/// notification of one event, a CloudEvent; their resources are copied out.
///
/// One for each thread: it owns a parser and its memory, which grows with the events and is given back after one that is
/// longer than 256 KiB. Values of up to 64 MiB are understood. Of members with the same name the first counts;
/// where events come in from outside such are refused: ``checkUniqueNames(_:)``.
///
/// Judged are the form, the action, the resource type, the JSON types of the Patient's elements, the grammars of ids, codes and
/// dates. Unknown elements and extensions are kept and never refused.
public final class EventDecoder {
    private let parser: OpaquePointer
    let scratch: UnsafeMutableRawPointer
    /// What is expected on which topic.
    public let roles: TopicRoles
    @exclusivity(unchecked) private var lastTopic = ""
    @exclusivity(unchecked) private var lastAction: ChangeAction?
    @exclusivity(unchecked) private var lastRole = TopicRole.events

    /// A decoder for one thread.
    ///
    /// - Parameter roles: which topics carry commands; all others carry events.
    public init(roles: TopicRoles = TopicRoles()) {
        self.roles = roles
        guard let parser = triage_decoder_create() else { preconditionFailure("out of memory") }
        self.parser = parser
        scratch = .allocate(byteCount: Int(TRIAGE_SCRATCH_BYTES), alignment: 8)
    }

    deinit {
        triage_decoder_destroy(parser)
        scratch.deallocate()
    }

    /// Decodes a record's value; the topic's name gives the action where the value has none.
    ///
    /// - Throws: the first rule that the event breaks.
    public func decode(_ record: Record) throws(InvalidEvent) -> PatientEvent {
        if record.topic != lastTopic {
            lastTopic = record.topic
            lastAction = TopicName.action(of: record.topic)
            lastRole = roles.role(of: record.topic)
        }
        switch lastRole {
        case .events:
            let event: PatientEvent
            do throws(InvalidEvent) {
                event = try decodePlain(record.value, key: record.key, topicAction: lastAction)
            } catch {
                return try decodeOther(record.value, from: source(of: record), insteadOf: error)
            }
            // What a CloudEvent says of itself stands in headers, or beside the members of an envelope.
            let mayBeCloudEvent =
                switch event.form {
                case .resource, .tombstone: record.headers.contains("ce_specversion")
                // The scratch buffer still has the event's table.
                case .envelope: field(triage_field_event_id).start < 0
                default: false
                }
            return mayBeCloudEvent ? try withCloudAttributes(event, from: source(of: record)) : event
        case .commands: return try decode(command: record.value)
        case .changeData: return try decode(changeData: record, topicAction: lastAction)
        }
    }

    /// Decodes an event.
    ///
    /// - Parameters:
    ///   - value: the event; nil is a tombstone, which deletes the resource named by `key`.
    ///   - key: the record's key: the resource id of a deleted Patient whose event names none.
    ///   - topicAction: the action where the value has none, see ``TopicName/action(of:)``.
    /// - Throws: the first rule that the event breaks.
    public func decode(
        value: ByteSlice?, key: ByteSlice?, topicAction: ChangeAction?
    ) throws(InvalidEvent) -> PatientEvent {
        let event: PatientEvent
        do throws(InvalidEvent) {
            event = try decodePlain(value, key: key, topicAction: topicAction)
        } catch {
            return try decodeOther(value, from: EventSource(key: key, topicAction: topicAction), insteadOf: error)
        }
        // The scratch buffer still has the event's table.
        guard field(triage_field_event_id).start < 0, case .envelope = event.form else { return event }
        return try withCloudAttributes(event, from: EventSource(key: key, topicAction: topicAction))
    }

    private func source(of record: Record) -> EventSource {
        EventSource(key: record.key, topicAction: lastAction, headers: record.headers, role: .events)
    }

    /// Decodes the forms that are read by one pass: envelope, flat, bare resource, tombstone.
    @inline(__always)
    func decodePlain(_ value: ByteSlice?, key: ByteSlice?, topicAction: ChangeAction?) throws(InvalidEvent) -> PatientEvent {
        guard let value else { return try tombstone(key: key, topicAction: topicAction) }
        var event = triage_event()
        let status = parse(value, &event)
        guard status == triage_status_ok else { throw InvalidEvent(EventDecoder.rule(for: status), at: "") }
        return try judge(event, value: value, key: key, topicAction: topicAction)
    }

    /// Decodes a command, `{type: "CreatePatient", data, metadata: {requestId, timestamp, source}}`.
    ///
    /// The types are CreatePatient, UpdatePatient and DeletePatient. The request id becomes the event id and the correlation id.
    ///
    /// - Parameter value: the command; without one it is refused.
    /// - Throws: the first rule that the command breaks; an event is refused as an unknown action.
    public func decode(command value: ByteSlice?) throws(InvalidEvent) -> PatientEvent {
        guard let value else { throw InvalidEvent(.nullValue, at: "") }
        var event = triage_event()
        let status = parse(value, &event)
        guard status == triage_status_ok else { throw InvalidEvent(EventDecoder.rule(for: status), at: "") }
        guard UInt32(event.form) == triage_form_envelope.rawValue, let type = bytes(event.type),
            let action = EventDecoder.commandAction(type)
        else { throw InvalidEvent(.action, at: "type") }
        if event.has_resource == 1 { try requirePatient(event.resource_type, at: "data.resourceType") }
        if event.violation != 0 { throw InvalidEvent(.elementType, at: String(cString: triage_element_path(event.violation))) }
        if event.has_resource == 0 { throw InvalidEvent(.resourceMissing, at: "data") }
        try checkGrammars(deceased: event.deceased_date_time)
        if action != .created, field(triage_field_resource_id).start < 0 { throw InvalidEvent(.idMissing, at: "data.id") }
        guard let id = JSONValue(value)?["metadata"]?["requestId"]?.stringBytes, !id.isEmpty else {
            throw InvalidEvent(.requestIDMissing, at: "metadata.requestId")
        }
        guard id.count <= 128, id.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw InvalidEvent(.requestID, at: "metadata.requestId")
        }
        let fields = fields(keeping: Int(event.kept), with: [(.eventID, id), (.correlationID, id)])
        return PatientEvent(action: action, form: .command, value: value, fields: fields)
    }

    private static func commandAction(_ type: UnsafeRawBufferPointer) -> ChangeAction? {
        if FHIRGrammar.equals(type, "CreatePatient") { return .created }
        if FHIRGrammar.equals(type, "UpdatePatient") { return .updated }
        return FHIRGrammar.equals(type, "DeletePatient") ? .deleted : nil
    }

    @inline(__always)
    func parse(_ value: ByteSlice, _ event: inout triage_event) -> triage_status {
        value.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return triage_status_empty }
            return triage_decoder_decode(
                parser, base.assumingMemoryBound(to: UInt8.self), bytes.count,
                scratch.assumingMemoryBound(to: UInt8.self), &event
            )
        }
    }

    /// Checks that `text` is one JSON object, whatever it says: what ``JSONValue`` may then be used on.
    ///
    /// - Throws: ``InvalidEvent`` with the rule that the text breaks: empty, too large, no UTF-8, no JSON, no object.
    public func checkObject(_ text: ByteSlice) throws(InvalidEvent) {
        var event = triage_event()
        let status = parse(text, &event)
        guard status != triage_status_ok, status != triage_status_unknown_form else { return }
        throw InvalidEvent(EventDecoder.rule(for: status), at: "")
    }

    /// The same, and that no object in it, however deep, has two members of one name: what is told twice is read as the first by one
    /// and as the last by another (RFC 8259 §4). For what comes from outside.
    ///
    /// - Throws: ``InvalidEvent`` as ``checkObject(_:)`` does, or with the rule `repeated_member`.
    public func checkUniqueNames(_ text: ByteSlice) throws(InvalidEvent) {
        let status = text.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return triage_status_empty }
            return triage_decoder_check_names(parser, base.assumingMemoryBound(to: UInt8.self), bytes.count)
        }
        guard status == triage_status_ok else { throw InvalidEvent(EventDecoder.rule(for: status), at: "") }
    }

    /// The bytes that the parser is ready for without asking for memory.
    var capacity: Int { triage_decoder_capacity(parser) }

    static func rule(for status: triage_status) -> InvalidEvent.Rule {
        switch status {
        case triage_status_empty: .empty
        case triage_status_utf8: .utf8
        case triage_status_not_an_object: .notAnObject
        case triage_status_unknown_form: .unknownForm
        case triage_status_size: .tooLarge
        case triage_status_repeated_name: .repeatedMember
        default: .json
        }
    }

    /// An empty table in the scratch buffer; how many bytes it has.
    func clearFields() -> Int {
        for index in 0..<Int(TRIAGE_FIELD_COUNT) { setField(index, triage_text(start: Int16(triage_text_absent), count: 0)) }
        return Int(TRIAGE_FIELD_COUNT) * MemoryLayout<triage_text>.stride
    }

    private func tombstone(key: ByteSlice?, topicAction: ChangeAction?) throws(InvalidEvent) -> PatientEvent {
        guard let key else { throw topicAction == nil ? InvalidEvent(.nullValue, at: "") : InvalidEvent(.idMissing, at: "key") }
        let kept = clearFields()
        return PatientEvent(action: .deleted, form: .tombstone, value: nil, fields: try fields(keeping: kept, id: key))
    }

    func judge(
        _ event: triage_event, value: ByteSlice, key: ByteSlice?, topicAction: ChangeAction?
    ) throws(InvalidEvent) -> PatientEvent {
        let form: EventForm
        let action: ChangeAction?
        let resourcePath: String
        switch UInt32(event.form) {
        case triage_form_envelope.rawValue:
            form = .envelope
            action = try envelopeAction(event.type)
            resourcePath = "data"
        case triage_form_flat.rawValue:
            form = .flat
            action = try flatAction(event.action)
            resourcePath = "resource"
            try requirePatient(event.outer_resource_type, at: "resourceType")
        default:
            form = .resource
            action = nil
            resourcePath = ""
        }
        guard let action = action ?? topicAction else {
            throw InvalidEvent(.action, at: form == .envelope ? "type" : form == .flat ? "action" : "")
        }
        if event.has_resource == 1 {
            try requirePatient(event.resource_type, at: form == .resource ? "resourceType" : "\(resourcePath).resourceType")
        }
        if event.violation != 0 { throw InvalidEvent(.elementType, at: String(cString: triage_element_path(event.violation))) }
        if event.has_resource == 0 && action != .deleted { throw InvalidEvent(.resourceMissing, at: resourcePath) }
        try checkGrammars(deceased: event.deceased_date_time)

        let kept = Int(event.kept)
        if field(triage_field_resource_id).start >= 0 || action == .created {
            return PatientEvent(action: action, form: form, value: value, fields: fields(keeping: kept))
        }
        guard action == .deleted, let key else { throw InvalidEvent(.idMissing, at: "Patient.id") }
        return PatientEvent(action: action, form: form, value: value, fields: try fields(keeping: kept, id: key))
    }

    /// The action of an envelope's `type`; nil if there is none.
    private func envelopeAction(_ type: triage_text) throws(InvalidEvent) -> ChangeAction? {
        if Int32(type.start) == triage_text_absent { return nil }
        guard let text = bytes(type) else { throw InvalidEvent(.action, at: "type") }
        if FHIRGrammar.equals(text, "PatientUpdated") { return .updated }
        if FHIRGrammar.equals(text, "PatientCreated") { return .created }
        if FHIRGrammar.equals(text, "PatientDeleted") { return .deleted }
        // `ObservationCreated` is a well-formed event of another resource type; anything else is no type at all.
        let endings: [StaticString] = ["Created", "Updated", "Deleted"]
        let isForeign =
            text.count > 7 && (0x41...0x5A).contains(text[0])
            && text.allSatisfy { (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) }
            && endings.contains { FHIRGrammar.equals(UnsafeRawBufferPointer(rebasing: text.suffix(7)), $0) }
            && !FHIRGrammar.equals(UnsafeRawBufferPointer(rebasing: text.dropLast(7)), "Patient")
        throw InvalidEvent(isForeign ? .resourceTypeForeign : .action, at: "type")
    }

    /// The action that the flat form writes, in the past tense or the imperative; nil if there is none.
    private func flatAction(_ action: triage_text) throws(InvalidEvent) -> ChangeAction? {
        if Int32(action.start) == triage_text_absent { return nil }
        guard let text = bytes(action) else { throw InvalidEvent(.action, at: "action") }
        if FHIRGrammar.equals(text, "created") || FHIRGrammar.equals(text, "create") { return .created }
        if FHIRGrammar.equals(text, "updated") || FHIRGrammar.equals(text, "update") { return .updated }
        if FHIRGrammar.equals(text, "deleted") || FHIRGrammar.equals(text, "delete") { return .deleted }
        throw InvalidEvent(.action, at: "action")
    }

    @inline(__always)
    func requirePatient(_ type: triage_text, at path: @autoclosure () -> String) throws(InvalidEvent) {
        if let text = bytes(type), FHIRGrammar.equals(text, "Patient") { return }
        let isMissing = Int32(type.start) == triage_text_absent || Int32(type.start) == triage_text_not_a_string
        throw InvalidEvent(isMissing ? .resourceTypeMissing : .resourceTypeForeign, at: path())
    }

    func checkGrammars(deceased: triage_text) throws(InvalidEvent) {
        try check(field(triage_field_resource_id), FHIRGrammar.isID, .id, at: "Patient.id")
        try check(field(triage_field_version_id), FHIRGrammar.isID, .id, at: "Patient.meta.versionId")
        let isInstant = { (text: UnsafeRawBufferPointer) in FHIRGrammar.instant(text) != nil }
        try check(field(triage_field_last_updated), isInstant, .timestamp, at: "Patient.meta.lastUpdated")
        try check(field(triage_field_gender), FHIRGrammar.isGender, .gender, at: "Patient.gender")
        try check(field(triage_field_birth_date), FHIRGrammar.isDate, .birthDate, at: "Patient.birthDate")
        try check(deceased, FHIRGrammar.isDateTime, .timestamp, at: "Patient.deceasedDateTime")
        try check(field(triage_field_timestamp), FHIRGrammar.isDateTime, .timestamp, at: "timestamp")
    }

    @inline(__always)
    private func check(
        _ text: triage_text, _ isValid: (UnsafeRawBufferPointer) -> Bool, _ rule: InvalidEvent.Rule, at path: StaticString
    ) throws(InvalidEvent) {
        if Int32(text.start) == triage_text_absent { return }
        if let bytes = bytes(text), isValid(bytes) { return }
        throw InvalidEvent(rule, at: path.description)
    }

    /// The bytes of a text in the scratch buffer; nil if there is none.
    @inline(__always)
    func bytes(_ text: triage_text) -> UnsafeRawBufferPointer? {
        text.start < 0 ? nil : UnsafeRawBufferPointer(start: scratch + Int(text.start), count: Int(text.count))
    }

    @inline(__always)
    func field(_ index: triage_field_index) -> triage_text {
        scratch.load(fromByteOffset: Int(index.rawValue) * MemoryLayout<triage_text>.stride, as: triage_text.self)
    }

    func setField(_ index: Int, _ text: triage_text) {
        scratch.storeBytes(of: text, toByteOffset: index * MemoryLayout<triage_text>.stride, as: triage_text.self)
    }

    /// The event's own allocation: table and texts, copied out of the scratch buffer.
    private func fields(keeping count: Int) -> DecodedFields {
        DecodedFields(block: ByteSlice(copying: UnsafeRawBufferPointer(start: scratch, count: count)))
    }

    /// The same with further texts of up to 256 bytes each, at most six, in the places of what was there; what is longer is left out.
    func fields(keeping count: Int, with texts: [(DecodedFields.Field, ByteSlice)]) -> DecodedFields {
        fields(keeping: add(texts, at: count))
    }

    /// Writes further texts into the scratch buffer, behind `count` bytes; returns how many there are then.
    func add(_ texts: [(DecodedFields.Field, ByteSlice)], at count: Int) -> Int {
        var end = count
        for (field, text) in texts where text.count <= Int(TRIAGE_MAXIMUM_TEXT) {
            text.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: scratch + end, count: $0.count).copyMemory(from: $0) }
            setField(
                field.rawValue, triage_text(start: Int16(truncatingIfNeeded: end), count: Int16(truncatingIfNeeded: text.count)))
            end += text.count
        }
        return end
    }

    /// The same with the key as resource id.
    private func fields(keeping count: Int, id key: ByteSlice) throws(InvalidEvent) -> DecodedFields {
        guard FHIRGrammar.isID(key) else { throw InvalidEvent(.id, at: "key") }
        key.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: scratch + count, count: $0.count).copyMemory(from: $0) }
        setField(
            Int(triage_field_resource_id.rawValue),
            triage_text(start: Int16(truncatingIfNeeded: count), count: Int16(truncatingIfNeeded: key.count))
        )
        return fields(keeping: count + key.count)
    }
}

@available(*, unavailable, message: "one decoder for each thread")
extension EventDecoder: Sendable {}

internal import CSimdJSON

/// What comes with a value: what its record says beside it.
struct EventSource {
    let key: ByteSlice?
    var topicAction: ChangeAction?
    var headers = Headers()
    var role = TopicRole.events
    /// The value stands inside another one, which stands in no other.
    var isInner = false
}

/// The forms that take more than one pass: only what is none of the three common ones comes here.
extension EventDecoder {
    /// Reads a record of a topic of change data: a change record, or what an outbox router put there (design §2).
    func decode(changeData record: Record, topicAction: ChangeAction?) throws(InvalidEvent) -> PatientEvent {
        // Behind each delete Debezium writes a tombstone, so that compaction forgets the key.
        guard let value = record.value else { throw InvalidEvent(.nothing, at: "value") }
        let source = EventSource(
            key: record.key, topicAction: topicAction ?? EventDecoder.outboxAction(record.headers), headers: record.headers,
            role: .changeData)
        do throws(InvalidEvent) {
            let event: PatientEvent
            do throws(InvalidEvent) {
                event = try decodePlain(value, key: source.key, topicAction: source.topicAction)
            } catch {
                return try withOutboxID(try decodeOther(value, from: source, insteadOf: error), from: source)
            }
            return try withOutboxID(try withCloudAttributes(event, from: source), from: source)
        } catch {
            // Other resources' rows and events share the topic with the patients'.
            throw error.rule == .resourceTypeForeign ? InvalidEvent(.nothing, at: "resourceType") : error
        }
    }

    /// Reads a value in one of the other forms, or throws `error` if it is in none.
    func decodeOther(
        _ value: ByteSlice?, from source: EventSource, insteadOf error: InvalidEvent
    ) throws(InvalidEvent) -> PatientEvent {
        guard let value, let root = JSONValue(value) else { throw error }
        switch error.rule {
        case .unknownForm:
            if let envelope = ChangeRecord.envelope(in: root) { return try decode(envelope, value: value, from: source) }
            if root["value"]?["resourceType"]?.says("Bundle") == true {
                return try decode(notification: root, value, from: source)
            }
            if root["specversion"] != nil { return try decode(cloudEvent: try CloudEvent(structured: root), value, from: source) }
        case .resourceTypeForeign, .action:
            if root["resourceType"]?.says("Bundle") == true { return try decode(notification: root, value, from: source) }
            if root["specversion"] != nil { return try decode(cloudEvent: try CloudEvent(structured: root), value, from: source) }
            if error == InvalidEvent(.action, at: ""), let event = try resourceWithoutAction(root, value, from: source) {
                return event
            }
        case .resourceMissing, .elementType, .idMissing:
            if root["specversion"] != nil { return try decode(cloudEvent: try CloudEvent(structured: root), value, from: source) }
        case .notAnObject:
            // An outbox's payload may be JSON inside a JSON string.
            if !source.isInner, let text = root.stringBytes, text.first == UInt8(ascii: "{") {
                return try decode(inner: text, value, form: .changeData, from: source)
            }
        default: break
        }
        throw error
    }

    /// A bare resource where the topic implies no action: as the CloudEvent's headers say; on a topic of change data, a first version
    /// was created, any other updated.
    private func resourceWithoutAction(
        _ root: JSONValue, _ value: ByteSlice, from source: EventSource
    ) throws(InvalidEvent) -> PatientEvent? {
        if let cloud = try cloudEvent(in: source), let action = cloud.action {
            let event = try decodePlain(value, key: source.key, topicAction: action)
            return try withCloudAttributes(event, from: source)
        }
        guard source.role == .changeData else { return nil }
        let action = NotificationEntry.action(
            of: root, version: root["meta"]?["versionId"]?.string, hasID: root["id"] != nil)
        return try decodePlain(value, key: source.key, topicAction: action)
    }

    // MARK: Change records

    private func decode(
        _ envelope: JSONValue, value: ByteSlice, from source: EventSource
    ) throws(InvalidEvent) -> PatientEvent {
        let change = try ChangeRecord(envelope, key: source.key) { text throws(InvalidEvent) in try checkObject(text) }
        var texts: [(DecodedFields.Field, ByteSlice)] = []
        if let timestamp = change.timestamp { texts.append((.timestamp, ByteSlice(timestamp))) }
        if let position = change.position { texts.append((.eventID, ByteSlice(position))) }
        return try converted(change.resource, change.action, id: change.id, form: .changeData, value: value, texts)
    }

    /// What an outbox's headers say that happened, where its table has columns that are put there: `eventType` or `type`.
    private static func outboxAction(_ headers: Headers) -> ChangeAction? {
        guard let text = headers.text("eventType") ?? headers.text("type") else { return nil }
        return CloudEvent.action(text) ?? CloudEvent(id: "", source: "", type: text).action
    }

    /// The event with the outbox's `id` as its event id, unless it has its own.
    private func withOutboxID(_ event: PatientEvent, from source: EventSource) throws(InvalidEvent) -> PatientEvent {
        guard event.eventIDBytes == nil, let id = source.headers.last("id"), !id.isEmpty, id.utf8Text != nil else { return event }
        return try restated(event, as: event.form, texts: [(.eventID, id)])
    }

    // MARK: Notifications

    private func decode(
        notification root: JSONValue, _ value: ByteSlice, from source: EventSource
    ) throws(InvalidEvent) -> PatientEvent {
        let notification = try Notification(root)
        guard let first = notification.events.first else { throw InvalidEvent(.nothing, at: "Bundle") }
        // Where records are expanded into events, the first one stands for all; elsewhere a record is one event.
        if notification.events.count > 1, source.role != .changeData { throw InvalidEvent(.severalEvents, at: "Bundle.entry") }
        return try decode(first, value: value)
    }

    /// One event of a notification that holds its resource, or tells of a delete.
    package func decode(_ event: Notification.Event, value: ByteSlice) throws(InvalidEvent) -> PatientEvent {
        guard let action = event.action else { throw InvalidEvent(.resourceMissing, at: "Bundle.entry.resource") }
        guard event.resource != nil || action == .deleted else {
            throw InvalidEvent(.resourceMissing, at: "Bundle.entry.resource")
        }
        let texts = event.timestamp.map { [(DecodedFields.Field.timestamp, ByteSlice($0))] } ?? []
        return try converted(event.resource, action, id: event.patientID, form: .notification, value: value, texts)
    }

    // MARK: CloudEvents

    /// What the headers say of a CloudEvent in binary mode; nil if they are none.
    private func cloudEvent(in source: EventSource) throws(InvalidEvent) -> CloudEvent? {
        guard source.headers.last("ce_specversion") != nil else { return nil }
        return try CloudEvent(binary: nil, contentType: nil) { name in
            switch name.description {
            case "specversion": source.headers.text("ce_specversion")
            case "id": source.headers.text("ce_id")
            case "source": source.headers.text("ce_source")
            case "type": source.headers.text("ce_type")
            case "time": source.headers.text("ce_time")
            case "subject": source.headers.text("ce_subject")
            default: source.headers.text("ce_correlationid")
            }
        }
    }

    /// A resource with what the headers say of it as a CloudEvent, an envelope that is one with what stands beside its data; any other
    /// event as it is. What a CloudEvent's type says goes before what the topic's name says.
    func withCloudAttributes(_ event: PatientEvent, from source: EventSource) throws(InvalidEvent) -> PatientEvent {
        guard let value = event.value else {
            // A delete without data: the action is the tombstone's, whatever the type says.
            guard let cloud = try cloudEvent(in: source) else { return event }
            return try restated(event, as: .tombstone, texts: EventDecoder.texts(of: cloud))
        }
        if event.form == .envelope {
            guard !source.isInner, let root = JSONValue(value), root["specversion"] != nil else { return event }
            return try decode(cloudEvent: try CloudEvent(structured: root), value, from: source)
        }
        guard event.form == .resource, var cloud = try cloudEvent(in: source) else { return event }
        cloud.data = value
        return try decode(cloudEvent: cloud, value, from: source)
    }

    /// Reads what a CloudEvent carries; the data's own attributes, if it has some, go before those around it.
    package func decode(
        cloudEvent: CloudEvent, _ value: ByteSlice, topicAction: ChangeAction?
    ) throws(InvalidEvent) -> PatientEvent {
        try decode(cloudEvent: cloudEvent, value, from: EventSource(key: nil, topicAction: topicAction))
    }

    private static func texts(of cloudEvent: CloudEvent) -> [(DecodedFields.Field, ByteSlice)] {
        var texts: [(DecodedFields.Field, ByteSlice)] = [
            (.eventID, ByteSlice(cloudEvent.id)), (.source, ByteSlice(cloudEvent.source)),
        ]
        if let time = cloudEvent.time { texts.append((.timestamp, ByteSlice(time))) }
        if let id = cloudEvent.correlationID { texts.append((.correlationID, ByteSlice(id))) }
        return texts
    }

    private func decode(
        cloudEvent: CloudEvent, _ value: ByteSlice, from source: EventSource
    ) throws(InvalidEvent) -> PatientEvent {
        if source.isInner { throw InvalidEvent(.unknownForm, at: "data") }
        let action = cloudEvent.action ?? source.topicAction
        let texts = EventDecoder.texts(of: cloudEvent)
        guard let data = cloudEvent.data else {
            guard let action else { throw InvalidEvent(.action, at: "type") }
            guard action == .deleted else { throw InvalidEvent(.resourceMissing, at: "data") }
            return try converted(nil, action, id: cloudEvent.subjectID ?? source.key, form: .cloudEvent, value: value, texts)
        }
        var inner = source
        inner.topicAction = action
        return try decode(inner: data, value, form: .cloudEvent, from: inner, with: texts)
    }

    // MARK: Conversion

    /// Reads a value that stands inside another one.
    private func decode(
        inner: ByteSlice, _ value: ByteSlice, form: EventForm, from source: EventSource,
        with texts: [(DecodedFields.Field, ByteSlice)] = []
    ) throws(InvalidEvent) -> PatientEvent {
        var source = source
        source.isInner = true
        let event: PatientEvent
        do throws(InvalidEvent) {
            event = try decodePlain(inner, key: source.key, topicAction: source.topicAction)
        } catch {
            event = try decodeOther(inner, from: source, insteadOf: error)
        }
        return try restated(event, as: form, value: value, texts: texts)
    }

    /// An event in another form, with texts where it has none of its own.
    private func restated(
        _ event: PatientEvent, as form: EventForm, value: ByteSlice? = nil, texts: [(DecodedFields.Field, ByteSlice)]
    ) throws(InvalidEvent) -> PatientEvent {
        var all: [(DecodedFields.Field, ByteSlice)] = []
        for field in DecodedFields.Field.allCases {
            if let text = event.fields[field] ?? texts.first(where: { $0.0 == field })?.1 { all.append((field, text)) }
        }
        let kept = add(all, at: clearFields())
        let outer = value ?? event.value
        switch form {
        case .changeData, .notification, .cloudEvent:
            return PatientEvent(
                action: event.action, form: form, value: outer, fields: block(keeping: kept, resource: event.resource))
        default:
            return PatientEvent(action: event.action, form: form, value: outer, fields: fields(keeping: kept, with: []))
        }
    }

    /// An event of a resource that was taken out of `value`.
    ///
    /// - Parameters:
    ///   - resource: a Patient; nil only for a delete.
    ///   - id: the Patient's id where the resource has none.
    ///   - texts: what is told beside the resource.
    /// - Throws: the first rule that the resource breaks.
    private func converted(
        _ resource: ByteSlice?, _ action: ChangeAction, id: ByteSlice?, form: EventForm, value: ByteSlice,
        _ texts: [(DecodedFields.Field, ByteSlice)]
    ) throws(InvalidEvent) -> PatientEvent {
        var kept: Int
        if let resource {
            var event = triage_event()
            let status = parse(resource, &event)
            guard status == triage_status_ok else { throw InvalidEvent(EventDecoder.rule(for: status), at: "") }
            guard UInt32(event.form) == triage_form_resource.rawValue else { throw InvalidEvent(.unknownForm, at: "Patient") }
            try requirePatient(event.resource_type, at: "resourceType")
            if event.violation != 0 {
                throw InvalidEvent(.elementType, at: String(cString: triage_element_path(event.violation)))
            }
            try checkGrammars(deceased: event.deceased_date_time)
            kept = Int(event.kept)
        } else {
            kept = clearFields()
        }
        var texts = texts
        if field(triage_field_resource_id).start < 0, action != .created || id != nil {
            guard let id else { throw InvalidEvent(.idMissing, at: "Patient.id") }
            guard FHIRGrammar.isID(id) else { throw InvalidEvent(.id, at: "key") }
            texts.append((.resourceID, id))
        }
        kept = add(texts, at: kept)
        return PatientEvent(action: action, form: form, value: value, fields: block(keeping: kept, resource: resource))
    }

    /// Table and texts from the scratch buffer, then the resource, then where it starts.
    private func block(keeping kept: Int, resource: ByteSlice?) -> DecodedFields {
        let count = resource?.count ?? 0
        let block = ByteSlice(count: kept + count + 8) { target in
            target.copyMemory(from: UnsafeRawBufferPointer(start: scratch, count: kept))
            resource?.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: target[kept...]).copyMemory(from: $0) }
            target.storeBytes(of: resource == nil ? -1 : Int64(kept), toByteOffset: kept + count, as: Int64.self)
        }
        return DecodedFields(block: block)
    }
}

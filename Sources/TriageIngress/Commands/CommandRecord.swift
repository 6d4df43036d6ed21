public import TriageEvents
public import TriageTelemetry

/// A command that was taken in and validated: what becomes a record of `fhir.commands`.
public struct CommandRecord: Sendable {
    /// Why a command is refused.
    public enum Refusal: Error, Sendable, Hashable {
        /// The text or the command breaks a rule.
        case invalid(InvalidEvent)
        /// The request id is empty, too long, or has characters that have a meaning in a URL or a search.
        case requestID
        /// The body and `Idempotency-Key` name different request ids.
        case otherRequestID
    }

    /// What is asked for.
    public let action: ChangeAction
    /// The id that tells it from others, and the same command again.
    public let requestID: String
    /// The record, without a trace context. Without a Patient's id its key is the request id, so that copies of a command come after
    /// one another.
    public let record: OutboundRecord
    /// A hash of the type and the data: whether two commands with one id are the same.
    public let contentHash: UInt64
    /// What its `send` span says about it.
    public let attributes: [Attribute]

    /// A command that asks for `action` with this resource.
    ///
    /// - Parameters:
    ///   - resource: a Patient, JSON; its bytes are kept as they are.
    ///   - requestID: nil draws one.
    ///   - source: `metadata.source`.
    ///   - timestamp: `metadata.timestamp`.
    ///   - decoder: the caller's, one for each thread.
    /// - Throws: why it is refused.
    public init(
        _ action: ChangeAction, resource: ByteSlice, requestID: String? = nil, source: String, timestamp: Timestamp,
        decoder: EventDecoder
    ) throws(Refusal) {
        // Before it is put into another text, which it could otherwise end.
        do throws(InvalidEvent) { try decoder.checkUniqueNames(resource) } catch { throw .invalid(error) }
        let id = requestID ?? randomUUID()
        guard RequestTag.isRequestID(id.utf8) else { throw .requestID }
        let type = PatientEvent.commandType(action)
        let head = #"{"type":"\#(type)","data":"#
        let tail = """
            ,"metadata":{"requestId":"\(id)","timestamp":"\(timestamp.iso8601)","source":\(JSONText(source).quoted)}}
            """
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.utf8.count + resource.count + tail.utf8.count)
        bytes += head.utf8
        bytes += resource
        bytes += tail.utf8
        let value = ByteSlice(bytes)
        let event: PatientEvent
        do throws(InvalidEvent) { event = try decoder.decode(command: value) } catch { throw .invalid(error) }
        // Whoever carries it out couldn't say in the Patient which command it was.
        guard action == .deleted || JSONValue(checked: resource).map(RequestTag.isStampable) ?? false else {
            throw .invalid(InvalidEvent(.elementType, at: "data.meta"))
        }
        self.action = action
        self.requestID = id
        record = OutboundRecord(
            topic: TopicName.commands, key: event.resourceIDBytes ?? ByteSlice(id), value: value,
            headers: Headers([Header("content-type", text: "application/fhir+json")]))
        contentHash = CommandRecord.contentHash(action, resource)
        var attributes = [
            Attribute("event.type", .text(CommandRecord.typeName(action))), Attribute("event.resource.type", .literal("Patient")),
            Attribute("event.id", AttributeValue.uuid(ByteSlice(id)) ?? .literal("_OTHER")),
        ]
        if let key = event.resourceIDBytes { attributes.append(Attribute("event.resource.id", .identifier(key))) }
        self.attributes = attributes
    }

    /// A command as it came over HTTP, `{type, data, metadata?}`.
    ///
    /// Of `metadata` only `requestId` is taken; time and source are ours.
    ///
    /// - Parameters:
    ///   - body: what came.
    ///   - idempotencyKey: the header of that name, which names the request as `metadata.requestId` does, quoted or not.
    /// - Throws: why it is refused.
    public init(
        body: ByteSlice, idempotencyKey: String?, source: String, timestamp: Timestamp, decoder: EventDecoder
    ) throws(Refusal) {
        // What is told twice, the FHIR server may read as the other one of the two: another Patient, another request.
        do throws(InvalidEvent) { try decoder.checkUniqueNames(body) } catch { throw .invalid(error) }
        guard let command = JSONValue(body), let action = CommandRecord.action(of: command)
        else { throw .invalid(InvalidEvent(.action, at: "type")) }
        guard let data = command["data"], data.kind == .object else {
            throw .invalid(InvalidEvent(.resourceMissing, at: "data"))
        }
        var id: String?
        if let value = command["metadata"]?["requestId"] {
            guard let text = value.string, RequestTag.isRequestID(text.utf8) else { throw .requestID }
            id = text
        }
        if var key = idempotencyKey {
            if key.utf8.count > 2, key.hasPrefix("\""), key.hasSuffix("\"") { key = String(key.dropFirst().dropLast()) }
            guard RequestTag.isRequestID(key.utf8) else { throw .requestID }
            guard id == nil || id == key else { throw .otherRequestID }
            id = key
        }
        try self.init(action, resource: data.text, requestID: id, source: source, timestamp: timestamp, decoder: decoder)
    }

    /// What of a command tells it from another one with the same id: the type, and the data's bytes.
    static func contentHash(_ action: ChangeAction, _ data: ByteSlice) -> UInt64 {
        switch action {
        case .created: data.hash64(seed: 1)
        case .updated: data.hash64(seed: 2)
        case .deleted: data.hash64(seed: 3)
        }
    }

    /// The same of a record's value; nil if it is no command.
    static func contentHash(of command: JSONValue) -> UInt64? {
        guard let data = command["data"], let action = action(of: command) else { return nil }
        return contentHash(action, data.text)
    }

    /// What a command asks for; nil if it is none.
    static func action(of command: JSONValue) -> ChangeAction? {
        guard let type = command["type"]?.stringBytes else { return nil }
        return ChangeAction.allCases.first { type.elementsEqual(PatientEvent.commandType($0).utf8) }
    }

    private static func typeName(_ action: ChangeAction) -> SafeText {
        switch action {
        case .created: "CreatePatient"
        case .updated: "UpdatePatient"
        case .deleted: "DeletePatient"
        }
    }
}

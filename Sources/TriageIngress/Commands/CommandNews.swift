public import TriageEvents

/// What a record of one of the three topics says about a command.
public struct CommandNews: Sendable, Equatable {
    /// Which command.
    public let requestID: String
    /// What became of it.
    public let status: CommandStatus
    /// Where the command stands that this speaks of, by which its times of sending are told apart: offsets, since the clocks of those
    /// who write the topics may differ. Nil if it isn't told, as by results.
    let position: RecordPosition?
    /// What was asked for, or of a completed command what it came to; nil if the record doesn't say.
    public let action: ChangeAction?
    /// The Patient's id; nil if the record doesn't say. Patient data.
    public let resourceID: String?
    /// The version that the command wrote, or deletion made; nil if it isn't completed, or the server didn't tell.
    public let versionID: String?
    /// What tells it from another command with the same id; nil if the record doesn't say what was asked for.
    let contentHash: UInt64?

    /// The topics that tell of commands: their own, their results' and their dead letters'.
    public static let topics = [
        TopicName.commands, TopicName.commandResults, TopicName.deadLetter(of: TopicName.commands),
    ]

    /// Bytes of a result that are kept; one of ours has some 300.
    public static let maximumResultBytes = 4096

    /// What `record` says, of the commands' topic, of their results or of their dead letters; nil for other records.
    ///
    /// - Parameter decoder: the caller's, one for each thread.
    public init?(_ record: Record, decoder: EventDecoder) {
        guard let value = record.value, (try? decoder.checkObject(value)) != nil, let json = JSONValue(value) else { return nil }
        switch record.topic {
        case TopicName.commandResults:
            guard let id = json["requestId"]?.string, json["status"]?.says("completed") == true else { return nil }
            requestID = id
            let isShort = value.count <= CommandNews.maximumResultBytes
            status = CommandStatus(.completed, result: isShort ? ByteSlice(value) : nil)
            position = nil
            contentHash = nil
            action = json["action"]?.string.flatMap { ChangeAction(rawValue: $0) }
            resourceID = json["resource"]?.string.flatMap { CommandNews.patientID($0) }
            versionID = json["versionId"]?.string.flatMap { CommandNews.id($0) }
        case TopicName.deadLetter(of: TopicName.commands):
            guard let id = json["metadata"]?["requestId"]?.string else { return nil }
            requestID = id
            let errorClass = record.headers.text("triage-error-class") ?? ""
            status = CommandStatus(
                .failed, errorClass: ErrorClass(rawValue: errorClass)?.rawValue ?? "system",
                error: record.headers.text(HeaderName.error).map(CommandFailure.text))
            position = CommandNews.origin(record)
            contentHash = CommandRecord.contentHash(of: json)
            action = CommandRecord.action(of: json)
            resourceID = json["data"]?["id"]?.string.flatMap { CommandNews.id($0) }
            versionID = nil
        case TopicName.commands:
            guard let id = json["metadata"]?["requestId"]?.string else { return nil }
            requestID = id
            status = CommandStatus(.pending)
            // One that was replayed is the one that it was.
            position = CommandNews.origin(record) ?? record.position
            contentHash = CommandRecord.contentHash(of: json)
            action = CommandRecord.action(of: json)
            resourceID = json["data"]?["id"]?.string.flatMap { CommandNews.id($0) }
            versionID = nil
        default: return nil
        }
        guard RequestTag.isRequestID(requestID.utf8) else { return nil }
    }

    /// A command that is about to be carried out.
    package init(begun plan: CommandPlan) {
        requestID = plan.requestID
        status = CommandStatus(.pending)
        position = nil
        contentHash = nil
        action = plan.action
        resourceID = plan.resourceID
        versionID = nil
    }

    /// A command that was carried out.
    package init(_ result: CommandResult) {
        requestID = result.requestID
        status = CommandStatus(.completed, result: result.json)
        position = nil
        contentHash = nil
        action = result.action
        resourceID = result.resourceID
        versionID = result.versionID
    }

    private static func id(_ text: String) -> String? { FHIRGrammar.isID(ByteSlice(text)) ? text : nil }

    /// The id in `Patient/ID`.
    private static func patientID(_ reference: String) -> String? {
        reference.hasPrefix("Patient/") ? id(String(reference.dropFirst("Patient/".count))) : nil
    }

    /// Where the command was delivered first, as a retry's or dead letter's headers say.
    private static func origin(_ record: Record) -> RecordPosition? {
        guard let origin = record.headers.text(HeaderName.origin).flatMap({ RecordPosition($0) }) else { return nil }
        return origin.topic == TopicName.commands ? origin : nil
    }
}

extension Acknowledgement {
    /// Where the record stands; nil if the brokers didn't tell its offset.
    package func position(in topic: String) -> RecordPosition? {
        offset < 0 ? nil : RecordPosition(topic: topic, partition: partition, offset: offset)
    }
}

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
        case TopicName.deadLetter(of: TopicName.commands):
            guard let id = json["metadata"]?["requestId"]?.string else { return nil }
            requestID = id
            let errorClass = record.headers.text("triage-error-class") ?? ""
            status = CommandStatus(
                .failed, errorClass: ErrorClass(rawValue: errorClass)?.rawValue ?? "system",
                error: record.headers.text(HeaderName.error).map(CommandFailure.text))
            position = CommandNews.origin(record)
            contentHash = CommandRecord.contentHash(of: json)
        case TopicName.commands:
            guard let id = json["metadata"]?["requestId"]?.string else { return nil }
            requestID = id
            status = CommandStatus(.pending)
            // One that was replayed is the one that it was.
            position = CommandNews.origin(record) ?? record.position
            contentHash = CommandRecord.contentHash(of: json)
        default: return nil
        }
        guard RequestTag.isRequestID(requestID.utf8) else { return nil }
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

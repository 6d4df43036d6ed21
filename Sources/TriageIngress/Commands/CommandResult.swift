internal import Crypto
public import TriageEvents

/// What is told of a command that was carried out: the value of a record of ``TopicName/commandResults``, whose key is the request id.
public struct CommandResult: Sendable, Hashable {
    /// The command's request id.
    public let requestID: String
    /// What it asked for.
    public let action: ChangeAction
    /// The Patient's id; nil if the server didn't tell. Patient data.
    public let resourceID: String?
    /// The version that it wrote; nil if the server didn't tell.
    public let versionID: String?
    /// When it was done.
    public let finishedAt: Timestamp

    /// A result of these parts.
    public init(requestID: String, action: ChangeAction, resourceID: String?, versionID: String?, finishedAt: Timestamp) {
        self.requestID = requestID
        self.action = action
        self.resourceID = resourceID
        self.versionID = versionID
        self.finishedAt = finishedAt
    }

    /// The result that a record's value tells, a JSON object; nil if it isn't one of ours.
    public init?(_ value: ByteSlice) {
        guard let json = JSONValue(value), json["status"]?.says("completed") == true, let id = json["requestId"]?.string,
            RequestTag.isRequestID(id.utf8), let action = json["action"]?.string.flatMap({ ChangeAction(rawValue: $0) }),
            let time = json["finishedAt"]?.stringBytes.flatMap({ Timestamp(instant: $0) })
        else { return nil }
        let reference = json["resource"]?.string
        let prefix = "Patient/"
        let resourceID = reference.flatMap { $0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : nil }
        let versionID = json["versionId"]?.string
        for text in [resourceID, versionID] {
            if let text, !FHIRGrammar.isID(ByteSlice(text)) { return nil }
        }
        self.init(requestID: id, action: action, resourceID: resourceID, versionID: versionID, finishedAt: time)
    }

    /// The result as JSON: `requestId`, `status` (`completed`), `action` (`created`, `updated`, `deleted`), `resource` (`Patient/ID`) and
    /// `versionId`, null where they aren't known, and `finishedAt`.
    public var json: ByteSlice {
        let resource = resourceID.map { JSONText("Patient/\($0)").quoted } ?? "null"
        let version = versionID.map { JSONText($0).quoted } ?? "null"
        return ByteSlice(
            """
            {"requestId":\(JSONText(requestID).quoted),"status":"completed","action":"\(action.rawValue)","resource":\(resource),\
            "versionId":\(version),"finishedAt":"\(finishedAt.iso8601)"}
            """)
    }

    /// The record that tells it.
    public var record: OutboundRecord {
        OutboundRecord(
            topic: TopicName.commandResults, key: ByteSlice(requestID), value: json,
            headers: [Header("content-type", text: "application/json")])
    }

    /// The id of the event that a command causes: a UUID made of its request id (RFC 9562 §5.8), so that a redelivery's is the same.
    public static func eventID(of requestID: String) -> String {
        var bytes = Array(SHA256.hash(data: Array("urn:triage:command-event:\(requestID)".utf8)).prefix(16))
        bytes[6] = bytes[6] & 0x0F | 0x80
        bytes[8] = bytes[8] & 0x3F | 0x80
        var text = ""
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text += "-" }
            text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return text
    }
}

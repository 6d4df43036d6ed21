public import TriageEvents

/// What became of a command.
public struct CommandStatus: Sendable, Equatable {
    /// How far it is.
    public enum State: String, Sendable, CaseIterable {
        /// Kafka has it; nothing is known of its end.
        case pending
        /// It was carried out.
        case completed
        /// It was given up and lies in the dead letter topic.
        case failed
    }

    /// How far it is.
    public var state: State
    /// What the result says, a JSON object; nil if it isn't completed or the result was too long to keep. May name a patient.
    public var result: ByteSlice?
    /// `transient`, `persistent` or `system`; nil if it hasn't failed.
    public var errorClass: String?
    /// The error's type and its code, words of closed vocabularies such as `RejectedError http_422_business-rule`; nil if it hasn't
    /// failed.
    public var error: String?

    /// A status of these parts.
    public init(_ state: State, result: ByteSlice? = nil, errorClass: String? = nil, error: String? = nil) {
        self.state = state
        self.result = result
        self.errorClass = errorClass
        self.error = error
    }

    /// The status as JSON; of a completed command what the result says.
    public func json(_ requestID: String) -> String {
        if let result { return String(decoding: result, as: UTF8.self) }
        var text = "{\"requestId\":\(JSONText(requestID).quoted),\"status\":\"\(state.rawValue)\""
        if let errorClass { text += ",\"class\":\(JSONText(errorClass).quoted)" }
        if let error { text += ",\"error\":\(JSONText(error).quoted)" }
        return text + "}"
    }
}

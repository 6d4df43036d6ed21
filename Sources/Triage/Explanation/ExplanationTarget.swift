public import TriageEvents

/// What is to be explained, as it was typed.
public enum ExplanationTarget: Sendable, Hashable {
    /// The record at a place: of a main, a retry or a dead letter topic.
    case record(RecordPosition)
    /// The events of a trace.
    case trace(TraceID)
    /// The event with this id: `metadata.eventId` or what the other forms have in its place.
    case event(String)

    /// Reads `TOPIC/PARTITION/OFFSET`, 32 hexadecimal digits, a `traceparent` or an event id.
    ///
    /// - Throws: ``ConfigurationError`` for anything else; what was typed isn't repeated, since it may be anything.
    public init(_ text: String) throws(ConfigurationError) {
        let text = ExplanationTarget.trimmed(text)
        if text.contains("/") {
            guard let position = RecordPosition(text) else {
                throw ConfigurationError(
                    key: "WHAT", value: "…",
                    expected: "TOPIC/PARTITION/OFFSET such as fhir.Patient.created/3/1042, a trace id or an event id")
            }
            self = .record(position)
        } else if let context = TraceContext(traceparent: ByteSlice(text.lowercased())) {
            self = .trace(context.traceID)
        } else if text.utf8.count == 32, text.utf8.allSatisfy(ExplanationTarget.isHexadecimal) {
            guard let id = TraceID(text.lowercased()) else {
                throw ConfigurationError(key: "WHAT", value: "…", expected: "a trace id that isn't all zero")
            }
            self = .trace(id)
        } else {
            guard (1...128).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
                throw ConfigurationError(
                    key: "WHAT", value: "…",
                    expected:
                        "TOPIC/PARTITION/OFFSET, a trace id (32 hexadecimal digits), a traceparent, or an event id of up to "
                        + "128 visible characters")
            }
            self = .event(text)
        }
    }

    private static func trimmed(_ text: String) -> String {
        var text = text[...]
        while let first = text.first, first.isWhitespace { text = text.dropFirst() }
        while let last = text.last, last.isWhitespace { text = text.dropLast() }
        return String(text)
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }
}

/// What was asked for isn't there, and what is there instead.
public struct NothingToExplain: Error, Sendable, Hashable, CustomStringConvertible {
    /// The whole of it, in one or two sentences without patient data.
    public let description: String

    init(_ description: String) { self.description = description }
}

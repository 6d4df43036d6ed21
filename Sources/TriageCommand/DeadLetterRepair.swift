import Foundation
import Triage
import TriageEvents

/// A change of payloads that was asked for.
struct Repair: Sendable {
    private let patch: JSONPatch

    /// A JSON patch that was typed, or the file that holds it.
    static func patch(_ text: String) throws -> Repair {
        var bytes = ByteSlice(text)
        if !isTyped(text) {
            guard let data = FileManager.default.contents(atPath: text) else {
                throw ConfigurationError(
                    key: "--patch", value: PlainText.printable(text), expected: "a JSON array of operations, or a readable file")
            }
            bytes = ByteSlice(data)
        }
        do {
            return Repair(patch: try JSONPatch(bytes))
        } catch {
            throw ConfigurationError(key: "--patch", value: "…", expected: "a JSON patch (RFC 6902): \(error)")
        }
    }

    /// Whether a text is a patch, and no file's name.
    static func isTyped(_ text: String) -> Bool { text.first { !$0.isWhitespace } == "[" }

    /// Whether its answer tells what a value is: whoever asks often enough what it isn't knows it.
    var compares: Bool { patch.operations.contains { $0.kind == .test } }

    /// - Throws: if there is nothing to be changed, or it doesn't go.
    func applied(to value: ByteSlice?) throws -> ByteSlice {
        guard let value else { throw EditorError("there is no payload to be patched") }
        return try patch.applied(to: value)
    }
}

/// Makes sure that what an operator made of an event is one.
struct EventChecker: Sendable {
    let roles: TopicRoles

    /// The bytes, if they decode as what the record's topic carries.
    func checked(_ value: ByteSlice, of record: Record) throws -> ByteSlice {
        let candidate = Record(
            topic: record.topic, partition: record.partition, offset: record.offset, timestamp: record.timestamp, key: record.key,
            value: value, headers: record.headers)
        do {
            let event = try EventDecoder(roles: roles).decode(candidate)
            if let fault = LetterRepair.strangeness(of: event, in: record, roles) { throw EditorError("\(fault)") }
        } catch let error as InvalidEvent {
            guard error.isNothing else {
                throw EditorError(
                    "what it would be is no event: \(error.rule.rawValue)\(error.path.isEmpty ? "" : " at \(error.path)")")
            }
        }
        return value
    }
}

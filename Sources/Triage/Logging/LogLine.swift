internal import Logging
internal import TriageEvents

/// How log lines are written.
public enum LogFormat: String, Sendable, CaseIterable {
    /// For people: time, level, logger, message, `key=value`.
    case text
    /// For machines: one JSON object a line.
    case json
}

/// A log line before it is written: everything that either format shows.
struct LogLine {
    /// The fields that join a line to a span; what is not known is nil.
    static let traceKeys = ["trace_id", "span_id", "trace_flags"]

    var timestamp: Timestamp
    var level: Logger.Level
    var label: String
    var message: String
    var source: String
    var metadata: Logger.Metadata

    /// The line with its line feed. No other line feed and no other control character is in it, whatever was logged.
    func bytes(_ format: LogFormat) -> [UInt8] {
        var line = LineBuffer()
        switch format {
        case .text: write(text: &line)
        case .json: write(json: &line)
        }
        line.bytes.append(0x0A)
        return line.bytes
    }

    private var ordinaryKeys: [String] { metadata.keys.filter { !LogLine.traceKeys.contains($0) }.sorted() }

    /// `2026-11-22T10:00:00.123Z notice triage: message key=value trace_id=…`
    private func write(text line: inout LineBuffer) {
        line.append(timestamp.iso8601)
        line.append(" \(level)")
        if !label.isEmpty {
            line.append(" ")
            line.append(printable: label)
        }
        line.append(": ")
        line.append(printable: message)
        for key in ordinaryKeys + LogLine.traceKeys {
            guard let value = metadata[key] else { continue }
            line.append(" ")
            line.append(printable: key)
            line.append("=")
            line.append(word: "\(value)")
        }
    }

    private func write(json line: inout LineBuffer) {
        line.append(#"{"timestamp":"\#(timestamp.iso8601)","level":"\#(level)","logger":"#)
        line.append(quoted: label)
        line.append(#","message":"#)
        line.append(quoted: message)
        for key in LogLine.traceKeys {
            guard let value = metadata[key] else { continue }
            line.append(#","\#(key)":"#)
            line.append(quoted: "\(value)")
        }
        let keys = ordinaryKeys
        if !keys.isEmpty {
            line.append(#","metadata":{"#)
            for (index, key) in keys.enumerated() {
                if index > 0 { line.append(",") }
                line.append(quoted: key)
                line.append(":")
                if let value = metadata[key] { line.append(json: value) }
            }
            line.append("}")
        }
        line.append(#","source":"#)
        line.append(quoted: source)
        line.append("}")
    }
}

/// Collects the bytes of a line; what is not ours is escaped on its way in.
private struct LineBuffer {
    var bytes: [UInt8] = []

    init() { bytes.reserveCapacity(256) }

    /// Text of our own, as it is.
    mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    /// Text without its control characters and line separators, which could forge lines or steer a terminal.
    mutating func append(printable text: String) {
        for scalar in text.unicodeScalars {
            if LineBuffer.isControl(scalar) { append(escaped: scalar) } else { append(scalar) }
        }
    }

    /// A value behind `key=`: in quotes if it is empty or holds spaces, quotes or equal signs, so that its end can be seen.
    mutating func append(word text: String) {
        let isPlain = !text.isEmpty && text.unicodeScalars.allSatisfy { $0 != " " && $0 != "\"" && $0 != "=" }
        if isPlain { append(printable: text) } else { append(quoted: text) }
    }

    /// A JSON string (RFC 8259 §7). The controls above U+007E and the line separators are legal in one, but escaped as well.
    mutating func append(quoted text: String) {
        bytes.append(0x22)
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" {
                bytes.append(0x5C)
                append(scalar)
            } else if LineBuffer.isControl(scalar) {
                append(escaped: scalar)
            } else {
                append(scalar)
            }
        }
        bytes.append(0x22)
    }

    mutating func append(json value: Logger.MetadataValue) {
        switch value {
        case .string(let text):
            append(quoted: text)
        case .stringConvertible(let convertible):
            switch convertible {
            case let truth as Bool: append(truth ? "true" : "false")
            case let number as any BinaryInteger: append(String(number))
            case let number as Double where number.isFinite: append("\(number)")
            case let number as Float where number.isFinite: append("\(number)")
            default: append(quoted: convertible.description)
            }
        case .array(let elements):
            append("[")
            for (index, element) in elements.enumerated() {
                if index > 0 { append(",") }
                append(json: element)
            }
            append("]")
        case .dictionary(let members):
            append("{")
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { append(",") }
                append(quoted: member.key)
                append(":")
                append(json: member.value)
            }
            append("}")
        }
    }

    private mutating func append(_ scalar: Unicode.Scalar) {
        bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    }

    private mutating func append(escaped scalar: Unicode.Scalar) {
        switch scalar {
        case "\n": append("\\n")
        case "\r": append("\\r")
        case "\t": append("\\t")
        default:
            let digits = String(scalar.value, radix: 16)
            append("\\u" + String(repeating: "0", count: 4 - digits.count) + digits)
        }
    }

    /// C0, DEL, C1, and the two separators that some readers take for line ends.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0, 0x2028, 0x2029: true
        default: false
        }
    }
}

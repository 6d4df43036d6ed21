public import Logging
public import TriageEvents
public import TriageTelemetry

/// What is safe to export of the line that is being logged; set around the call of swift-log, whose messages are plain text.
struct SafeLine: Sendable {
    let text: SafeText
    let attributes: [Attribute]
    let context: TraceContext?

    @TaskLocal static var current: SafeLine?
}

extension Logger {
    /// Logs a line of safe words: the one kind whose text is exported, since no payload can be in it.
    ///
    /// Written as any message, `logger.log(level: .notice, safe: "indexed in \(milliseconds) ms")`, but only literals, numbers,
    /// enum cases and other safe texts can be put in. With any other backend than ``TriageLogHandler`` it is a line like others.
    ///
    /// - Parameters:
    ///   - attributes: what else is known; shown behind the text, except identifiers, which are only exported.
    ///   - context: the span that it is about, if that isn't the current one.
    ///   - shown: what the log shows instead of `text`, such as the same with foreign words that must not be exported.
    public func log(
        level: Logger.Level, safe text: SafeText, _ attributes: [Attribute] = [], in context: TraceContext? = nil,
        shown: @autoclosure () -> String? = nil, file: String = #fileID, function: String = #function, line: UInt = #line
    ) {
        guard level >= logLevel else { return }
        var metadata: Logger.Metadata = [:]
        for attribute in attributes {
            if let value = attribute.value.shown { metadata[attribute.key.description] = value }
        }
        if let context, context.isValid { metadata.merge(context.logMetadata) { _, context in context } }
        let message = shown() ?? text.text
        SafeLine.$current.withValue(SafeLine(text: text, attributes: attributes, context: context)) {
            log(
                level: level, "\(message)", metadata: metadata.isEmpty ? nil : metadata, file: file, function: function,
                line: line
            )
        }
    }
}

extension TraceContext {
    /// The fields by which a log line is joined to a span (specification, compatibility/logging_trace_context).
    var logMetadata: Logger.Metadata {
        [
            "trace_id": .string("\(traceID)"), "span_id": .string("\(spanID)"),
            "trace_flags": .string(
                flags.rawValue < 16 ? "0\(String(flags.rawValue, radix: 16))" : String(flags.rawValue, radix: 16)),
        ]
    }
}

extension AttributeValue {
    /// The value in a log line; nil for an identifier, since the log doesn't know how those are to be shown.
    fileprivate var shown: Logger.MetadataValue? {
        switch self {
        case .literal(let text): .string(text.description)
        case .text(let text): .string(text.text)
        case .int(let number): .stringConvertible(number)
        case .double(let number): .stringConvertible(number)
        case .bool(let truth): .stringConvertible(truth)
        case .uuid(let high, let low): .string(AttributeValue.text(high, low))
        case .identifier: nil
        }
    }

    private static func text(_ high: UInt64, _ low: UInt64) -> String {
        func digits(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        let first = digits(high)
        let second = digits(low)
        return "\(first.prefix(8))-\(first.dropFirst(8).prefix(4))-\(first.suffix(4))-\(second.prefix(4))-\(second.dropFirst(4))"
    }
}

public import Logging
internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// What of other people's log lines may be exported; nothing by default (design §6).
public struct LogExportRules: Sendable, Hashable {
    /// Labels of loggers whose messages are exported as they are: whoever names one vouches for its texts.
    public var labels: Set<String> = []
    /// Keys of metadata whose values are exported as they are. Other entries are left out and counted.
    public var metadata: Set<String> = []

    /// Nothing.
    public init() {}
}

/// swift-log's backend: lines on stderr as text or JSON, each with the ids of the span it was logged in, exported as well if asked.
///
/// ```swift
/// let output = LogOutput(.json)
/// LoggingSystem.bootstrap { TriageLogHandler(label: $0, output: output) }
/// output.export(to: telemetry)      // with OTEL_LOGS_EXPORTER=otlp
/// ```
///
/// On stderr a line stands as it was logged. What is exported of it is only what is known to be safe: the text of
/// ``Logging/Logger/log(level:safe:_:in:shown:file:function:line:)`` and what ``LogExportRules`` name; of any other line level,
/// time, place in the source and trace context.
public struct TriageLogHandler: LogHandler {
    /// Lines below it are not logged. A value of each copy, as swift-log asks.
    public var logLevel: Logger.Level
    /// What every line of this handler carries.
    public var metadata: Logger.Metadata = [:]
    /// Asked for more with every line.
    public var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let output: LogOutput

    /// A handler.
    ///
    /// - Parameters:
    ///   - label: the logger's name.
    ///   - metadataProvider: default what ``Logging/LoggingSystem`` was bootstrapped with.
    public init(
        label: String, output: LogOutput, level: Logger.Level = .info,
        metadataProvider: Logger.MetadataProvider? = LoggingSystem.metadataProvider
    ) {
        self.label = label
        self.output = output
        logLevel = level
        self.metadataProvider = metadataProvider
    }

    /// An entry of ``metadata``.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes the line, and exports what may be.
    public func log(event: LogEvent) {
        let now = output.now()
        let safe = SafeLine.current
        let context = safe?.context ?? currentTraceContext()
        var line = LogLine(
            timestamp: now, level: event.level, label: label, message: event.message.description, source: event.source,
            metadata: merged(event)
        )
        // Ids that somebody gave are that line's; only a line without any is put into the current span.
        if let context, line.metadata["trace_id"] == nil {
            line.metadata.merge(context.logMetadata) { _, current in current }
        }
        output.write(line)
        if let target = output.target { target.emit(record(of: event, line, safe, context, counted: target)) }
    }

    /// By swift-log's precedence: the line's own over the provider's over the handler's.
    private func merged(_ event: LogEvent) -> Logger.Metadata {
        var merged = metadata
        if let provided = metadataProvider?.get(), !provided.isEmpty { merged.merge(provided) { _, provided in provided } }
        if let explicit = event.metadata, !explicit.isEmpty { merged.merge(explicit) { _, explicit in explicit } }
        if let error = event.error {
            // Type and code, never its text, which may hold a payload (design §6).
            merged["error.type"] = "\(ErrorClassification.failure(error, step: "log").message.text)"
        }
        return merged
    }

    private func record(
        of event: LogEvent, _ line: LogLine, _ safe: SafeLine?, _ context: TraceContext?, counted: LogEmitter
    ) -> LogRecord {
        let isVouchedFor = output.exported.labels.contains(label)
        let body = safe?.text ?? (isVouchedFor ? SafeText(vetted: line.message) : nil)
        if body == nil { counted.countWithheld(bodies: 1) }
        var attributes = safe?.attributes ?? []
        if isVouchedFor { attributes.append(Attribute("triage.log.logger", .text(SafeText(vetted: label)))) }
        if TriageLogHandler.isSourcePath(event.file) {
            attributes.append(Attribute("code.file.path", .text(SafeText(vetted: event.file))))
            attributes.append(Attribute("code.line.number", .int(Int64(clamping: event.line))))
        }
        let own = Set(attributes.map(\.key.description) + LogLine.traceKeys)
        var allowed: [LogRecord.AllowedAttribute] = []
        var withheld = 0
        for (key, value) in line.metadata.sorted(by: { $0.key < $1.key }) where !own.contains(key) {
            if output.exported.metadata.contains(key), let text = value.scalarText {
                allowed.append(LogRecord.AllowedAttribute(vettedKey: key, vettedValue: text))
            } else {
                withheld += 1
            }
        }
        counted.countWithheld(attributes: withheld)
        var record = LogRecord(
            LogSeverity(event.level), body, at: line.timestamp, attributes: attributes, allowed: allowed, context: context
        )
        record.countDroppedAttributes(withheld)
        return record
    }

    /// `Module/File.swift`, as the compiler makes of `#fileID`; anything else somebody put together.
    private static func isSourcePath(_ path: String) -> Bool {
        path.utf8.count <= 128 && path.hasSuffix(".swift") && path.utf8.count { $0 == 0x2F } == 1
            && path.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                    || "/._+-".utf8.contains($0)
            }
    }
}

extension LogSeverity {
    /// swift-log's level as OpenTelemetry counts it.
    public init(_ level: Logger.Level) {
        self =
            switch level {
            case .trace: .trace
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            case .critical: .fatal
            }
    }
}

extension Logger.MetadataValue {
    /// The value as text; nil for lists and dictionaries.
    fileprivate var scalarText: String? {
        switch self {
        case .string(let text): text
        case .stringConvertible(let value): value.description
        case .array, .dictionary: nil
        }
    }
}

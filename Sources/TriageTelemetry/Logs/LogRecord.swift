public import TriageEvents

/// How bad it is: OpenTelemetry's severity numbers (logs/data-model §severity fields), as many as are used here.
///
/// swift-log's seven levels have one each; `notice` and `critical` are not in the data model by name, so they are put at the
/// second INFO and the first FATAL.
public enum LogSeverity: UInt8, Sendable, Hashable, CaseIterable, Comparable {
    /// TRACE, swift-log's `trace`.
    case trace = 1
    /// DEBUG, swift-log's `debug`.
    case debug = 5
    /// INFO, swift-log's `info`.
    case info = 9
    /// INFO2, swift-log's `notice`.
    case notice = 10
    /// WARN, swift-log's `warning`.
    case warning = 13
    /// ERROR, swift-log's `error`.
    case error = 17
    /// FATAL, swift-log's `critical`.
    case fatal = 21

    /// The severity's text: the data model's short names but for `NOTICE`.
    public var text: StaticText {
        switch self {
        case .trace: "TRACE"
        case .debug: "DEBUG"
        case .info: "INFO"
        case .notice: "NOTICE"
        case .warning: "WARN"
        case .error: "ERROR"
        case .fatal: "FATAL"
        }
    }

    /// By number.
    public static func < (left: LogSeverity, right: LogSeverity) -> Bool { left.rawValue < right.rawValue }
}

/// A log record or, if it has a name, an event: what leaves the process, so it is made of safe values only (design §6).
public struct LogRecord: Sendable, Hashable {
    /// When it happened.
    public var timestamp: Timestamp
    /// When it was noticed; the same unless it was told of later.
    public var observed: Timestamp
    /// How bad it is.
    public var severity: LogSeverity
    /// What happened, in safe words; nil where the words were not safe, or the name says it all.
    public var body: SafeText?
    /// An event's name, such as `messaging.process.exception`; nil for a plain record.
    public var eventName: StaticText?
    /// What else is known, with keys from the source.
    public var attributes: [Attribute]
    /// What else is known, with keys that the operator has allowed by name.
    public var allowed: [AllowedAttribute]
    /// The span that it happened in.
    public var context: TraceContext?
    /// Attributes that were left out: beyond the limit, or not allowed to leave.
    public internal(set) var droppedAttributes: UInt32 = 0

    /// An attribute whose key the operator has allowed to leave by name.
    public struct AllowedAttribute: Sendable, Hashable {
        /// The key, one of a configured list.
        public let key: SafeText
        /// The value, let through with its key.
        public let value: SafeText

        package init(vettedKey key: String, vettedValue value: String) {
            self.key = SafeText(vetted: key)
            self.value = SafeText(vetted: value)
        }
    }

    /// A record of these parts.
    public init(
        _ severity: LogSeverity, _ body: SafeText?, eventName: StaticString? = nil, at timestamp: Timestamp,
        attributes: [Attribute] = [], allowed: [AllowedAttribute] = [], context: TraceContext? = nil
    ) {
        self.timestamp = timestamp
        observed = timestamp
        self.severity = severity
        self.body = body
        self.eventName = eventName.map { StaticText($0) }
        self.attributes = attributes
        self.allowed = allowed
        self.context = context
    }

    /// Counts attributes that the caller left out.
    public mutating func countDroppedAttributes(_ count: Int) {
        droppedAttributes = UInt32(clamping: Int(droppedAttributes) + max(0, count))
    }

    /// The record within `limits`: the first attributes stay, the rest are counted.
    func limited(to limits: LogLimits) -> LogRecord {
        let room = max(0, limits.attributes)
        guard attributes.count + allowed.count > room else { return self }
        var limited = self
        limited.countDroppedAttributes(attributes.count + allowed.count - room)
        limited.attributes = Array(attributes.prefix(room))
        limited.allowed = Array(allowed.prefix(room - limited.attributes.count))
        return limited
    }
}

/// How much a log record may hold (specification, logs/sdk §LogRecord limits). The body is exempt.
public struct LogLimits: Sendable, Hashable {
    /// Attributes of a record. Default 128 (`OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT`).
    public var attributes = 128
    /// Characters of a string value; nil is unlimited (`OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    public var valueLength: Int?

    /// The specification's defaults.
    public init() {}
}

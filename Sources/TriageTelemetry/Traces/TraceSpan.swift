public import TriageEvents

/// An ended span as it is shown to a person: of this process, of a trace back end, or made up from an attempt ledger.
///
/// Its texts are safe: those of our own spans went through the identifier policy, and of what a back end tells about other
/// services' spans only names and numbers are taken (``TraceSpan/init(_:)``).
public struct TraceSpan: Sendable, Hashable {
    /// A name and what it says.
    public struct Attribute: Sendable, Hashable {
        /// The name, as the semantic conventions or ours have it.
        public let key: String
        /// The value as text.
        public let value: String

        /// The attribute `key` = `value`.
        public init(_ key: String, _ value: String) {
            self.key = key
            self.value = value
        }
    }

    /// A pointer to another span, possibly of another trace.
    public struct Link: Sendable, Hashable {
        /// The trace it leads to.
        public let traceID: TraceID
        /// The span it leads to.
        public let spanID: SpanID

        /// A link to a span.
        public init(_ traceID: TraceID, _ spanID: SpanID) {
            self.traceID = traceID
            self.spanID = spanID
        }
    }

    /// Something that happened during the span.
    public struct Event: Sendable, Hashable {
        /// Its name, such as `exception`.
        public let name: String
        /// When.
        public let time: Timestamp
        /// What is known about it.
        public let attributes: [Attribute]

        /// The event `name` at `time`.
        public init(_ name: String, at time: Timestamp, _ attributes: [Attribute] = []) {
            self.name = name
            self.time = time
            self.attributes = attributes
        }
    }

    /// How it went.
    public enum Status: Sendable, Hashable {
        /// Not set, as with everything that went well.
        case unset
        /// Set by an application to say so.
        case ok
        /// It failed, with a description that may be empty.
        case error(String)
    }

    /// The trace.
    public let traceID: TraceID
    /// The span.
    public let spanID: SpanID
    /// The span above it; nil for a root.
    public let parentSpanID: SpanID?
    /// Operation first, then destination: `process fhir.Patient.created`.
    public let name: String
    /// The span's kind.
    public let kind: SpanKind
    /// `service.name`; nil if it isn't known.
    public let service: String?
    /// When it began.
    public let start: Timestamp
    /// When it ended; never before ``start``.
    public let end: Timestamp
    /// How it went.
    public let status: Status
    /// What is known about it, each key once.
    public let attributes: [Attribute]
    /// What it points to.
    public let links: [Link]
    /// What happened during it.
    public let events: [Event]

    /// A span of these parts.
    public init(
        traceID: TraceID, spanID: SpanID, parentSpanID: SpanID? = nil, name: String, kind: SpanKind = .internal,
        service: String? = nil, start: Timestamp, end: Timestamp, status: Status = .unset, attributes: [Attribute] = [],
        links: [Link] = [], events: [Event] = []
    ) {
        self.traceID = traceID
        self.spanID = spanID
        self.parentSpanID = parentSpanID.flatMap { $0.isValid ? $0 : nil }
        self.name = name
        self.kind = kind
        self.service = service
        self.start = start
        self.end = max(start, end)
        self.status = status
        self.attributes = attributes
        self.links = links
        self.events = events
    }

    /// How long it took.
    public var duration: Duration { end - start }
    /// Whether its status is ERROR.
    public var isFailed: Bool { if case .error = status { true } else { false } }
    /// `error.type`: the name of what went wrong; nil if nothing did, or it doesn't say.
    public var errorType: String? { self["error.type"] }

    /// The value of an attribute; nil if it has none of that name.
    public subscript(key: String) -> String? { attributes.first { $0.key == key }?.value }

    /// The record that a process span was about, or that a send span wrote; nil if it doesn't say all three.
    public var record: RecordPosition? {
        guard let topic = self["messaging.destination.name"],
            let partition = self["messaging.destination.partition.id"].flatMap({ Int32($0) }), partition >= 0,
            let offset = self["messaging.kafka.offset"].flatMap({ Int64($0) }), offset >= 0
        else { return nil }
        return RecordPosition(topic: topic, partition: partition, offset: offset)
    }
}

extension TraceSpan {
    /// A span that ended in this process.
    ///
    /// - Parameters:
    ///   - span: the span.
    ///   - identifiers: how resource ids and keys show; plain ones don't show at all, since more people look at this than export it.
    ///   - service: this process's `service.name`.
    public init(_ span: borrowing SpanData, identifiers: IdentifierPolicy, service: String?) {
        self.init(StoredSpan(span), identifiers: identifiers, service: service)
    }

    init(_ span: StoredSpan, identifiers: IdentifierPolicy, service: String?) {
        let status: Status =
            switch span.status {
            case .unset: .unset
            case .ok: .ok
            case .error(let text): .error(text.text)
            }
        self.init(
            traceID: span.context.traceID, spanID: span.context.spanID, parentSpanID: span.parentSpanID,
            name: span.template.name, kind: span.template.kind, service: service, start: span.start, end: span.end,
            status: status,
            attributes: TraceSpan.texts(span.template.attributes + span.attributes, identifiers),
            links: span.links.map { Link($0.context.traceID, $0.context.spanID) },
            events: span.events.map { Event($0.name.text, at: $0.timestamp, TraceSpan.texts($0.attributes, identifiers)) })
    }

    private static func texts(
        _ attributes: [TriageTelemetry.Attribute], _ identifiers: IdentifierPolicy
    ) -> [Attribute] {
        attributes.compactMap { attribute in
            let text: String?
            switch attribute.value {
            case .literal(let literal): text = literal.description
            case .text(let safe): text = safe.text
            case .int(let number): text = String(number)
            case .double(let number): text = String(number)
            case .bool(let flag): text = flag ? "true" : "false"
            case .uuid(let high, let low): text = uuid(high, low)
            case .identifier(let identifier):
                if case .hashed = identifiers { text = identifiers.text(for: identifier) } else { text = nil }
            }
            return text.map { Attribute(attribute.key.description, $0) }
        }
    }

    /// 36 lower-case characters, 8-4-4-4-12 (RFC 9562 §4).
    private static func uuid(_ high: UInt64, _ low: UInt64) -> String {
        var text = ""
        for (index, digit) in (high.hexadecimal + low.hexadecimal).enumerated() {
            if index == 8 || index == 12 || index == 16 || index == 20 { text.append("-") }
            text.append(digit)
        }
        return text
    }
}

/// What is kept of a span that ended: its parts, without the record that its key was read from.
struct StoredSpan: Sendable {
    let template: SpanTemplate
    let context: TraceContext
    let parentSpanID: SpanID
    let start: Timestamp
    let end: Timestamp
    let attributes: [Attribute]
    let events: [SpanEvent]
    let links: [SpanLink]
    let status: SpanStatus
    /// About what it occupies.
    let bytes: Int

    init(_ span: borrowing SpanData) {
        template = span.template
        context = span.context
        parentSpanID = span.parentSpanID
        start = span.start
        end = span.end
        attributes = StoredSpan.owned(span.attributes)
        events = span.events
        links = span.links
        status = span.status
        bytes = span.estimatedBytes
    }

    /// A key is a slice of its record's memory: kept as it is, it would keep the record, payload and all.
    private static func owned(_ attributes: [Attribute]) -> [Attribute] {
        func isIdentifier(_ attribute: Attribute) -> Bool { if case .identifier = attribute.value { true } else { false } }
        guard attributes.contains(where: isIdentifier) else { return attributes }
        return attributes.map { attribute in
            guard case .identifier(let slice) = attribute.value else { return attribute }
            var owned = attribute
            owned.value = .identifier(slice.withUnsafeBytes { ByteSlice(copying: $0) })
            return owned
        }
    }
}

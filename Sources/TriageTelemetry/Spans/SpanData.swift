public import TriageEvents

/// OpenTelemetry's span kinds, numbered as OTLP numbers them (trace.v1 SpanKind).
public enum SpanKind: UInt8, Sendable, CaseIterable {
    /// Inside the process.
    case `internal` = 1
    /// Handles a remote caller's request.
    case server = 2
    /// Waits for a remote callee.
    case client = 3
    /// Hands a message to a broker.
    case producer = 4
    /// Handles a message from a broker.
    case consumer = 5
}

/// A span's status. Success stays unset; instrumentation never sets OK (semantic conventions, recording errors).
public enum SpanStatus: Sendable, Hashable {
    /// Not set.
    case unset
    /// Set by an application to say so explicitly.
    case ok
    /// It failed, with a description that may be empty.
    case error(SafeText)
}

/// Something that happened during a span.
public struct SpanEvent: Sendable, Hashable {
    /// The event's name, such as `exception`.
    public let name: SafeText
    /// When.
    public let timestamp: Timestamp
    /// What is known about it.
    public let attributes: [Attribute]

    /// The event `name` at `timestamp`.
    public init(_ name: StaticString, at timestamp: Timestamp, _ attributes: [Attribute] = []) {
        self.init(named: SafeText(stringLiteral: name), at: timestamp, attributes)
    }

    /// The event `name`, which is vetted text, at `timestamp`.
    public init(named name: SafeText, at timestamp: Timestamp, _ attributes: [Attribute] = []) {
        self.name = name
        self.timestamp = timestamp
        self.attributes = attributes
    }
}

/// A pointer to another span, possibly of another trace.
public struct SpanLink: Sendable, Hashable {
    /// The context linked to.
    public let context: TraceContext
    /// What is known about it.
    public let attributes: [Attribute]

    /// A link to `context`.
    public init(_ context: TraceContext, _ attributes: [Attribute] = []) {
        self.context = context
        self.attributes = attributes
    }
}

/// What all spans of a step have in common: name, kind, and the attributes that never change.
///
/// Made once, when a topic or partition becomes known, by ``Tracer/template(_:kind:_:)``, which has the encoder pack it;
/// each span then only adds what is its own.
public final class SpanTemplate: Sendable {
    /// The span's name: operation first, then destination.
    public let name: String
    /// The span's kind.
    public let kind: SpanKind
    /// The attributes that every span of this template has.
    public let attributes: [Attribute]
    /// Name, kind and attributes as the encoder packed them; empty without an encoder.
    public let packed: ByteSlice

    /// A template whose packed form is already known.
    public init(name: String, kind: SpanKind, attributes: [Attribute], packed: ByteSlice) {
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.packed = packed
    }
}

/// How much a span may hold (specification, common/README §attribute limits, trace/sdk §span limits).
public struct SpanLimits: Sendable, Hashable {
    /// Attributes of a span, its template's included. Default 128 (`OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`).
    public var attributes = 128
    /// Events of a span. Default 128 (`OTEL_SPAN_EVENT_COUNT_LIMIT`).
    public var events = 128
    /// Links of a span. Default 128 (`OTEL_SPAN_LINK_COUNT_LIMIT`).
    public var links = 128
    /// Attributes of an event. Default 128 (`OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`).
    public var eventAttributes = 128
    /// Attributes of a link. Default 128 (`OTEL_LINK_ATTRIBUTE_COUNT_LIMIT`).
    public var linkAttributes = 128
    /// Characters of a string value; nil is unlimited (`OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    public var valueLength: Int?

    /// The specification's defaults.
    public init() {}
}

/// A span: begun by ``Tracer/start(_:parent:at:isSampled:)``, changed while it lives, handed over by ``Tracer/end(_:at:)``.
///
/// A plain value without a lock: whoever holds it is its only writer. A handler gets a ``Span``, which may be shared.
public struct SpanData: Sendable {
    /// Name, kind and constant attributes.
    public private(set) var template: SpanTemplate
    /// The span's own context. It becomes sampled when ``Tracer/fail(_:fingerprint:)`` has the span exported after all.
    public private(set) var context: TraceContext
    /// The parent's span id; invalid (zero) for a root.
    public let parentSpanID: SpanID
    /// Whether the parent was in another process.
    public let parentIsRemote: Bool
    /// When it began.
    public let start: Timestamp
    /// When it ended; the start until then.
    public internal(set) var end: Timestamp
    /// The span's own attributes, without its template's.
    public private(set) var attributes: [Attribute] = []
    /// What happened during it.
    public private(set) var events: [SpanEvent] = []
    /// What it points to.
    public private(set) var links: [SpanLink] = []
    /// How it went.
    public private(set) var status: SpanStatus = .unset
    /// Attributes beyond the limit.
    public private(set) var droppedAttributes: UInt32 = 0
    /// Events beyond the limit.
    public private(set) var droppedEvents: UInt32 = 0
    /// Links beyond the limit.
    public private(set) var droppedLinks: UInt32 = 0
    /// Whether it is recorded; a span that isn't ignores every change. It is exported if its ``context`` is sampled when it ends.
    public let isRecording: Bool
    /// What was decided when it began.
    var result: SamplingResult
    /// What ``FailureTraces`` knows it by, if it does.
    var buffered = BufferedSpanHandle.none
    /// Whether its parent is elsewhere and it begins a local trace that the sampler refused.
    var isLocalRoot = false
    /// Whether the rate limit refused its failure; only for spans that ``FailureTraces`` doesn't know.
    var isRateLimited = false
    /// The bounds on it; those on single values and on events and links are applied by the encoder.
    public let limits: SpanLimits

    /// A span of these parts; a tracer's work, public for tests of processors and encoders.
    public init(
        template: SpanTemplate, context: TraceContext, parent: TraceContext?, start: Timestamp, isRecording: Bool,
        limits: SpanLimits = SpanLimits()
    ) {
        self.template = template
        self.context = context
        parentSpanID = parent?.spanID ?? SpanID(0)
        parentIsRemote = parent?.isRemote ?? false
        self.start = start
        end = start
        self.isRecording = isRecording
        result = isRecording ? .recordAndSample : .drop
        self.limits = limits
    }

    /// Makes it a sampled span.
    mutating func promote() {
        guard !context.isSampled else { return }
        context = TraceContext(
            traceID: context.traceID, spanID: context.spanID, flags: context.flags.union(.sampled),
            traceState: context.traceState, isRemote: context.isRemote
        )
    }

    /// Makes room for this many attributes of its own at once.
    @inline(__always)
    public mutating func reserveAttributes(_ count: Int) {
        if isRecording { attributes.reserveCapacity(count) }
    }

    /// Adds an attribute that is known not to be there yet.
    @inline(__always)
    public mutating func append(_ key: StaticString, _ value: AttributeValue) {
        guard isRecording else { return }
        guard attributes.count + template.attributes.count < limits.attributes else {
            droppedAttributes += 1
            return
        }
        attributes.append(Attribute(key, value))
    }

    /// Sets an attribute; a second value for a key of its own replaces the first.
    ///
    /// A key that the template has is dropped and counted: keys must be unique (specification, common/README §attributes).
    public mutating func set(_ key: StaticString, _ value: AttributeValue) {
        guard isRecording else { return }
        let text = StaticText(key)
        if let index = attributes.firstIndex(where: { $0.key == text }) {
            attributes[index].value = value
        } else if template.attributes.contains(where: { $0.key == text }) {
            droppedAttributes += 1
        } else {
            append(key, value)
        }
    }

    /// Adds an event.
    public mutating func add(_ event: SpanEvent) {
        guard isRecording else { return }
        guard events.count < limits.events else {
            droppedEvents += 1
            return
        }
        events.append(event)
    }

    /// Adds a link; one to an invalid context without attributes and tracestate is ignored.
    public mutating func add(_ link: SpanLink) {
        guard isRecording, link.context.isValid || !link.attributes.isEmpty || link.context.traceState != nil else { return }
        guard links.count < limits.links else {
            droppedLinks += 1
            return
        }
        links.append(link)
    }

    /// Sets the status by the specification's order: OK stays, unset is ignored (trace/api §set status).
    public mutating func set(_ status: SpanStatus) {
        guard isRecording, self.status != .ok, status != .unset else { return }
        self.status = status
    }

    /// Gives the span the name, kind and constant attributes of another template: it was begun before its name was known.
    public mutating func rename(_ template: SpanTemplate) {
        if isRecording { self.template = template }
    }

    /// Counts attributes that the caller left out before adding them.
    public mutating func countDroppedAttributes(_ count: Int) {
        if isRecording { droppedAttributes += UInt32(clamping: count) }
    }

    /// Counts links that the caller left out before adding them.
    public mutating func countDroppedLinks(_ count: Int) {
        if isRecording { droppedLinks += UInt32(clamping: count) }
    }
}

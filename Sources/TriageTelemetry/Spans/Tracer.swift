public import TriageEvents

/// Sees each sampled span when it ends, on the thread that ends it; must neither block nor fail.
public protocol SpanProcessor: Sendable {
    /// Takes note of an ended span.
    func onEnd(_ span: borrowing SpanData)
}

/// Packs spans into the bytes that are exported. Implemented by the OTLP room.
public protocol SpanEncoder: Sendable {
    /// Packs what a template's spans have in common.
    func pack(name: String, kind: SpanKind, attributes: [Attribute]) -> ByteSlice
    /// Encodes one ended span and calls `body` with the bytes, which are valid only inside it.
    func withEncoded(_ span: borrowing SpanData, _ body: (UnsafeRawBufferPointer) -> Void)
}

/// Begins and ends spans. The only way to make one.
public final class Tracer: Sendable {
    /// Decides which spans are recorded.
    public let sampler: Sampler
    /// Bounds on each span.
    public let limits: SpanLimits
    /// Where timestamps come from.
    public let clock: any EventClock
    /// False if the SDK is disabled: contexts are passed on, no ids are made, nothing is recorded.
    public let isEnabled: Bool
    private let ids: IDGenerator
    private let encoder: (any SpanEncoder)?
    private let processors: [any SpanProcessor]
    /// Where failures of steps are logged as events; nil while logs aren't exported.
    public let logs: LogEmitter?
    /// Counts of started spans, by sampling result.
    public let counts = TracerCounts()

    /// A tracer.
    ///
    /// - Parameters:
    ///   - encoder: packs templates; nil if no processor needs packed bytes.
    ///   - processors: called in this order for each sampled span that ends.
    ///   - logs: where failures of steps are logged as events, sampled or not; nil logs none.
    ///   - isEnabled: false for `OTEL_SDK_DISABLED=true`.
    public init(
        sampler: Sampler = .parentBased(root: .alwaysOn), limits: SpanLimits = SpanLimits(), clock: any EventClock,
        ids: IDGenerator = IDGenerator(), encoder: (any SpanEncoder)? = nil, processors: [any SpanProcessor],
        logs: LogEmitter? = nil,
        isEnabled: Bool = true
    ) {
        self.sampler = sampler
        self.limits = limits
        self.clock = clock
        self.ids = ids
        self.encoder = encoder
        self.processors = processors
        self.logs = logs
        self.isEnabled = isEnabled
    }

    /// A template for spans of one step at one place. Its attributes are cut to the limits here, once.
    public func template(_ name: String, kind: SpanKind, _ attributes: [Attribute]) -> SpanTemplate {
        let attributes = attributes.prefix(max(0, limits.attributes)).map { $0.limited(to: limits.valueLength) }
        let packed = isEnabled ? encoder?.pack(name: name, kind: kind, attributes: attributes) : nil
        return SpanTemplate(name: name, kind: kind, attributes: attributes, packed: packed ?? ByteSlice(""))
    }

    /// Whether a span under `parent` would be recorded.
    public func samples(_ parent: TraceContext) -> Bool { sampler.isSampled(parent: parent, traceID: parent.traceID) }

    /// Begins a span.
    ///
    /// - Parameters:
    ///   - parent: the context it belongs under; nil or invalid begins a new trace.
    ///   - isSampled: overrides the sampler's decision, for spans that follow those they are made for.
    public func start(
        _ template: SpanTemplate, parent: TraceContext?, at start: Timestamp, isSampled: Bool? = nil
    ) -> SpanData {
        guard isEnabled else {
            let context = parent ?? TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(0), flags: [])
            return SpanData(template: template, context: context, parent: nil, start: start, isRecording: false)
        }
        let parent = parent.flatMap { $0.isValid ? $0 : nil }
        let traceID = parent?.traceID ?? ids.traceID()
        let sampled = isSampled ?? sampler.isSampled(parent: parent, traceID: traceID)
        var flags: TraceFlags = parent.map { $0.flags.intersection(.random) } ?? .random
        if sampled { flags.insert(.sampled) }
        counts.countStart(sampled: sampled)
        let context = TraceContext(traceID: traceID, spanID: ids.spanID(), flags: flags, traceState: parent?.traceState)
        return SpanData(
            template: template, context: context, parent: parent, start: start, isRecording: sampled, limits: limits
        )
    }

    /// Gives up a span that was begun for something that didn't happen: no processor sees it, and it counts as live no more.
    public func discard(_ span: consuming SpanData) {
        if span.isRecording { counts.countEnd() }
    }

    /// Ends a span and hands it to the processors if it is sampled. An end before the start counts as the start.
    public func end(_ span: consuming SpanData, at end: Timestamp) {
        guard span.isRecording else { return }
        span.end = max(span.start, end)
        counts.countEnd()
        for processor in processors { processor.onEnd(span) }
    }
}

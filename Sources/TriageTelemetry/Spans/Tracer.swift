public import TriageEvents

/// Sees each span that is to be exported, on the thread that ends it or has its trace exported; must neither block nor fail.
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
///
/// A span whose parent is in this process is decided as its parent was. Of the others the sampler decides. Those of kind
/// SERVER, CONSUMER and PRODUCER that it refuses are recorded all the same with everything under them, and exported if
/// ``fail(_:fingerprint:)`` is called for one of them before the first one has ended (``FailureTraceLimits``).
public final class Tracer: Sendable {
    /// Decides which spans are sampled whose parent isn't in this process.
    public let sampler: Sampler
    /// Bounds on each span.
    public let limits: SpanLimits
    /// Where timestamps come from.
    public let clock: any EventClock
    /// False if the SDK is disabled: contexts are passed on, no ids are made, nothing is recorded.
    public let isEnabled: Bool
    /// Which contexts travel with records.
    public let propagators: Propagators
    private let ids: IDGenerator
    private let encoder: (any SpanEncoder)?
    private let processors: [any SpanProcessor]
    /// Where failures of steps are logged as events; nil while logs aren't exported.
    public let logs: LogEmitter?
    private let failures: FailureTraceBuffer?
    /// Counts of spans, by sampling result.
    public let counts: TracerCounts

    /// A tracer.
    ///
    /// - Parameters:
    ///   - encoder: packs templates; nil if no processor needs packed bytes.
    ///   - processors: called in this order for each span that is to be exported; without any, nothing refused is recorded.
    ///   - logs: where failures of steps are logged as events, sampled or not; nil logs none.
    ///   - failureTraces: bounds on what is exported though the sampler refused it; nil exports nothing of that.
    ///   - isEnabled: false for `OTEL_SDK_DISABLED=true`.
    ///   - propagators: what is read from and written to headers, disabled or not.
    public init(
        sampler: Sampler = .parentBased(root: .alwaysOn), limits: SpanLimits = SpanLimits(), clock: any EventClock,
        ids: IDGenerator = IDGenerator(), encoder: (any SpanEncoder)? = nil, processors: [any SpanProcessor],
        logs: LogEmitter? = nil, failureTraces: FailureTraceLimits? = FailureTraceLimits(), isEnabled: Bool = true,
        propagators: Propagators = .all
    ) {
        self.sampler = sampler
        self.limits = limits
        self.clock = clock
        self.ids = ids
        self.encoder = encoder
        self.processors = processors
        self.logs = logs
        self.isEnabled = isEnabled
        self.propagators = propagators
        failures = isEnabled && !processors.isEmpty ? failureTraces.map { FailureTraceBuffer($0) } : nil
        counts = TracerCounts(failures)
    }

    /// A template for spans of one step at one place. Its attributes are cut to the limits here, once.
    public func template(_ name: String, kind: SpanKind, _ attributes: [Attribute]) -> SpanTemplate {
        let attributes = attributes.prefix(max(0, limits.attributes)).map { $0.limited(to: limits.valueLength) }
        let packed = isEnabled ? encoder?.pack(name: name, kind: kind, attributes: attributes) : nil
        return SpanTemplate(name: name, kind: kind, attributes: attributes, packed: packed ?? ByteSlice(""))
    }

    /// Whether a span under `parent`, a context from elsewhere, would be sampled.
    public func samples(_ parent: TraceContext) -> Bool { sampler.isSampled(parent: parent, traceID: parent.traceID) }

    /// Begins a span.
    ///
    /// - Parameters:
    ///   - parent: the context it belongs under; nil or invalid begins a new trace.
    ///   - traceID: the id of that new trace, if it is made of what it is about, so that the same thing told twice is one trace;
    ///     its contexts don't have the random flag then (Trace Context level 2, §3.2.2.5.2). Nil, or all zero, draws one.
    ///   - isSampled: overrides every other decision, for spans that follow those they are made for.
    public func start(
        _ template: SpanTemplate, parent: TraceContext?, traceID given: TraceID? = nil, at start: Timestamp,
        isSampled: Bool? = nil
    ) -> SpanData {
        guard isEnabled else { return passing(parent, template, start) }
        let parent = parent.flatMap { $0.isValid ? $0 : nil }
        let given = parent == nil ? given.flatMap { $0.isValid ? $0 : nil } : nil
        let traceID = parent?.traceID ?? given ?? ids.traceID()
        let spanID = ids.spanID()
        var result = SamplingResult.drop
        var handle = BufferedSpanHandle.none
        var isLocalRoot = false
        if let isSampled {
            if isSampled { result = .recordAndSample }
        } else if let parent, !parent.isRemote {
            if parent.isSampled {
                result = .recordAndSample
            } else if let failures {
                (result, handle) = Tracer.result(failures.begin(traceID, spanID, under: parent.spanID))
            }
        } else if sampler.isSampled(parent: parent, traceID: traceID) {
            result = .recordAndSample
        } else if let failures, template.kind.beginsLocalTrace {
            result = .recordOnly
            handle = failures.beginRoot(traceID, spanID, kind: template.kind)
            isLocalRoot = true
        }
        return make(template, traceID, spanID, parent, start, result, handle, isLocalRoot: isLocalRoot, isRandom: given == nil)
    }

    /// Begins a span that is decided as `other` was, and belongs to its local trace, though its parent is elsewhere.
    public func start(
        _ template: SpanTemplate, parent: TraceContext, at start: Timestamp, beside other: borrowing SpanData
    ) -> SpanData {
        guard isEnabled, parent.isValid else { return passing(parent, template, start) }
        let spanID = ids.spanID()
        var result = SamplingResult.drop
        var handle = BufferedSpanHandle.none
        if other.context.isSampled {
            result = .recordAndSample
        } else if let failures, other.buffered != .none {
            (result, handle) = Tracer.result(failures.begin(parent.traceID, spanID, beside: other.buffered))
        }
        return make(template, parent.traceID, spanID, parent, start, result, handle, isLocalRoot: false)
    }

    /// Says that something failed in a span that is under way: if it isn't sampled, it is from now on, with the spans of its
    /// local trace that have ended, and contexts taken of it say so. The rate limit may refuse that.
    ///
    /// To be called before the span's context is passed on for what follows from the failure.
    ///
    /// - Parameter fingerprint: of each fingerprint some traces are exported, however many others fail.
    public func fail(_ span: inout SpanData, fingerprint: String) {
        guard span.isRecording, !span.context.isSampled, let failures else { return }
        for var earlier in failures.fail(&span, fingerprint: fingerprint, at: MonotonicClock.coarse) {
            earlier.promote()
            export(earlier)
        }
    }

    /// Gives up a span that was begun for something that didn't happen: no processor sees it, and it counts as live no more.
    public func discard(_ span: consuming SpanData) {
        switch span.result {
        case .drop: break
        case .recordOnly: failures?.discard(span)
        case .recordAndSample: counts.countDiscard()
        }
    }

    /// Ends a span and hands it to the processors if it is sampled. An end before the start counts as the start.
    public func end(_ span: consuming SpanData, at end: Timestamp) {
        guard span.isRecording else { return }
        span.end = max(span.start, end)
        if span.result == .recordAndSample {
            counts.countEnd()
            export(span)
        } else if var failed = failures?.end(span) {
            failed.promote()
            // Its parent, if it has one, was not sampled where it is.
            if failed.isLocalRoot { failed.append("triage.trace.partial", .bool(true)) }
            export(failed)
        }
    }

    private func export(_ span: borrowing SpanData) {
        for processor in processors { processor.onEnd(span) }
    }

    private static func result(_ begin: FailureTraces<SpanData>.Begin) -> (SamplingResult, BufferedSpanHandle) {
        switch begin {
        case .buffered(let handle): (.recordOnly, handle)
        case .sampled: (.recordAndSample, .none)
        case .unknown: (.drop, .none)
        }
    }

    /// A span of a disabled SDK, whose context is the one that came.
    private func passing(_ parent: TraceContext?, _ template: SpanTemplate, _ start: Timestamp) -> SpanData {
        SpanData(template: template, context: Tracer.passed(parent), parent: nil, start: start, isRecording: false)
    }

    /// The context of a disabled SDK's span: the one that came.
    @inline(__always)
    static func passed(_ parent: TraceContext?) -> TraceContext {
        parent ?? TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(0), flags: [])
    }

    @inline(__always)
    private func make(
        _ template: SpanTemplate, _ traceID: TraceID, _ spanID: SpanID, _ parent: TraceContext?, _ start: Timestamp,
        _ result: SamplingResult, _ handle: BufferedSpanHandle, isLocalRoot: Bool, isRandom: Bool = true
    ) -> SpanData {
        counts.countStart(parent.map { $0.isRemote ? .remote : .local } ?? .none, result)
        var flags: TraceFlags = parent.map { $0.flags.intersection(.random) } ?? (isRandom ? .random : [])
        if result == .recordAndSample { flags.insert(.sampled) }
        let context = TraceContext(traceID: traceID, spanID: spanID, flags: flags, traceState: parent?.traceState)
        var span = SpanData(
            template: template, context: context, parent: parent, start: start, isRecording: result != .drop, limits: limits
        )
        span.result = result
        span.buffered = handle
        span.isLocalRoot = isLocalRoot
        return span
    }
}

extension SpanKind {
    /// Whether what a span of this kind stands for may fail, so that it is recorded with what is under it until that is known.
    var beginsLocalTrace: Bool {
        switch self {
        case .server, .consumer, .producer: true
        case .client, .internal: false
        }
    }
}

internal import Synchronization

/// What is decided about a span when it is begun (specification, trace/sdk §sampling).
public enum SamplingResult: String, Sendable, Hashable, CaseIterable {
    /// It is neither recorded nor exported.
    case drop = "DROP"
    /// It is recorded, and exported only if something in its local trace fails.
    case recordOnly = "RECORD_ONLY"
    /// It is recorded and exported.
    case recordAndSample = "RECORD_AND_SAMPLE"
}

/// Where a span's parent is, named as in `otel.span.parent.origin`.
public enum ParentOrigin: String, Sendable, Hashable, CaseIterable {
    /// It has none.
    case none
    /// In this process.
    case local
    /// In another process, or on the other side of a broker.
    case remote
}

/// What a tracer counts about its own spans; read by the metric catalogue (`otel.sdk.span.*`).
///
/// At a quiescent point ``ended`` is what was handed to the processors, ``FailureTraceCounts/exported`` included, and what
/// ``failureTraces`` says about the others.
public final class TracerCounts: Sendable {
    private struct Row: ~Copyable {
        let drop = Atomic<Int>(0)
        let recordOnly = Atomic<Int>(0)
        let recordAndSample = Atomic<Int>(0)

        @inline(__always)
        borrowing func add(_ result: SamplingResult) {
            switch result {
            case .drop: drop.wrappingAdd(1, ordering: .relaxed)
            case .recordOnly: recordOnly.wrappingAdd(1, ordering: .relaxed)
            case .recordAndSample: recordAndSample.wrappingAdd(1, ordering: .relaxed)
            }
        }

        borrowing func count(_ result: SamplingResult) -> Int {
            switch result {
            case .drop: drop.load(ordering: .relaxed)
            case .recordOnly: recordOnly.load(ordering: .relaxed)
            case .recordAndSample: recordAndSample.load(ordering: .relaxed)
            }
        }
    }

    private let roots = Row()
    private let locals = Row()
    private let remotes = Row()
    private let sampledEnded = Atomic<Int>(0)
    private let sampledDiscarded = Atomic<Int>(0)
    private let buffer: FailureTraceBuffer?

    init(_ buffer: FailureTraceBuffer?) { self.buffer = buffer }

    /// Spans begun.
    public func started(_ origin: ParentOrigin, _ result: SamplingResult) -> Int {
        switch origin {
        case .none: roots.count(result)
        case .local: locals.count(result)
        case .remote: remotes.count(result)
        }
    }

    /// Spans begun, whatever their parents.
    public func started(_ result: SamplingResult) -> Int {
        ParentOrigin.allCases.reduce(0) { $0 + started($1, result) }
    }

    /// Spans begun that were sampled from the start.
    public var sampled: Int { started(.recordAndSample) }
    /// Spans begun that the sampler refused, recorded or not.
    public var unsampled: Int { started(.drop) + started(.recordOnly) }
    /// Recorded spans that ended, sampled or not.
    public var ended: Int { sampledEnded.load(ordering: .relaxed) + failureTraces.ended }
    /// Ended spans that were handed to the processors.
    public var exported: Int { sampledEnded.load(ordering: .relaxed) + failureTraces.exported }
    /// Recorded spans begun for something that didn't happen; they never ended.
    public var discarded: Int { sampledDiscarded.load(ordering: .relaxed) + failureTraces.discarded }
    /// What became of the recorded spans that weren't sampled from the start.
    public var failureTraces: FailureTraceCounts { buffer?.counts ?? FailureTraceCounts() }

    /// Recorded spans begun with this result that have neither ended nor been discarded.
    public func live(_ result: SamplingResult) -> Int {
        // What has ended is read first, so that a span that ends in between can't make the difference negative.
        let over: Int
        switch result {
        case .drop: return 0
        case .recordOnly:
            let counts = failureTraces
            over = counts.ended + counts.discarded
        case .recordAndSample: over = sampledEnded.load(ordering: .relaxed) + sampledDiscarded.load(ordering: .relaxed)
        }
        return started(result) - over
    }

    /// Recorded spans that have neither ended nor been discarded.
    public var live: Int { live(.recordOnly) + live(.recordAndSample) }

    @inline(__always)
    func countStart(_ origin: ParentOrigin, _ result: SamplingResult) {
        switch origin {
        case .none: roots.add(result)
        case .local: locals.add(result)
        case .remote: remotes.add(result)
        }
    }

    @inline(__always)
    func countEnd() { sampledEnded.wrappingAdd(1, ordering: .relaxed) }
    func countDiscard() { sampledDiscarded.wrappingAdd(1, ordering: .relaxed) }
}

extension TracerCounts {
    /// Has `meter` collect `otel.sdk.span.started` and `.live`, `triage.span.unsampled` and `triage.failure_trace.*`.
    public func register(on meter: Meter) {
        meter.observe(.sdkSpanStarted) {
            ParentOrigin.allCases.flatMap { origin in
                SamplingResult.allCases.map { result in
                    (
                        [
                            "otel.span.parent.origin": SafeText(origin), "otel.span.sampling_result": SafeText(result),
                        ], .int(Int64(self.started(origin, result)))
                    )
                }
            }
        }
        meter.observe(.sdkSpanLive) {
            [SamplingResult.recordOnly, .recordAndSample].map {
                (["otel.span.sampling_result": SafeText($0)], .int(Int64(self.live($0))))
            }
        }
        guard let buffer else { return }
        meter.observe(.spanUnsampled) {
            let counts = buffer.counts
            return [
                (["triage.unsampled.reason": "not_failed"], .int(Int64(counts.notFailed))),
                (["triage.unsampled.reason": "rate_limit"], .int(Int64(counts.rateLimited))),
                (["triage.unsampled.reason": "evicted"], .int(Int64(counts.evicted))),
                (["triage.unsampled.reason": "discarded"], .int(Int64(self.discarded))),
            ]
        }
        meter.observe(.failureTraceFlagged) { [([:], .int(Int64(buffer.counts.flaggedTraces)))] }
        meter.observe(.failureTraceDropped) {
            let counts = buffer.counts
            return [
                (["triage.failure_trace.drop.reason": "rate_limit"], .int(Int64(counts.limitedTraces))),
                (["triage.failure_trace.drop.reason": "evicted"], .int(Int64(counts.incompleteTraces))),
            ]
        }
        meter.observe(.failureTraceBufferSize) { [([:], .int(Int64(buffer.counts.bufferedBytes)))] }
        meter.observe(.failureTraceBufferSpans) { [([:], .int(Int64(buffer.counts.buffered)))] }
    }
}

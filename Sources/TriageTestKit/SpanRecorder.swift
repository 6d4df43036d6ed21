internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// Keeps the spans that end, to be looked at by a test or a demonstration.
public final class SpanRecorder: SpanProcessor {
    private let recorded = Mutex<[SpanData]>([])
    private let capacity: Int

    /// A recorder.
    ///
    /// - Parameter capacity: spans kept at most; later ones are not.
    public init(capacity: Int = .max) { self.capacity = capacity }

    /// Keeps a span.
    public func onEnd(_ span: borrowing SpanData) {
        let copy = copy span
        recorded.withLock { if $0.count < capacity { $0.append(copy) } }
    }

    /// The spans in the order in which they ended.
    public var spans: [SpanData] { recorded.withLock { $0 } }

    /// The spans of one trace in the order in which they began.
    public func spans(of trace: TraceID) -> [SpanData] {
        spans.filter { $0.context.traceID == trace }.sorted { $0.start < $1.start }
    }

    /// Forgets everything.
    public func removeAll() { recorded.withLock { $0.removeAll() } }
}

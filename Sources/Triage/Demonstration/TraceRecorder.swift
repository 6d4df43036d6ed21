internal import Synchronization
internal import TriageEvents
public import TriageTelemetry

/// Keeps the whole trace of the first event that is going to be dead-lettered, for the demonstration to print.
public final class TraceRecorder: SpanProcessor {
    private struct State {
        /// By preference: an event whose retries will be exhausted, else one that is refused at once.
        var exhausted: TraceID?
        var persistent: TraceID?
        var spans: [SpanData] = []
        /// Sends end on another thread than the one that learns the trace's id: the latest are kept until it is known.
        var recent: [SpanData] = []
    }
    private let state = Mutex(State())

    /// A recorder that has seen nothing.
    public init() {}

    /// Keeps a span if it belongs to one of the two traces.
    public func onEnd(_ span: borrowing SpanData) {
        let trace = span.context.traceID
        let isRoot = !span.parentSpanID.isValid && span.template.kind == .producer
        state.withLock { state in
            if state.exhausted == trace || state.persistent == trace {
                state.spans.append(copy span)
            } else if isRoot, state.exhausted == nil {
                if state.recent.count >= 1024 { state.recent.removeFirst(512) }
                state.recent.append(copy span)
            }
        }
    }

    func sent(_ context: TraceContext, plan: FailurePlan) {
        // One that the sampler refused is kept too: its event will fail, which has the rest of its trace exported.
        guard context.isValid else { return }
        state.withLock { state in
            switch plan {
            case .transient(healsOnAttempt: nil) where state.exhausted == nil: state.exhausted = context.traceID
            case .invalid where state.persistent == nil, .rejected where state.persistent == nil:
                state.persistent = context.traceID
            default: return
            }
            state.spans += state.recent.filter { $0.context.traceID == context.traceID }
        }
    }

    /// The spans of the trace to show, in the order in which they began.
    func example() -> [SpanData] {
        state.withLock { state in
            let shown = state.exhausted ?? state.persistent
            return state.spans.filter { $0.context.traceID == shown }.sorted { $0.start < $1.start }
        }
    }
}

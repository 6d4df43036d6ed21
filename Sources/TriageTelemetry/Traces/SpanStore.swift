internal import Synchronization
public import TriageEvents

/// Keeps the spans of recent failed events in memory, to be looked at where no trace back end is at hand.
///
/// Bounded in bytes and traces; the oldest goes first. A trace that hasn't failed yet waits in a quarter of the memory, since what
/// comes before a failure ends before it. Poll and commit spans, which are traces of their own, aren't kept.
///
/// Thread-safe. Ending a span costs a copy of its parts under a short lock; it never waits for a reader, who takes references out and
/// makes texts of them outside.
public final class SpanStore: SpanProcessor {
    /// Bounds on what is kept.
    public struct Limits: Sendable, Hashable {
        /// Estimated bytes, of failed and other traces together; at least 64 KiB. Default 16 MiB.
        public var bytes = 16 * 1_048_576
        /// Failed traces. Default 10,000.
        public var traces = 10_000
        /// Spans of one trace; further ones are dropped and counted. Default 512.
        public var spansOfTrace = 512

        /// The defaults.
        public init() {}
    }

    /// A failed event in short.
    public struct FailedTrace: Sendable, Hashable {
        /// Its trace.
        public let traceID: TraceID
        /// When its last failed span ended.
        public let failedAt: Timestamp
        /// Spans that are kept of it.
        public let spans: Int
        /// The topic that it was read from last.
        public let topic: String?
        /// The record that it was first delivered as.
        public let record: RecordPosition?
        /// `error.type` of its last failure.
        public let errorType: String?
        /// The failure's class: `transient`, `persistent` or `system`.
        public let errorClass: String?
        /// The failure's fingerprint.
        public let fingerprint: String?
        /// What came of it last: `triage.outcome` of its last process span, such as `retry_scheduled` or `dead_lettered`.
        public let outcome: String?
        /// Attempts of the handler that failed.
        public let failedAttempts: Int
    }

    /// What it holds and what it let go of.
    public struct Counts: Sendable, Hashable {
        /// Failed traces that are kept.
        public var failedTraces = 0
        /// Spans that are kept, of other traces too.
        public var spans = 0
        /// Estimated bytes of them.
        public var bytes = 0
        /// Failed traces that made room for others.
        public var evictedTraces = 0
        /// Spans of traces that have too many.
        public var droppedSpans = 0
    }

    private let contents: Mutex<SpanStoreContents>
    private let identifiers: IdentifierPolicy
    private let service: String?

    /// An empty store.
    ///
    /// - Parameters:
    ///   - identifiers: how resource ids and keys show: as in what is exported, but never plain.
    ///   - service: this process's `service.name`.
    ///   - limits: what it may hold.
    public init(identifiers: IdentifierPolicy = .omitted, service: String? = nil, limits: Limits = Limits()) {
        self.identifiers = identifiers
        self.service = service
        contents = Mutex(SpanStoreContents(limits))
    }

    /// Keeps a span for now; for longer if its trace has failed.
    public func onEnd(_ span: borrowing SpanData) {
        guard SpanStoreContents.isWanted(span) else { return }
        let stored = StoredSpan(span)
        // What goes is destroyed outside of the lock.
        let gone = contents.withLock { $0.add(stored) }
        _ = gone
    }

    /// The spans of a trace in the order in which they began; empty if none is kept.
    public func spans(of trace: TraceID) -> [TraceSpan] {
        let stored = contents.withLock { $0.spans(of: trace) }
        return stored.map { TraceSpan($0, identifiers: identifiers, service: service) }.sorted { $0.start < $1.start }
    }

    /// The traces that failed, the one whose first failure is the newest first.
    ///
    /// - Parameter limit: how many at most.
    public func recentFailures(limit: Int = 100) -> [FailedTrace] {
        let traces = contents.withLock { $0.failures(limit: limit) }
        return traces.compactMap { trace, spans in
            FailedTrace(trace, spans.map { TraceSpan($0, identifiers: .omitted, service: nil) })
        }
    }

    /// What it holds and what it let go of.
    public var counts: Counts { contents.withLock { $0.counts } }
}

extension SpanStore.FailedTrace {
    /// A trace in short; nil if none of the spans failed.
    public init?(_ traceID: TraceID, _ spans: [TraceSpan]) {
        let spans = spans.sorted { ($0.start, $0.end) < ($1.start, $1.end) }
        let failed = spans.filter(\.isFailed)
        guard let last = failed.max(by: { $0.end < $1.end }) else { return nil }
        // The attempt says what happened; the process span above it repeats that, the send beside it doesn't know.
        let telling = failed.last { $0["triage.error.fingerprint"] != nil } ?? last
        let processes = spans.filter { $0.kind == .consumer }
        self.traceID = traceID
        failedAt = last.end
        self.spans = spans.count
        topic = processes.last?["messaging.destination.name"] ?? telling["messaging.destination.name"]
        record = processes.first?.record
        errorType = telling.errorType
        errorClass = telling["triage.error.class"]
        fingerprint = telling["triage.error.fingerprint"]
        outcome = processes.last { $0["triage.outcome"] != nil }?["triage.outcome"]
        failedAttempts = failed.count { $0["triage.attempt"] != nil }
    }
}

/// What a ``SpanStore`` decides: a value without a lock.
struct SpanStoreContents: Sendable {
    private struct Trace {
        var spans: [StoredSpan] = []
        var bytes = 0
        var isFailed = false
        /// Its place in the queue that it stands in: an id that comes again after it was evicted has another.
        var ticket: Int
    }
    private struct Queue {
        var items: [(trace: TraceID, ticket: Int)] = []
        var head = 0
        var isEmpty: Bool { head == items.count }

        mutating func pop() -> (trace: TraceID, ticket: Int)? {
            guard !isEmpty else { return nil }
            defer {
                head += 1
                if head > 1024, head * 2 > items.count {
                    items.removeFirst(head)
                    head = 0
                }
            }
            return items[head]
        }
    }

    private let limits: SpanStore.Limits
    private var traces: [TraceID: Trace] = [:]
    private var pending = Queue()
    private var failed = Queue()
    private var pendingBytes = 0
    private var nextTicket = 0
    private(set) var counts = SpanStore.Counts()
    /// Bytes that a trace takes beside its spans.
    static let traceOverhead = 256

    init(_ limits: SpanStore.Limits) {
        var limits = limits
        limits.bytes = max(65_536, limits.bytes)
        limits.traces = max(1, limits.traces)
        limits.spansOfTrace = max(1, limits.spansOfTrace)
        self.limits = limits
    }

    /// Whether a span is of an event's trace: a poll or a commit is a root of its own that says nothing about an event.
    static func isWanted(_ span: borrowing SpanData) -> Bool { !(span.template.kind == .client && !span.parentSpanID.isValid) }

    /// Takes a span in.
    ///
    /// - Returns: what had to go for it.
    mutating func add(_ span: StoredSpan) -> [[StoredSpan]] {
        let id = span.context.traceID
        if traces[id] == nil {
            nextTicket += 1
            traces[id] = Trace(ticket: nextTicket)
            pending.items.append((id, nextTicket))
            count(id, bytes: SpanStoreContents.traceOverhead)
        }
        // In place: taken out and put back, the array of spans would be copied each time.
        let isFull = (traces[id]?.spans.count ?? 0) >= limits.spansOfTrace || (traces[id]?.bytes ?? 0) > limits.bytes / 8
        let isFailure = if case .error = span.status { span.template.kind != .client } else { false }
        if isFull {
            counts.droppedSpans += 1
            // What makes the trace a failed one is never what is left out.
            if isFailure, traces[id]?.isFailed == false, let last = traces[id]?.spans.popLast() {
                count(id, bytes: span.bytes - last.bytes)
                traces[id]?.spans.append(span)
            }
        } else {
            traces[id]?.spans.append(span)
            counts.spans += 1
            count(id, bytes: span.bytes)
        }
        if isFailure, let trace = traces[id], !trace.isFailed {
            nextTicket += 1
            traces[id]?.isFailed = true
            traces[id]?.ticket = nextTicket
            pendingBytes -= trace.bytes
            failed.items.append((id, nextTicket))
            counts.failedTraces += 1
        }
        return makeRoom()
    }

    private mutating func count(_ id: TraceID, bytes: Int) {
        traces[id]?.bytes += bytes
        counts.bytes += bytes
        if traces[id]?.isFailed == false { pendingBytes += bytes }
    }

    private mutating func makeRoom() -> [[StoredSpan]] {
        var gone: [[StoredSpan]] = []
        while pendingBytes > limits.bytes / 4, let next = pending.pop() {
            guard let trace = traces[next.trace], trace.ticket == next.ticket else { continue }
            pendingBytes -= trace.bytes
            gone.append(remove(next.trace, trace))
        }
        while counts.failedTraces > limits.traces || counts.bytes > limits.bytes, let next = failed.pop() {
            guard let trace = traces[next.trace], trace.ticket == next.ticket else { continue }
            counts.failedTraces -= 1
            counts.evictedTraces += 1
            gone.append(remove(next.trace, trace))
        }
        return gone
    }

    private mutating func remove(_ id: TraceID, _ trace: Trace) -> [StoredSpan] {
        traces[id] = nil
        counts.spans -= trace.spans.count
        counts.bytes -= trace.bytes
        return trace.spans
    }

    func spans(of trace: TraceID) -> [StoredSpan] { traces[trace]?.spans ?? [] }

    /// Failed traces, newest first.
    func failures(limit: Int) -> [(TraceID, [StoredSpan])] {
        var found: [(TraceID, [StoredSpan])] = []
        var index = failed.items.count
        while index > failed.head, found.count < limit {
            index -= 1
            let item = failed.items[index]
            if let trace = traces[item.trace], trace.ticket == item.ticket { found.append((item.trace, trace.spans)) }
        }
        return found
    }
}

/// Decides which ended spans are kept, when they are exported, and who is told: a pure state machine.
///
/// It holds sizes, never bytes: the ``BatchSpanProcessor`` appends the bytes to one open chunk and exports sealed chunks
/// in order, one at a time, as it is told. Time is an argument, a reading of any clock that doesn't go back.
///
/// The rules are those of the specification's batching processor (trace/sdk §batching processor), with memory bounded
/// in bytes rather than in spans: an export begins when the previous one has ended and a batch is full, the oldest span
/// has waited for the delay, or a flush or the shutdown asks for it. A full queue drops the new span and counts it.
public struct SpanQueue: Sendable {
    /// Bounds and delays.
    public struct Limits: Sendable, Hashable {
        /// Encoded bytes that wait or are being exported. Default 32 MiB.
        public var bytes = 32 * 1024 * 1024
        /// The part of ``bytes`` that only spans with an error may use. Default 8 MiB, a quarter.
        public var reservedBytes = 8 * 1024 * 1024
        /// Spans that wait; nil leaves the bound to ``bytes``. Set for an explicit `OTEL_BSP_MAX_QUEUE_SIZE`.
        public var spans: Int?
        /// Spans of a batch. Default 4,096; `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` (512 by the specification) when explicit.
        public var batchSpans = 4096
        /// Bytes of a batch, exceeded by at most one span. Default 1 MiB.
        public var batchBytes = 1024 * 1024
        /// How long the oldest span waits for its batch to fill. Default 5 s (`OTEL_BSP_SCHEDULE_DELAY`).
        public var delay: Duration = .seconds(5)

        /// The defaults.
        public init() {}

        /// The same limits with each in its range: at least 1, a batch no larger than the queue (for bytes: than a quarter of it,
        /// so that a queue never fills up without a batch), the reserve no more than half.
        var normalized: Limits {
            var limits = self
            limits.bytes = max(1, bytes)
            limits.reservedBytes = min(max(0, reservedBytes), limits.bytes / 2)
            limits.spans = spans.map { max(1, $0) }
            limits.batchSpans = max(1, min(batchSpans, limits.spans ?? .max))
            limits.batchBytes = max(1, min(batchBytes, limits.bytes / 4))
            limits.delay = max(.zero, delay)
            return limits
        }
    }

    /// Why a span was dropped, named as in `error.type` of `otel.sdk.processor.span.processed`.
    public enum DropReason: String, Sendable, Hashable, CaseIterable {
        /// The queue had no room.
        case queueFull = "queue_full"
        /// It ended after the shutdown began.
        case alreadyShutdown = "already_shutdown"
        /// It still waited when the shutdown's time was up, or when an export failed during the shutdown.
        case shutdownTimeout = "shutdown_timeout"
    }

    /// Spans and their bytes.
    public struct Batch: Sendable, Hashable {
        /// How many spans.
        public var spans = 0
        /// How many encoded bytes.
        public var bytes = 0

        /// A batch of this size.
        public init(spans: Int = 0, bytes: Int = 0) {
            self.spans = spans
            self.bytes = bytes
        }

        static func + (left: Batch, right: Batch) -> Batch {
            Batch(spans: left.spans + right.spans, bytes: left.bytes + right.bytes)
        }
    }

    /// What to do with an offered span.
    public enum Offer: Sendable, Hashable {
        /// Append it to the open chunk; then seal that if `sealing`, and wake the worker if `waking`.
        case append(sealing: Bool, waking: Bool)
        /// Forget it.
        case drop(DropReason)
    }

    /// What the worker does next.
    public enum Step: Sendable, Hashable {
        /// Export the oldest sealed chunk, after sealing the open one if `sealing`; then call ``completed(_:)``.
        case export(Batch, sealing: Bool)
        /// Sleep until woken, at most until this time.
        case wait(until: Duration?)
        /// End: everything has left, and nothing more is accepted.
        case finish
    }

    /// What a request to flush or to shut down leads to.
    public struct Request: Sendable, Hashable {
        /// Seal the open chunk.
        public let sealing: Bool
        /// Wake the worker.
        public let waking: Bool
        /// Flushes that are over already, and whether all went well.
        public let finished: [Flush]
    }

    /// What the end of an export, or the end of patience, leads to.
    public struct Release: Sendable, Hashable {
        /// Flushes that are over by this.
        public let finished: [Flush]
        /// Throw away every chunk that waits, the open one included.
        public let discarding: Bool
    }

    /// The end of a flush.
    public struct Flush: Sendable, Hashable {
        /// The id it was asked for under.
        public let id: Int
        /// Whether every span that ended before it has left without a failed export.
        public let succeeded: Bool
    }

    private struct Waiter {
        let id: Int
        var mark: Int
        var succeeded = true
    }

    private enum Phase { case running, stopping, stopped }

    /// The limits, each in its range.
    public let limits: Limits
    private var phase = Phase.running
    private var open = Batch()
    private var openSince = Duration.zero
    private var sealed: [Batch] = []
    private var inFlight: Batch?
    private var queued = Batch()
    private var accepted = 0
    private var left = 0
    private var waiters: [Waiter] = []
    private var tally = SpanExportCounts()

    /// An empty queue.
    public init(_ limits: Limits = Limits()) { self.limits = limits.normalized }

    /// The counts at this moment; consistent with one another.
    public var counts: SpanExportCounts {
        var counts = tally
        counts.queued = queued.spans
        counts.queuedBytes = queued.bytes
        counts.inFlight = inFlight?.spans ?? 0
        return counts
    }

    /// Offers a span that has ended.
    ///
    /// - Parameters:
    ///   - bytes: its encoded size.
    ///   - isError: whether its status is an error, which opens the reserve to it.
    public mutating func offer(bytes: Int, isError: Bool, at now: Duration) -> Offer {
        guard phase == .running else {
            tally.droppedAlreadyShutdown += 1
            return .drop(.alreadyShutdown)
        }
        let room = isError ? limits.bytes : limits.bytes - limits.reservedBytes
        let held = queued.bytes + (inFlight?.bytes ?? 0)
        guard held + bytes <= room, queued.spans < limits.spans ?? .max else {
            tally.droppedQueueFull += 1
            return .drop(.queueFull)
        }
        let opens = open.spans == 0
        if opens { openSince = now }
        let span = Batch(spans: 1, bytes: bytes)
        open = open + span
        queued = queued + span
        accepted += 1
        let seals = open.spans >= limits.batchSpans || open.bytes >= limits.batchBytes
        if seals { seal() }
        return .append(sealing: seals, waking: (opens || seals) && inFlight == nil)
    }

    /// What the worker does next; not to be asked while an export is under way.
    public mutating func next(at now: Duration) -> Step {
        if let batch = sealed.first {
            sealed.removeFirst()
            return begin(batch, sealing: false)
        }
        if open.spans > 0 {
            let due = openSince + limits.delay
            guard phase == .stopping || now >= due else { return .wait(until: due) }
            let batch = open
            open = Batch()
            return begin(batch, sealing: true)
        }
        guard phase == .running else {
            phase = .stopped
            return .finish
        }
        return .wait(until: nil)
    }

    /// Takes note that the export under way has ended.
    ///
    /// A failure during the shutdown drops what still waits: the endpoint is dead, and each further batch would wait for
    /// the exporter's time-out again.
    public mutating func completed(_ result: ExportResult) -> Release {
        guard let batch = inFlight else { return Release(finished: [], discarding: false) }
        inFlight = nil
        left += batch.spans
        switch result {
        case .exported:
            tally.exported += batch.spans
        case .partial(let rejected):
            let rejected = min(max(0, rejected), batch.spans)
            tally.rejected += rejected
            tally.exported += batch.spans - rejected
        case .failed:
            tally.failed += batch.spans
            for index in waiters.indices { waiters[index].succeeded = false }
            if phase != .running { return abandon() }
        case .mixed(let rejected, let failed):
            // Something did arrive, so the endpoint isn't dead: what waits still has a chance.
            let failed = min(max(0, failed), batch.spans)
            let rejected = min(max(0, rejected), batch.spans - failed)
            tally.failed += failed
            tally.rejected += rejected
            tally.exported += batch.spans - failed - rejected
            if failed > 0 { for index in waiters.indices { waiters[index].succeeded = false } }
        }
        return Release(finished: takeFinished(), discarding: false)
    }

    /// Asks that everything offered so far be exported now.
    public mutating func flush(id: Int) -> Request {
        guard queued.spans > 0 || inFlight != nil else {
            return Request(sealing: false, waking: false, finished: [Flush(id: id, succeeded: true)])
        }
        waiters.append(Waiter(id: id, mark: accepted))
        let seals = open.spans > 0
        if seals { seal() }
        return Request(sealing: seals, waking: inFlight == nil, finished: [])
    }

    /// Forgets a flush whose time was up.
    public mutating func expire(id: Int) { waiters.removeAll { $0.id == id } }

    /// Refuses every later span and has the worker export what waits, then end.
    public mutating func shutdown() -> Request {
        guard phase == .running else { return Request(sealing: false, waking: false, finished: []) }
        phase = .stopping
        let seals = open.spans > 0
        if seals { seal() }
        return Request(sealing: seals, waking: true, finished: [])
    }

    /// Gives up what still waits, apart from a batch in flight; implies ``shutdown()``.
    public mutating func abandon() -> Release {
        if phase == .running { phase = .stopping }
        tally.droppedShutdownTimeout += queued.spans
        left += queued.spans
        // All that is left is a batch in flight, and every flush that isn't over waits for that one at least.
        for index in waiters.indices {
            if queued.spans > 0 { waiters[index].succeeded = false }
            waiters[index].mark = accepted
        }
        open = Batch()
        sealed = []
        queued = Batch()
        return Release(finished: takeFinished(), discarding: true)
    }

    private mutating func seal() {
        sealed.append(open)
        open = Batch()
    }

    private mutating func begin(_ batch: Batch, sealing: Bool) -> Step {
        inFlight = batch
        queued = Batch(spans: queued.spans - batch.spans, bytes: queued.bytes - batch.bytes)
        return .export(batch, sealing: sealing)
    }

    /// Spans leave in the order they came in, so a flush is over when as many have left as had come before it.
    private mutating func takeFinished() -> [Flush] {
        guard !waiters.isEmpty else { return [] }
        let done = waiters.filter { $0.mark <= left }
        waiters.removeAll { $0.mark <= left }
        return done.map { Flush(id: $0.id, succeeded: $0.succeeded) }
    }
}

/// What became of the spans that ended, for the catalogue's `otel.sdk.*` metrics.
///
/// Read in one go, so ``ended`` is at any moment the sum of all the others but ``queuedBytes``.
public struct SpanExportCounts: Sendable, Hashable {
    /// Spans that the receiver took.
    public var exported = 0
    /// Spans of batches that could not be delivered.
    public var failed = 0
    /// Spans that the receiver refused in a partial success.
    public var rejected = 0
    /// Spans dropped because the queue had no room.
    public var droppedQueueFull = 0
    /// Spans that ended after the shutdown began.
    public var droppedAlreadyShutdown = 0
    /// Spans given up at the shutdown.
    public var droppedShutdownTimeout = 0
    /// Spans that wait.
    public var queued = 0
    /// Encoded bytes of the spans that wait.
    public var queuedBytes = 0
    /// Spans of the batch that is being exported.
    public var inFlight = 0

    /// No spans yet.
    public init() {}

    /// Spans dropped for this reason.
    public func dropped(_ reason: SpanQueue.DropReason) -> Int {
        switch reason {
        case .queueFull: droppedQueueFull
        case .alreadyShutdown: droppedAlreadyShutdown
        case .shutdownTimeout: droppedShutdownTimeout
        }
    }

    /// Spans dropped for any reason.
    public var dropped: Int { SpanQueue.DropReason.allCases.reduce(0) { $0 + dropped($1) } }

    /// All spans that were handed over.
    public var ended: Int { exported + failed + rejected + dropped + queued + inFlight }
}

internal import Synchronization
internal import TriageEvents

/// Encodes spans where they end, queues the bytes, and exports them on a thread of its own.
///
/// Ending a span costs its encoding and one copy under a short lock; it never waits, never fails and allocates nothing.
/// All decisions are the ``SpanQueue``'s; this class performs them.
public final class BatchSpanProcessor: SpanProcessor {
    private let encoder: any SpanEncoder
    private let core: Core

    /// A processor with its export thread running.
    ///
    /// If the system has no thread left, every span is dropped as after a shutdown, and counted.
    ///
    /// - Parameters:
    ///   - encoder: packs each span; a batch is what it wrote, one span behind the other.
    ///   - exporter: gets the batches, one at a time.
    ///   - limits: sizes and delays.
    public init(encoder: any SpanEncoder, exporter: any SpanExporter, limits: SpanQueue.Limits = SpanQueue.Limits()) {
        self.encoder = encoder
        let core = Core(exporter: exporter, limits: limits)
        self.core = core
        if !WorkerThread.start("triage-spans", { core.run() }) { core.abandon() }
    }

    deinit { core.shutdown() }

    /// Encodes and queues a span.
    public func onEnd(_ span: borrowing SpanData) {
        let isError = if case .error = span.status { true } else { false }
        let core = core
        encoder.withEncoded(span) { core.offer($0, isError: isError) }
    }

    /// What became of the spans so far.
    public var counts: SpanExportCounts { core.counts }

    /// The limits in force.
    public var limits: SpanQueue.Limits { core.limits }

    /// Exports everything that ended before the call.
    ///
    /// - Returns: whether all of it left without a failed export within `timeout`.
    public func forceFlush(timeout: Duration) async -> Bool {
        await core.forceFlush(timeout: timeout)
    }

    /// Drops later spans, exports what waits, and ends the thread.
    ///
    /// Takes at most `timeout`; then the export under way is cancelled and the rest dropped. A receiver that doesn't
    /// answer costs one time-out of the exporter at most, since the first failed export ends the attempt.
    public func shutdown(timeout: Duration) async {
        await core.shutdown(timeout: timeout)
    }

    /// What the processor and its thread share. Log records go the same way: ``BatchLogProcessor``.
    final class Core: Sendable {
        private struct State {
            var queue: SpanQueue
            var open: SpanChunk
            var sealed: [SpanChunk] = []
            /// Chunks to use again: memory whose pages are there already. Four let the worker fall behind for a moment.
            var spares: [SpanChunk] = []
            var stopWaiters: [Int] = []
            var isFinished = false

            mutating func seal() {
                sealed.append(open)
                open = spares.popLast() ?? State.chunk(queue.limits)
            }

            mutating func reuse(_ chunk: SpanChunk) {
                if spares.count < 4 { spares.append(chunk) }
            }

            /// A batch is exceeded by one span at most, and that is seldom over 16 KiB. Small batches begin small: a full queue
            /// of them would otherwise be a hundred thousand mappings of a mebibyte each, more than the kernel gives a process.
            static func chunk(_ limits: SpanQueue.Limits) -> SpanChunk {
                let bytesOfSpans = limits.batchSpans.multipliedReportingOverflow(by: 512)
                return SpanChunk(
                    capacity: min(limits.batchBytes + 16 * 1024, bytesOfSpans.overflow ? .max : bytesOfSpans.partialValue))
            }

            mutating func apply(_ release: SpanQueue.Release) {
                guard release.discarding else { return }
                sealed = []
                open.clear()
            }
        }

        private let waiters = ExportWaiters()
        let limits: SpanQueue.Limits
        private let exporter: any SpanExporter
        private let state: Mutex<State>
        private let signal = WakeSignal()

        init(exporter: any SpanExporter, limits: SpanQueue.Limits) {
            self.exporter = exporter
            let queue = SpanQueue(limits)
            self.limits = queue.limits
            state = Mutex(State(queue: queue, open: State.chunk(queue.limits)))
        }

        var counts: SpanExportCounts { state.withLock { $0.queue.counts } }

        func offer(_ bytes: UnsafeRawBufferPointer, isError: Bool) {
            let now = MonotonicClock.coarse
            let waking = state.withLock { state in
                switch state.queue.offer(bytes: bytes.count, isError: isError, at: now) {
                case .drop:
                    return false
                case .append(let sealing, let waking):
                    state.open.append(bytes)
                    if sealing { state.seal() }
                    return waking
                }
            }
            if waking { signal.wake() }
        }

        func forceFlush(timeout: Duration) async -> Bool {
            await waiters.wait(timeout: timeout) {
                self.expire($0)
            } begin: {
                flush($0)
            }
        }

        func shutdown(timeout: Duration) async {
            let hasEnded = await waiters.wait(timeout: timeout) { _ in
                self.cancel()
            } begin: {
                shutdown(waiter: $0)
            }
            if hasEnded { return }
            // What a cancelled export was about is counted when it ends, which it does at once.
            _ = await waiters.wait(timeout: .milliseconds(500)) { _ in
            } begin: {
                shutdown(waiter: $0)
            }
        }

        private func flush(_ id: Int) {
            perform(
                state.withLock { state in
                    let request = state.queue.flush(id: id)
                    if request.sealing { state.seal() }
                    return request
                })
        }

        private func expire(_ id: Int) { state.withLock { $0.queue.expire(id: id) } }

        func shutdown(waiter: Int? = nil) {
            let (request, isFinished) = state.withLock { state in
                let request = state.queue.shutdown()
                if request.sealing { state.seal() }
                if let waiter, !state.isFinished { state.stopWaiters.append(waiter) }
                return (request, state.isFinished)
            }
            perform(request)
            if isFinished, let waiter { waiters.resume(waiter, with: true) }
        }

        /// The shutdown's time is up.
        private func cancel() {
            abandon()
            exporter.cancel()
        }

        func abandon() {
            let release = state.withLock { state in
                let release = state.queue.abandon()
                state.apply(release)
                return release
            }
            resume(release.finished)
            signal.wake()
        }

        /// The export thread.
        func run() {
            while true {
                let now = MonotonicClock.now
                let (step, chunk) = state.withLock { state in
                    let step = state.queue.next(at: now)
                    guard case .export(_, let sealing) = step else { return (step, nil as SpanChunk?) }
                    if sealing { state.seal() }
                    return (step, state.sealed.removeFirst())
                }
                switch (step, chunk) {
                case (.wait(let deadline), _):
                    signal.wait(until: deadline)
                case (.finish, _):
                    finish()
                    return
                case (.export, let chunk):
                    if let chunk { completed(exporter.export(EncodedSpans(chunk)), chunk) }
                }
            }
        }

        /// The chunk is used again unless the exporter has kept a reference to it.
        private func completed(_ result: ExportResult, _ chunk: consuming SpanChunk) {
            var chunk = chunk
            let isReusable = isKnownUniquelyReferenced(&chunk) && chunk.capacity <= 4 * limits.batchBytes
            if isReusable { chunk.clear() }
            let finished = state.withLock { state in
                let release = state.queue.completed(result)
                state.apply(release)
                if isReusable { state.reuse(chunk) }
                return release.finished
            }
            resume(finished)
        }

        private func finish() {
            let stopped = state.withLock { state in
                state.isFinished = true
                defer { state.stopWaiters = [] }
                return state.stopWaiters
            }
            for waiter in stopped { waiters.resume(waiter, with: true) }
        }

        private func perform(_ request: SpanQueue.Request) {
            resume(request.finished)
            if request.waking { signal.wake() }
        }

        private func resume(_ flushes: [SpanQueue.Flush]) {
            for flush in flushes { waiters.resume(flush.id, with: flush.succeeded) }
        }
    }
}

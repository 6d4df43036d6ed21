internal import Synchronization
internal import TriageEvents

/// Decides when metrics are collected and exported: a pure state machine. Time is an argument, of any clock that doesn't
/// go back.
public struct MetricReaderSchedule: Sendable {
    /// What the reader's thread does next.
    public enum Step: Sendable, Hashable {
        /// Collect and export, then tell these flushes and call ``next(at:)`` again.
        case collect(flushes: [Int])
        /// Sleep until woken, at most until this time.
        case wait(until: Duration)
        /// End.
        case finish
    }

    private enum Phase { case running, stopping, collectedLast }

    private let interval: Duration
    private var due: Duration
    private var phase = Phase.running
    private var flushes: [Int] = []

    /// A schedule that is due for the first time one interval after `now`.
    ///
    /// - Parameter interval: from start to start; at least a millisecond.
    public init(interval: Duration, at now: Duration) {
        self.interval = max(.milliseconds(1), interval)
        due = now + self.interval
    }

    /// What to do now. A start that was missed, because an export took longer than the interval, is left out.
    public mutating func next(at now: Duration) -> Step {
        switch phase {
        case .collectedLast:
            return .finish
        case .stopping:
            phase = .collectedLast
        case .running:
            guard now >= due || !flushes.isEmpty else { return .wait(until: due) }
            if now >= due {
                due = due + interval
                if due <= now { due = now + interval }
            }
        }
        defer { flushes = [] }
        return .collect(flushes: flushes)
    }

    /// Asks for one more export now.
    ///
    /// - Returns: false if the last one has begun already, so that there will be none.
    public mutating func flush(id: Int) -> Bool {
        guard phase != .collectedLast else { return false }
        flushes.append(id)
        return true
    }

    /// Asks for a last export, then the end.
    public mutating func shutdown() {
        if phase == .running { phase = .stopping }
    }
}

/// Collects and exports metrics at an interval, on a thread of its own.
///
/// As the specification's periodic exporting reader: exports one at a time, once more for a flush and at the shutdown.
public final class PeriodicMetricReader: Sendable {
    private let core: Core

    /// A reader with its thread running.
    ///
    /// - Parameters:
    ///   - interval: from start to start. Default 60 s (`OTEL_METRIC_EXPORT_INTERVAL`).
    ///   - collect: takes the snapshot; called on the reader's thread.
    ///   - exporter: gets it, unless it is empty.
    public init(
        interval: Duration = .seconds(60), exporter: any MetricExporter, collect: @escaping @Sendable () -> MetricSnapshot
    ) {
        let core = Core(interval: interval, exporter: exporter, collect: collect)
        self.core = core
        if !WorkerThread.start("triage-metrics", { core.run() }) { core.finish() }
    }

    deinit { core.shutdown(waiter: nil) }

    /// Snapshots exported, in whole or in part.
    public var exported: Int { core.exported.load(ordering: .relaxed) }
    /// Snapshots that could not be delivered.
    public var failed: Int { core.failed.load(ordering: .relaxed) }

    /// Collects and exports now.
    ///
    /// - Returns: whether that succeeded within `timeout`.
    public func forceFlush(timeout: Duration) async -> Bool {
        let core = core
        return await core.waiters.wait(timeout: timeout) { _ in
        } begin: {
            core.flush($0)
        }
    }

    /// Collects and exports a last time, and ends the thread. After `timeout` the export is cancelled.
    public func shutdown(timeout: Duration) async {
        let core = core
        _ = await core.waiters.wait(timeout: timeout) { _ in
            core.cancel()
        } begin: {
            core.shutdown(waiter: $0)
        }
    }

    /// What the reader and its thread share.
    private final class Core: Sendable {
        private struct State {
            var schedule: MetricReaderSchedule
            var stopWaiters: [Int] = []
            var isFinished = false
        }

        let waiters = ExportWaiters()
        let exported = Atomic<Int>(0)
        let failed = Atomic<Int>(0)
        private let exporter: any MetricExporter
        private let collect: @Sendable () -> MetricSnapshot
        private let state: Mutex<State>
        private let signal = WakeSignal()

        init(interval: Duration, exporter: any MetricExporter, collect: @escaping @Sendable () -> MetricSnapshot) {
            self.exporter = exporter
            self.collect = collect
            state = Mutex(State(schedule: MetricReaderSchedule(interval: interval, at: MonotonicClock.now)))
        }

        func flush(_ id: Int) {
            let isAccepted = state.withLock { !$0.isFinished && $0.schedule.flush(id: id) }
            if isAccepted { signal.wake() } else { waiters.resume(id, with: false) }
        }

        func shutdown(waiter: Int?) {
            let isFinished = state.withLock { state in
                state.schedule.shutdown()
                if let waiter, !state.isFinished { state.stopWaiters.append(waiter) }
                return state.isFinished
            }
            signal.wake()
            if isFinished, let waiter { waiters.resume(waiter, with: true) }
        }

        func cancel() { exporter.cancel() }

        func run() {
            while true {
                let now = MonotonicClock.now
                switch state.withLock({ $0.schedule.next(at: now) }) {
                case .wait(let deadline): signal.wait(until: deadline)
                case .collect(let flushes): export(for: flushes)
                case .finish: return finish()
                }
            }
        }

        func finish() {
            let stopped = state.withLock { state in
                state.isFinished = true
                defer { state.stopWaiters = [] }
                return state.stopWaiters
            }
            for waiter in stopped { waiters.resume(waiter, with: true) }
        }

        private func export(for flushes: [Int]) {
            let snapshot = collect()
            let result = snapshot.metrics.isEmpty ? .exported : exporter.export(snapshot)
            if result == .failed {
                failed.wrappingAdd(1, ordering: .relaxed)
            } else {
                exported.wrappingAdd(1, ordering: .relaxed)
            }
            for flush in flushes { waiters.resume(flush, with: result != .failed) }
        }
    }
}

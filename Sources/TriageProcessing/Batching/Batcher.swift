internal import Synchronization
public import TriageEvents
internal import TriageTelemetry

/// Collects the calls of a handler into batches: a layer between the engine, for which each event is a call of its own with its
/// own attempt, time-out and outcome, and a handler that takes many events at once.
///
/// A batch begins when it is full or when its first event has waited for the policy's delay. Several may be under way at the
/// same time. The batch handler runs on the loop's executor, as any handler does.
///
/// A call that is cancelled while it waits for its batch to begin throws at once. Afterwards it ends with its batch, so that
/// its patient's lane stays occupied until the handler has really returned; the batch runs on for the others, and is
/// cancelled when all of its calls are.
public final class Batcher: Sendable {
    private struct Call {
        let id: Int
        let event: PatientEvent
        let context: HandlerContext
        let continuation: UnsafeContinuation<Void, any Error>
    }

    private struct Run {
        let task: Task<Void, Never>
        /// Its calls that aren't cancelled.
        var alive: Int
    }

    private struct State {
        var waiting: [Call] = []
        var lastID = 0
        /// Of the batch that is being collected; a timer of an earlier one means nothing any more.
        var generation = 0
        var timer: Task<Void, Never>?
        /// Calls that were cancelled before they waited.
        var cancelled: Set<Int> = []
        /// The batch that a call is in, by the call's number.
        var places: [Int: Int] = [:]
        var runs: [Int: Run] = [:]
    }

    private let state = Mutex(State())
    private let size: Int
    private let delay: Duration
    private let executor: any LoopExecutor
    private let sleep: @Sendable (Duration) async -> Void
    private let handler: BatchHandler

    /// Batches for `handler`.
    ///
    /// - Parameters:
    ///   - concurrency: the engine's; no batch is larger.
    ///   - executor: the engine's.
    ///   - sleep: waits for the delay; cancelled when nobody waits for it any more.
    public init(
        _ policy: BatchPolicy, concurrency: Int, executor: any LoopExecutor,
        sleep: @escaping @Sendable (Duration) async -> Void = { try? await Task.sleep(for: $0) },
        handler: @escaping BatchHandler
    ) {
        size = max(1, min(policy.size, concurrency))
        delay = policy.delay
        self.executor = executor
        self.sleep = sleep
        self.handler = handler
    }

    /// The handler for the engine: returns when the event's batch has been handled.
    public func handle(_ event: PatientEvent, _ context: HandlerContext) async throws {
        let id = state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        defer { state.withLock { state in _ = state.cancelled.remove(id) } }
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
                add(Call(id: id, event: event, context: context, continuation: continuation))
            }
        } onCancel: {
            cancel(id)
        }
    }

    private func add(_ call: Call) {
        let isCancelled = state.withLock { state in
            if state.cancelled.contains(call.id) { return true }
            state.waiting.append(call)
            if state.waiting.count >= size {
                begin(&state)
            } else if state.waiting.count == 1 {
                let generation = state.generation
                state.timer = Task.detached(executorPreference: executor) { [self] in
                    if delay > .zero { await sleep(delay) }
                    timeIsUp(generation)
                }
            }
            return false
        }
        if isCancelled { call.continuation.resume(throwing: CancellationError()) }
    }

    private func timeIsUp(_ generation: Int) {
        state.withLock { state in
            if state.generation == generation, !state.waiting.isEmpty { begin(&state) }
        }
    }

    /// Begins a batch of all that wait. Detached, for it is no one event's: neither its span nor its cancellation is.
    private func begin(_ state: inout State) {
        let calls = state.waiting
        let run = state.generation
        state.waiting.removeAll(keepingCapacity: true)
        state.generation += 1
        state.timer?.cancel()
        state.timer = nil
        for call in calls {
            state.places[call.id] = run
            call.context.span.set("messaging.batch.message_count", .int(Int64(calls.count)))
        }
        let task = Task.detached(executorPreference: executor) { [self] in
            var thrown: (any Error)?
            do { try await handler(EventBatch(calls.map { ($0.event, $0.context) })) } catch { thrown = error }
            end(run, calls, thrown)
        }
        state.runs[run] = Run(task: task, alive: calls.count)
    }

    private func end(_ run: Int, _ calls: [Call], _ error: (any Error)?) {
        state.withLock { state in
            state.runs[run] = nil
            for call in calls { state.places[call.id] = nil }
        }
        let failures = (error as? BatchFailure)?.errors
        for (place, call) in calls.enumerated() {
            if let own = failures.map({ $0[place] }) ?? error {
                call.continuation.resume(throwing: own)
            } else {
                call.continuation.resume()
            }
        }
    }

    /// A call's task was cancelled; on any thread.
    private func cancel(_ id: Int) {
        let (waiting, task) = state.withLock { state -> (Call?, Task<Void, Never>?) in
            if let index = state.waiting.firstIndex(where: { $0.id == id }) {
                let call = state.waiting.remove(at: index)
                if state.waiting.isEmpty {
                    state.generation += 1
                    state.timer?.cancel()
                    state.timer = nil
                }
                return (call, nil)
            }
            guard let place = state.places[id] else {
                state.cancelled.insert(id)
                return (nil, nil)
            }
            guard var run = state.runs[place] else { return (nil, nil) }
            run.alive -= 1
            state.runs[place] = run
            return (nil, run.alive == 0 ? run.task : nil)
        }
        waiting?.continuation.resume(throwing: CancellationError())
        task?.cancel()
    }
}

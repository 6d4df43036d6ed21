internal import TriageEvents
internal import TriageTelemetry

/// A task on the loop's executor that hands events to the handler, one after the other; parked when there is nothing to do.
///
/// Handlers that never suspend are all served by one worker, inline in the loop. Each one that suspends keeps its worker,
/// and the loop wakes another, up to the concurrency limit. Confined to the loop's thread.
final class Worker {
    var parked: UnsafeContinuation<Void, Never>?
    var task: Task<Void, Never>?
    /// What it is busy with.
    @exclusivity(unchecked) var current: Delivery?
    /// The context of the attempt under way, or of the last one.
    @exclusivity(unchecked) var attempt: TraceContext?
    /// When the current attempt is to be cancelled.
    @exclusivity(unchecked) var deadline: Timestamp?
    /// The current attempt was cancelled for its time-out; the worker's task is spent after it.
    @exclusivity(unchecked) var isOverdue = false
    /// The loop gave it up: whatever its handler still does has no effect.
    @exclusivity(unchecked) var isAbandoned = false
}

extension Engine {
    /// Wakes workers as long as there is something to hand out and a worker to do it.
    func dispatch() {
        while failure == nil, lanes.hasReady, mayHandOut {
            if let index = idleWorkers.popLast() {
                let worker = workers[index]
                let parked = worker.parked
                worker.parked = nil
                parked?.resume()
            } else if workers.count < max(1, configuration.concurrency) {
                let worker = Worker()
                workers.append(worker)
                let index = workers.count - 1
                start(worker, at: index)
            } else {
                return
            }
            executor.runPending()
            if isTurnOver { return }
        }
    }

    private func start(_ worker: Worker, at index: Int) {
        // The box crosses into the task, whose executor is the loop's own thread: nothing is shared.
        let box = Confined(worker)
        worker.task = Task(executorPreference: executor) { await self.serve(box.value, at: index) }
    }

    /// What stands before and behind the handler's call are functions that can't suspend: what those have in hand needn't be kept
    /// for a task that is resumed later, which costs more than what is done with it.
    nonisolated(nonsending) private func serve(_ worker: Worker, at index: Int) async {
        while true {
            while !worker.isAbandoned, failure == nil, let (lane, delivery) = takeNext() {
                worker.current = delivery
                delivery.partition.busy += 1
                var call = begin(delivery, lane: lane, by: worker)
                while let (event, context) = call.take() {
                    var thrown: (any Error)?
                    do {
                        try await Span.$current.withValue(context.span) { try await handler(event, context) }
                    } catch { thrown = error }
                    call = ended(thrown, by: worker)
                }
                probeEnded(delivery)
                worker.current = nil
                if worker.isAbandoned { return }
                if worker.isOverdue {
                    // A cancelled task stays cancelled: the slot goes on with a new one.
                    let successor = Worker()
                    workers[index] = successor
                    start(successor, at: index)
                    return
                }
                if isTurnOver { break }
            }
            if worker.isAbandoned { return }
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                worker.parked = continuation
                idleWorkers.append(index)
            }
            if worker.isAbandoned { return }
        }
    }

    /// Cancels the attempts that have exceeded their time-out. The lane stays occupied until the handler returns.
    func cancelOverdueAttempts(_ now: Timestamp) {
        for worker in workers {
            guard let deadline = worker.deadline, deadline <= now, !worker.isOverdue, let delivery = worker.current else {
                continue
            }
            worker.isOverdue = true
            worker.task?.cancel()
            if delivery === probe {
                // It may never return: the outage's end must not depend on it.
                _ = gate.failed(
                    .transient, key: delivery.lane, isFirst: false, isProbe: true, at: now, unit: random.unit())
                probe = nil
            }
            probeEnded(delivery)
            delivery.partition.metrics.overruns.add(1)
            notify(.attemptOverdue(delivery.record.position, worker.attempt))
        }
    }

    /// Ends the parked workers and gives up those whose handlers did not return in time.
    func abandonWorkers() {
        var unfinished = 0
        for worker in workers {
            worker.isAbandoned = true
            if worker.current != nil {
                unfinished += 1
                worker.task?.cancel()
            }
            let parked = worker.parked
            worker.parked = nil
            parked?.resume()
        }
        idleWorkers.removeAll()
        executor.runPending()
        if unfinished > 0 { notify(.drainIncomplete(unfinished)) }
    }
}

/// Carries a value that is confined to the loop's thread into a task that runs on it.
struct Confined<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}

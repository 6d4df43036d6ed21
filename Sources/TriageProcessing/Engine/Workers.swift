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
    var current: Delivery?
    /// The context of the attempt under way, or of the last one.
    var attempt: TraceContext?
    /// When the current attempt is to be cancelled.
    var deadline: Timestamp?
    /// The current attempt was cancelled for its time-out; the worker's task is spent after it.
    var isOverdue = false
    /// The loop gave it up: whatever its handler still does has no effect.
    var isAbandoned = false
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

    private func serve(_ worker: Worker, at index: Int) async {
        while true {
            while !worker.isAbandoned, failure == nil, let (lane, delivery) = takeNext() {
                worker.current = delivery
                delivery.partition.busy += 1
                await handle(delivery, lane: lane, by: worker)
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

    /// One delivery, from its process span's start to its outcome or to the produce that will decide it.
    private func handle(_ delivery: Delivery, lane: LaneKey, by worker: Worker) async {
        let record = delivery.record
        let partition = delivery.partition
        if let open = delivery.open, !queues.mayRun(open.id) {
            putToRest(delivery, open, lane: lane)
            if delivery === probe { probeSaidNothing(at: clock.now()) }
            return
        }
        let start = clock.now()
        var step = ProcessStep(
            template: partition.processTemplate, offset: record.offset, key: record.key, isTombstone: record.value == nil,
            context: delivery.context, continuesFailure: delivery.hasFailedBefore, tracer: tracer, at: start
        )
        counts.consumed += 1
        if partition.isRetry {
            noteRetry(delivery, step: &step, at: start)
        } else if let deferral = delivery.deferral {
            step.follows(deferral.lastAttempt)
        }
        let event: PatientEvent
        switch decode(delivery) {
        case .success(let decoded): event = decoded
        case .failure(let error):
            let failure = ErrorClassification.failure(error, step: "decode")
            if delivery === probe { probeSaidNothing(at: start) }
            step.failed(failure, tracer: tracer, at: start)
            var attempts = delivery.knownHistory?.attempts ?? AttemptLedger()
            attempts.append(AttemptLedger.Entry(failure, at: start, in: step.context))
            giveUp(
                delivery, step: step, failure: failure, attempts: attempts, retries: delivery.knownHistory?.retries ?? 0,
                lane: lane)
            return
        }
        step.describe(event)
        if let head = blocker(of: delivery, lane: lane) {
            if delivery === probe { probeSaidNothing(at: start) }
            park(delivery, behind: head, step: step, lane: lane)
            return
        }
        if let first = memory.completion(of: event, in: record) {
            skip(delivery, step: step, first: first, lane: lane, at: start)
            return
        }
        let isStale = memory.isStale(event, lane: lane, topic: partition.mainTopic)
        if isStale { step.markStale() }

        if isCautious {
            if isCondemned(delivery) {
                if delivery === probe { probeSaidNothing(at: start) }
                let failure = ErrorClassification.failure(ProcessCrash(), step: "handle")
                step.failed(failure, tracer: tracer, at: start)
                var attempts = delivery.knownHistory?.attempts ?? AttemptLedger()
                attempts.append(AttemptLedger.Entry(failure, at: start, in: step.context))
                giveUp(
                    delivery, step: step, failure: failure, attempts: attempts, retries: delivery.knownHistory?.retries ?? 0,
                    lane: lane)
                return
            }
            mark(alone: delivery)
        }
        let deferral = delivery.deferral
        var retries = deferral?.retries ?? delivery.knownHistory?.retries ?? 0
        var attempts = deferral?.attempts ?? delivery.knownHistory?.attempts ?? AttemptLedger()
        // What was deferred isn't charged, so it stands in no ledger: the next attempt links to it all the same.
        var deferredAttempt = deferral?.lastAttempt
        while true {
            let attemptStart = clock.now()
            let attempt = AttemptStep(
                template: attemptTemplate, number: retries + 1, process: step.context, previous: deferredAttempt ?? attempts.last,
                tracer: tracer,
                at: attemptStart
            )
            worker.attempt = attempt.span.context
            if let timeout = configuration.attemptTimeout { worker.deadline = attemptStart + timeout }
            let context = HandlerContext(
                record: record, attempt: retries + 1, origin: delivery.knownHistory?.origin ?? record.position,
                isRedelivery: delivery.isRedelivery || retries > 0 || deferral != nil, span: attempt.span, isStale: isStale
            )
            var thrown: (any Error)?
            do {
                try await Span.$current.withValue(attempt.span) { try await handler(event, context) }
            } catch { thrown = error }
            worker.deadline = nil
            let end = clock.now()
            lastEnd = end
            guard let error = thrown else {
                attempt.end(nil, tracer: tracer, at: end)
                let isProbe = gate.state != .open && delivery === probe
                if let change = gate.succeeded(isProbe: isProbe, at: end) { gateChanged(change, step: &step, at: end) }
                noteCompletion(of: delivery, step: &step, at: end)
                memory.completed(event, lane: lane, origin: context.origin, in: step.context)
                completed(delivery, step: step, lane: lane, start: start, at: end)
                return
            }
            if worker.isAbandoned || partition.isRevoked {
                attempt.end(nil, tracer: tracer, at: end)
                if delivery === probe { probeSaidNothing(at: end) }
                abandon(delivery, step: step, lane: lane, at: end)
                return
            }
            let failure = ErrorClassification.failure(worker.isOverdue ? AttemptTimeout() : error, step: "handle")
            attempt.end(failure, tracer: tracer, at: end)
            if noteFailure(failure, of: delivery, attempt: retries + 1, lane: lane, step: &step, at: end) {
                let deferral = Deferral(retries: retries, attempts: attempts, lastAttempt: attempt.span.context)
                postpone(delivery, deferral, step: step, failure: failure, lane: lane, at: end)
                return
            }
            deferredAttempt = nil
            attempts.append(AttemptLedger.Entry(failure, at: end, in: attempt.span.context))
            switch plan.failed(
                failure.errorClass, retries: retries, retryAt: failure.retryAt, topic: partition.mainTopic,
                origin: delivery.history.originTimestamp, now: end, unit: random.unit())
            {
            case .again where !worker.isOverdue:
                retries += 1
                counts.retries += 1
                partition.metrics.retries(.immediate, failure.errorClass).add(1, in: step.context, at: end)
            case .again:
                // The task is cancelled, so another try needs a fresh one: through the retry topic, due at once.
                step.lastAttemptFailed(failure, tracer: tracer)
                retry(
                    delivery, step: step, failure: failure, attempts: attempts, count: retries + 1, at: end, strategy: .immediate,
                    lane: lane
                )
                return
            case .retry(let count, let due, let strategy):
                step.lastAttemptFailed(failure, tracer: tracer)
                retry(
                    delivery, step: step, failure: failure, attempts: attempts, count: count, at: due, strategy: strategy,
                    lane: lane
                )
                return
            case .deadLetter:
                step.lastAttemptFailed(failure, tracer: tracer)
                giveUp(delivery, step: step, failure: failure, attempts: attempts, retries: retries, lane: lane)
                return
            }
        }
    }

    /// Writes the whole wait as a span and links the process to it and to the attempt before.
    private func noteRetry(_ delivery: Delivery, step: inout ProcessStep, at now: Timestamp) {
        let history = delivery.history
        if let deferral = delivery.deferral {
            // The wait is written already.
            step.continues(retry: deferral.retries, previousAttempt: deferral.lastAttempt, wait: nil)
            return
        }
        let reason: WaitReason = hasWaitedForOutage(delivery) ? .outage : history.waitReason
        let since = delivery.record.timestamp ?? now
        let lateness = delivery.due.map { now - $0 } ?? .zero
        let wait = WaitStep.record(
            template: delivery.partition.waitTemplate, sent: delivery.context,
            reason: reason, from: since, to: now, lateness: lateness, process: step, tracer: tracer
        )
        step.continues(retry: history.retries, previousAttempt: history.attempts.last, wait: wait)
        delivery.partition.metrics.waitDuration(reason).record(max(0, now.seconds(since: since)), in: step.context, at: now)
        delivery.partition.metrics.lateness.record(max(0, lateness.inSeconds), in: step.context, at: now)
    }

    private func completed(_ delivery: Delivery, step: consuming ProcessStep, lane: LaneKey, start: Timestamp, at now: Timestamp)
    {
        let partition = delivery.partition
        let context = step.context
        step.end(.completed, tracer: tracer, at: now)
        counts.completed += 1
        partition.metrics.processDuration.record(now.seconds(since: start), in: context, at: now)
        partition.metrics.completedDeliveries.add(1)
        partition.metrics.completedEvents.add(1)
        if let first = delivery.knownHistory?.originTimestamp ?? delivery.record.timestamp {
            partition.metrics.completedEndToEnd.record(max(0, now.seconds(since: first)), in: context, at: now)
        }
        if delivery.open != nil { closeRetry(delivery, now) }
        settle(delivery, lane: lane)
    }

    /// Gives a delivery up without effect: its offset stays incomplete.
    func abandon(_ delivery: Delivery, step: consuming ProcessStep, lane: LaneKey?, at now: Timestamp) {
        step.end(.abandoned, tracer: tracer, at: now)
        delivery.partition.metrics.deliveries(.abandoned).add(1)
        delivery.partition.busy -= 1
        load.bytes -= delivery.record.size
        if let lane { lanes.finished(lane) }
    }

    /// The delivery's effect is acknowledged: its offset is complete and its lane free, if it wasn't already.
    func settle(_ delivery: Delivery, lane: LaneKey?) {
        delivery.partition.busy -= 1
        complete(delivery)
        if let lane { lanes.finished(lane) }
    }
}

/// Carries a value that is confined to the loop's thread into a task that runs on it.
struct Confined<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}

extension AttemptLedger.Entry {
    init(_ failure: Failure, at time: Timestamp, in context: TraceContext) {
        self.init(
            time: time, errorClass: failure.errorClass, fingerprint: failure.fingerprint, traceID: context.traceID,
            spanID: context.spanID
        )
    }
}

internal import TriageEvents
internal import TriageTelemetry

/// What is known about a delivery while the handler is called with it.
struct Work {
    let lane: LaneKey
    let event: PatientEvent
    let version: UInt64?
    let isStale: Bool
    let step: ProcessStep
    /// The attempt under way.
    var attempt: AttemptStep
    /// Retries that were charged before it.
    var retries: Int
    var attempts: AttemptLedger
}

/// One delivery, from its process span's start to its outcome or to the produce that will decide it.
extension Engine {
    /// What the handler is called with.
    typealias HandlerCall = (event: PatientEvent, context: HandlerContext)

    /// Takes up a delivery.
    ///
    /// - Returns: what the handler is to be called with; nil if the delivery came to an outcome without it.
    func begin(_ delivery: Delivery, lane: LaneKey, by worker: Worker) -> HandlerCall? {
        let partition = delivery.partition
        if let open = delivery.open, !queues.mayRun(open.id) {
            putToRest(delivery, open, lane: lane)
            if delivery === probe { probeSaidNothing(at: clock.now()) }
            return nil
        }
        let start = clock.now()
        let step = ProcessStep(
            template: partition.processTemplate, offset: delivery.record.offset, key: delivery.record.key,
            isTombstone: delivery.record.value == nil, context: delivery.context, continuesFailure: delivery.hasFailedBefore,
            tracer: tracer, at: start
        )
        counts.consumed += 1
        let deferral = delivery.deferral
        if partition.isRetry {
            noteRetry(delivery, step: step, at: start)
        } else if let deferral {
            step.follows(deferral.lastAttempt)
        }
        let event: PatientEvent
        do throws(InvalidEvent) { event = try decode(delivery) } catch {
            if error.isNothing {
                passOver(delivery, error, step: step, lane: lane, at: start)
            } else if let head = blocker(of: delivery, lane: lane) {
                // It is given up in its turn, like every event of its patient.
                if delivery === probe { probeSaidNothing(at: start) }
                park(delivery, behind: head, step: step, lane: lane, isMalformed: true)
            } else {
                refuse(
                    delivery, ErrorClassification.failure(error, step: "decode"), step: step, lane: lane, at: start, thrown: error
                )
            }
            return nil
        }
        step.describe(event)
        if let head = blocker(of: delivery, lane: lane) {
            if delivery === probe { probeSaidNothing(at: start) }
            park(delivery, behind: head, step: step, lane: lane)
            return nil
        }
        if let first = memory.completion(of: event, in: delivery) {
            skip(delivery, step: step, first: first, lane: lane, at: start)
            return nil
        }
        let version = event.versionNumber
        let isStale = memory.isStale(version, lane: lane, in: partition)
        if isStale { step.markStale() }
        if isCautious {
            if isCondemned(delivery) {
                refuse(delivery, ErrorClassification.failure(ProcessCrash(), step: "handle"), step: step, lane: lane, at: start)
                return nil
            }
            mark(alone: delivery)
        }
        let history = delivery.knownHistory
        let attempts = deferral?.attempts ?? history?.attempts ?? AttemptLedger()
        let retries = deferral?.retries ?? history?.retries ?? 0
        // What was deferred isn't charged, so it stands in no ledger: the next attempt links to it all the same.
        let attempt = attempt(retries + 1, step: step, previous: deferral?.lastAttempt ?? attempts.last, by: worker)
        let context = HandlerContext(
            record: delivery.record, attempt: retries + 1, firstOrigin: history?.origin,
            isRedelivery: delivery.isRedelivery || retries > 0 || deferral != nil, span: attempt.span, isStale: isStale
        )
        delivery.work = Work(
            lane: lane, event: event, version: version, isStale: isStale, step: step, attempt: attempt, retries: retries,
            attempts: attempts)
        return (event, context)
    }

    /// Begins an attempt.
    private func attempt(_ number: Int, step: ProcessStep, previous: TraceContext?, by worker: Worker) -> AttemptStep {
        let start = clock.now()
        let attempt = AttemptStep(
            template: attemptTemplate, number: number, process: step.context, previous: previous, tracer: tracer, at: start)
        worker.attempt = attempt.span.context
        if let attemptTimeout {
            // In whole nanoseconds: a duration's arithmetic has 128 bits.
            let (deadline, isNever) = start.nanoseconds.addingReportingOverflow(attemptTimeout)
            worker.deadline = isNever ? nil : Timestamp(nanoseconds: deadline)
        }
        return attempt
    }

    /// The handler returned, or threw.
    ///
    /// - Returns: what it is to be called with once more; nil if the delivery has come to an outcome.
    func ended(_ thrown: (any Error)?, by worker: Worker) -> HandlerCall? {
        guard let delivery = worker.current, let work = delivery.work.take() else { return nil }
        worker.deadline = nil
        let end = clock.now()
        lastEnd = end
        if let thrown { return failed(thrown, work, delivery, by: worker, at: end) }
        work.attempt.end(nil, tracer: tracer, at: end)
        let step = work.step
        let isProbe = gate.state != .open && delivery === probe
        if let change = gate.succeeded(isProbe: isProbe, at: end) { gateChanged(change, step: step, at: end) }
        noteCompletion(of: delivery, step: step, at: end)
        if let version = work.version { memory.handled(version, lane: work.lane) }
        memory.completed(work.event, of: delivery, in: step.context)
        let isTelling = hasOutcome(delivery) && tells(.completed, of: delivery, step: step)
        completed(delivery, step: step, at: end)
        if isTelling { lanes.finished(work.lane) } else { settle(delivery, lane: work.lane) }
        return nil
    }

    private func completed(_ delivery: Delivery, step: ProcessStep, at now: Timestamp) {
        step.end(.completed, tracer: tracer, at: now)
        counts.completed += 1
        let partition = delivery.partition
        partition.metrics.processDuration.record(now.seconds(since: step.start), in: step.context, at: now)
        partition.metrics.completedDeliveries.add(1)
        partition.metrics.completedEvents.add(1)
        if let first = delivery.originTimestamp {
            partition.metrics.completedEndToEnd.record(max(0, now.seconds(since: first)), in: step.context, at: now)
        }
        if delivery.open != nil { closeRetry(delivery, now) }
    }

    private func failed(
        _ error: any Error, _ work: Work, _ delivery: Delivery, by worker: Worker, at end: Timestamp
    ) -> HandlerCall? {
        let partition = delivery.partition
        let lane = work.lane
        let step = work.step
        if worker.isAbandoned || partition.isRevoked {
            work.attempt.end(nil, tracer: tracer, at: end)
            if delivery === probe { probeSaidNothing(at: end) }
            abandon(delivery, step: step, lane: lane, at: end)
            return nil
        }
        let failure = errors.failure(worker.isOverdue ? AttemptTimeout() : error)
        work.attempt.end(failure, tracer: tracer, at: end)
        if noteFailure(failure, of: delivery, attempt: work.retries + 1, lane: lane, step: step, at: end) {
            let deferral = Deferral(
                retries: work.retries, attempts: work.attempts, lastAttempt: work.attempt.span.context)
            postpone(delivery, deferral, step: step, failure: failure, lane: lane, at: end)
            return nil
        }
        var attempts = work.attempts
        attempts.append(AttemptLedger.Entry(failure, at: end, in: work.attempt.span.context))
        let decision = plan.failed(
            failure.errorClass, retries: work.retries, retryAt: failure.retryAt, topic: partition.mainTopic,
            origin: delivery.originTimestamp, now: end, unit: random.unit())
        if decision == .again, !worker.isOverdue {
            counts.retries += 1
            partition.metrics.retries(.immediate, failure.errorClass).add(1, in: step.context, at: end)
            return again(delivery, work, attempts, by: worker)
        }
        step.lastAttemptFailed(failure, tracer: tracer)
        switch decision {
        case .again:
            // The task is cancelled, so another try needs a fresh one: through the retry topic, due at once.
            retry(
                delivery, step: step, failure: failure, attempts: attempts, count: work.retries + 1, at: end,
                strategy: .immediate, lane: lane, thrown: error)
        case .retry(let count, let due, let strategy):
            retry(
                delivery, step: step, failure: failure, attempts: attempts, count: count, at: due, strategy: strategy,
                lane: lane, thrown: error)
        case .deadLetter:
            giveUp(
                delivery, step: step, failure: failure, attempts: attempts, retries: work.retries, lane: lane, thrown: error)
        }
        return nil
    }

    /// Another attempt in place.
    private func again(_ delivery: Delivery, _ failed: Work, _ attempts: AttemptLedger, by worker: Worker) -> HandlerCall {
        var work = failed
        work.attempts = attempts
        work.retries += 1
        work.attempt = attempt(work.retries + 1, step: work.step, previous: attempts.last, by: worker)
        delivery.work = work
        let context = HandlerContext(
            record: delivery.record, attempt: work.retries + 1, firstOrigin: delivery.knownHistory?.origin, isRedelivery: true,
            span: work.attempt.span, isStale: work.isStale)
        return (work.event, context)
    }

    /// Gives up a delivery whose handler isn't called.
    private func refuse(
        _ delivery: Delivery, _ failure: Failure, step: ProcessStep, lane: LaneKey, at start: Timestamp,
        thrown: (any Error)? = nil
    ) {
        if delivery === probe { probeSaidNothing(at: start) }
        step.failed(failure, tracer: tracer, at: start)
        let history = delivery.knownHistory
        var attempts = history?.attempts ?? AttemptLedger()
        attempts.append(AttemptLedger.Entry(failure, at: start, in: step.context))
        giveUp(
            delivery, step: step, failure: failure, attempts: attempts, retries: history?.retries ?? 0, lane: lane, thrown: thrown
        )
    }

    /// Writes the whole wait as a span and links the process to it and to the attempt before.
    private func noteRetry(_ delivery: Delivery, step: ProcessStep, at now: Timestamp) {
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
        let previous = makes(.attemptUnlinked) ? nil : history.attempts.last
        step.continues(retry: history.retries, previousAttempt: previous, wait: wait)
        delivery.partition.metrics.waitDuration(reason).record(max(0, now.seconds(since: since)), in: step.context, at: now)
        delivery.partition.metrics.lateness.record(max(0, lateness.inSeconds), in: step.context, at: now)
    }

    /// Gives a delivery up without effect: its offset stays incomplete.
    func abandon(_ delivery: Delivery, step: ProcessStep, lane: LaneKey?, at now: Timestamp) {
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

extension AttemptLedger.Entry {
    init(_ failure: Failure, at time: Timestamp, in context: TraceContext) {
        self.init(
            time: time, errorClass: failure.errorClass, fingerprint: failure.fingerprint, traceID: context.traceID,
            spanID: context.spanID
        )
    }
}

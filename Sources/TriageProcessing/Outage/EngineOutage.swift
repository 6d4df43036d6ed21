public import TriageEvents
internal import TriageTelemetry

/// How the loop acts on the outage gate, and what it publishes for collection.
extension Engine {
    /// Whether anything may be handed to the handler now.
    var mayHandOut: Bool {
        guard isHeld else { return mayHandOutCautiously }
        let now = clock.now()
        return (gate.state == .open || gate.admitsProbe(at: now)) && storm.admits(at: now) && mayHandOutCautiously
    }

    /// The next delivery for the handler; during an outage or a storm the probe, when one is due.
    func takeNext() -> (key: LaneKey, item: Delivery)? {
        if isCautious, !mayHandOutCautiously { return nil }
        // Not isOpen, which copies the gate first: once an event.
        if !isHeld { return lanes.next() }
        // What has failed before may fail for reasons of its own: it probes only if there is nothing else.
        func isFresh(_ delivery: Delivery) -> Bool { delivery.deferral == nil && !delivery.partition.isRetry }
        guard mayHandOut, let next = lanes.next(preferring: isFresh) else { return nil }
        storm.began(next.item)
        guard gate.state != .open else { return next }
        gate.probeBegan()
        wantsFresh = !isFresh(next.item)
        probe = next.item
        return next
    }

    /// Feeds the gate with a failed attempt.
    ///
    /// - Returns: whether the delivery is to be deferred: no attempt is charged and nothing given up while the gate isn't open.
    func noteFailure(
        _ failure: Failure, of delivery: Delivery, attempt: Int, lane: LaneKey, step: ProcessStep, at now: Timestamp
    ) -> Bool {
        let isProbe = delivery === probe
        // At the end of a run that ends when all is done nothing comes that could open the gate again.
        let isHeard = attempt == 1 || isProbe || !configuration.endsWhenIdle || hasMoreToRead
        if isHeard,
            let change = gate.failed(
                failure.errorClass, key: lane, isFirst: attempt == 1, isProbe: isProbe, at: now, unit: random.unit())
        {
            gateChanged(change, step: step, at: now)
        }
        if delivery === probe { probe = nil }
        return !gate.isOpen && failure.errorClass != .persistent
    }

    /// Whether main partitions may have something that wasn't read yet.
    private var hasMoreToRead: Bool { partitions.values.contains { !$0.isRetry && $0.end == nil } }

    /// The probe ended in a way that tells nothing about the outage.
    func probeSaidNothing(at now: Timestamp) {
        gate.probeSaidNothing(at: now)
        probe = nil
    }

    /// Tells of a change: on the span of the delivery that brought it about, in the log, by the gauge.
    func gateChanged(_ change: OutageGate.Change, step: ProcessStep, at now: Timestamp) {
        switch change {
        case .closed(let cause, _):
            step.add(SpanEvent("triage.gate.closed", at: now, cause.attributes))
            notify(.gateClosed(cause))
        case .opened(let time):
            probe = nil
            step.add(SpanEvent("triage.gate.opened", at: now, [Attribute("triage.gate.duration", .double(time.inSeconds))]))
            notify(.gateOpened(after: time))
        case .probeFailed: return
        }
        publishReadings()
    }

    /// Ends a delivery whose attempt failed during an outage, and puts it back to the head of its lane: nothing is charged.
    func postpone(
        _ delivery: Delivery, _ deferral: Deferral, step: ProcessStep, failure: Failure, lane: LaneKey,
        at now: Timestamp
    ) {
        delivery.deferral = deferral
        delivery.partition.hasDeferred = true
        counts.deferred += 1
        let metrics = delivery.partition.metrics
        step.lastAttemptFailed(failure, tracer: tracer)
        metrics.failedProcessDuration(failure).record((now - step.start).inSeconds, in: step.context, at: now)
        metrics.deliveries(.deferred).add(1)
        step.end(.deferred, tracer: tracer, at: now)
        delivery.partition.busy -= 1
        lanes.putBack(delivery, key: lane)
    }

    /// Whether a retry that is handed over now was due while the gate was closed.
    func hasWaitedForOutage(_ delivery: Delivery) -> Bool {
        if !gate.isOpen { return true }
        guard let opened = gate.lastOpened, let due = delivery.due else { return false }
        return due <= opened
    }

    func publishReadings() {
        let isOpen = gate.isOpen
        let all = partitions.values.map { partition in
            let incomplete = partition.ledger.incomplete
            var waiting = partition.waiting
            // Retries that are due wait for the outage's end.
            if !isOpen, partition.isRetry { waiting[.outage] += max(0, incomplete - waiting.total - partition.busy) }
            return PipelineReadings.Partition(
                id: partition.id, mainTopic: partition.mainTopic, isRetry: partition.isRetry,
                watermark: partition.ledger.watermark, end: consumer.knownEnd(of: partition.id),
                oldest: partition.ledger.oldest, incomplete: incomplete, inFlight: max(0, incomplete - waiting.total),
                waiting: waiting, isPaused: intake.paused.contains(partition.id)
            )
        }
        readings.publish(all, lanes: lanes.activeKeys, blocked: queues.blockedKeys, gate: gate.state)
    }

    /// Looks up what the loop doesn't learn by itself: the dead letters that stand open, and the ends of paused partitions.
    ///
    /// Blocks, so not to be called on the loop's thread; meant to be called every few seconds.
    ///
    /// - Parameters:
    ///   - inspector: whom to ask.
    ///   - timeout: for each question. After three partitions that don't answer the rest is left for the next time.
    ///   - isCancelled: asked between questions, and between records that are read.
    public func look(by inspector: any PartitionInspector, timeout: Duration, isCancelled: () -> Bool = { false }) {
        let paused = readings.paused
        if let error = backlog.look(inspector, timeout: timeout, isCancelled: isCancelled) { notify(.backlogUnknown(error)) }
        for partition in paused where !isCancelled() {
            guard let range = try? inspector.watermarks(partition, timeout: timeout) else { return }
            readings.learned(end: range.upperBound, of: partition)
        }
    }

    /// Whether partitions came that ``look(by:timeout:isCancelled:)`` hasn't seen yet.
    public var isLookDue: Bool { backlog.isDue }
}

extension OutageGate.Cause {
    /// What closed the gate, in numbers.
    fileprivate var attributes: [Attribute] {
        switch self {
        case .row(let keys): [Attribute("triage.gate.failures", .int(Int64(keys)))]
        case .ratio(let failures, let attempts):
            [
                Attribute("triage.gate.failures", .int(Int64(failures))),
                Attribute("triage.gate.attempts", .int(Int64(attempts))),
            ]
        }
    }
}

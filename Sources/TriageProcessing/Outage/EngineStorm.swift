internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// The storm breaker with the delivery that probes for it, and its gauge. Confined to the loop's thread.
final class StormWatch {
    @exclusivity(unchecked) var breaker: StormBreaker
    /// The delivery that probes whether the storm is over.
    @exclusivity(unchecked) var probe: Delivery?
    private let reading = Reading()

    /// What the meter reads: it keeps this, so it must not keep the engine.
    private final class Reading: Sendable { let state = Mutex(StormBreaker.State.open) }

    init(_ policy: StormPolicy?, group: String, meter: Meter) {
        breaker = StormBreaker(policy)
        let group = SafeText(vetted: group)
        meter.observe(.stormState) { [reading] in
            let present = reading.state.withLock(\.self)
            return StormBreaker.State.allCases.map { state in
                (
                    ["messaging.consumer.group.name": group, "triage.storm.state": SafeText(state)],
                    .int(state == present ? 1 : 0)
                )
            }
        }
    }

    @inline(__always)
    var isOpen: Bool { breaker.state == .open }

    /// Whether something may be handed to the handler, if only a probe.
    func admits(at now: Timestamp) -> Bool { isOpen || breaker.admitsProbe(at: now) }

    /// A delivery is handed to the handler; ``admits(at:)`` said it may.
    func began(_ delivery: Delivery) {
        guard !isOpen else { return }
        breaker.probeBegan()
        probe = delivery
        publish()
    }

    func publish() {
        let state = breaker.state
        reading.state.withLock { $0 = state }
    }
}

/// How the loop acts on the storm breaker.
extension Engine {
    /// Whether an outage or a storm keeps everything but probes from the handler.
    @inline(__always)
    var isHeld: Bool { gate.state != .open || !storm.isOpen }

    /// When the next probe may be handed out; nil while one is under way, or nothing is held.
    var nextProbe: Timestamp? {
        guard isHeld, gate.state != .probing, storm.breaker.state != .probing else { return nil }
        return [gate.nextProbe, storm.breaker.nextProbe].compactMap(\.self).max()
    }

    /// Feeds the breaker with an event that was completed.
    @inline(__always)
    func noteCompletion(of delivery: Delivery, step: ProcessStep, at now: Timestamp) {
        let isProbe = !storm.isOpen && delivery === storm.probe
        if let change = storm.breaker.completed(isProbe: isProbe, at: now) { stormChanged(change, step: step, at: now) }
    }

    /// Feeds the breaker with an event that is given up: by the decision and not by the dead letter's acknowledgement, so that
    /// nothing more is handed out before it comes.
    func noteDeadLetter(_ failure: Failure, of delivery: Delivery, step: ProcessStep, at now: Timestamp) {
        let change = storm.breaker.deadLettered(
            failure.errorClass, isProbe: delivery === storm.probe, at: now, unit: random.unit())
        if let change { stormChanged(change, step: step, at: now) }
    }

    /// A worker is done with a delivery: a probe that ended in a way that says nothing is followed by the next at once.
    @inline(__always)
    func probeEnded(_ delivery: Delivery) {
        guard storm.probe != nil, delivery === storm.probe else { return }
        storm.breaker.probeSaidNothing(at: clock.now())
        storm.probe = nil
        storm.publish()
    }

    /// Tells of a change: on the span of the delivery that brought it about, in the log, by the gauge.
    private func stormChanged(_ change: StormBreaker.Change, step: ProcessStep, at now: Timestamp) {
        storm.probe = nil
        switch change {
        case .stopped(let deadLetters, let events, _):
            step.add(
                SpanEvent(
                    "triage.storm.stopped", at: now,
                    [
                        Attribute("triage.storm.dead_letters", .int(Int64(deadLetters))),
                        Attribute("triage.storm.events", .int(Int64(events))),
                    ]))
            notify(.stormStopped(deadLetters: deadLetters, events: events))
        case .opened(let time):
            step.add(SpanEvent("triage.storm.opened", at: now, [Attribute("triage.storm.duration", .double(time.inSeconds))]))
            notify(.stormOpened(after: time))
        case .probeFailed: break
        }
        storm.publish()
        publishReadings()
    }
}

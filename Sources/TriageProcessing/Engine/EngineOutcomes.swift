internal import TriageEvents
internal import TriageTelemetry

/// How an event came to its end.
enum EventEnd {
    /// It was handled, or needn't be any more.
    case completed
    /// It was given up; where its dead letter stands.
    case deadLettered(RecordPosition)
}

/// A delivery that is done, whose `triage-replay` the states don't know yet.
struct UnprovenReplay {
    let delivery: Delivery
    let end: EventEnd
    let step: ProcessStep
    /// Since when it waits, without a part of the states having been read meanwhile.
    var since: Timestamp
    /// The first read that can know it.
    let read: Int
}

/// What the engine tells of dead letters: how their replays ended, and which of them hold their patients.
///
/// A replay is known by the header `triage-replay`, and anybody can write that. It is believed if the states say so
/// (``ReplaysUnderWay``). A replay and its state are written in one transaction, but they are in two partitions: its marker may come to one
/// before the other, and this engine reads the states only now and then. So a mark that isn't known is waited for, and its
/// delivery's offset isn't complete meanwhile.
extension Engine {
    /// How long a mark is waited for: far more than a transaction's markers need from one partition to the next, which a coordinator
    /// writes at once and again until they are taken, and less than a clean stop has by default.
    static var replayPatience: Duration { .seconds(10) }
    /// How long it is waited for while the states can't be read: longer than the election of another leader takes, and not for ever,
    /// since the group's offset stays where it is meanwhile.
    static var replayBound: Duration { .seconds(120) }
    /// Time between two looks at the states while a mark is waited for.
    static var unprovenInterval: Duration { .milliseconds(250) }
    /// Marks that are waited for longer than one read takes: a flood of forged ones must not fill what may be in flight, of which this is
    /// a quarter by default.
    static var maximumUnproven: Int { 1000 }

    /// Whether there may be something to tell of a delivery that is done: an operator replayed it, or it holds its patient.
    @inline(__always)
    func hasOutcome(_ delivery: Delivery) -> Bool {
        if !held.isEmpty, held.isHeld(delivery.knownHistory?.origin ?? delivery.record.position) { return true }
        if delivery.partition.isRetry { return delivery.knownHistory?.replay != nil }
        return delivery.record.headers.contains(HeaderName.replay)
    }

    /// Tells how a delivery's event ended, of which there may be something to tell.
    ///
    /// - Returns: whether that is under way: then the delivery's offset is complete when it is through, and its lane is free before
    ///   that, since what comes after it needn't wait for bookkeeping.
    func tells(_ end: EventEnd, of delivery: Delivery, step: ProcessStep) -> Bool {
        if case .deadLettered = end { holdBehind(delivery) }
        guard hasOutcome(delivery) || isOpened(end) else { return false }
        let verdict = verdict(on: delivery)
        if verdict.isUnknown, states != nil {
            let now = clock.now()
            // What is under way may have begun before.
            let read = stateReads + (isReadingStates ? 2 : 1)
            unproven.append(UnprovenReplay(delivery: delivery, end: end, step: step, since: now, read: read))
            nextStateRead = min(nextStateRead, now)
            return true
        }
        note(verdict, delivery, step)
        let writes = writes(of: end, delivery, verdict)
        if !writes.isEmpty { tell(writes, of: delivery, step: step) }
        return !writes.isEmpty
    }

    /// Whether a dead letter is to hold its patient.
    private func isOpened(_ end: EventEnd) -> Bool {
        if case .deadLettered = end { isSequencing } else { false }
    }

    // MARK: What is believed

    /// What is to be thought of what a delivery says in `triage-replay`.
    private struct Judgement {
        var replay: ReplaysUnderWay.Replay?
        var isUnknown = false
        var isOver = false
        var isFalse = false
    }

    private func verdict(on delivery: Delivery) -> Judgement {
        let headers = delivery.record.headers
        // One in a main topic names no group unless somebody gave it one: it is everybody's.
        if let group = EventHistory.group(of: headers), !group.equals(configuration.group) { return Judgement() }
        guard let mark = delivery.history.replay.flatMap({ ReplayMark($0) }) else { return Judgement() }
        if makes(.markBelieved) { return Judgement(replay: ReplaysUnderWay.Replay(believing: mark, of: delivery.history.origin)) }
        switch knownReplays.verdict(mark, lane: stateLane(of: delivery)?.hash64(seed: HeldPatients.laneSeed)) {
        case .underWay(let replay): return Judgement(replay: replay)
        case .over: return Judgement(isOver: true)
        case .isFalse: return Judgement(isFalse: true)
        case .unknown: return Judgement(isUnknown: true)
        }
    }

    /// The patient's lane as states have it; nil if the event is nobody's.
    private func stateLane(of delivery: Delivery) -> ByteSlice? {
        delivery.record.key ?? (try? decode(delivery))?.resourceIDBytes
    }

    /// Whether a delivery is of the event that stands at its origin, whatever its headers say: main delivered it there, this group wrote
    /// it anew, or an operator did.
    private func isOfItsOrigin(_ delivery: Delivery, _ judgement: Judgement) -> Bool {
        !delivery.partition.isRetry || judgement.replay != nil || judgement.isOver
            || delivery.record.headers.contains(HeaderName.writer)
    }

    // MARK: What is told

    private func writes(of end: EventEnd, _ delivery: Delivery, _ judgement: Judgement) -> [StateWrite] {
        let now = clock.now()
        let history = delivery.history
        let group = configuration.group
        let replay = judgement.replay
        var writes: [StateWrite] = []
        func write(_ letter: RecordPosition, _ state: DeadLetterState) {
            writes.append(StateWrite(key: DeadLetterKey(group: group, position: letter), state: state))
        }
        var successor: RecordPosition?
        if case .deadLettered(let letter) = end {
            successor = letter
            if isSequencing, let key = stateLane(of: delivery) {
                write(
                    letter,
                    DeadLetterState(
                        .open, time: now, by: group, origin: history.origin, originTimestamp: history.originTimestamp,
                        follows: history.replay.flatMap { ReplayMark($0) }, lane: DeadLetterState.lane(of: key)))
            }
        }
        let ended = replay.map { knownReplays.letters(of: $0) } ?? []
        if let replay {
            for letter in ended {
                write(
                    letter,
                    DeadLetterState(
                        successor == nil ? .completed : .failedAgain, time: now, by: group, reason: replay.reason,
                        replay: replay.mark.id, replayedBy: replay.by, replayedAt: replay.at, successor: successor,
                        origin: replay.origin ?? held.origin(of: letter) ?? history.origin,
                        originTimestamp: replay.originTimestamp,
                        follows: replay.follows,
                        lane: replay.lane ?? stateLane(of: delivery).map { DeadLetterState.lane(of: $0) }))
            }
        }
        guard successor == nil, !held.isEmpty else { return writes }
        // Those by which it holds its patient: main redelivered it, and it went well this time; or they are earlier ones of what was
        // replayed.
        var origins = isOfItsOrigin(delivery, judgement) ? [history.origin] : []
        if let origin = replay?.origin, !origins.contains(origin) { origins.append(origin) }
        for origin in origins {
            guard let head = held.head(origin), head.lane == delivery.lane.value else { continue }
            for letter in held.letters(of: origin) where !ended.contains(letter) {
                write(
                    letter,
                    DeadLetterState(
                        .completed, time: now, by: group, origin: origin,
                        lane: stateLane(of: delivery).map { DeadLetterState.lane(of: $0) }))
            }
        }
        return writes
    }

    /// A dead letter holds its patient at once, before a state says so.
    private func holdBehind(_ delivery: Delivery) {
        guard isSequencing, stateLane(of: delivery) != nil,
            let partition = delivery.partition.isRetry ? delivery.partition : delivery.partition.twin, !partition.isRevoked
        else { return }
        let history = delivery.history
        pendingHolds[history.origin, default: 0] += 1
        if !makes(.heldLate) { hold(history.origin, lane: delivery.lane, in: partition, time: history.originTimestamp) }
    }

    /// Writes what became of dead letters, one after the other. The delivery's offset is complete when the last one is acknowledged,
    /// its lane is free before.
    private func tell(_ writes: [StateWrite], of delivery: Delivery, step: ProcessStep) {
        guard let first = writes.first else { return }
        begin(
            PendingSend(
                .state(writes), delivery: delivery, lane: nil,
                record: OutboundRecord(
                    topic: TopicName.deadLetterState, partition: 0, key: ByteSlice(first.key.description),
                    value: first.state.json, headers: []),
                headers: HeaderEdits(), attributes: [], step: step, failure: nil, attempts: AttemptLedger(), retries: 0))
    }

    /// A state was acknowledged.
    func told(_ writes: [StateWrite], by send: PendingSend, at offset: Int64) {
        noteProduce(failed: false)
        isStateRefused = false
        guard let first = writes.first else { return }
        backlog.learn(first.key.position, first.state)
        knownReplays.apply(first.key, first.state, at: offset)
        if isSequencing {
            act(on: held.apply(first.key, first.state, at: offset))
            if first.state.status == .open { endPendingHold(first) }
        }
        next(of: writes, by: send)
    }

    /// A state was refused for good: it isn't written, and nobody is held who couldn't be released.
    func refused(_ writes: [StateWrite], by send: PendingSend, _ error: BrokerError) {
        if !isStateRefused { notify(.stateRefused(error, send.step.context)) }
        isStateRefused = true
        if let first = writes.first, first.state.status == .open { endPendingHold(first) }
        next(of: writes, by: send)
    }

    private func next(of writes: [StateWrite], by send: PendingSend) {
        if writes.count > 1 {
            tell(Array(writes.dropFirst()), of: send.delivery, step: send.step)
        } else {
            settle(send.delivery, lane: nil)
        }
    }

    private func endPendingHold(_ write: StateWrite) {
        guard let origin = write.state.origin, let count = pendingHolds[origin] else { return }
        pendingHolds[origin] = count > 1 ? count - 1 : nil
        settleHold(of: origin)
    }

    // MARK: What isn't known yet

    /// The states were read, or time has passed: tells what is known now, and of what isn't by now that nobody will.
    func settleUnproven(_ now: Timestamp) {
        if failure != nil {
            // Nothing can be told any more: the offsets stay incomplete, as those of what is being sent.
            for replay in unproven { release(replay, isComplete: false) }
            unproven.removeAll()
            return
        }
        let all = unproven
        unproven.removeAll()
        for replay in all {
            let judgement = verdict(on: replay.delivery)
            let wasRead = lastWholeRead >= replay.read
            // They were read to their end since, unless they can't be.
            let waited = now - replay.since
            let hasWaited =
                (wasRead && (waited >= replayPatience || all.count > Engine.maximumUnproven)) || waited >= replayBound
            if judgement.isUnknown, !hasWaited {
                unproven.append(replay)
                continue
            }
            note(judgement, replay.delivery, replay.step)
            let writes = writes(of: replay.end, replay.delivery, judgement)
            if writes.isEmpty {
                release(replay, isComplete: true)
            } else {
                tell(writes, of: replay.delivery, step: replay.step)
            }
        }
        if !unproven.isEmpty {
            let isNew = unproven.contains { $0.read > stateReads }
            nextStateRead = min(nextStateRead, isNew ? now : now + Engine.unprovenInterval)
        }
    }

    /// A part of the states was read: what is waited for may stand in the next one.
    func prolongUnproven(_ now: Timestamp) {
        for index in unproven.indices { unproven[index].since = now }
    }

    /// Forgets what is waited for of partitions that are gone.
    func forgetUnproven() {
        for replay in unproven where replay.delivery.partition.isRevoked { release(replay, isComplete: true) }
        unproven.removeAll { $0.delivery.partition.isRevoked }
    }

    private func release(_ replay: UnprovenReplay, isComplete: Bool) {
        if isComplete {
            settle(replay.delivery, lane: nil)
        } else {
            replay.delivery.partition.busy -= 1
            load.bytes -= replay.delivery.record.size
        }
    }

    /// Tells once of marks that no state bears out, until one does: their dead letters stay what they are.
    private func note(_ judgement: Judgement, _ delivery: Delivery, _ step: ProcessStep) {
        if judgement.replay != nil { isUnprovenTold = false }
        guard judgement.isUnknown || judgement.isFalse else { return }
        if !isUnprovenTold { notify(.replayUnknown(delivery.record.position, step.context)) }
        isUnprovenTold = true
    }
}

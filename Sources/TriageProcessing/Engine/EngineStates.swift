internal import TriageEvents
internal import TriageTelemetry

/// How the engine learns what became of dead letters, and which patients it holds for that.
extension Engine {
    /// Time between two looks at the topic: whoever holds patients shall release them soon, a count may be a little old.
    private var stateInterval: Duration { isSequencing ? .seconds(1) : .seconds(5) }

    /// Whether a dead letter holds its patient's later events.
    var isSequencing: Bool { configuration.deadLetters == .sequence && configuration.ordering == .perKey }

    /// Reads on in the topic of the states if it is time.
    func followStates(_ now: Timestamp) {
        guard let states, !isReadingStates, now >= nextStateRead else { return }
        isReadingStates = true
        states.read { [executor, self] result in executor.post { self.statesRead(result) } }
    }

    private func statesRead(_ result: Result<DeadLetterChanges, BrokerError>) {
        isReadingStates = false
        let now = clock.now()
        stateReads += 1
        lastStateRead = result.map { StateReading(isAtEnd: $0.isAtEnd, exists: $0.exists) }
        switch result {
        case .success(let read):
            isStateUnknown = false
            nextStateRead = read.isAtEnd ? now + stateInterval : now
            backlog.learn(read)
            if isSequencing { learn(read) }
        case .failure(let error):
            nextStateRead = now + stateInterval
            if !isStateUnknown { notify(.statesUnknown(error)) }
            isStateUnknown = true
        }
    }

    private func learn(_ read: DeadLetterChanges) {
        if read.startsOver {
            held = HeldPatients(group: configuration.group)
            for origin in holds.keys.sorted() { settleHold(of: origin) }
        }
        for change in read.changes { act(on: held.apply(change.key, change.state, at: change.offset)) }
        held.read(to: read.position)
    }

    private func act(on actions: [HeldPatients.Action]) {
        for action in actions {
            switch action {
            case .hold(let head): settleHold(of: head.origin)
            case .release(let origin): settleHold(of: origin)
            }
        }
    }

    /// Reads the states to where their topic ends now, within the callback of a rebalance: whoever had these partitions may just have
    /// dead-lettered something. Blocks, as ``retrying(_:)`` does, and no longer than ``EngineConfiguration/stateTimeout``.
    func catchUpWithStates() throws(BrokerError) {
        let topic = TopicName.deadLetterState
        guard states != nil else { throw BrokerError("_NOT_CONFIGURED", operation: "read \(topic)") }
        let deadline = clock.now() + configuration.stateTimeout
        // What is under way may have begun before.
        var needed = stateReads + (isReadingStates ? 2 : 1)
        nextStateRead = clock.now()
        while true {
            executor.runPending()
            if stateReads >= needed, let last = lastStateRead {
                switch last {
                case .success(let read) where !read.exists: throw BrokerError("UNKNOWN_TOPIC_OR_PART", operation: "read \(topic)")
                case .success(let read) where read.isAtEnd: return
                case .failure(let error) where !error.isRetriable: throw error
                case .success: nextStateRead = clock.now()
                case .failure: nextStateRead = clock.now() + .milliseconds(200)
                }
                needed = stateReads + 1
            }
            let now = clock.now()
            guard now < deadline, !isStopping else {
                throw BrokerError("_TIMED_OUT", operation: "read \(topic)", isRetriable: true)
            }
            followStates(now)
            executor.wait(atMost: min(deadline - now, .milliseconds(50)))
        }
    }

    /// Holds the patients of partitions that have just come.
    func holdPatients(of ids: [TopicPartition]) {
        guard isSequencing, !makes(.holdForgotten) else { return }
        for id in ids where !TopicName.isRetry(id.topic) {
            for head in held.heads(of: id) { settleHold(of: head.origin) }
        }
    }

    // MARK: Holds

    /// Puts a hold into its patient's queue, or takes it out, as the states have it.
    private func settleHold(of origin: RecordPosition) {
        if let head = held.head(origin) {
            let main = TopicPartition(TopicName.main(of: head.letter.topic), head.letter.partition)
            guard holds[origin] == nil, let partition = partitions[main]?.twin else { return }
            hold(origin, lane: LaneKey(head.lane), in: partition, time: nil)
        } else if pendingHolds[origin] == nil {
            release(origin)
        }
    }

    private func hold(_ origin: RecordPosition, lane: LaneKey, in partition: PartitionState, time: Timestamp?) {
        guard holds[origin] == nil else { return }
        let hold = OpenRetry(RetryIdentity(origin: origin), lane: lane, partition: partition)
        hold.isHold = true
        hold.id = queues.open(hold, key: lane, place: place(of: origin, time), isHold: true)
        holds[origin] = hold
    }

    private func release(_ origin: RecordPosition) {
        guard let hold = holds.removeValue(forKey: origin) else { return }
        if let next = queues.close(hold.id), let item = queues[next] { freed(item, clock.now()) }
    }

    /// Forgets the holds of partitions that are gone.
    func forgetHolds() {
        for (origin, hold) in holds where hold.partition.isRevoked {
            holds[origin] = nil
            pendingHolds[origin] = nil
            _ = queues.close(hold.id)
        }
    }

    /// Where a retry stands in its patient's queue: at its origin, and one that was written to main to replay an event that holds its
    /// patient at the place of that, else it would wait for itself.
    func standing(_ history: EventHistory) -> RecordPosition {
        guard !held.isEmpty, let mark = history.replay.flatMap({ ReplayMark($0) }) else { return history.origin }
        return held.origin(of: mark.deadLetter) ?? history.origin
    }

    /// Whether a delivery replays the event that it would have to wait for.
    func replays(_ delivery: Delivery, _ head: OpenRetry) -> Bool {
        head.isHold && delivery.record.headers.contains(HeaderName.replay) && standing(delivery.history) == head.origin
    }

    /// The patient's lane as states have it; nil if the event is nobody's.
    private func stateLane(of delivery: Delivery) -> ByteSlice? {
        delivery.record.key ?? (try? decode(delivery))?.resourceIDBytes
    }

    // MARK: Outcomes

    /// Whether there is something to tell of a delivery that is done: an operator replayed it, or it holds its patient.
    @inline(__always)
    func hasOutcome(_ delivery: Delivery) -> Bool {
        if !held.isEmpty, held.isHeld(delivery.knownHistory?.origin ?? delivery.record.position) { return true }
        if delivery.partition.isRetry { return delivery.knownHistory?.replay != nil }
        return delivery.record.headers.contains(HeaderName.replay)
    }

    /// The replay that brought a delivery, if that is for this group to tell of.
    private func mark(of delivery: Delivery) -> ReplayMark? {
        let headers = delivery.record.headers
        // One in a main topic names no group unless somebody gave it one: it is everybody's.
        if let group = EventHistory.group(of: headers), !group.equals(configuration.group) { return nil }
        return delivery.history.replay.flatMap { ReplayMark($0) }
    }

    /// What is to be told of a delivery that was handled, or needn't be any more.
    func completions(of delivery: Delivery) -> [StateWrite] {
        guard hasOutcome(delivery) else { return [] }
        let mark = mark(of: delivery)
        let origin = delivery.history.origin
        var letters = mark.map { [$0.deadLetter] } ?? []
        // Those by which it holds its patient: main redelivered it, and it went well this time.
        letters += held.letters(of: origin).filter { !letters.contains($0) }
        let now = clock.now()
        return letters.map { letter in
            let isOwn = letter == mark?.deadLetter
            return StateWrite(
                key: DeadLetterKey(group: configuration.group, position: letter),
                state: DeadLetterState(
                    .completed, time: now, by: configuration.group, replay: isOwn ? mark?.id : nil,
                    origin: held.origin(of: letter) ?? origin, lane: stateLane(of: delivery).map(DeadLetterState.lane)))
        }
    }

    /// What is to be told of a delivery whose dead letter was acknowledged; its patient is held from now on if that is wanted.
    func failures(of delivery: Delivery, letter: RecordPosition) -> [StateWrite] {
        let key = isSequencing ? stateLane(of: delivery) : nil
        guard key != nil || hasOutcome(delivery) else { return [] }
        let mark = mark(of: delivery)
        let now = clock.now()
        let history = delivery.history
        let lane = stateLane(of: delivery).map(DeadLetterState.lane)
        var writes: [StateWrite] = []
        if key != nil {
            writes.append(
                StateWrite(
                    key: DeadLetterKey(group: configuration.group, position: letter),
                    state: DeadLetterState(
                        .open, time: now, by: configuration.group, origin: history.origin,
                        follows: history.replay.flatMap { ReplayMark($0) }, lane: lane)))
            if let partition = delivery.partition.isRetry ? delivery.partition : delivery.partition.twin, !partition.isRevoked {
                pendingHolds[history.origin, default: 0] += 1
                if !makes(.heldLate) { hold(history.origin, lane: delivery.lane, in: partition, time: history.originTimestamp) }
            }
        }
        if let mark {
            writes.append(
                StateWrite(
                    key: DeadLetterKey(group: configuration.group, position: mark.deadLetter),
                    state: DeadLetterState(
                        .failedAgain, time: now, by: configuration.group, replay: mark.id, successor: letter,
                        origin: held.origin(of: mark.deadLetter) ?? history.origin, lane: lane)))
        }
        return writes
    }

    /// Writes what became of dead letters, one after the other. The delivery's offset is complete when the last one is acknowledged,
    /// its lane is free before: what comes after it needn't wait for bookkeeping.
    func tell(_ writes: [StateWrite], of delivery: Delivery, step: ProcessStep) {
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
        if isSequencing {
            act(on: held.apply(first.key, first.state, at: offset))
            if first.state.status == .open { endPendingHold(first) }
        }
        if writes.count > 1 {
            tell(Array(writes.dropFirst()), of: send.delivery, step: send.step)
        } else {
            settle(send.delivery, lane: nil)
        }
    }

    /// A state was refused for good: it isn't written, and nobody is held who couldn't be released.
    func refused(_ writes: [StateWrite], by send: PendingSend, _ error: BrokerError) {
        if !isStateRefused { notify(.stateRefused(error, send.step.context)) }
        isStateRefused = true
        if let first = writes.first, first.state.status == .open { endPendingHold(first) }
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

    // MARK: The end of a run

    /// Whether nothing is open but what waits behind holds, which only an operator ends.
    var waitsForOperators: Bool {
        guard !holds.isEmpty else { return false }
        var count = holds.count
        for partition in partitions.values {
            let waiting = partition.atRest.values.count { queues.isHeld($0.id) }
            guard partition.busy == 0, partition.isRead, partition.ledger.incomplete == waiting else { return false }
            count += waiting
        }
        return count == queues.count
    }
}

/// What the last look at the topic of the states brought.
struct StateReading {
    let isAtEnd: Bool
    let exists: Bool
}

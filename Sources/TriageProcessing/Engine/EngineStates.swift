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
            if read.isAtEnd { lastWholeRead = stateReads } else { prolongUnproven(now) }
            backlog.learn(read)
            learn(read)
        case .failure(let error):
            nextStateRead = now + stateInterval
            if !isStateUnknown { notify(.statesUnknown(error)) }
            isStateUnknown = true
        }
        if !unproven.isEmpty { settleUnproven(now) }
    }

    private func learn(_ read: DeadLetterChanges) {
        if read.startsOver {
            knownReplays = ReplaysUnderWay(group: configuration.group)
            held = HeldPatients(group: configuration.group)
            for origin in holds.keys.sorted() { settleHold(of: origin) }
        }
        for change in read.changes {
            let replay = knownReplays.apply(change.key, change.state, at: change.offset)
            guard isSequencing else { continue }
            act(on: held.apply(change.key, change.state, at: change.offset))
            if let replay, replay.isInMain { move(replay) }
        }
        if isSequencing { held.read(to: read.position) }
    }

    func act(on actions: [HeldPatients.Action]) {
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
    func settleHold(of origin: RecordPosition) {
        if let head = held.head(origin) {
            let main = TopicPartition(TopicName.main(of: head.letter.topic), head.letter.partition)
            guard holds[origin] == nil, let partition = partitions[main]?.twin else { return }
            hold(origin, lane: LaneKey(head.lane), in: partition, time: nil)
        } else if pendingHolds[origin] == nil {
            release(origin)
        }
    }

    func hold(_ origin: RecordPosition, lane: LaneKey, in partition: PartitionState, time: Timestamp?) {
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
    /// patient at the place of that, else it would wait for itself. What its header says isn't enough for that either.
    func standing(_ identity: RetryIdentity, lane: LaneKey) -> RecordPosition {
        guard !held.isEmpty, identity.isReplay, let replay = knownReplays.replay(hash: identity.replay, lane: lane.value) else {
            return identity.origin
        }
        return held.origin(of: replay.mark.deadLetter) ?? identity.origin
    }

    /// Whether a delivery replays the event that it would have to wait for.
    func replays(_ delivery: Delivery, _ head: OpenRetry) -> Bool {
        head.isHold && delivery.record.headers.contains(HeaderName.replay)
            && standing(delivery.history.identity, lane: delivery.lane) == head.origin
    }

    /// A replay of an event that holds its patient is known only now: it may have been parked behind that in the meantime.
    private func move(_ replay: ReplaysUnderWay.Replay) {
        guard !queues.isEmpty, let origin = held.origin(of: replay.mark.deadLetter) else { return }
        let hash = RetryIdentity.hash(of: replay.mark)
        let runnable = queues.move(to: source(of: origin.topicPartition), origin.offset) { open in
            open.identity.replay == hash && (replay.laneNumber == nil || replay.laneNumber == open.lane.value)
        }
        let now = clock.now()
        for id in runnable { if let open = queues[id] { freed(open, now) } }
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

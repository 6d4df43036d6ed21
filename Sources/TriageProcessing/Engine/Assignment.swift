internal import DequeModule
public import TriageEvents
internal import TriageTelemetry

extension Engine {
    /// Takes partitions over: verifies that each main partition came with its retry twin, and resolves where to start.
    ///
    /// A partition without a committed offset starts at a fixed offset that is committed at once: a main partition where
    /// the configuration says, a retry partition always at its beginning, whatever `auto.offset.reset` is. Otherwise
    /// acknowledged retries could be skipped after a restart (design §3).
    public func assigned(_ ids: [TopicPartition], by consumer: any RecordConsumer) -> [TopicPartition: StartOffset] {
        var starts: [TopicPartition: StartOffset] = [:]
        // Records that an earlier assignment of ours produced and that land late are another writer's. Never from the seed: two
        // engines may have the same.
        let writer = UInt64.random(in: 1 ... .max).hexadecimal
        do throws(BrokerError) {
            let committed = try retrying { () throws(BrokerError) in try consumer.committed(ids, timeout: .seconds(10)) }
            for id in ids {
                let state = partitionState(id)
                state.writer = writer
                starts[id] = .offset(try start(state, committed[id]))
                try suspect(state)
                partitions[id] = state
            }
        } catch {
            notify(.clientError(error))
            if isStopping, error.isRetriable {
                // Half an assignment is none: nothing of it is handled before the end.
                for id in ids { partitions[id] = nil }
                return [:]
            }
            failure = .broker(error)
        }
        // After what is committed, since a state is written before the commit that covers its dead letter: whatever is passed over
        // has its hold. That time passes in between does no harm, for nobody else's commit is taken in this generation.
        if isSequencing, failure == nil, !ids.isEmpty {
            do throws(BrokerError) { try catchUpWithStates() } catch {
                if isStopping {
                    for id in ids { partitions[id] = nil }
                    return [:]
                }
                failure = .statesUnknown(error)
            }
        }
        pair(ids)
        holdPatients(of: ids)
        for id in ids where failure == nil {
            guard let state = partitions[id], state.isRetry, state.rebuildEnd != nil, let main = state.twin else { continue }
            do throws(BrokerError) {
                let id = main.id
                main.available = try retrying { () throws(BrokerError) in try consumer.watermarks(id, timeout: .seconds(10)) }
            } catch {
                notify(.clientError(error))
                if !isStopping || !error.isRetriable { failure = .broker(error) }
            }
        }
        // What is there of retries is read before anything of main goes on, since it says which keys are blocked.
        for id in ids {
            guard let state = partitions[id], state.isRetry, state.rebuildEnd != nil else { continue }
            isRebuilding = true
            intake.hold(back: state.mainID, true)
        }
        intake.invalidate()
        if failure == nil {
            balanceIntake()
            // From here on whoever follows without a clean end in between knows it, and resolved starts are settled.
            commitNow(ids.compactMap { partitions[$0] })
        }
        noteAssignment(.assigned)
        notify(.assigned(ids.count))
        return starts
    }

    /// Where a partition starts, with what its predecessor left in the commit.
    private func start(_ state: PartitionState, _ known: OffsetCommit?) throws(BrokerError) -> Int64 {
        let id = state.id
        guard let known else {
            let range = try retrying { () throws(BrokerError) in try consumer.watermarks(id, timeout: .seconds(10)) }
            let start = configuration.startsAtEnd && !state.isRetry ? range.upperBound : range.lowerBound
            state.ledger.started(at: start)
            if state.isRetry, start < range.upperBound { state.rebuildEnd = range.upperBound }
            return start
        }
        var metadata = CommitMetadata()
        do throws(CommitMetadataError) {
            metadata = try CommitMetadata(known.metadata ?? "", at: known.offset)
        } catch {
            notify(.metadataIgnored(id, error))
        }
        var start = known.offset
        if state.isRetry {
            let range = try retrying { () throws(BrokerError) in try consumer.watermarks(id, timeout: .seconds(10)) }
            // What retention took is gone; starting below it would let `auto.offset.reset` choose.
            start = max(known.offset, range.lowerBound)
            if start > range.upperBound {
                // The topic was made anew: the offset and what rode with it are of another one.
                start = range.lowerBound
                metadata.completed = []
            }
            if start < range.upperBound { state.rebuildEnd = range.upperBound }
            metadata.clampCompleted(to: range.upperBound)
        } else if !metadata.completed.isEmpty {
            // After a truncation others stand at those offsets, or will.
            let range = try retrying { () throws(BrokerError) in try consumer.watermarks(id, timeout: .seconds(10)) }
            metadata.clampCompleted(to: range.upperBound)
        }
        state.ledger.started(at: start, completed: metadata.completed)
        if start == known.offset { state.ledger.didCommit(start) }
        succeed(metadata, of: state, at: start, isOwn: ownCommits[id]?.contains(known) == true)
        return start
    }

    /// Pairs each main partition with its retry twin: who writes retries must be who reads them, or they are another writer's, in
    /// whatever order they are handled.
    private func pair(_ ids: [TopicPartition]) {
        for id in ids where !TopicName.isRetry(id.topic) {
            let twinID = TopicPartition(TopicName.retry(of: id.topic), id.partition)
            guard let state = partitions[id], let twin = partitions[twinID] else {
                if failure == nil { failure = .notCoPartitioned(id, twin: twinID) }
                continue
            }
            state.twin = twin
            twin.twin = state
            // One that stayed while its twin came writes under the new assignment too.
            state.writer = twin.writer
            state.source = source(of: id)
        }
    }

    /// Asks again as long as the error says that it may help: a leader that moves, a coordinator that loads, brokers that are away.
    /// After 10 ms, 20, 40, …, at most 200; for five minutes, since nobody polls meanwhile, and after Kafka's
    /// `max.poll.interval.ms` (300,000 by default) the group has given the partitions to another member.
    func retrying<Answer>(_ ask: () throws(BrokerError) -> Answer) throws(BrokerError) -> Answer {
        let deadline = clock.now() + .seconds(300)
        for attempt in 0..<1600 {
            do throws(BrokerError) {
                return try ask()
            } catch  where error.isRetriable {
                guard clock.now() < deadline, !isStopping else { throw error }
                notify(.clientError(error))
                executor.runPending()
                executor.wait(atMost: .milliseconds(min(200, 10 << min(attempt, 5))))
            } catch {
                throw error
            }
        }
        return try ask()
    }

    /// Gives partitions back: what a handler or a produce is busy with may finish within a bound, the rest is dropped
    /// unhandled, what is complete is committed.
    public func revoked(_ ids: [TopicPartition], by consumer: any RecordConsumer) {
        let leaving = ids.compactMap { partitions[$0] }
        let dropped = dropWaiting(of: leaving)
        turnStart = clock.now()
        var deadline = turnStart + configuration.revocationTimeout
        // A rebalance doesn't prolong a stop; at its very end the workers have had their time already.
        if let drainDeadline { deadline = min(deadline, drainDeadline) }
        while leaving.contains(where: { $0.busy > 0 }) {
            executor.runPending()
            let now = clock.now()
            retrySends(now)
            cancelOverdueAttempts(now)
            if !unproven.isEmpty {
                followStates(now)
                settleUnproven(now)
            }
            guard leaving.contains(where: { $0.busy > 0 }), now < deadline else { break }
            executor.wait(atMost: min(deadline - now, .milliseconds(50)))
        }
        // What an outage deferred meanwhile is ready again: nobody may take it up any more.
        let deferred = dropWaiting(of: leaving)
        commitNow(leaving, isClosing: true)
        let abandoned = dropped + deferred + leaving.reduce(0) { $0 + $1.busy }
        forget(leaving)
        noteAssignment(.revoked)
        notify(.revoked(ids.count, abandoned: abandoned))
    }

    /// Drops partitions that are gone already, without side effects.
    public func lost(_ ids: [TopicPartition], by consumer: any RecordConsumer) {
        let leaving = ids.compactMap { partitions[$0] }
        _ = dropWaiting(of: leaving)
        forget(leaving)
        noteAssignment(.lost)
        notify(.lost(ids.count))
    }

    private func partitionState(_ id: TopicPartition) -> PartitionState {
        let main = TopicName.main(of: id.topic)
        let metrics = topicMetrics[main] ?? PartitionMetrics(meter: meter, mainTopic: main, group: configuration.group)
        if topicMetrics[main] == nil {
            topicMetrics[main] = metrics
            deadLetterCounter.prepare(destination: SafeText(vetted: main), group: SafeText(vetted: configuration.group))
        }
        return PartitionState(
            id, group: configuration.group, clientID: configuration.clientID, tracer: tracer, attemptTopic: main, metrics: metrics
        )
    }

    /// Forgets what waits, unhandled.
    func dropWaiting(of leaving: [PartitionState]) -> Int {
        let isLeaving: (Delivery) -> Bool = { delivery in leaving.contains { $0 === delivery.partition } }
        let ready = lanes.remove(where: isLeaving)
        for delivery in ready { load.bytes -= delivery.record.size }
        var waited = 0
        for partition in leaving {
            waited += partition.atRest.count
            for open in partition.atRest.sorted(by: { $0.key < $1.key }).map(\.value) { _ = leaveRest(open) }
            for item in partition.rebuild where item.delivery != nil { load.waitingBytes -= item.size }
            partition.rebuild = []
        }
        let now = clock.now()
        for id in queues.remove(where: { open in leaving.contains { $0 === open.partition } }).runnable {
            if let open = queues[id] { freed(open, now) }
        }
        return ready.count + waited
    }

    private func forget(_ leaving: [PartitionState]) {
        for partition in leaving {
            ownCommits[partition.id] = partition.mark.tried.map(\.commit)
            partition.isRevoked = true
            partitions[partition.id] = nil
            partition.clear()
        }
        if !holds.isEmpty { forgetHolds() }
        intake.forget(leaving.map(\.id))
        if !leaving.isEmpty {
            _ = waiting.remove { $0.partition.isRevoked }
            _ = absent.remove { $0.partition.isRevoked }
        }
        if isCautious { reviewSuspects() }
        forgetUnproven()
        let orphans = sends.filter { $0.value.delivery.partition.isRevoked }
        for (id, send) in orphans {
            sends[id] = nil
            release(send)
        }
        for send in resends.remove(where: { $0.delivery.partition.isRevoked }) { release(send) }
        for send in unsent where send.delivery.partition.isRevoked { release(send) }
        unsent.removeAll { $0.delivery.partition.isRevoked }
    }

    private func release(_ send: PendingSend) {
        if case .state = send.kind {
            settle(send.delivery, lane: nil)
            return
        }
        send.step.end(.abandoned, tracer: tracer, at: clock.now())
        send.delivery.partition.metrics.deliveries(.abandoned).add(1)
        settle(send.delivery, lane: send.lane)
    }
}

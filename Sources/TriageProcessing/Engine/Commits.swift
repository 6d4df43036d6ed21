internal import DequeModule
internal import TriageEvents
internal import TriageTelemetry

extension Engine {
    /// Commits what is complete if the interval has passed, one commit at a time.
    func commitIfDue(_ now: Timestamp) {
        guard commitsInFlight.isEmpty, now - lastCommit >= configuration.commitInterval else { return }
        let offsets = offsetsToCommit(partitions.values)
        guard !offsets.isEmpty else { return }
        lastCommit = now
        let step = CommitStep(template: commitTemplate, partitions: offsets.count, tracer: tracer, at: now)
        do {
            try consumer.commit(offsets)
            commitsInFlight.append(step)
        } catch {
            step.end(error, tracer: tracer, at: clock.now())
            gauges.commits(error).add(1)
            notify(.commitFailed(error))
        }
    }

    func offsetsToCommit(_ partitions: some Sequence<PartitionState>) -> [OffsetCommit] {
        partitions.compactMap { state in state.ledger.toCommit().map { OffsetCommit(state.id, offset: $0) } }
    }

    /// The coordinator has answered the oldest commit.
    func committed(_ offsets: [OffsetCommit], error: BrokerError?, at now: Timestamp) {
        commitsInFlight.popFirst()?.end(error, tracer: tracer, at: now)
        gauges.commits(error).add(1)
        if let error {
            notify(.commitFailed(error))
        } else {
            for offset in offsets { partitions[offset.topicPartition]?.ledger.didCommit(offset.offset) }
        }
    }

    /// Commits what is complete in these partitions and waits for the answer.
    func commitNow(_ partitions: some Sequence<PartitionState>) {
        let offsets = offsetsToCommit(partitions)
        guard !offsets.isEmpty else { return }
        let step = CommitStep(template: commitTemplate, partitions: offsets.count, tracer: tracer, at: clock.now())
        do {
            try consumer.commitAndWait(offsets)
            step.end(nil, tracer: tracer, at: clock.now())
            gauges.commits(nil).add(1)
            for offset in offsets { self.partitions[offset.topicPartition]?.ledger.didCommit(offset.offset) }
        } catch {
            step.end(error, tracer: tracer, at: clock.now())
            gauges.commits(error).add(1)
            notify(.commitFailed(error))
        }
    }
}

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
            ended(step, error, at: clock.now())
        }
    }

    func offsetsToCommit(_ partitions: some Sequence<PartitionState>) -> [OffsetCommit] {
        partitions.compactMap { state in state.ledger.toCommit().map { OffsetCommit(state.id, offset: $0) } }
    }

    /// The coordinator has answered the oldest commit.
    func committed(_ offsets: [OffsetCommit], error: BrokerError?, at now: Timestamp) {
        if let step = commitsInFlight.popFirst() { ended(step, error, at: now) }
        if error == nil {
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
            ended(step, nil, at: clock.now())
            for offset in offsets { self.partitions[offset.topicPartition]?.ledger.didCommit(offset.offset) }
        } catch {
            ended(step, error, at: clock.now())
        }
    }

    private func ended(_ step: CommitStep, _ error: BrokerError?, at now: Timestamp) {
        gauges.committed(error, from: step.start, to: now)
        step.end(error, tracer: tracer, at: now)
        if let error { notify(.commitFailed(error)) }
    }
}

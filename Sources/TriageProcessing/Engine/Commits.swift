internal import DequeModule
internal import TriageEvents
internal import TriageTelemetry

/// What rides in a partition's commits beside what is complete. Confined to the loop's thread.
struct CommitMark {
    /// What a commit says beside offsets, and the ledger's version that it is of.
    typealias Said = (flags: CommitMetadata.Flags, crashes: CommitMetadata.Crashes?, version: Int)

    /// Owners in a row that didn't end cleanly.
    var crashes: CommitMetadata.Crashes?
    /// What the last successful commit said.
    var committed: (flags: CommitMetadata.Flags, crashes: CommitMetadata.Crashes?)?
    /// What the commit under way says.
    var pending: Said?
    /// The offset that runs alone, if one does.
    var alone: Int64?
    /// The offset that ran alone when the process crashed, and at how many crashes in a row it did.
    var crashedAlone: (offset: Int64, crashes: Int)?
    /// The last commits that were tried: one of them is what stands if the closing one was refused.
    var tried: [(commit: OffsetCommit, said: Said)] = []
    /// Offsets before this one run alone: they may have been in flight at each of the last crashes.
    var suspectBelow: Int64?
}

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

    /// What has changed since the last commit: the watermark, what is complete beyond it, or what the owner is doing.
    ///
    /// - Parameter isClosing: the owner ends cleanly with this commit.
    func offsetsToCommit(_ partitions: some Sequence<PartitionState>, isClosing: Bool = false) -> [OffsetCommit] {
        partitions.compactMap { state in
            guard let offset = state.ledger.watermark else { return nil }
            // Where not even the assignment was settled, what the predecessor said stays.
            if isClosing, state.mark.committed == nil, !state.ledger.needsCommit { return nil }
            let (flags, crashes) = isClosing ? (state.leavesUndone ? [.isUnfinished] : [], nil) : mark(of: state)
            if !state.ledger.needsCommit, let known = state.mark.committed, known.flags == flags, known.crashes == crashes {
                return nil
            }
            state.mark.pending = (flags, crashes, state.ledger.version)
            let commit = OffsetCommit(state.id, offset: offset, metadata: metadata(of: state, at: offset, flags, crashes))
            state.mark.tried.append((commit, (flags, crashes, state.ledger.version)))
            if state.mark.tried.count > 4 { state.mark.tried.removeFirst() }
            return commit
        }
    }

    private func mark(of state: PartitionState) -> (CommitMetadata.Flags, CommitMetadata.Crashes?) {
        var flags: CommitMetadata.Flags = [.isOpen]
        if !gate.isOpen { flags.insert(.isGateClosed) }
        if !storm.isOpen { flags.insert(.isStormy) }
        if intake.paused.contains(state.id) { flags.insert(.isPaused) }
        var crashes = state.mark.crashes
        if let alone = state.mark.alone {
            crashes?.alone = alone
            if let known = state.mark.crashedAlone, known.offset == alone {
                flags.insert(known.crashes == 1 ? .isAloneAgain : .isAloneOnceMore)
            }
        }
        return (flags, crashes)
    }

    /// The text that rides with a commit. What doesn't fit is left out from its end; in the last resort there is none, and what
    /// is complete beyond the watermark is handled again by the next owner.
    private func metadata(
        of state: PartitionState, at offset: Int64, _ flags: CommitMetadata.Flags, _ crashes: CommitMetadata.Crashes?
    ) -> String? {
        var value = CommitMetadata(flags: flags, crashes: crashes, completed: state.ledger.completedBeyond())
        if let text = value.encoded(at: offset) { return text.isEmpty ? nil : text }
        let end = offset + CommitMetadata.maximumSpan
        value.completed = value.completed.filter { $0.lowerBound < end }.map { $0.clamped(to: offset..<end) }
        if let text = value.encoded(at: offset) { return text }
        return CommitMetadata(flags: flags, crashes: crashes).encoded(at: offset)
    }

    /// The coordinator has answered the oldest commit.
    func committed(_ offsets: [OffsetCommit], error: BrokerError?, at now: Timestamp) {
        if let step = commitsInFlight.popFirst() { ended(step, error, at: now) }
        if error == nil { noteCommitted(offsets) }
    }

    private func noteCommitted(_ offsets: [OffsetCommit]) {
        for offset in offsets {
            guard let state = partitions[offset.topicPartition] else { continue }
            // Which of two that were under way it is, only its text tells.
            let pending = state.mark.tried.last { $0.commit == offset }?.said ?? state.mark.pending
            state.ledger.didCommit(offset.offset, version: pending?.version)
            if let pending { state.mark.committed = (pending.flags, pending.crashes) }
        }
    }

    /// Commits what is complete in these partitions and waits for the answer.
    ///
    /// - Parameter isClosing: whether the owner ends cleanly with it.
    /// - Returns: whether it succeeded.
    @discardableResult
    func commitNow(_ partitions: some Sequence<PartitionState>, isClosing: Bool = false) -> Bool {
        let offsets = offsetsToCommit(partitions, isClosing: isClosing)
        guard !offsets.isEmpty else { return true }
        let step = CommitStep(template: commitTemplate, partitions: offsets.count, tracer: tracer, at: clock.now())
        do {
            try consumer.commitAndWait(offsets)
            ended(step, nil, at: clock.now())
            noteCommitted(offsets)
            return true
        } catch {
            ended(step, error, at: clock.now())
            return false
        }
    }

    private func ended(_ step: CommitStep, _ error: BrokerError?, at now: Timestamp) {
        gauges.committed(error, from: step.start, to: now)
        step.end(error, tracer: tracer, at: now)
        if let error { notify(.commitFailed(error)) }
    }
}

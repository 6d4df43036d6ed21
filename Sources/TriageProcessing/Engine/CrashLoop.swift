internal import TriageEvents
internal import TriageTelemetry

/// What a predecessor that didn't end cleanly leaves behind (design §3, Classes): events that may be delivered again, and crashes
/// to be counted.
///
/// Each commit says that its owner is at work, the last one of a clean end says that no more. Whoever finds the former counts
/// a crash, unless it finds a commit of its own: then only the closing one was refused. After two in a row what may have been in
/// flight runs alone, its offset committed before it begins, so that the next crash names the event. One that ran alone at three
/// crashes in a row is given up without another attempt: kills that have nothing to do with an event don't hit the same one
/// three times, unless it is at work all the time.
extension Engine {
    /// Crashes in a row after which what may have been in flight runs alone.
    static var crashLimit: Int { 2 }

    /// Takes over what the commit of a predecessor says.
    ///
    /// - Parameter isOwn: this process made it.
    func succeed(_ metadata: CommitMetadata, of state: PartitionState, at start: Int64, isOwn: Bool) {
        // A commit's metadata holds no more than this, and what is in flight is capped by it. The offset may be anybody's.
        let span = configuration.maximumOffsetSpan
        let end = start > .max - span ? .max : start + span
        if metadata.flags.contains(.isUnfinished) { state.redeliveredBelow = end }
        guard metadata.flags.contains(.isOpen) else { return }
        state.redeliveredBelow = end
        if isOwn {
            state.mark.crashes = metadata.crashes.map { CommitMetadata.Crashes(count: $0.count, base: $0.base) }
            return
        }
        var crashes = CommitMetadata.Crashes(count: 1, base: start)
        if let known = metadata.crashes, start - known.base < span {
            crashes = CommitMetadata.Crashes(count: known.count + 1, base: known.base)
            let before = metadata.flags.contains(.isAloneOnceMore) ? 2 : metadata.flags.contains(.isAloneAgain) ? 1 : 0
            state.mark.crashedAlone = known.alone.map { ($0, before + 1) }
        }
        state.mark.crashes = crashes
    }

    /// Finds how far what may have been in flight reaches, once it has to run alone.
    func suspect(_ state: PartitionState) throws(BrokerError) {
        guard let crashes = state.mark.crashes, crashes.count >= Engine.crashLimit else { return }
        let id = state.id
        let end = try retrying { () throws(BrokerError) in try consumer.watermarks(id, timeout: .seconds(10)) }.upperBound
        let start = state.ledger.watermark ?? 0
        guard start < end else {
            // Nothing was in flight: no event here brought them about.
            state.mark.crashes = nil
            return
        }
        state.mark.suspectBelow = start + min(end - start, configuration.maximumOffsetSpan)
        isCautious = true
        notify(.crashLoop(state.id, crashes: crashes.count))
    }

    /// Whether a delivery may be handed out while something has to run alone: nothing else is at work.
    var mayHandOutCautiously: Bool {
        !isCautious || partitions.values.allSatisfy { $0.busy == 0 }
    }

    /// Marks a suspect before it begins, so that a crash in its attempt can be told from any other.
    func mark(alone delivery: Delivery) {
        let state = delivery.partition
        guard let end = state.mark.suspectBelow, delivery.record.offset < end else { return }
        state.mark.alone = delivery.record.offset
        // If this fails, a crash now is one more without a culprit.
        commitNow([state])
    }

    /// Whether the process crashed three times in a row while this delivery ran alone.
    func isCondemned(_ delivery: Delivery) -> Bool {
        guard let known = delivery.partition.mark.crashedAlone else { return false }
        return known.offset == delivery.record.offset && known.crashes >= 3
    }

    /// A delivery's offset is complete.
    func noteSuspect(_ delivery: Delivery) {
        let state = delivery.partition
        if state.mark.alone == delivery.record.offset { state.mark.alone = nil }
        if state.mark.crashedAlone?.offset == delivery.record.offset { state.mark.crashedAlone = nil }
    }

    /// Ends the suspicion of partitions whose suspects are through: their crashes are no longer counted.
    func reviewSuspects() {
        for state in partitions.values {
            guard let end = state.mark.suspectBelow else { continue }
            guard state.ledger.watermark ?? 0 >= end || isThroughSuspects(state, end) else { continue }
            state.mark.suspectBelow = nil
            state.mark.crashes = nil
        }
        isCautious = partitions.values.contains { $0.mark.suspectBelow != nil }
    }

    /// Whether nothing that was delivered of a partition's suspects is left but what waits for its time.
    private func isThroughSuspects(_ state: PartitionState, _ end: Int64) -> Bool {
        guard state.ledger.position ?? 0 >= end else { return false }
        guard state.isRetry else { return false }
        let now = clock.now()
        return state.ledger.incompleteOffsets(before: end, atMost: .max).allSatisfy { offset in
            // What may run now is merely not handed out yet.
            state.atRest[offset].map { !queues.mayRun($0.id) || $0.due > now } ?? false
        }
    }
}

/// An event was in flight, alone, at three crashes of the process in a row.
struct ProcessCrash: ClassifiedError {
    var errorClass: ErrorClass { .system }
    var code: SafeText? { "crashed" }
}

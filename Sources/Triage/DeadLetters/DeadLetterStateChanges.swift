public import TriageEvents
internal import TriageProcessing

extension DeadLetterOperator {
    /// Says of dead letters that their events aren't needed any more. Only open ones are discarded, unless forced.
    ///
    /// - Parameters:
    ///   - selection: which.
    ///   - reason: why, in the operator's words: kept in `triage.dead-letters`.
    ///   - force: discard also what was replayed.
    ///   - progress: told what happens.
    /// - Throws: ``OperatorError``; a `BrokerError` if the brokers don't answer.
    public func discard(
        _ selection: DeadLetterSelection, reason: String, force: Bool = false, progress: @escaping Progress = { _ in }
    ) async throws -> StateChangeReport {
        try await change(selection, to: .discarded, reason: reason, progress: progress) { status in
            status != .discarded && (force || status.isOpen)
        }
    }

    /// The same of these.
    public func discard(
        _ positions: [RecordPosition], reason: String, force: Bool = false, progress: @escaping Progress = { _ in }
    ) async throws -> StateChangeReport {
        try await discard(DeadLetterSelection(positions), reason: reason, force: force, progress: progress)
    }

    /// Takes discards back: what was discarded is open again.
    ///
    /// - Throws: ``OperatorError``; a `BrokerError` if the brokers don't answer.
    public func reopen(
        _ selection: DeadLetterSelection, reason: String? = nil, progress: @escaping Progress = { _ in }
    ) async throws -> StateChangeReport {
        try await change(selection, to: .open, reason: reason, progress: progress) { $0 == .discarded }
    }

    /// The same of these.
    public func reopen(
        _ positions: [RecordPosition], reason: String? = nil, progress: @escaping Progress = { _ in }
    ) async throws -> StateChangeReport {
        try await reopen(DeadLetterSelection(positions), reason: reason, progress: progress)
    }

    private func change(
        _ selection: DeadLetterSelection, to status: DeadLetterState.Status, reason: String?, progress: @escaping Progress,
        where applies: (DeadLetterState.Status) -> Bool
    ) async throws -> StateChangeReport {
        try await operate { session in
            var report = StateChangeReport()
            var reader = SelectionReader(access.scanner, selection)
            var batch: [(entry: DeadLetterEntry, key: DeadLetterKey)] = []
            while let (position, found) = try await reader.next() {
                guard let found else {
                    report.refused += 1
                    if report.refusals.count < 1000 { report.refusals.append((position, .gone)) }
                    progress(.refused(position, .gone))
                    continue
                }
                let letter = DeadLetter(found.record)
                let state = session.read.states.state(of: letter, group: access.group)
                let entry = DeadLetterEntry(letter: letter, state: state, copies: found.copies)
                let isTwice = batch.contains { $0.entry.letter.identity == letter.identity }
                guard !isTwice, applies(entry.status) else {
                    let current = isTwice ? status : entry.status
                    report.unchanged[current, default: 0] += 1
                    progress(.unchanged(position, current))
                    continue
                }
                batch.append((entry, DeadLetterKey(letter, group: access.group)))
                if batch.count == 100 { try await write(&batch, &session, &report, status, reason, progress) }
            }
            try await write(&batch, &session, &report, status, reason, progress)
            return report
        }
    }

    private func write(
        _ batch: inout [(entry: DeadLetterEntry, key: DeadLetterKey)], _ session: inout OperatorSession,
        _ report: inout StateChangeReport, _ status: DeadLetterState.Status, _ reason: String?, _ progress: Progress
    ) async throws {
        if batch.isEmpty { return }
        try Task.checkCancellation()
        var changes: [(DeadLetterKey, DeadLetterState)] = []
        for (entry, key) in batch {
            let letter = entry.letter
            // The replay before it, and who asked for that, stays readable; why is what is said now.
            let state = DeadLetterState(
                status, time: clock.now(), by: name, reason: reason, replay: entry.state?.replay,
                replayedBy: entry.state?.replayedBy, replayedAt: entry.state?.replayedAt,
                successor: entry.state?.successor, origin: letter.origin, originTimestamp: letter.originTimestamp,
                follows: letter.replay, lane: letter.key.map { DeadLetterState.lane(of: $0) } ?? entry.state?.lane)
            for position in [letter.position] + entry.copies {
                changes.append((DeadLetterKey(group: key.group, position: position), state))
            }
        }
        let all = changes
        try await transact(&session) { writes in
            for (key, state) in all { try writes.send(DeadLetterOperator.record(key, state), parent: nil) }
        }
        for (key, state) in all { session.read.states.set(key, state) }
        for (entry, _) in batch {
            report.changed += 1
            progress(status == .open ? .reopened(entry.letter.position) : .discarded(entry.letter.position))
        }
        batch = []
    }
}

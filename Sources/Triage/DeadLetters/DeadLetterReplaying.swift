internal import Synchronization
public import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

extension DeadLetterOperator {
    /// Told what happens while it happens, on any thread.
    public typealias Progress = @Sendable (OperatorEvent) -> Void

    /// Replays dead letters, in the order of the selection. What isn't open is left alone, so doing it twice does it once.
    ///
    /// Each transaction holds some of them, each with its state, so whenever it ends, what was replayed is known to be. Copies of
    /// a dead letter are closed with it.
    ///
    /// - Returns: what became of them.
    /// - Throws: ``OperatorError``; a `BrokerError` if the brokers don't answer.
    public func replay(
        _ selection: DeadLetterSelection, options: ReplayOptions = ReplayOptions(), progress: @escaping Progress = { _ in }
    ) async throws -> ReplayReport {
        try await operate { session in
            var run = ReplayRun(of: self, selection, options, progress: progress)
            return try await run.run(&session)
        }
    }

    /// The same of these, in this order.
    public func replay(
        _ positions: [RecordPosition], options: ReplayOptions = ReplayOptions(), progress: @escaping Progress = { _ in }
    ) async throws -> ReplayReport {
        try await replay(DeadLetterSelection(positions), options: options, progress: progress)
    }

    func templates(_ topic: String) -> ReplayStep.Templates {
        templates.withLock { templates in
            if let known = templates[topic] { return known }
            let made = ReplayStep.Templates(topic: topic, clientID: access.clientID, tracer: tracer)
            templates[topic] = made
            return made
        }
    }

    /// The record that says what became of a dead letter.
    static func record(_ key: DeadLetterKey, _ state: DeadLetterState) -> OutboundRecord {
        OutboundRecord(
            topic: TopicName.deadLetterState, partition: 0, key: ByteSlice(key.description), value: state.json,
            headers: [Header(HeaderName.contentType.description, text: "application/json")])
    }
}

/// One run of a replay: reads what was selected in chunks, and writes it in transactions.
struct ReplayRun {
    private let desk: DeadLetterOperator
    private let selection: DeadLetterSelection
    private let options: ReplayOptions
    private let progress: DeadLetterOperator.Progress
    private let replay: DeadLetterReplay
    private var report: ReplayReport
    private var pacer: ReplayPacer
    private var reader: SelectionReader
    private var batch: [Prepared] = []
    private var batchBytes = 0
    /// The canaries, while there are any to be waited for.
    private var canaries: [DeadLetterKey] = []

    /// What is to be written for one dead letter.
    private struct Prepared {
        let entry: DeadLetterEntry
        let key: DeadLetterKey
        let record: OutboundRecord
        let audit: DeadLetterAudit?
        let subject: ReplayStep.Subject
    }

    init(
        of desk: DeadLetterOperator, _ selection: DeadLetterSelection, _ options: ReplayOptions,
        progress: @escaping DeadLetterOperator.Progress
    ) {
        self.desk = desk
        self.selection = selection
        self.options = options
        self.progress = progress
        let id = randomUUID()
        replay = DeadLetterReplay(to: options.target, id: id, group: desk.access.group, topic: options.topic)
        report = ReplayReport(id: id)
        pacer = ReplayPacer(rate: options.rate, from: desk.clock.now())
        reader = SelectionReader(desk.access.scanner, selection)
    }

    mutating func run(_ session: inout OperatorSession) async throws -> ReplayReport {
        var taken = 0
        while let (position, found) = try await reader.next() {
            taken += 1
            guard let found else {
                refuse(position, .gone)
                continue
            }
            guard let prepared = try await prepare(found, &session) else { continue }
            batch.append(prepared)
            batchBytes += (prepared.record.value?.count ?? 0) + (prepared.audit?.original?.count ?? 0)
            let isCanary = report.canary == nil && options.canary > 0
            let isLastCanary = isCanary && canaries.count + batch.count >= options.canary
            if batch.count >= limit || batchBytes >= options.batchBytes || isLastCanary { try await write(&session) }
            // What was refused is no canary: then the next ones are.
            if isLastCanary, canaries.count >= options.canary, try await !canariesComplete(&session) {
                report.left = selection.count - taken
                return report
            }
        }
        try await write(&session)
        // Fewer than were asked for.
        if report.canary == nil, options.canary > 0, !canaries.isEmpty { _ = try await canariesComplete(&session) }
        return report
    }

    /// How many go into one transaction: of a slow replay a second's worth.
    private var limit: Int {
        let most = max(1, options.batchRecords)
        return options.rate.map { Int(max(1, min(Double(most), $0))) } ?? most
    }

    private mutating func refuse(_ position: RecordPosition, _ refusal: OperatorRefusal) {
        report.refuse(position, refusal)
        progress(.refused(position, refusal))
    }

    // MARK: One dead letter

    private mutating func prepare(_ found: SelectionReader.Found, _ session: inout OperatorSession) async throws -> Prepared? {
        let record = found.record
        let letter = DeadLetter(record)
        let key = DeadLetterKey(letter, group: desk.access.group)
        let state = session.read.states.state(of: letter, group: desk.access.group)
        let entry = DeadLetterEntry(letter: letter, state: state, copies: found.copies)
        // What the batch holds already is open no more, though nothing says so yet.
        let isTwice = batch.contains { $0.entry.letter.identity == letter.identity }
        guard !isTwice, options.force || entry.status.isOpen else {
            let status = isTwice ? .replayed : entry.status
            report.unchanged[status, default: 0] += 1
            progress(.unchanged(letter.position, status))
            return nil
        }
        do {
            return try await prepared(entry, key, record)
        } catch let refusal as OperatorRefusal {
            refuse(letter.position, refusal)
            return nil
        }
    }

    private func prepared(
        _ entry: DeadLetterEntry, _ key: DeadLetterKey, _ written: Record
    ) async throws -> Prepared {
        let letter = entry.letter
        let record = try desk.access.opened(written)
        var value: ByteSlice?
        var isReplaced = false
        if letter.isPointer {
            value = try await valueAtOrigin(letter, key: record.key)
            isReplaced = true
        } else {
            value = record.value
        }
        var audit: DeadLetterAudit?
        if let edit = options.edit {
            let edited: ByteSlice?
            do {
                edited = try edit(entry, record, value)
            } catch {
                throw OperatorRefusal.notEdited("\(error)")
            }
            if let edited {
                // What is sealed stays so there, too: the bytes that a pointer points to aren't written anywhere else.
                audit = DeadLetterAudit(
                    of: written, letter, value: value, replay: report.id, by: desk.name, time: desk.clock.now(),
                    reason: options.reason, group: desk.access.group)
                value = edited
                isReplaced = true
            }
        }
        let outbound: OutboundRecord
        do throws(DeadLetterReplay.Refusal) {
            outbound = try replay.outbound(record, value: isReplaced ? value : nil, at: desk.clock.now())
        } catch {
            switch error {
            case .noTopic: throw OperatorRefusal.noTopic
            case .noGroup: throw OperatorRefusal.noGroup
            case .valueElsewhere(let origin): throw OperatorRefusal.valueGone(origin)
            case .sealed: throw OperatorRefusal.encrypted
            }
        }
        var subject = ReplayStep.Subject(partition: record.partition, offset: record.offset)
        subject.key = record.key
        subject.context = letter.context
        subject.origin = letter.originContext
        // A header says it, and anything could stand there: only the name that is known is told.
        subject.group = letter.group == nil || letter.group == desk.access.group ? desk.access.group : "_OTHER"
        subject.errorClass = letter.errorClass.map { SafeText($0) }
        subject.fingerprint = letter.fingerprint
        subject.isEdited = audit != nil
        return Prepared(entry: entry, key: key, record: outbound, audit: audit, subject: subject)
    }

    /// The bytes that were refused, if they still stand where the event was first delivered.
    private func valueAtOrigin(_ letter: DeadLetter, key: ByteSlice?) async throws -> ByteSlice {
        guard let origin = letter.origin else { throw OperatorRefusal.valueGone(nil) }
        let scanner = desk.access.scanner
        let range = try await scanner.watermarks(of: [origin.topic])[origin.topicPartition]
        guard range?.contains(origin.offset) == true else { throw OperatorRefusal.valueGone(origin) }
        let found = try await scanner.scan([origin.topicPartition: origin.offset..<origin.offset + 1], into: Record?.none) {
            $0 = $1
            return false
        }
        // The topic may have been made anew since: another event stands there then.
        guard let found, found.offset == origin.offset, found.key == key, let value = found.value else {
            throw OperatorRefusal.valueGone(origin)
        }
        return value
    }

    // MARK: Writing

    private mutating func write(_ session: inout OperatorSession) async throws {
        while !batch.isEmpty {
            // Whoever ends it ends it between two transactions.
            try Task.checkCancellation()
            let pause = pacer.pause(before: batch.count, at: desk.clock.now())
            if pause > .zero { try await desk.sleep(pause) }
            let all = batch
            do {
                let placed = try await transact(all, &session)
                for (prepared, state) in zip(all, placed) {
                    session.read.states.set(prepared.key, state)
                    for copy in prepared.entry.copies {
                        session.read.states.set(DeadLetterKey(group: prepared.key.group, position: copy), state)
                    }
                    report.replayed += 1
                    if report.canary == nil, options.canary > 0 { canaries.append(prepared.key) }
                    if let place = state.successor { progress(.replayed(prepared.entry.letter.position, as: place)) }
                }
                batch = []
            } catch let error as RecordRefused {
                refuse(all[error.index].entry.letter.position, error.refusal)
                batch.remove(at: error.index)
            }
        }
        batchBytes = 0
    }

    /// Set aside, so that the others can be written without it.
    private struct RecordRefused: Error {
        let index: Int
        let refusal: OperatorRefusal

        /// Nil for an error that isn't this record's alone.
        init?(_ error: BrokerError, _ index: Int, _ record: OutboundRecord) {
            self.index = index
            switch error.name {
            case _ where error.isTooLarge: refusal = .tooLarge
            case "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART":
                refusal = .noPartition(record.topic, record.partition)
            default: return nil
            }
        }
    }

    private func transact(_ all: [Prepared], _ session: inout OperatorSession) async throws -> [DeadLetterState] {
        var steps: [ReplayStep] = []
        let desk = desk
        do {
            let states = try await desk.transact(&session) { writes in
                for prepared in all {
                    steps.append(
                        ReplayStep(
                            prepared.subject, target: SafeText(options.target),
                            templates: desk.templates(prepared.entry.letter.position.topic), tracer: desk.tracer))
                }
                var numbers: [Int] = []
                var owners: [Int] = []
                for (index, prepared) in all.enumerated() {
                    do throws(BrokerError) {
                        numbers.append(try writes.send(prepared.record, parent: steps[index].context))
                        owners.append(index)
                        if let audit = prepared.audit {
                            try writes.send(audit.outbound, parent: steps[index].context)
                            owners.append(index)
                        }
                    } catch {
                        if let refused = RecordRefused(error, index, prepared.record) { throw refused }
                        throw error
                    }
                }
                let places: [Acknowledgement]
                do throws(BrokerError) {
                    places = try await writes.acknowledged()
                } catch {
                    guard let failed = writes.failed.map({ owners[$0] }) else { throw error }
                    if let refused = RecordRefused(error, failed, all[failed].record) { throw refused }
                    throw error
                }
                var states: [DeadLetterState] = []
                for (index, prepared) in all.enumerated() {
                    let place = places[numbers[index]]
                    let state = state(of: prepared, at: place)
                    for position in [prepared.entry.letter.position] + prepared.entry.copies {
                        let key = DeadLetterKey(group: prepared.key.group, position: position)
                        try writes.send(DeadLetterOperator.record(key, state), parent: steps[index].context)
                    }
                    states.append(state)
                }
                return states
            }
            for (step, prepared) in zip(steps, all) {
                step.end(desk.templates(prepared.entry.letter.position.topic), tracer: desk.tracer)
            }
            return states
        } catch {
            let failure: BrokerError =
                switch error {
                case OperatorError.aborted(let error), OperatorError.uncertain(let error): error
                case OperatorError.fenced: BrokerError("_FENCED", operation: "commit transaction")
                default: BrokerError("_FAIL", operation: "commit transaction")
                }
            for step in steps { step.fail(failure, tracer: desk.tracer) }
            throw error
        }
    }

    private func state(of prepared: Prepared, at place: Acknowledgement) -> DeadLetterState {
        let letter = prepared.entry.letter
        let now = desk.clock.now()
        return DeadLetterState(
            .replayed, time: now, by: desk.name, reason: options.reason, replay: report.id, replayedBy: desk.name,
            replayedAt: now,
            successor: RecordPosition(topic: prepared.record.topic, partition: place.partition, offset: place.offset),
            origin: letter.origin, originTimestamp: letter.originTimestamp, follows: letter.replay,
            // Of an event without a key its consumer knows whose it is.
            lane: letter.key.map { DeadLetterState.lane(of: $0) } ?? prepared.entry.state?.lane)
    }

    // MARK: Canaries

    /// Waits until the canaries' replays have ended; whether all of them were completed.
    private mutating func canariesComplete(_ session: inout OperatorSession) async throws -> Bool {
        let deadline = desk.clock.now() + options.canaryTimeout
        var told = -1
        while true {
            try await session.read.read(desk.access.scanner)
            if session.successor(in: session.read.states) != nil { throw await desk.fenced(session) }
            var failed: [RecordPosition] = []
            var waiting: [RecordPosition] = []
            for key in canaries {
                let state = session.read.states[key]
                // What says how another replay of it ended says nothing of this one.
                switch state?.replay == report.id ? state?.status : nil {
                case .completed: break
                case .failedAgain: failed.append(key.position)
                default: waiting.append(key.position)
                }
            }
            if told != waiting.count {
                told = waiting.count
                progress(.waiting(ended: canaries.count - waiting.count, of: canaries.count))
            }
            guard failed.isEmpty else {
                report.canary = .failedAgain(failed)
                return false
            }
            if waiting.isEmpty {
                report.canary = .completed
                return true
            }
            guard desk.clock.now() < deadline else {
                report.canary = .timedOut(waiting)
                return false
            }
            try await desk.sleep(DeadLetterOperator.pollInterval)
        }
    }
}

internal import TriageEvents
internal import TriageKafka
internal import TriageProcessing

extension GroupInspector {
    /// Who is held behind dead letters, as the topic of their states tells it.
    struct Held: Sendable {
        var patients: HeldPatients
        /// The group itself has said of one that it is open: it holds patients, whatever this configuration says.
        var isSequencing: Bool
    }

    /// What the topic of the states says.
    struct Outcomes: Sendable {
        /// What became of the dead letters that were asked about.
        var states = DeadLetterStates()
        /// Who is held; nil if the group holds nobody.
        var held: HeldPatients?
    }

    /// Reads the topic of the states.
    ///
    /// - Parameter letters: where the dead letters stand whose states are wanted: of the others none is kept.
    func outcomes(of letters: [TopicPartition: Range<Int64>]) async throws -> Outcomes {
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        let topic = TopicPartition(TopicName.deadLetterState, 0)
        guard let range = try await admin.watermarks(of: [topic.topic])[topic], !range.isEmpty else { return Outcomes() }
        let reader = DeadLetterChangeReader()
        let states = StateReader()
        let group = group
        let start = Held(patients: HeldPatients(group: group), isSequencing: isSequencing)
        let found = try await read([topic: range], into: (held: start, states: DeadLetterStates())) { found, record in
            guard let change = reader.change(record) else { return true }
            if change.key.group == group, change.state?.status == .open, change.state?.by == group {
                found.held.isSequencing = true
            }
            _ = found.held.patients.apply(change.key, change.state, at: change.offset)
            guard letters[change.key.position.topicPartition]?.contains(change.key.position.offset) == true else { return true }
            states.add(record, to: &found.states)
            return true
        }
        return Outcomes(states: found.states, held: found.held.isSequencing ? found.held.patients : nil)
    }
}

extension PatientReport {
    /// That a dead letter holds the patient, and what to do about it.
    var holding: String? {
        guard let held else { return nil }
        let since = "open since \(PlainText.clock(held.since, now: now)), \(PlainText.span(now - held.since)) ago"
        return "waits for dead letter \(held.letter) (\(since)): `triage dead-letters show \(held.letter)`"
    }
}

extension StatusReport {
    /// How many patients dead letters hold.
    var holding: String? {
        guard let first = held.min(by: { $0.since < $1.since }) else { return nil }
        let count = held.count
        return "\(PlainText.count(count, "patient")) \(count == 1 ? "waits" : "wait") for \(count == 1 ? "its" : "their") dead "
            + "\(count == 1 ? "letter" : "letters"), the first for \(PlainText.span(now - first.since)) (\(first.letter)): "
            + "`triage dead-letters list` shows them"
    }
}

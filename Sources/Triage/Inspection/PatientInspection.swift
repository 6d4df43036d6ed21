internal import TriageEvents
internal import TriageKafka
internal import TriageProcessing

extension GroupInspector {
    /// What of a patient's events is open, and why.
    ///
    /// - Parameters:
    ///   - id: the patient's resource id, which is the key of its records.
    ///   - everywhere: look into every partition: for producers that don't choose it as Java does, and for records without a
    ///     key, whose values are decoded then.
    ///   - deadLetters: how many dead letters of each partition to look through, newest first; 0 for none.
    ///   - policies: how many retries there are, for the words "retry 2 of 3": those of this configuration, which the service
    ///     needn't share.
    /// - Throws: `BrokerError` if the brokers don't answer; ``NothingToInspect`` if none of the main topics exists.
    public func patient(
        _ id: String, everywhere: Bool = false, deadLetters: Int64 = 100_000, policies: RetryPolicies
    ) async throws -> PatientReport {
        let survey = try await survey()
        guard !survey.mains.isEmpty else { throw NothingToInspect(topics: topics) }
        let match = KeyMatch(id: ByteSlice(id), decodes: everywhere)
        let counts = Dictionary(grouping: survey.mains, by: \.topic).mapValues { Int32(clamping: $0.count) }
        let mains = survey.mains.filter { main in
            everywhere || JavaPartitioner.partition(of: match.id, count: counts[main.topic] ?? 1) == main.partition
        }
        let retries = try await openRetries(match, mains, survey)
        let unread = try await unread(match, mains, survey)
        let letters = try await lastDeadLetter(match, mains, survey, limit: deadLetters)
        let place = letters.newest?.position
        let outcomes = try await outcomes(of: place.map { [$0.topicPartition: $0.offset..<$0.offset + 1] } ?? [:])
        let lane = match.id.hash64(seed: HeldPatients.laneSeed)
        let held = outcomes.held.map { held in mains.flatMap { held.heads(of: $0) }.filter { $0.lane == lane } } ?? []
        let now = clock.now()
        let entries = retries.open.entries(isOwned: survey.isOwned)
        let standing = Set(entries.map(\.history.origin))
        let main = unread.items.filter { !standing.contains($0.origin) }
        let items = entries.map { .init($0, note: retries.notes[$0.position], now: now) } + main
        return PatientReport(
            id: id, group: group, now: now, policies: policies, queue: PatientReport.ordered(items),
            unread: unread.count - (unread.items.count - main.count),
            lastDeadLetter: letters.newest.map { .init($0, outcomes.states.state(of: $0, group: group)) },
            places: mains.map { main in
                let beside = TopicPartition(TopicName.deadLetter(of: main.topic), main.partition)
                let read = letters.read[beside] ?? 0..<0
                return PatientReport.Place(
                    main: main, committed: survey.commits[main]?.offset,
                    metadata: survey.commits[main]?.metadata ?? CommitMetadata(),
                    end: survey.offsets[main]?.upperBound ?? 0, owner: survey.description.owner(of: main),
                    retries: survey.open(TopicPartition(TopicName.retry(of: main.topic), main.partition)) ?? 0..<0,
                    deadLetters: read,
                    olderDeadLetters: read.lowerBound - (survey.offsets[beside]?.lowerBound ?? read.lowerBound),
                    isLeft: survey.isLeft(main)
                )
            },
            notes: notes(survey, mains, unsettled: retries.open, everywhere: everywhere),
            held: held.min { ($0.since, $0.letter) < ($1.since, $1.letter) }
        )
    }

    private struct OpenOfPatient: Sendable {
        var open: OpenRetries
        var notes: [RecordPosition: FailureNote] = [:]
    }

    private func openRetries(_ match: KeyMatch, _ mains: [TopicPartition], _ survey: Survey) async throws -> OpenOfPatient {
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for main in mains {
            let retry = TopicPartition(TopicName.retry(of: main.topic), main.partition)
            if let open = survey.open(retry) { ranges[retry] = open }
        }
        let empty = OpenOfPatient(open: OpenRetries(group: group, commits: survey.commits, offsets: survey.offsets))
        return try await read(ranges, into: empty) { found, record in
            if match.matches(record), found.open.add(record) == .open {
                found.notes[record.position] = FailureNote(record)
            }
            return true
        }
    }

    private struct Unread: Sendable {
        var items: [PatientReport.Item] = []
        var count = 0
    }

    private func unread(_ match: KeyMatch, _ mains: [TopicPartition], _ survey: Survey) async throws -> Unread {
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for main in mains { ranges[main] = survey.open(main) }
        let commits = survey.commits
        return try await read(ranges, into: Unread()) { found, record in
            if match.matches(record), commits[record.topicPartition]?.isComplete(record.offset) != true {
                found.count += 1
                if found.items.count < PatientReport.maximumUnread {
                    found.items.append(.init(unread: record.position, at: record.timestamp))
                }
            }
            return true
        }
    }

    /// Looks from the ends backwards, in windows that grow, until every partition has shown one or was looked through.
    private func lastDeadLetter(
        _ match: KeyMatch, _ mains: [TopicPartition], _ survey: Survey, limit: Int64
    ) async throws -> (newest: DeadLetter?, read: [TopicPartition: Range<Int64>]) {
        var looked: [TopicPartition: Range<Int64>] = [:]
        var ends: [TopicPartition: Range<Int64>] = [:]
        for main in mains {
            let letters = TopicPartition(TopicName.deadLetter(of: main.topic), main.partition)
            guard let all = survey.offsets[letters] else { continue }
            ends[letters] = all.upperBound - min(max(0, limit), Int64(all.count))..<all.upperBound
            looked[letters] = all.upperBound..<all.upperBound
        }
        var newest: [TopicPartition: DeadLetter] = [:]
        var window: Int64 = 1000
        let group = group
        while true {
            var ranges: [TopicPartition: Range<Int64>] = [:]
            for (partition, bounds) in ends where newest[partition] == nil {
                let end = looked[partition]?.lowerBound ?? bounds.upperBound
                ranges[partition] = max(bounds.lowerBound, end - window)..<end
            }
            ranges = ranges.filter { !$0.value.isEmpty }
            guard !ranges.isEmpty else { break }
            let found = try await read(ranges, into: [TopicPartition: DeadLetter]()) { found, record in
                guard match.matches(record) else { return true }
                if let written = record.headers.text(HeaderName.group), written != group { return true }
                found[record.topicPartition] = DeadLetter(record)
                return true
            }
            newest.merge(found) { $1 }
            for (partition, range) in ranges {
                looked[partition] = range.lowerBound..<(looked[partition]?.upperBound ?? range.upperBound)
            }
            window *= 4
        }
        let last = newest.values.max { left, right in
            (left.written?.nanoseconds ?? 0, left.position) < (right.written?.nanoseconds ?? 0, right.position)
        }
        return (last, looked)
    }

    private func notes(
        _ survey: Survey, _ mains: [TopicPartition], unsettled: OpenRetries, everywhere: Bool
    ) -> [String] {
        var notes = survey.missing.isEmpty ? [] : [StatusReport.sentence(missing: survey.missing)]
        notes += survey.differences.map(\.description)
        if survey.description.members == nil {
            notes.append(
                "the brokers don't tell who reads the partitions\(survey.description.error.map { " (\($0.name))" } ?? "")")
        }
        let all = unsettled.entries { _ in true }.filter { !$0.isSettled && !survey.isOwned($0.position.topicPartition) }
        for entry in all {
            notes.append(
                "\(entry.position) is void: its writer ended before it had committed, so \(entry.history.origin) is handled anew")
        }
        for main in mains {
            guard let error = survey.commits[main]?.error else { continue }
            notes.append(
                "what rides with the commit of \(main) \(error == .foreign ? "is foreign" : "is damaged") and was left aside")
        }
        return notes
    }
}

/// None of the topics exists, so there is nothing to look at.
public struct NothingToInspect: Error, Sendable, Hashable, CustomStringConvertible {
    /// The main topics that were asked for.
    public let topics: [String]
    /// What is missing and what to do.
    public var description: String {
        "\(topics.joined(separator: ", ")): no such topic; `triage topics create` makes them, -t names others"
    }
}

/// Whether a record is one of a patient's.
struct KeyMatch: Sendable {
    let id: ByteSlice
    /// Whether values are decoded where there is no key.
    let decodes: Bool

    func matches(_ record: Record) -> Bool {
        if let key = record.key { return key == id }
        guard decodes, record.value != nil else { return false }
        // Rare, hence a decoder for each: one can't be shared between threads.
        return (try? EventDecoder().decode(record))?.resourceIDBytes == id
    }
}

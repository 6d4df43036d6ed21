internal import TriageEvents
internal import TriageKafka
internal import TriageProcessing

extension GroupInspector {
    /// How the group's work stands.
    ///
    /// What is open in the retry topics is read record by record, from the committed offset to the end. Where a record has stood
    /// unhandled for longer than ``StatusReport/patience``, the commits of its partition are watched for a moment.
    ///
    /// - Parameters:
    ///   - deadLetters: how many offsets of each dead letter partition to look through, newest first; 0 for none.
    ///   - watch: for how long commits are watched.
    /// - Throws: `BrokerError` if the brokers don't answer; `KafkaConfigurationError`. A group that they can't describe is no
    ///   error: its members are unknown then.
    public func status(deadLetters: Int64 = 10_000, watch: Duration = .seconds(3)) async throws -> StatusReport {
        let survey = try await survey()
        let retries = try await backlogs(survey)
        let firsts = try await firstOpen(survey)
        let looked = survey.newestDeadLetters(deadLetters)
        let outcomes = try await outcomes(of: looked)
        let letters = try await self.deadLetters(survey, looked, outcomes.states)
        let standing = try await standing(survey, firsts, now: retries.now, watch: watch)
        let partitions = survey.mains.map { main in
            let commit = survey.commits[main] ?? CommittedPartition(nil)
            return StatusReport.Partition(
                main: main, committed: commit.offset, offsets: survey.offsets[main] ?? 0..<0, metadata: commit.metadata,
                metadataError: commit.error, firstOpen: firsts[main], owner: survey.description.owner(of: main),
                retries: retries.backlogs[TopicPartition(TopicName.retry(of: main.topic), main.partition)],
                deadLetters: letters[TopicPartition(TopicName.deadLetter(of: main.topic), main.partition)],
                standstill: standing.contains(main) ? watch : nil
            )
        }
        return StatusReport(
            group: group, description: survey.description, now: retries.now, partitions: partitions,
            missing: survey.missing, differences: survey.differences.map(\.description),
            held: outcomes.held.map { held in survey.mains.flatMap { held.heads(of: $0) } } ?? []
        )
    }

    private func backlogs(_ survey: Survey) async throws -> (backlogs: [TopicPartition: StatusReport.Backlog], now: Timestamp) {
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for main in survey.mains {
            let retry = TopicPartition(TopicName.retry(of: main.topic), main.partition)
            if let open = survey.open(retry) { ranges[retry] = open }
        }
        let found = try await read(ranges, into: OpenRetries(group: group, commits: survey.commits, offsets: survey.offsets)) {
            found, record in
            found.add(record)
            return true
        }
        let now = clock.now()
        var backlogs = ranges.mapValues { StatusReport.Backlog(read: $0) }
        for entry in found.entries(isOwned: survey.isOwned) {
            backlogs[entry.position.topicPartition]?.add(entry.history, now: now)
        }
        return (backlogs, now)
    }

    /// When the first record of each main partition that isn't complete was written.
    private func firstOpen(_ survey: Survey) async throws -> [TopicPartition: Timestamp] {
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for main in survey.mains { ranges[main] = survey.open(main) }
        let commits = survey.commits
        let found = try await read(ranges, into: [TopicPartition: Timestamp?]()) { found, record in
            let partition = record.topicPartition
            if commits[partition]?.isComplete(record.offset) == true { return true }
            found[partition] = record.timestamp
            return false
        }
        return found.compactMapValues { $0 }
    }

    /// Counts dead letters; transactions' markers lie between them.
    private func deadLetters(
        _ survey: Survey, _ ranges: [TopicPartition: Range<Int64>], _ states: DeadLetterStates
    ) async throws -> [TopicPartition: StatusReport.DeadLetters] {
        struct Found: Sendable {
            var letters: [TopicPartition: StatusReport.DeadLetters] = [:]
            var seen: [TopicPartition: Set<DeadLetter.Identity>] = [:]
        }
        var found = Found()
        for (partition, range) in ranges {
            let start = survey.offsets[partition]?.lowerBound ?? range.lowerBound
            found.letters[partition] = StatusReport.DeadLetters(older: range.lowerBound - start)
        }
        let group = group
        return try await read(ranges, into: found) { found, record in
            let partition = record.topicPartition
            guard let written = record.headers.text(HeaderName.group) else {
                found.letters[partition]?.unnamed += 1
                return true
            }
            guard written == group else {
                found.letters[partition]?.others += 1
                return true
            }
            let letter = DeadLetter(record)
            // A crash between an acknowledgement and the commit leaves a second copy.
            if letter.origin != nil, !found.seen[partition, default: []].insert(letter.identity).inserted { return true }
            guard states.state(of: letter, group: group)?.status.isOpen ?? true else {
                found.letters[partition]?.closed += 1
                return true
            }
            found.letters[partition]?.count += 1
            if let time = record.timestamp { found.letters[partition]?.newest = time }
            return true
        }.letters
    }

    /// Main partitions whose records wait while nothing of them is committed.
    private func standing(
        _ survey: Survey, _ firsts: [TopicPartition: Timestamp], now: Timestamp, watch: Duration
    ) async throws -> [TopicPartition] {
        let explained: CommitMetadata.Flags = [.isGateClosed, .isStormy]
        let suspects = firsts.filter { now - $0.value > StatusReport.patience }.keys.filter { main in
            let flags = survey.commits[main]?.metadata.flags ?? []
            guard flags.isDisjoint(with: explained) else { return false }
            return switch survey.description.owner(of: main) {
            case .member: true
            case .nobody: false
            case .unknown: flags.contains(.isOpen)
            }
        }
        if suspects.isEmpty { return [] }
        try await Task.sleep(for: watch)
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        let later = try await admin.committed(group: group, partitions: suspects)
        return suspects.filter { CommittedPartition(later[$0]) == survey.commits[$0] ?? CommittedPartition(nil) }
    }
}

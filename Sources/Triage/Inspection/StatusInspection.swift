internal import TriageEvents
internal import TriageKafka
internal import TriageProcessing

extension GroupInspector {
    /// How the group's work stands.
    ///
    /// What is open in the retry topics is read record by record, from the committed offset to the end.
    ///
    /// - Throws: `BrokerError` if the brokers don't answer; `KafkaConfigurationError`. A group that they can't describe is no
    ///   error: its members are unknown then.
    public func status() async throws -> StatusReport {
        let survey = try await survey()
        let retries = try await backlogs(survey)
        let firsts = try await firstOpen(survey)
        let newest = try await newestDeadLetters(survey)
        let partitions = survey.mains.map { main in
            let commit = survey.commits[main] ?? CommittedPartition(nil)
            let letters = TopicPartition(TopicName.deadLetter(of: main.topic), main.partition)
            return StatusReport.Partition(
                main: main, committed: commit.offset, offsets: survey.offsets[main] ?? 0..<0, metadata: commit.metadata,
                metadataError: commit.error, firstOpen: firsts[main], owner: survey.description.owner(of: main),
                retries: retries.backlogs[TopicPartition(TopicName.retry(of: main.topic), main.partition)],
                deadLetters: survey.offsets[letters].map { .init(count: Int64($0.count), newest: newest[letters]) }
            )
        }
        return StatusReport(
            group: group, description: survey.description, now: retries.now, partitions: partitions,
            missing: survey.missing, differences: survey.differences.map(\.description)
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

    /// When the last record of each dead letter partition was written; transactions' markers may stand behind it.
    private func newestDeadLetters(_ survey: Survey) async throws -> [TopicPartition: Timestamp] {
        let letters = survey.offsets.filter { TopicName.isDeadLetter($0.key.topic) }
        let ends = letters.mapValues { max($0.lowerBound, $0.upperBound - 16)..<$0.upperBound }
        return try await read(ends, into: [TopicPartition: Timestamp]()) { found, record in
            if let written = record.timestamp { found[record.topicPartition] = written }
            return true
        }
    }
}

public import Logging
internal import TriageEvents
internal import TriageKafka
internal import TriageProcessing
internal import TriageTelemetry

/// Looks at what a consumer group has done and what it has before it, from Kafka alone, while it runs and while it doesn't.
///
/// It joins no group, commits nothing and produces nothing.
public struct GroupInspector: Sendable {
    /// Told how far a long look has come: a topic's name, records read so far, and how many there are at most.
    public typealias Progress = @Sendable (_ topic: String, _ read: Int, _ total: Int64) -> Void

    let kafka: KafkaConfiguration
    let group: String
    let topics: [String]
    let isSequencing: Bool
    let logger: Logger
    let clock: any EventClock
    let progress: Progress

    /// An inspector of what `configuration.group` does with `configuration.topics`.
    ///
    /// - Parameters:
    ///   - configuration: the brokers, the group and the main topics.
    ///   - logger: told by the Kafka client what keeps it from reaching them.
    ///   - clock: what is due and how old something is depends on it.
    ///   - progress: called now and then from a thread of the inspector's own.
    public init(
        _ configuration: Configuration, logger: Logger = Logger(label: "triage"), clock: any EventClock = SystemClock(),
        progress: @escaping Progress = { _, _, _ in }
    ) {
        kafka = configuration.kafka
        group = configuration.group
        topics = configuration.topics
        isSequencing = configuration.deadLetters == .sequence
        self.logger = logger
        self.clock = clock
        self.progress = progress
    }

    /// What a first look at the brokers brought.
    struct Survey: Sendable {
        /// Partitions of the main topics that exist, in the order of their names.
        var mains: [TopicPartition] = []
        /// Topics that don't exist.
        var missing: [String] = []
        /// What else keeps topics from working together.
        var differences: [TopicPlan.Difference] = []
        /// The group's commits, of main and retry partitions.
        var commits: [TopicPartition: CommittedPartition] = [:]
        /// The offsets that exist, of main, retry and dead letter partitions.
        var offsets: [TopicPartition: Range<Int64>] = [:]
        var description: GroupDescription

        /// From where the group goes on to the end; nil if there is no such partition.
        func open(_ partition: TopicPartition) -> Range<Int64>? {
            offsets[partition].map { StatusReport.start(commits[partition]?.offset, in: $0)..<$0.upperBound }
        }

        /// The last `limit` offsets of each dead letter partition.
        func newestDeadLetters(_ limit: Int64) -> [TopicPartition: Range<Int64>] {
            offsets.filter { TopicName.isDeadLetter($0.key.topic) }.mapValues { all in
                all.upperBound - min(max(0, limit), Int64(all.count))..<all.upperBound
            }
        }

        /// Whether a static member that ended cleanly keeps a main partition: its last commit doesn't say that it is at work.
        func isLeft(_ main: TopicPartition) -> Bool {
            guard let commit = commits[main], commit.offset != nil, commit.error == nil else { return false }
            return description.owner(of: main).member?.instanceID != nil && !commit.metadata.flags.contains(.isOpen)
        }

        /// Whether the one who writes a retry partition is at work.
        func isOwned(_ retry: TopicPartition) -> Bool {
            let main = TopicPartition(TopicName.main(of: retry.topic), retry.partition)
            return switch description.owner(of: main) {
            case .member: true
            case .nobody: false
            case .unknown: commits[main]?.metadata.flags.contains(.isOpen) ?? false
            }
        }
    }

    /// Asks for everything but records: topics, group, commits, then the ends, which are thus never older than the commits.
    func survey() async throws -> Survey {
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        let plan = TopicPlan(mainTopics: topics, includesCommands: false, includesState: false)
        let described = try await admin.describeTopics(plan.topics.map(\.name), timeout: .seconds(10))
        let counts = Dictionary(described.map { ($0.name, $0.partitions) }) { $1 }
        // Only what is there is compared, and not its properties: `topics check` does that.
        let found = counts.mapValues { TopicPlan.Found(partitions: $0, configuration: [:]) }
        var survey = Survey(description: GroupDescription(await members(admin)))
        survey.missing = plan.topics.map(\.name).filter { counts[$0] == nil }
        survey.differences = plan.differences(from: found).filter { if case .missing = $0 { false } else { true } }
        for topic in topics {
            for partition in 0..<Int32(clamping: counts[topic] ?? 0) { survey.mains.append(TopicPartition(topic, partition)) }
        }
        let committing = described.filter { !TopicName.isDeadLetter($0.name) }
            .flatMap { topic in (0..<Int32(clamping: topic.partitions)).map { TopicPartition(topic.name, $0) } }
        if !committing.isEmpty {
            let commits = try await admin.committed(group: group, partitions: committing)
            survey.commits = Dictionary(committing.map { ($0, CommittedPartition(commits[$0])) }) { $1 }
        }
        survey.offsets = try await admin.watermarks(of: described.map(\.name))
        return survey
    }

    /// The group and its members; brokers may not be able to say, which is no reason to say nothing.
    private func members(_ admin: KafkaAdmin) async -> Result<ConsumerGroup?, BrokerError> {
        do throws(BrokerError) {
            return .success(try await admin.groups([group], timeout: .seconds(5)).first)
        } catch {
            return .failure(error)
        }
    }

    /// Reads stretches of partitions of one kind; the counting is what `progress` is told.
    func read<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws -> Result {
        let ranges = ranges.filter { !$0.value.isEmpty }
        guard !ranges.isEmpty else { return initial }
        let total = ranges.values.reduce(0) { $0 + Int64($1.count) }
        let scanner = try KafkaPartitionScanner(kafka, log: logger.kafkaLog)
        defer { scanner.close() }
        let progress = progress
        let result = try await scanner.scan(ranges, into: (value: initial, count: 0)) { state, record in
            state.count += 1
            if state.count % 5000 == 0 { progress(record.topic, state.count, total) }
            return body(&state.value, record)
        }
        return result.value
    }
}

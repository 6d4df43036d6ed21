import Synchronization
public import TriageEvents

/// Asks and tells the brokers about topics, offsets and groups.
///
/// Each call runs on a thread of its own, so it never holds up the cooperative pool, and ends within about its time-out.
/// Looking at topics never creates any.
public final class KafkaAdmin: Sendable {
    private let handle: Mutex<AdminHandle?>
    private let configuration: KafkaConfiguration
    private let log: KafkaLog?

    /// Makes an admin client; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(_ configuration: KafkaConfiguration, log: KafkaLog? = nil) throws(KafkaConfigurationError) {
        self.configuration = configuration
        self.log = log
        handle = Mutex(try AdminHandle(properties: configuration.properties(for: .admin), log: log))
    }

    /// Creates topics; one that exists is left as it is.
    ///
    /// - Returns: how it ended for each topic, by name.
    /// - Throws: a ``BrokerError`` if the request as a whole failed. An ``EmbeddedCluster`` doesn't know it.
    public func createTopics(
        _ topics: [NewTopic], timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [String: TopicCreation] {
        try await run("create topics") { handle throws(BrokerError) in
            try handle.createTopics(topics, milliseconds: timeout.wholeMilliseconds)
        }
    }

    /// The topics that exist, of those named.
    ///
    /// - Parameter names: nil for all.
    public func describeTopics(
        _ names: [String]? = nil, timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [TopicDescription] {
        let wanted = names.map { Set($0) }
        return try await run("describe topics") { handle throws(BrokerError) in
            try handle.topics(milliseconds: timeout.wholeMilliseconds)
                .filter { wanted?.contains($0.name) ?? true }.sorted { $0.name < $1.name }
        }
    }

    /// The configuration of topics; a topic that doesn't exist, or a property that the brokers don't tell, is missing.
    ///
    /// - Parameter keys: the properties wanted.
    public func configuration(
        of topics: [String], keys: Set<String> = ["cleanup.policy", "retention.ms"], timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [String: [String: String]] {
        try await run("describe configuration") { handle throws(BrokerError) in
            try handle.configuration(of: topics, milliseconds: timeout.wholeMilliseconds)
                .mapValues { $0.filter { keys.contains($0.key) } }
        }
    }

    /// The first offset that exists and the one behind the last, of every partition of these topics.
    ///
    /// - Parameter timeout: for each question to a broker; partitions are asked one after the other.
    public func watermarks(
        of topics: [String], timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [TopicPartition: Range<Int64>] {
        let wanted = Set(topics)
        return try await run("watermarks") { handle throws(BrokerError) in
            var found: [TopicPartition: Range<Int64>] = [:]
            for topic in try handle.topics(milliseconds: timeout.wholeMilliseconds) where wanted.contains(topic.name) {
                for number in 0..<Int32(clamping: topic.partitions) {
                    let partition = TopicPartition(topic.name, number)
                    found[partition] = try handle.watermarks(partition, milliseconds: timeout.wholeMilliseconds)
                }
            }
            return found
        }
    }

    /// The first offsets whose records were written at a time or later, by the records' timestamps.
    ///
    /// A partition is missing if no record is that new; an ``EmbeddedCluster`` knows no times, so there each is missing.
    public func offsets(
        at time: Timestamp, of partitions: [TopicPartition], timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [TopicPartition: Int64] {
        try await run("offsets by time") { handle throws(BrokerError) in
            try handle.offsets(at: time, of: partitions, milliseconds: timeout.wholeMilliseconds)
        }
    }

    /// The consumer groups, with state and members.
    ///
    /// - Parameter names: nil for all, which an ``EmbeddedCluster`` can't tell.
    public func groups(
        _ names: [String]? = nil, timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [ConsumerGroup] {
        try await run("groups") { handle throws(BrokerError) in
            let milliseconds = timeout.wholeMilliseconds
            let names = if let names { names } else { try handle.groups(milliseconds: milliseconds) }
            return try handle.describe(groups: names, milliseconds: milliseconds).sorted { $0.name < $1.name }
        }
    }

    /// The committed offsets of a group with their metadata; partitions without a commit are missing.
    ///
    /// The group is asked, not joined.
    public func committed(
        group: String, partitions: [TopicPartition], timeout: Duration = .seconds(30)
    ) async throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        var asking = configuration
        asking.groupID = group
        asking.groupInstanceID = nil
        let log = log
        return try await run("committed") { [asking] _ throws(BrokerError) in
            let handle: AdminHandle
            do throws(KafkaConfigurationError) {
                handle = try AdminHandle(properties: asking.properties(for: .consumer), log: log)
            } catch {
                throw BrokerError("_INVALID_ARG", operation: "committed: \(error.key)")
            }
            return try handle.committed(partitions, milliseconds: timeout.wholeMilliseconds)
        }
    }

    /// Ends the client once the calls that are under way have ended; a second call does nothing.
    public func close() { handle.withLock { $0 = nil } }

    private func run<Answer: Sendable>(
        _ operation: String, _ body: @escaping @Sendable (AdminHandle) throws(BrokerError) -> Answer
    ) async throws(BrokerError) -> Answer {
        guard let handle = handle.withLock({ $0 }) else { throw BrokerError.closed(operation) }
        return try await onThread(operation) { () throws(BrokerError) in try body(handle) }
    }
}

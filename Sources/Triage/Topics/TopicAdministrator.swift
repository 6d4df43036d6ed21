public import Logging
internal import TriageEvents
public import TriageKafka

/// Creates and checks the topics of a ``TopicPlan``.
public struct TopicAdministrator: Sendable {
    private let kafka: KafkaConfiguration
    private let logger: Logger

    /// An administrator at these brokers.
    ///
    /// - Parameters:
    ///   - kafka: the brokers; the group is ignored.
    ///   - logger: told by the Kafka client what keeps it from reaching them.
    public init(_ kafka: KafkaConfiguration, logger: Logger = Logger(label: "triage")) {
        self.kafka = kafka
        self.logger = logger
    }

    /// Asks the brokers for anything at all, so that a wrong address is told in seconds instead of waited for.
    ///
    /// - Throws: `BrokerError` if none answers within `timeout`.
    public func reach(timeout: Duration = .seconds(10)) async throws {
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        _ = try await admin.describeTopics(timeout: timeout)
    }

    /// Creates what is missing; what exists is left as it is. A topic beside one that exists gets as many partitions as that.
    ///
    /// - Parameters:
    ///   - plan: the topics.
    ///   - replicationFactor: copies of each partition; −1 for the broker's default.
    ///   - timeout: for the brokers' answer.
    /// - Returns: how it ended for each topic of the plan, in its order.
    public func create(
        _ plan: TopicPlan, replicationFactor: Int = -1, timeout: Duration = .seconds(30)
    ) async throws -> [(topic: TopicPlan.Topic, result: TopicCreation)] {
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        let described = try await admin.describeTopics(plan.topics.map(\.name), timeout: timeout)
        let plan = plan.beside(Dictionary(described.map { ($0.name, $0.partitions) }) { $1 })
        let results = try await admin.createTopics(
            plan.topics.map {
                NewTopic(
                    $0.name, partitions: $0.partitions, replicationFactor: replicationFactor, configuration: $0.configuration)
            },
            timeout: timeout
        )
        return plan.topics.map { topic in
            (topic, results[topic.name] ?? .failed(BrokerError("_NO_ANSWER", operation: "create \(topic.name)")))
        }
    }

    /// What differs from the plan at the brokers.
    public func check(_ plan: TopicPlan, timeout: Duration = .seconds(30)) async throws -> [TopicPlan.Difference] {
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        let names = plan.topics.map(\.name)
        let described = try await admin.describeTopics(names, timeout: timeout)
        let configurations = try await admin.configuration(of: described.map(\.name), timeout: timeout)
        var found: [String: TopicPlan.Found] = [:]
        for topic in described {
            found[topic.name] = TopicPlan.Found(partitions: topic.partitions, configuration: configurations[topic.name] ?? [:])
        }
        return plan.differences(from: found)
    }
}

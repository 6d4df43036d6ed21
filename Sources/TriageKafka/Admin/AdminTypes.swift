public import TriageEvents

/// A topic to be created.
public struct NewTopic: Sendable, Hashable {
    /// The topic's name.
    public let name: String
    /// How many partitions it shall have, at least 1.
    public let partitions: Int
    /// On how many brokers each partition lies; −1 for the brokers' default (Kafka 2.4 and later).
    public let replicationFactor: Int
    /// Topic configuration such as `cleanup.policy`; what is missing is the brokers' default.
    public let configuration: [String: String]

    /// A topic with `partitions` partitions.
    public init(_ name: String, partitions: Int, replicationFactor: Int = -1, configuration: [String: String] = [:]) {
        self.name = name
        self.partitions = partitions
        self.replicationFactor = replicationFactor
        self.configuration = configuration
    }
}

/// How the creation of a topic ended.
public enum TopicCreation: Sendable, Hashable {
    /// It exists now and did not before.
    case created
    /// It existed before, with whatever partitions and configuration it has.
    case exists
    /// It could not be created.
    case failed(BrokerError)
}

/// A topic as the brokers describe it.
public struct TopicDescription: Sendable, Hashable {
    /// The topic's name.
    public let name: String
    /// How many partitions it has.
    public let partitions: Int
    /// On how many brokers its least replicated partition lies.
    public let replicationFactor: Int
    /// Partitions that have no leader now.
    public let leaderless: [Int32]
}

/// A consumer group as the brokers describe it.
public struct ConsumerGroup: Sendable, Hashable {
    /// A member of the group.
    public struct Member: Sendable, Hashable {
        /// The id that the coordinator gave it.
        public let id: String
        /// Its `client.id`.
        public let clientID: String
        /// The host that it connects from.
        public let host: String
        /// Its partitions.
        public let assignment: [TopicPartition]
        /// Its `group.instance.id`; nil if it is no static member.
        public let instanceID: String?

        /// A member with these partitions.
        public init(
            id: String, clientID: String, host: String, assignment: [TopicPartition] = [], instanceID: String? = nil
        ) {
            self.id = id
            self.clientID = clientID
            self.host = host
            self.assignment = assignment
            self.instanceID = instanceID
        }
    }

    /// The group's name.
    public let name: String
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Dead` or `Unknown`.
    public let state: String
    /// Its members; empty if they could not be read.
    public let members: [Member]
    /// Why the members could not be read, if so.
    public let error: BrokerError?

    /// A group in `state` with `members`.
    public init(name: String, state: String, members: [Member], error: BrokerError? = nil) {
        self.name = name
        self.state = state
        self.members = members
        self.error = error
    }
}

import Synchronization
public import TriageEvents

/// Brokers inside this process, for demonstrations and tests: librdkafka's mock cluster, reached over loopback like any other.
///
/// What it can't do: it keeps only the newest 5 MiB or 100,000 batches of a partition, in memory; it knows no topic
/// configuration and no CreateTopics request (``KafkaAdmin/createTopics(_:timeout:)`` fails: use
/// ``createTopic(_:partitions:)``), lists no groups, refuses commits while a group rebalances (so its members
/// see more duplicates than with real brokers), and shows aborted transactions. A group's first assignment takes three
/// seconds, so ``KafkaConfiguration/sessionTimeout`` must be longer. Topics that are produced to or
/// asked for without being created come into being with four partitions.
public final class EmbeddedCluster: Sendable {
    /// Requests of Kafka's protocol that can be made to fail (protocol guide, "Api Keys").
    public enum Request: Int16, Sendable, Hashable, CaseIterable {
        /// Produce.
        case produce = 0
        /// Fetch.
        case fetch = 1
        /// ListOffsets, which watermarks ask.
        case listOffsets = 2
        /// Metadata.
        case metadata = 3
        /// OffsetCommit.
        case offsetCommit = 8
        /// OffsetFetch.
        case offsetFetch = 9
        /// FindCoordinator.
        case findCoordinator = 10
        /// JoinGroup.
        case joinGroup = 11
        /// Heartbeat.
        case heartbeat = 12
        /// LeaveGroup.
        case leaveGroup = 13
        /// SyncGroup.
        case syncGroup = 14
        /// InitProducerId.
        case initProducerID = 22
    }

    /// The code that makes a broker cut the connection instead of answering (librdkafka's `_TRANSPORT`).
    public static let disconnect: Int32 = -195

    private let cluster: Mutex<MockClusterHandle?>
    private let brokers: Int
    /// Where the brokers listen, `127.0.0.1:port` separated by commas: what ``KafkaConfiguration`` takes.
    public let bootstrapServers: String

    /// Starts `brokers` brokers, numbered from 1.
    ///
    /// - Throws: a ``KafkaConfigurationError`` if that many can't be started.
    public init(brokers: Int = 1) throws(KafkaConfigurationError) {
        let handle = try MockClusterHandle(brokers: brokers)
        bootstrapServers = handle.bootstrapServers
        self.brokers = brokers
        cluster = Mutex(handle)
    }

    /// Creates a topic, replicated to as many brokers as there are, up to three.
    ///
    /// - Throws: `TOPIC_ALREADY_EXISTS` if it exists.
    public func createTopic(_ name: String, partitions: Int) throws(BrokerError) {
        try open("create topic \(name)")
            .createTopic(name, partitions: Int32(clamping: partitions), replication: Int32(min(3, brokers)))
    }

    /// Makes the next requests of this kind fail, one for each code, in this order.
    ///
    /// - Parameter codes: Kafka's error codes (protocol guide, "Error codes"), or ``disconnect``; 0 lets one pass.
    public func pushRequestErrors(_ request: Request, _ codes: [Int32]) {
        try? open("push errors").pushRequestErrors(request.rawValue, codes)
    }

    /// Takes back what ``pushRequestErrors(_:_:)`` has left for this kind of request.
    public func clearRequestErrors(_ request: Request) {
        try? open("clear errors").clearRequestErrors(request.rawValue)
    }

    /// Cuts a broker's connections and refuses new ones, or accepts them again; leaders stay as they are.
    ///
    /// - Parameter broker: its number, or −1 for all.
    public func setBroker(_ broker: Int, isUp: Bool) throws(BrokerError) {
        try open("broker").setBroker(Int32(clamping: broker), isUp: isUp)
    }

    /// Delays every answer of a broker.
    ///
    /// - Parameter broker: its number, or −1 for all.
    public func setRoundTripTime(_ time: Duration, broker: Int = -1) throws(BrokerError) {
        try open("broker").setRoundTripTime(Int32(clamping: broker), milliseconds: time.wholeMilliseconds)
    }

    /// Makes a broker lead a partition; nil leaves it without a leader.
    public func setLeader(of partition: TopicPartition, broker: Int?) throws(BrokerError) {
        try open("leader").setLeader(partition, broker: Int32(clamping: broker ?? -1))
    }

    /// Makes a broker the coordinator of a group; one that doesn't exist leaves the group without.
    public func setCoordinator(of group: String, broker: Int) throws(BrokerError) {
        try open("coordinator").setCoordinator(group: group, broker: Int32(clamping: broker))
    }

    /// Ends the brokers; what they held is gone. A second call does nothing.
    public func close() {
        let handle = cluster.withLock { cluster in
            defer { cluster = nil }
            return cluster
        }
        _ = consume handle
    }

    private func open(_ operation: String) throws(BrokerError) -> MockClusterHandle {
        guard let handle = cluster.withLock({ $0 }) else { throw BrokerError.closed(operation) }
        return handle
    }
}

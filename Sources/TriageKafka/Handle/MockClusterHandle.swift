import CRdKafka
import TriageEvents

/// librdkafka's mock cluster: brokers on loopback, served by a thread of the client that it belongs to.
///
/// `@unchecked Sendable`: the pointer never changes, and the mock's calls hand an operation to the mock's own thread
/// and wait for it, on whatever thread they are made.
final class MockClusterHandle: @unchecked Sendable {
    private let parent: ClientHandle
    private let cluster: OpaquePointer

    init(brokers: Int) throws(KafkaConfigurationError) {
        parent = try ClientHandle(.producer, properties: [Property("client.id", "embedded")], log: nil)
        guard brokers > 0, let cluster = rd_kafka_mock_cluster_new(parent.client, Int32(clamping: brokers)) else {
            throw KafkaConfigurationError(
                key: "brokers", value: "\(brokers)", expected: "a number of brokers that fits on loopback")
        }
        self.cluster = cluster
    }

    deinit { rd_kafka_mock_cluster_destroy(cluster) }

    var bootstrapServers: String { rd_kafka_mock_cluster_bootstraps(cluster).map { String(cString: $0) } ?? "" }

    func createTopic(_ name: String, partitions: Int32, replication: Int32) throws(BrokerError) {
        try check(rd_kafka_mock_topic_create(cluster, name, partitions, replication), "create topic \(name)")
    }

    func pushRequestErrors(_ key: Int16, _ codes: [Int32]) {
        let errors = codes.map { rd_kafka_resp_err_t($0) }
        rd_kafka_mock_push_request_errors_array(cluster, key, errors.count, errors)
    }

    func clearRequestErrors(_ key: Int16) { rd_kafka_mock_clear_request_errors(cluster, key) }

    func setBroker(_ id: Int32, isUp: Bool) throws(BrokerError) {
        try check(
            isUp ? rd_kafka_mock_broker_set_up(cluster, id) : rd_kafka_mock_broker_set_down(cluster, id), "broker \(id)"
        )
    }

    func setRoundTripTime(_ id: Int32, milliseconds: Int32) throws(BrokerError) {
        try check(rd_kafka_mock_broker_set_rtt(cluster, id, milliseconds), "broker \(id)")
    }

    func setLeader(_ partition: TopicPartition, broker: Int32) throws(BrokerError) {
        try check(
            rd_kafka_mock_partition_set_leader(cluster, partition.topic, partition.partition, broker), "leader of \(partition)"
        )
    }

    func setCoordinator(group: String, broker: Int32) throws(BrokerError) {
        try check(rd_kafka_mock_coordinator_set(cluster, "group", group, broker), "coordinator")
    }

    private func check(_ code: rd_kafka_resp_err_t, _ operation: String) throws(BrokerError) {
        if code != RD_KAFKA_RESP_ERR_NO_ERROR { throw BrokerError(code: code, operation: operation) }
    }
}

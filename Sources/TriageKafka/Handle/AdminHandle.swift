import CRdKafka
import Glibc
import TriageEvents

/// The admin client's calls of librdkafka, typed; each blocks until it is answered or its time is up.
struct AdminHandle: Sendable {
    private let handle: ClientHandle

    init(properties: [Property], log: KafkaLog?) throws(KafkaConfigurationError) {
        handle = try ClientHandle(.admin, properties: properties, log: log)
    }

    func createTopics(_ topics: [NewTopic], milliseconds: Int32) throws(BrokerError) -> [String: TopicCreation] {
        var results: [String: TopicCreation] = [:]
        var requested: [OpaquePointer?] = []
        defer { for topic in requested { rd_kafka_NewTopic_destroy(topic) } }
        for topic in topics {
            var text = [CChar](repeating: 0, count: 256)
            guard
                let new = rd_kafka_NewTopic_new(
                    topic.name, Int32(clamping: topic.partitions), Int32(clamping: topic.replicationFactor), &text, text.count
                )
            else {
                results[topic.name] = .failed(BrokerError("_INVALID_ARG", operation: "create topic \(topic.name)"))
                continue
            }
            for (key, value) in topic.configuration { rd_kafka_NewTopic_set_config(new, key, value) }
            requested.append(new)
        }
        guard !requested.isEmpty else { return results }
        try request(RD_KAFKA_ADMIN_OP_CREATETOPICS, "create topics", milliseconds) { options, queue in
            var text = [CChar](repeating: 0, count: 256)
            rd_kafka_AdminOptions_set_operation_timeout(options, milliseconds, &text, text.count)
            rd_kafka_CreateTopics(handle.client, &requested, requested.count, options, queue)
        } read: { event throws(BrokerError) in
            var count = 0
            guard let answers = rd_kafka_CreateTopics_result_topics(event, &count) else { return }
            for answer in UnsafeBufferPointer(start: answers, count: count) {
                guard let answer, let name = rd_kafka_topic_result_name(answer).map({ String(cString: $0) }) else { continue }
                let code = rd_kafka_topic_result_error(answer)
                results[name] =
                    switch code {
                    case RD_KAFKA_RESP_ERR_NO_ERROR: .created
                    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS: .exists
                    default: .failed(BrokerError(code: code, operation: "create topic \(name)"))
                    }
            }
        }
        return results
    }

    /// All topics at once: asking for one by name may create it.
    func topics(milliseconds: Int32) throws(BrokerError) -> [TopicDescription] {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = rd_kafka_metadata(handle.client, 1, nil, &metadata, milliseconds)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else {
            throw BrokerError(code: code, client: handle.client, operation: "describe topics")
        }
        defer { rd_kafka_metadata_destroy(metadata) }
        return UnsafeBufferPointer(start: metadata.pointee.topics, count: Int(metadata.pointee.topic_cnt)).compactMap { topic in
            guard topic.err == RD_KAFKA_RESP_ERR_NO_ERROR, let name = topic.topic else { return nil }
            let partitions = UnsafeBufferPointer(start: topic.partitions, count: Int(topic.partition_cnt))
            return TopicDescription(
                name: String(cString: name), partitions: partitions.count,
                replicationFactor: partitions.map { Int($0.replica_cnt) }.min() ?? 0,
                leaderless: partitions.filter { $0.leader < 0 }.map(\.id).sorted()
            )
        }
    }

    func configuration(of topics: [String], milliseconds: Int32) throws(BrokerError) -> [String: [String: String]] {
        guard !topics.isEmpty else { return [:] }
        var resources: [OpaquePointer?] = topics.map { rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, $0) }
        defer { for resource in resources { rd_kafka_ConfigResource_destroy(resource) } }
        var found: [String: [String: String]] = [:]
        try request(RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, "describe configuration", milliseconds) { options, queue in
            rd_kafka_DescribeConfigs(handle.client, &resources, resources.count, options, queue)
        } read: { event throws(BrokerError) in
            var count = 0
            guard let answers = rd_kafka_DescribeConfigs_result_resources(event, &count) else { return }
            for answer in UnsafeBufferPointer(start: answers, count: count) {
                guard let answer, rd_kafka_ConfigResource_error(answer) == RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
                found[text(rd_kafka_ConfigResource_name(answer))] = entries(answer)
            }
        }
        return found
    }

    private func entries(_ resource: OpaquePointer) -> [String: String] {
        var count = 0
        guard let entries = rd_kafka_ConfigResource_configs(resource, &count) else { return [:] }
        var values: [String: String] = [:]
        for entry in UnsafeBufferPointer(start: entries, count: count) {
            guard let entry, let value = rd_kafka_ConfigEntry_value(entry) else { continue }
            values[text(rd_kafka_ConfigEntry_name(entry))] = String(cString: value)
        }
        return values
    }

    func watermarks(_ partition: TopicPartition, milliseconds: Int32) throws(BrokerError) -> Range<Int64> {
        try handle.watermarks(partition, milliseconds: milliseconds)
    }

    /// Offsets by time; a partition is missing whose answer says that nothing was written at that time or later.
    func offsets(
        at time: Timestamp, of partitions: [TopicPartition], milliseconds: Int32
    ) throws(BrokerError) -> [TopicPartition: Int64] {
        guard !partitions.isEmpty else { return [:] }
        let list = PartitionList(partitions)
        return try list.withPointer { (pointer) throws(BrokerError) in
            // The field that answers with an offset asks by a time.
            for index in pointer.elements.indices { pointer.elements[index].offset = max(0, time.milliseconds) }
            let code = rd_kafka_offsets_for_times(handle.client, pointer, milliseconds)
            guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
                throw BrokerError(code: code, client: handle.client, operation: "offsets by time")
            }
            var found: [TopicPartition: Int64] = [:]
            for element in pointer.elements where element.err == RD_KAFKA_RESP_ERR_NO_ERROR && element.offset >= 0 {
                found[element.topicPartition] = element.offset
            }
            return found
        }
    }

    func committed(_ partitions: [TopicPartition], milliseconds: Int32) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        try handle.committed(partitions, milliseconds: milliseconds)
    }

    func groups(milliseconds: Int32) throws(BrokerError) -> [String] {
        try request(RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, "list groups", milliseconds) { options, queue in
            rd_kafka_ListConsumerGroups(handle.client, options, queue)
        } read: { event throws(BrokerError) in
            var count = 0
            // Brokers answer one by one: one that failed leaves its groups unknown, and half a list would mislead.
            if let errors = rd_kafka_ListConsumerGroups_result_errors(event, &count), count > 0, let error = errors[0] {
                throw BrokerError(borrowing: error, operation: "list groups")
            }
            guard let answers = rd_kafka_ListConsumerGroups_result_valid(event, &count) else { return [] }
            return UnsafeBufferPointer(start: answers, count: count).compactMap { answer in
                rd_kafka_ConsumerGroupListing_group_id(answer).map { String(cString: $0) }
            }
        }
    }

    func describe(groups: [String], milliseconds: Int32) throws(BrokerError) -> [ConsumerGroup] {
        guard !groups.isEmpty else { return [] }
        try checkListing(groups[0], milliseconds)
        let names = groups.map { strdup($0) }
        defer { for name in names { free(name) } }
        var pointers = names.map { UnsafePointer<CChar>($0) }
        return try request(RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, "describe groups", milliseconds) { options, queue in
            rd_kafka_DescribeConsumerGroups(handle.client, &pointers, pointers.count, options, queue)
        } read: { event throws(BrokerError) in
            var count = 0
            guard let answers = rd_kafka_DescribeConsumerGroups_result_groups(event, &count) else { return [] }
            return UnsafeBufferPointer(start: answers, count: count).compactMap { answer in answer.map(group) }
        }
    }

    /// Asks in the older way first: of brokers that can't describe groups, such as the mock cluster's, it says so, whereas
    /// DescribeConsumerGroups of librdkafka 2.0.2 then locks the client's main thread up for ever.
    private func checkListing(_ group: String, _ milliseconds: Int32) throws(BrokerError) {
        var list: UnsafePointer<rd_kafka_group_list>?
        let code = rd_kafka_list_groups(handle.client, group, &list, milliseconds)
        if let list { rd_kafka_group_list_destroy(list) }
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw BrokerError(code: code, client: handle.client, operation: "describe groups")
        }
    }

    private func group(_ answer: OpaquePointer) -> ConsumerGroup {
        let error = rd_kafka_ConsumerGroupDescription_error(answer)
        let state = rd_kafka_consumer_group_state_name(rd_kafka_ConsumerGroupDescription_state(answer))
        let members = (0..<rd_kafka_ConsumerGroupDescription_member_count(answer)).compactMap { index in
            rd_kafka_ConsumerGroupDescription_member(answer, index).map { member in
                ConsumerGroup.Member(
                    id: text(rd_kafka_MemberDescription_consumer_id(member)),
                    clientID: text(rd_kafka_MemberDescription_client_id(member)),
                    host: text(rd_kafka_MemberDescription_host(member)),
                    assignment: rd_kafka_MemberDescription_assignment(member)
                        .flatMap { rd_kafka_MemberAssignment_partitions($0) }
                        .map { UnsafeMutablePointer(mutating: $0).partitions.sorted() } ?? [],
                    instanceID: rd_kafka_MemberDescription_group_instance_id(member).map { String(cString: $0) }
                        .flatMap { $0.isEmpty ? nil : $0 }
                )
            }
        }
        let failure = error.flatMap { error in
            rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_NO_ERROR
                ? nil : BrokerError(borrowing: error, operation: "describe group")
        }
        return ConsumerGroup(
            name: text(rd_kafka_ConsumerGroupDescription_group_id(answer)), state: text(state),
            members: members, error: failure
        )
    }

    private func text(_ pointer: UnsafePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }

    /// Sends a request, waits for its answer on a queue of its own, and reads it while it is there.
    private func request<Answer>(
        _ kind: rd_kafka_admin_op_t, _ operation: String, _ milliseconds: Int32,
        send: (_ options: OpaquePointer, _ queue: OpaquePointer) -> Void,
        read: (_ event: OpaquePointer) throws(BrokerError) -> Answer
    ) throws(BrokerError) -> Answer {
        guard let queue = rd_kafka_queue_new(handle.client) else { throw BrokerError("_CRIT_SYS_RESOURCE", operation: operation) }
        defer { rd_kafka_queue_destroy(queue) }
        guard let options = rd_kafka_AdminOptions_new(handle.client, kind) else {
            throw BrokerError("_CRIT_SYS_RESOURCE", operation: operation)
        }
        defer { rd_kafka_AdminOptions_destroy(options) }
        var text = [CChar](repeating: 0, count: 256)
        let code = rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, &text, text.count)
        guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw BrokerError(code: code, operation: operation) }
        send(options, queue)
        // The request times out by itself; the second on top is for the answer that says so.
        guard let event = rd_kafka_queue_poll(queue, min(milliseconds, Int32.max - 1000) + 1000) else {
            throw BrokerError(code: RD_KAFKA_RESP_ERR__TIMED_OUT, operation: operation)
        }
        defer { rd_kafka_event_destroy(event) }
        let failure = rd_kafka_event_error(event)
        guard failure == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw BrokerError(code: failure, client: handle.client, operation: operation)
        }
        return try read(event)
    }
}

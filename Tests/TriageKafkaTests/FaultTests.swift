import Synchronization
import TestSupport
import Testing
import TriageEvents
import TriageKafka

/// What only librdkafka and its mock cluster can show: faults, limits, the admin client.
@Suite(.blocking, .serialized, .timeLimit(.minutes(3)))
struct FaultTests {
    @Test func tellsTooLargeRecords() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("large", partitions: 1)
        let producer = try KafkaProducer(
            KafkaConfiguration(bootstrapServers: cluster.bootstrapServers, additional: ["message.max.bytes": "1000000"]))
        defer { producer.close() }
        let value = ByteSlice(count: 2_000_000) { $0.initializeMemory(as: UInt8.self, repeating: 7) }
        let completions = Gathered<Void>()
        let error = #expect(throws: BrokerError.self) {
            try producer.produce(OutboundRecord(topic: "large", key: nil, value: value)) { _ in completions.append(()) }
        }
        #expect(error?.isTooLarge == true)
        #expect(error?.isRetriable == false)
        // The broker may say it too.
        cluster.pushRequestErrors(.produce, [10])
        let result = Gathered<Result<Acknowledgement, BrokerError>>()
        try producer.produce(OutboundRecord(topic: "large", key: nil, value: ByteSlice("v"))) { result.append($0) }
        guard case .failure(let said)? = try result.wait(for: 1).first else {
            Issue.record("was acknowledged")
            return
        }
        #expect(said.isTooLarge)
        #expect(completions.all.isEmpty)
    }

    @Test("after a leader has moved one question at most goes to the one before")
    func findsTheNewLeader() throws {
        let cluster = try EmbeddedCluster(brokers: 3)
        defer { cluster.close() }
        try cluster.createTopic("moving", partitions: 1)
        let inspector = try KafkaInspector(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { inspector.close() }
        let partition = TopicPartition("moving", 0)
        for round in 0..<9 {
            try cluster.setLeader(of: partition, broker: round % 3 + 1)
            if (try? inspector.watermarks(partition, timeout: patience)) == 0..<0 { continue }
            #expect(try inspector.watermarks(partition, timeout: patience) == 0..<0, "round \(round)")
        }
    }

    @Test func closingFailsWhatCannotBeSentExactlyOnce() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("down", partitions: 1)
        let failures = Gathered<BrokerError>()
        let producer = try KafkaProducer(
            KafkaConfiguration(bootstrapServers: cluster.bootstrapServers), failed: { failures.append($0) }
        )
        try producer.produceAll([OutboundRecord(topic: "down", partition: 0, key: nil, value: nil)])
        try cluster.setBroker(-1, isUp: false)
        let results = Gathered<Int>()
        let errors = Gathered<BrokerError>()
        for number in 0..<500 {
            try producer.produce(OutboundRecord(topic: "down", partition: 0, key: nil, value: ByteSlice("\(number)"))) {
                results.append(number)
                if case .failure(let error) = $0 { errors.append(error) }
            }
        }
        producer.close()
        #expect(results.all.sorted() == Array(0..<500))
        #expect(errors.all.count == 500)
        #expect(Set(errors.all.map(\.name)).isSubset(of: ["_PURGE_QUEUE", "_PURGE_INFLIGHT"]))
        #expect(Set(errors.all.map(\.operation)) == ["produce down"])
        #expect(try !failures.wait(for: 1).contains { $0.isFatal })
    }

    @Test func flushGivesUpInTime() async throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("slow", partitions: 1)
        try cluster.setBroker(-1, isUp: false)
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        let results = Gathered<Bool>()
        try producer.produce(OutboundRecord(topic: "slow", key: nil, value: nil)) { _ in results.append(true) }
        #expect(await !producer.flush(timeout: .milliseconds(30)))
        #expect(results.all.isEmpty)
        try cluster.setBroker(-1, isUp: true)
        #expect(await producer.flush(timeout: patience))
        #expect(results.all == [true])
    }

    @Test func retriesWhatTheBrokerRefusedForNow() throws {
        let cluster = try EmbeddedCluster(brokers: 3)
        defer { cluster.close() }
        try cluster.createTopic("moved", partitions: 1)
        try cluster.setLeader(of: TopicPartition("moved", 0), broker: 1)
        let producer = try KafkaProducer(quick(cluster.bootstrapServers, group: "unused"))
        defer { producer.close() }
        // NOT_LEADER_FOR_PARTITION, a cut connection, NOT_ENOUGH_REPLICAS: each is retried, in order, without duplicates.
        cluster.pushRequestErrors(.produce, [6, EmbeddedCluster.disconnect, 19])
        let acknowledged = try producer.produceAll(
            (0..<50).map { OutboundRecord(topic: "moved", partition: 0, key: nil, value: ByteSlice("\($0)")) }
        )
        #expect(acknowledged.map(\.offset) == Array(0..<50))
        try cluster.setLeader(of: TopicPartition("moved", 0), broker: 2)
        #expect(
            try producer.produceAll([OutboundRecord(topic: "moved", partition: 0, key: nil, value: nil)]).map(\.offset) == [50])
    }

    @Test func aFatalErrorIsSaidToBe() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("fatal", partitions: 1)
        let failures = Gathered<BrokerError>()
        let producer = try KafkaProducer(
            KafkaConfiguration(bootstrapServers: cluster.bootstrapServers), failed: { failures.append($0) })
        defer { producer.close() }
        try producer.produceAll([OutboundRecord(topic: "fatal", partition: 0, key: nil, value: nil)])
        #expect(producer.fatalError == nil)
        // OUT_OF_ORDER_SEQUENCE_NUMBER for the next record: idempotence can't be kept.
        cluster.pushRequestErrors(.produce, [45])
        let results = Gathered<Result<Acknowledgement, BrokerError>>()
        try producer.produce(OutboundRecord(topic: "fatal", partition: 0, key: nil, value: nil)) { results.append($0) }
        guard case .failure? = try results.wait(for: 1).first else {
            Issue.record("was acknowledged")
            return
        }
        #expect(try failures.wait(for: 1).contains { $0.isFatal && $0.name == "OUT_OF_ORDER_SEQUENCE_NUMBER" })
        #expect(producer.fatalError?.name == "OUT_OF_ORDER_SEQUENCE_NUMBER")
        let error = #expect(throws: BrokerError.self) {
            try producer.produce(OutboundRecord(topic: "fatal", partition: 0, key: nil, value: nil)) { _ in }
        }
        #expect(error?.isFatal == true)
        #expect(error?.isRetriable == false)
    }

    @Test func reportsAFailedCommit() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("commits", partitions: 1)
        let reader = Reader(try KafkaConsumer(quick(cluster.bootstrapServers, group: "commits")))
        defer { reader.consumer.close() }
        try reader.subscribe("commits")
        try reader.poll("the end") { reader.ends.count == 1 }
        let commit = OffsetCommit(TopicPartition("commits", 0), offset: 0, metadata: "too long")
        // OFFSET_METADATA_TOO_LARGE
        cluster.pushRequestErrors(.offsetCommit, [12])
        try reader.consumer.commit([commit])
        try reader.poll("the result") { reader.commits.count == 1 }
        #expect(reader.commits.first?.offsets == [commit])
        #expect(reader.commits.first?.error == BrokerError("OFFSET_METADATA_TOO_LARGE", operation: "commit"))
        cluster.pushRequestErrors(.offsetCommit, [12])
        #expect(throws: BrokerError("OFFSET_METADATA_TOO_LARGE", operation: "commit")) {
            try reader.consumer.commitAndWait([commit])
        }
    }

    @Test func readsABacklogThatIsLargerThanThePrefetchQueue() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("backlog", partitions: 2)
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        let value = ByteSlice(count: 500) { $0.initializeMemory(as: UInt8.self, repeating: 7) }
        try producer.produceAll((0..<10_000).map { OutboundRecord(topic: "backlog", partition: $0 % 2, key: nil, value: value) })
        var configuration = quick(cluster.bootstrapServers, group: "backlog")
        configuration.additional["queued.max.messages.kbytes"] = "256"
        configuration.additional["fetch.message.max.bytes"] = "65536"
        let reader = Reader(try KafkaConsumer(configuration))
        defer { reader.consumer.close() }
        try reader.subscribe("backlog")
        try reader.poll("everything") { reader.records.count == 10_000 }
        for partition in 0..<2 {
            #expect(reader.offsets(TopicPartition("backlog", Int32(partition))) == Array(0..<5000))
        }
    }

    @Test func reportsALostAssignment() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("lost", partitions: 2)
        let reader = Reader(try KafkaConsumer(quick(cluster.bootstrapServers, group: "lost")))
        defer { reader.consumer.close() }
        try reader.subscribe("lost")
        try reader.poll("an assignment") { reader.assignments.current.count == 2 }
        // UNKNOWN_MEMBER_ID: the coordinator has expelled the member.
        cluster.pushRequestErrors(.heartbeat, [25])
        try reader.poll("the loss") { reader.assignments.lost.count == 1 }
        #expect(reader.assignments.revoked.isEmpty)
    }

    @Test func aClosedConsumerAnswersWithoutCrashing() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        let consumer = try KafkaConsumer(quick(cluster.bootstrapServers, group: "closed"))
        consumer.close()
        consumer.close()
        let closed = #expect(throws: BrokerError.self) { try consumer.subscribe(to: ["a"], observer: Assignments()) }
        #expect(closed?.name == "_DESTROY")
        #expect(throws: BrokerError.self) { try consumer.pause([TopicPartition("a", 0)]) }
        #expect(throws: BrokerError.self) { try consumer.committed([TopicPartition("a", 0)], timeout: .zero) }
        #expect(throws: BrokerError.self) { try consumer.watermarks(TopicPartition("a", 0), timeout: .zero) }
        var batch = PolledBatch()
        consumer.poll(into: &batch, maximum: 10, timeout: .seconds(3600))
        #expect(batch.records.isEmpty)
    }

    @Test func closedClusterSaysSo() throws {
        let cluster = try EmbeddedCluster()
        try cluster.createTopic("twice", partitions: 1)
        #expect(throws: BrokerError("TOPIC_ALREADY_EXISTS", operation: "create topic twice")) {
            try cluster.createTopic("twice", partitions: 1)
        }
        cluster.close()
        cluster.close()
        #expect(throws: BrokerError.self) { try cluster.createTopic("late", partitions: 1) }
    }

    @Test(arguments: TestBroker.networked) func adminSeesTopicsOffsetsAndGroups(_ kind: TestBroker) async throws {
        let broker = try kind.broker()
        let topic = try await broker.createTopic(3)
        let producer = try broker.producer()
        defer { producer.close() }
        try producer.produceAll((0..<5).map { OutboundRecord(topic: topic, partition: $0 % 2, key: nil, value: nil) })
        let admin = try KafkaAdmin(KafkaConfiguration(bootstrapServers: kind.servers()))
        defer { admin.close() }
        let missing = unique("missing")
        let described = try await admin.describeTopics([topic, missing])
        #expect(described.map(\.name) == [topic])
        #expect(described.map(\.partitions) == [3])
        #expect(described.map(\.leaderless) == [[]])
        #expect(
            try await admin.watermarks(of: [topic, missing]) == [
                TopicPartition(topic, 0): 0..<3, TopicPartition(topic, 1): 0..<2, TopicPartition(topic, 2): 0..<0,
            ]
        )
        // Looking must not have created it.
        #expect(try await admin.describeTopics([missing]).isEmpty)

        let group = unique("group")
        let commit = OffsetCommit(TopicPartition(topic, 1), offset: 2, metadata: "m")
        let reader = Reader(try broker.consumer(group))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("an assignment") { reader.assignments.current.count == 3 }
        try reader.consumer.commitAndWait([commit])
        let partitions = (0..<3).map { TopicPartition(topic, $0) }
        #expect(try await admin.committed(group: group, partitions: partitions) == [commit.topicPartition: commit])
        #expect(try await admin.committed(group: unique("none"), partitions: partitions).isEmpty)

        if kind == .real {
            let found = try await admin.groups([group])
            #expect(found.map(\.name) == [group])
            #expect(found.first?.error == nil)
            #expect(found.first?.members.map(\.clientID) == ["triage"])
            #expect(found.first?.members.map(\.assignment) == [partitions])
            #expect(try await admin.groups().map(\.name).contains(group))
            #expect(try await admin.createTopics([NewTopic(topic, partitions: 3)]) == [topic: .exists])
            let compacted = unique("compacted")
            let made = NewTopic(compacted, partitions: 1, configuration: ["cleanup.policy": "compact", "retention.ms": "-1"])
            #expect(try await admin.createTopics([made]) == [compacted: .created])
            let configuration = try await admin.configuration(of: [compacted, missing])
            #expect(configuration[compacted]?["cleanup.policy"] == "compact")
        } else {
            await #expect(throws: BrokerError.self) {
                try await admin.createTopics([NewTopic(missing, partitions: 1)], timeout: .milliseconds(200))
            }
            // It can't describe groups, which must not keep the client from anything else.
            await #expect(throws: BrokerError("_UNSUPPORTED_FEATURE", operation: "describe groups")) {
                try await admin.groups([group])
            }
            #expect(try await admin.watermarks(of: [topic], timeout: .seconds(5)).count == 3)
        }
        admin.close()
        await #expect(throws: BrokerError("_DESTROY", operation: "groups")) { try await admin.groups() }
    }
}

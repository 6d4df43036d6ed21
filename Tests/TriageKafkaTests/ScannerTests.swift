import TestSupport
import Testing
import TriageEvents
import TriageKafka

@Suite("Reading stretches of partitions without a group", .blocking)
struct ScannerTests {
    func offsets(_ scanner: KafkaPartitionScanner, _ ranges: [TopicPartition: Range<Int64>]) async throws -> [TopicPartition:
        [Int64]]
    {
        try await scanner.scan(ranges, into: [TopicPartition: [Int64]]()) { found, record in
            found[record.topicPartition, default: []].append(record.offset)
            return true
        }
    }

    @Test(arguments: TestBroker.networked) func stretches(_ kind: TestBroker) async throws {
        let topic = try await kind.broker().createTopic(3)
        let other = try await kind.broker().createTopic(1)
        let producer = try kind.broker().producer()
        defer { producer.close() }
        let keys = (0..<600).map { ByteSlice("\($0)") }
        try producer.produceAll(
            keys.enumerated().map { OutboundRecord(topic: topic, partition: Int32($0.offset % 2), key: $0.element, value: nil) })
        try producer.produceAll([OutboundRecord(topic: other, partition: 0, key: nil, value: ByteSlice("x"))])
        let scanner = try KafkaPartitionScanner(KafkaConfiguration(bootstrapServers: kind.servers()))
        defer { scanner.close() }
        let (first, second) = (TopicPartition(topic, 0), TopicPartition(topic, 1))
        // Exactly what was asked for: no record before it, none behind it, an empty stretch is no wait.
        let some = try await offsets(
            scanner, [first: 10..<13, second: 299..<300, TopicPartition(topic, 2): 0..<0, TopicPartition(other, 0): 0..<1])
        #expect(some == [first: [10, 11, 12], second: [299], TopicPartition(other, 0): [0]])
        // The same again on the same client, all of it, and more than there is.
        let all = try await offsets(scanner, [first: 0..<300, second: 0..<1000])
        #expect(all == [first: Array(0..<300), second: Array(0..<300)])
        // Until enough of one is known; the other goes on.
        let enough = try await scanner.scan([first: 0..<300, second: 0..<300], into: [Int32: Int]()) { counts, record in
            counts[record.partition, default: 0] += 1
            return record.partition == 1 || record.offset < 4
        }
        #expect(enough == [0: 5, 1: 300])
        #expect(try await offsets(scanner, [:]).isEmpty)
        // Keys are where Java's partitioner puts them: the producer's is the same.
        try producer.produceAll(keys.map { OutboundRecord(topic: topic, key: $0, value: nil) })
        let wrong = try await scanner.scan([first: 300..<900, second: 300..<900, TopicPartition(topic, 2): 0..<600], into: 0) {
            $0 += JavaPartitioner.partition(of: $1.key ?? ByteSlice(""), count: 3) == $1.partition ? 0 : 1
            return true
        }
        #expect(wrong == 0)
    }

    @Test(arguments: TestBroker.networked) func troubles(_ kind: TestBroker) async throws {
        let topic = try await kind.broker().createTopic(1)
        let scanner = try KafkaPartitionScanner(KafkaConfiguration(bootstrapServers: kind.servers()))
        // Behind the end nothing exists, and that is told instead of waited for.
        await #expect(throws: BrokerError.self) { try await offsets(scanner, [TopicPartition(topic, 0): 5..<10]) }
        scanner.close()
        await #expect(throws: BrokerError("_DESTROY", operation: "read")) { try await offsets(scanner, [:]) }
    }

    @Test("an answer that is larger than the client takes: the error says so, and what to do") func tooLarge() async throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("large", partitions: 1)
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        let value = ByteSlice(String(repeating: "x", count: 300_000))
        try producer.produceAll([OutboundRecord(topic: "large", partition: 0, key: nil, value: value)])
        let small = KafkaConfiguration(
            bootstrapServers: cluster.bootstrapServers,
            additional: ["receive.message.max.bytes": "100000", "message.max.bytes": "10000", "fetch.max.bytes": "50000"])
        let scanner = try KafkaPartitionScanner(small)
        defer { scanner.close() }
        do {
            _ = try await scanner.scan([TopicPartition("large", 0): 0..<1], into: 0) { _, _ in true }
            Issue.record("it was read")
        } catch {
            #expect(error.description.contains("read large/0: a broker's answer is larger than receive.message.max.bytes"))
            #expect(error.description.contains("-X receive.message.max.bytes="))
        }
        let reader = try KafkaRecordReader(small, timeout: .seconds(2))
        defer { reader.close() }
        let answer = await withCheckedContinuation { done in
            reader.read([0], of: TopicPartition("large", 0)) { done.resume(returning: $0) }
        }
        guard case .failure(let error) = answer else {
            Issue.record("it was read")
            return
        }
        #expect(error.isRetriable && error.description.contains("-X receive.message.max.bytes="))
    }

    @Test func nobodyAnswers() async throws {
        let scanner = try KafkaPartitionScanner(KafkaConfiguration(bootstrapServers: "127.0.0.1:1"))
        defer { scanner.close() }
        await #expect(throws: BrokerError("_TIMED_OUT", operation: "read t/0", isRetriable: false)) {
            try await scanner.scan([TopicPartition("t", 0): 0..<1], into: 0, timeout: .milliseconds(300)) { _, _ in true }
        }
    }
}

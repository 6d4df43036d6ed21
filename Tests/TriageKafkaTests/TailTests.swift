import TestSupport
import Testing
import TriageEvents
import TriageKafka

@Suite("Following topics without a group", .blocking)
struct TailTests {
    @Test(arguments: TestBroker.networked) func follows(_ kind: TestBroker) async throws {
        let topic = try await kind.broker().createTopic(1)
        let producer = try kind.broker().producer()
        defer { producer.close() }
        func produce(_ range: Range<Int>) throws {
            try producer.produceAll(range.map { OutboundRecord(topic: topic, partition: 0, key: ByteSlice("\($0)"), value: nil) })
        }
        try produce(0..<5)
        let (records, told) = AsyncStream.makeStream(of: (Int64, Bool).self)
        let (beginnings, began) = AsyncStream.makeStream(of: Void.self)
        let tail = try KafkaTail(
            KafkaConfiguration(bootstrapServers: kind.servers()), topics: [topic], last: 3, ready: { began.finish() }
        ) { told.yield(($0.offset, $1)) }
        defer { tail.close() }
        for await _ in beginnings {}
        try produce(5..<8)
        var found: [(Int64, Bool)] = []
        for await record in records {
            found.append(record)
            if found.count == 6 { break }
        }
        #expect(found.map(\.0) == [2, 3, 4, 5, 6, 7])
        #expect(found.map(\.1) == [true, true, true, false, false, false])
        tail.close()
    }

    @Test func endsWhileNobodyAnswers() throws {
        let tail = try KafkaTail(KafkaConfiguration(bootstrapServers: "127.0.0.1:1"), topics: ["t"], last: 3) { _, _ in }
        tail.close()
        tail.close()
    }
}

import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTestKit

@testable import Triage

@Suite("Following what became of dead letters", .timeLimit(.minutes(1)))
struct DeadLetterFollowerTests {
    private let broker = InMemoryBroker()
    private let topic = TopicName.deadLetterState

    private func read(_ follower: DeadLetterStateFollower) async throws -> DeadLetterChanges {
        try await withCheckedThrowingContinuation { continuation in
            follower.read { continuation.resume(with: $0) }
        }
    }

    private func put(_ key: String, _ value: ByteSlice?, in producer: any RecordProducer) throws {
        try producer.produce(OutboundRecord(topic: topic, partition: 0, key: ByteSlice(key), value: value, headers: [])) { _ in }
    }

    private func state(_ status: DeadLetterState.Status) -> ByteSlice {
        DeadLetterState(status, time: Timestamp(milliseconds: 1_700_000_000_000), by: "g").json
    }

    @Test("to the end at first, then what is new; without the topic nothing; a topic made anew is read anew")
    func following() async throws {
        let follower = DeadLetterStateFollower(broker.scanner())
        #expect(try await read(follower).exists == false)
        broker.createTopic(topic, partitions: 1)
        let empty = try await read(follower)
        #expect(empty.exists && empty.isAtEnd && empty.changes.isEmpty)
        let producer = broker.producer()
        try put("g/t.dlq/0/1", state(.open), in: producer)
        try put("g/t.dlq/0/2", state(.replayed), in: producer)
        let first = try await read(follower)
        #expect(first.changes.map(\.offset) == [0, 1] && first.position == 2 && first.isAtEnd && !first.startsOver)
        #expect(first.changes.map(\.state?.status) == [.open, .replayed])
        #expect(try await read(follower).changes.isEmpty)
        try put("g/t.dlq/0/1", nil, in: producer)
        let next = try await read(follower)
        #expect(next.changes.map(\.offset) == [2] && next.changes.first?.state == nil)
        await follower.close()
    }

    @Test("a long topic comes in parts")
    func parts() async throws {
        broker.createTopic(topic, partitions: 1)
        let producer = broker.producer()
        for offset in 0..<25 { try put("g/t.dlq/0/\(offset)", state(.discarded), in: producer) }
        let follower = DeadLetterStateFollower(broker.scanner(), part: 10)
        var counts: [Int] = []
        while counts.count < 10 {
            let changes = try await read(follower)
            counts.append(changes.changes.count)
            if changes.isAtEnd { break }
        }
        #expect(counts == [10, 10, 5])
    }

    @Test("the operators' leases and audits, and what nobody of ours wrote, are passed over")
    func others() async throws {
        broker.createTopic(topic, partitions: 1)
        let producer = broker.producer()
        try put("operator", ByteSlice("{}"), in: producer)
        try put("audit/6f2c1a34-0d5e-4b11-8f1a-2b7c9d3e4f50/t.dlq/0/1", ByteSlice("\u{0}"), in: producer)
        try put("g/t.dlq/0/1", ByteSlice("{"), in: producer)
        try put("g/t.dlq/0/1", ByteSlice(#"{"status":"gone"}"#), in: producer)
        try put("nonsense", state(.open), in: producer)
        let changes = try await read(DeadLetterStateFollower(broker.scanner()))
        #expect(changes.changes.isEmpty && changes.isAtEnd && changes.position == 5)
    }

    @Test("what a transaction has written that is still open is read when it has ended, with what came behind it")
    func transactions() async throws {
        broker.createTopic(topic, partitions: 1)
        let follower = DeadLetterStateFollower(broker.scanner())
        let transactions = broker.transactions(id: "x")
        try await transactions.initialise()
        try await transactions.begin()
        try put("g/t.dlq/0/1", state(.replayed), in: transactions)
        try put("g/t.dlq/0/2", state(.completed), in: broker.producer())
        #expect(try await read(follower).changes.isEmpty)
        try await transactions.commit()
        #expect(try await read(follower).changes.map(\.key.position.offset) == [1, 2])
        #expect(try await read(follower).changes.isEmpty)
    }

    @Test("an error is told, and reading goes on where it was")
    func errors() async throws {
        broker.createTopic(topic, partitions: 1)
        let follower = DeadLetterStateFollower(broker.scanner())
        try put("g/t.dlq/0/1", state(.open), in: broker.producer())
        broker.failInspections(with: BrokerError("_TRANSPORT", operation: "watermarks", isRetriable: true))
        await #expect(throws: BrokerError.self) { try await read(follower) }
        broker.failInspections(with: nil)
        #expect(try await read(follower).changes.count == 1)
    }
}

import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: the count of open dead letters")
struct DeadLetterGaugeTests {
    private func letter(_ topic: String, _ partition: Int32, group: String?) -> OutboundRecord {
        let headers = group.map { [Header("triage-group", text: $0)] } ?? []
        return OutboundRecord(
            topic: topic, partition: partition, key: ByteSlice("key"), value: ByteSlice("{}"), headers: Headers(headers))
    }

    @Test("after an import and a discard it is 0: neither markers nor other groups' dead letters nor aborted ones stay in it")
    func imported() async throws {
        let clock = ManualClock()
        let ticking = Ticking(clock)
        var bench = EngineBench(partitions: 2, clock: clock)
        bench.followsStates = true
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        let topic = bench.deadLetterTopic
        let transactions = bench.broker.transactions(id: "import")
        try await transactions.initialise()
        func write(_ records: [OutboundRecord], commits: Bool) async throws {
            try await transactions.begin()
            for record in records { try transactions.produce(record) { _ in } }
            if commits { try await transactions.commit() } else { try await transactions.abort() }
        }
        try await write([letter(topic, 0, group: "workers"), letter(topic, 1, group: nil)], commits: true)
        try await write([letter(topic, 0, group: "workers"), letter(topic, 1, group: "workers")], commits: false)
        try await write([letter(topic, 0, group: "others"), letter(topic, 0, group: "workers")], commits: true)
        #expect(bench.broker.end(of: TopicPartition(topic, 0)) == 7 && bench.broker.end(of: TopicPartition(topic, 1)) == 4)
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { _, _ in
        }
        func look() {
            ticking.tick()
            running.engine.look(by: bench.broker.inspector(), timeout: .seconds(1))
        }
        await eventually("three are open") {
            look()
            return bench.total(.deadLetterSize) == 3
        }
        for (partition, offset): (Int32, Int64) in [(0, 0), (0, 5), (1, 0)] {
            let key = DeadLetterKey(
                group: "workers", position: RecordPosition(topic: topic, partition: partition, offset: offset))
            try bench.put(
                DeadLetterState(.discarded, time: clock.now(), by: "somebody").json, key: ByteSlice(key.description),
                to: TopicName.deadLetterState, partition: 0)
        }
        await eventually("none is") {
            look()
            return bench.total(.deadLetterSize) == 0 && bench.hasPoints(.deadLetterSize)
        }
        #expect(bench.values(.deadLetterOldestAge) == [0])
        // Another import: what it brings is all that is open.
        try await write([letter(topic, 1, group: "workers")], commits: true)
        await eventually("one is") {
            look()
            return bench.total(.deadLetterSize) == 1
        }
        look()
        #expect(!running.engine.isLookDue)
        running.engine.stop()
        try await running.finished()
    }

    @Test("a partition that could never be read is left out; of those that fail no more than three are waited for at a look")
    func trouble() async throws {
        let bench = EngineBench(partitions: 6)
        for number: Int32 in 0..<6 { try bench.put(ByteSlice("x"), to: bench.deadLetterTopic, partition: number) }
        let error = BrokerError("_TIMED_OUT", operation: "read", isRetriable: true)
        for number: Int32 in 0..<4 {
            bench.broker.failInspections(of: TopicPartition(bench.deadLetterTopic, number), with: error)
        }
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { _, _ in
        }
        await eventually("assigned") { running.engine.assignedPartitions == 12 && running.engine.isLookDue }
        let inspector = bench.broker.inspector()
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(!bench.hasPoints(.deadLetterSize), "not all were looked at")
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(bench.total(.deadLetterSize) == 2, "those in trouble have gone behind the others")
        #expect(running.notices.value.filter { $0 == .backlogUnknown(error) }.count == 1)
        bench.broker.failInspections(of: TopicPartition(bench.deadLetterTopic, 2), with: nil)
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(bench.total(.deadLetterSize) == 3, "the one that has waited longest is asked first of them")
        running.engine.stop()
        try await running.finished()
    }
}

import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: produces and commits that fail", .timeLimit(.minutes(1)))
struct EngineProduceTests {
    @Test("a produce that fails never completes the offset, and is tried again until it is acknowledged")
    func failing() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<3 { try bench.put("p\(version)", version: version) }
        bench.broker.failNextProduces(12, with: BrokerError("NOT_ENOUGH_REPLICAS", operation: "produce", isRetriable: true))
        let summary = try await bench.run { event, context in
            if event.versionID == "0" { throw Persistent() }
            if event.versionID == "1", context.attempt < 3 { throw Transient() }
        }
        #expect(summary.produceFailures == 12)
        #expect(summary.deadLettered == 1)
        #expect(summary.retries == 2)
        #expect(summary.completed == 2)
        #expect(bench.deadLetters.count == 1)
        bench.expectAllCommitted()
    }

    @Test("a producer that can't go on ends the engine; what it couldn't write isn't committed")
    func fatal() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("bad", version: 0)
        bench.broker.failNextProduces(1000, with: BrokerError("_FATAL", operation: "produce", isFatal: true))
        let error = BrokerError("_FATAL", operation: "produce", isFatal: true)
        await #expect(throws: EngineError.broker(error)) { try await bench.run { _, _ in throw Persistent() } }
        #expect(bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 0)]?.offset == 0)
        #expect(bench.deadLetters.isEmpty)
    }

    @Test("an event that says no content type gets one on its way, one that can't be decoded doesn't")
    func contentType() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("bad", version: 0)
        _ = try await bench.run { _, _ in throw Persistent() }
        #expect(bench.deadLetters.first?.headers.text(HeaderName.contentType) == "application/fhir+json")
    }

    @Test("while a dead letter can't be written nothing behind it is committed, and its lane is occupied")
    func stuck() async throws {
        let bench = EngineBench(partitions: 2)
        try bench.put("bad", version: 0, partition: 0)
        try bench.put("good", version: 1, partition: 0)
        try bench.put("bad", version: 2, partition: 0)
        try bench.put("else", version: 3, partition: 1)
        bench.broker.setMaximumRecordSize(0)
        let journal = Journal()
        let running = bench.start { event, context in
            journal.note(event, context)
            if event.versionID == "0" { throw Persistent() }
        }
        let (first, second) = (TopicPartition(bench.topic, 0), TopicPartition(bench.topic, 1))
        await journal.entries.until { $0.contains { $0.key == "good" } }
        await running.notices.until { $0.filter { if case .produceFailed = $0 { true } else { false } }.count > 3 }
        await eventually("the other partition is committed") { bench.broker.committed(group: "workers")[second]?.offset == 1 }
        #expect(bench.broker.committed(group: "workers")[first]?.offset == 0)
        #expect(!journal.all.contains { $0.version == 2 })
        bench.broker.setMaximumRecordSize(1_000_000)
        let summary = try await running.finished()
        #expect(summary.completed == 3)
        #expect(journal.all.last?.version == 2)
        bench.expectAllCommitted()
    }

    @Test("a producer with room for one record holds nothing up for good", arguments: [1, 2])
    func queueFull(capacity: Int) async throws {
        let bench = EngineBench(partitions: 3, capacity: capacity)
        for version in 0..<60 { try bench.put("p\(version % 20)", version: version) }
        let summary = try await bench.run { event, context in
            await Task.yield()
            let version = event.versionID.flatMap { Int($0) } ?? 0
            if version % 3 == 0 { throw Persistent() }
            if context.attempt < 3 { throw Transient() }
        }
        #expect(summary.deadLettered == 20)
        #expect(summary.completed == 40)
        #expect(summary.retries == 80)
        #expect(bench.deadLetters.count == 20)
        #expect(bench.retries.count == 80 + summary.parked)
        bench.expectAllCommitted()
        #expect(bench.tracer.counts.live == 0)
    }

    @Test("a full queue with acknowledgements held: what waits for room is written once there is some, in order of giving up")
    func queueFullAndHeld() async throws {
        let bench = EngineBench(partitions: 1, capacity: 1)
        for version in 0..<8 { try bench.put("p\(version)", version: version) }
        bench.broker.holdAcknowledgements()
        let journal = Journal()
        let running = bench.start { event, context in
            journal.note(event, context)
            throw Persistent()
        }
        await journal.entries.until { $0.count == 8 }
        #expect(bench.deadLetters.count <= 1)
        bench.broker.releaseAcknowledgements()
        #expect(try await running.finished().deadLettered == 8)
        #expect(bench.deadLetters.map { $0.key?.utf8Text } == (0..<8).map { "p\($0)" })
        bench.expectAllCommitted()
    }

    @Test("nothing is committed before the acknowledgement, and the lane stays occupied until then")
    func heldAcknowledgements() async throws {
        let bench = EngineBench(partitions: 3)
        try bench.put("retried", version: 0, partition: 0)
        try bench.put("good", version: 1, partition: 0)
        try bench.put("dead", version: 2, partition: 1)
        try bench.put("witness", version: 3, partition: 2)
        bench.broker.holdAcknowledgements()
        let journal = Journal()
        let running = bench.start { event, context in
            journal.note(event, context)
            if event.versionID == "0", !context.isRetry { throw Transient() }
            if event.versionID == "2" { throw Persistent() }
        }
        await journal.entries.until { $0.count == 4 }
        await eventually("the other partition is committed") {
            bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 2)]?.offset == 1
        }
        // Both records are there already; only their acknowledgements are missing.
        #expect(bench.deadLetters.count == 1)
        #expect(bench.retries.count == 1)
        for partition in [Int32(0), 1] {
            #expect(bench.broker.committed(group: "workers")[TopicPartition(bench.topic, partition)]?.offset == 0)
        }
        #expect(journal.all.count == 4)
        bench.broker.releaseAcknowledgements()
        let summary = try await running.finished()
        #expect(summary.completed == 3)
        #expect(summary.deadLettered == 1)
        bench.expectAllCommitted()
    }

    @Test("commits that fail are tried again")
    func commitFailures() async throws {
        let bench = EngineBench(partitions: 2)
        for version in 0..<50 { try bench.put("p\(version)", version: version) }
        bench.broker.failNextCommits(4, with: BrokerError("REBALANCE_IN_PROGRESS", operation: "commit", isRetriable: true))
        let running = bench.start { _, _ in await Task.yield() }
        try await running.finished()
        // At the end of a run the last commit is waited for, yet not tried again: so at least the first ones came before it.
        let failed = running.notices.value.filter { if case .commitFailed = $0 { true } else { false } }.count
        #expect(failed >= 1)
        #expect(failed == bench.total(.commits, ["error.type": "REBALANCE_IN_PROGRESS"]))
        try await bench.run { _, _ in }
        bench.expectAllCommitted()
    }

    @Test("commits that fail while the engine goes on are tried again by itself")
    func commitFailuresWhileRunning() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p", version: 0)
        bench.broker.failNextCommits(7, with: BrokerError("COORDINATOR_NOT_AVAILABLE", operation: "commit", isRetriable: true))
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { _, _ in
        }
        await eventually("committed in the end") {
            bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 0)]?.offset == 1
        }
        #expect(running.notices.value.filter { if case .commitFailed = $0 { true } else { false } }.count == 7)
        running.engine.stop()
        try await running.finished()
        let commits = bench.recorder.spans.filter { $0.template.name == "commit" }
        #expect(commits.filter { $0.status != .unset }.count == 7)
    }
}

import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Replays of dead letters as the engine sees them: records that nobody of its own wrote, at the place of an event that is done.
@Suite("Engine: replays", .timeLimit(.minutes(1)))
struct EngineReplayTests {
    static let ids = [
        "6f2c1a34-0d5e-4b11-8f1a-2b7c9d3e4f50", "0b1de1c8-5a51-4c9a-9a52-9d1d0a3b6c77", "d2a7c1f0-93a0-4a7e-8c0e-5f44a1b2c3d4",
    ]
    private let bench = EngineBench(partitions: 1)
    private let main = TopicPartition(EngineBench.topic, 0)
    private let retry = TopicPartition(EngineBench.topic + ".retry", 0)

    private func mark(_ replay: Int?, letter: Int64 = 0) -> String? {
        replay.map { "\(EngineReplayTests.ids[$0]) \(bench.deadLetterTopic)/0/\(letter)" }
    }

    private func putReplay(
        _ version: Int, origin: Int64, replay: Int?, retries: Int = 0, writer: String? = nil, letter: Int64 = 0
    ) throws {
        var headers = [
            Header("triage-origin", text: "\(main)/\(origin)"), Header("retryCount", text: "\(retries)"),
            Header("triage-group", text: "workers"),
        ]
        if let mark = mark(replay, letter: letter) { headers.append(Header("triage-replay", text: mark)) }
        if let writer { headers.append(Header("triage-writer", text: writer)) }
        try bench.put(
            EngineBench.event("p", version: version), key: ByteSlice("p"), headers: Headers(headers), to: bench.retryTopic,
            partition: 0)
    }

    private func commit(_ offset: Int64, _ completed: [Range<Int64>] = []) throws {
        let consumer = bench.broker.consumer(group: "workers")
        let text = CommitMetadata(completed: completed).encoded(at: offset)
        try consumer.commitAndWait([OffsetCommit(main, offset: offset, metadata: text), OffsetCommit(retry, offset: 0)])
    }

    /// What was handled, as version and attempt, and that the engine came to its end with everything committed.
    private func handled(
        _ configure: (inout EngineConfiguration) -> Void = { _ in }, failing attempts: Int = 0
    ) async throws -> [[Int]] {
        let journal = Journal()
        try await bench.run(configure) { event, context in
            journal.note(event, context)
            await Task.yield()
            if context.attempt <= attempts { throw Transient() }
        }
        bench.expectAllCommitted()
        return journal.all.map { [$0.version, $0.attempt] }
    }

    /// The same of an engine that goes on until so much was handled, since records come while it is at work.
    private func handled(
        until count: Int, _ configure: (inout EngineConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (PatientEvent, HandlerContext) throws -> Void
    ) async throws -> [[Int]] {
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
            configure(&$0)
        } handler: { event, context in
            journal.note(event, context)
            try body(event, context)
        }
        await journal.entries.until { $0.count >= count }
        await eventually("everything is committed") { [bench, main, retry] in
            let committed = bench.broker.committed(group: "workers")
            return [main, retry].allSatisfy { committed[$0]?.offset == bench.broker.end(of: $0) }
        }
        running.engine.stop()
        try await running.finished()
        return journal.all.map { [$0.version, $0.attempt] }
    }

    @Test("two replays of one event in the queue are handled one after the other, each with its own retries", arguments: [0, 2])
    func twice(failures: Int) async throws {
        try bench.put("p", version: 0)
        try commit(1)
        try putReplay(1, origin: 0, replay: 0)
        try putReplay(2, origin: 0, replay: 1)
        try bench.put("p", version: 9)
        let attempts = Array(1...failures + 1)
        let expected = [1, 2, 9].flatMap { version in attempts.map { [version, $0] } }
        #expect(try await handled(failing: failures) == expected)
    }

    @Test("without an order two replays of one event hold nobody up and both end")
    func twiceWithoutOrder() async throws {
        try bench.put("p", version: 0)
        try commit(1)
        try putReplay(1, origin: 0, replay: 0)
        try putReplay(2, origin: 0, replay: 1)
        let all = try await handled({ $0.ordering = .none }, failing: 2)
        #expect(Set(all) == Set([1, 2].flatMap { version in (1...3).map { [version, $0] } }) && all.count == 6)
    }

    @Test("a replay that comes while a retry of the same event is open follows it")
    func besideRetry() async throws {
        try bench.put("p", version: 0)
        let all = try await handled(until: 6) { event, context in
            if event.versionID == "0", context.attempt == 1 { try self.putReplay(5, origin: 0, replay: 0) }
            if context.attempt < 3 { throw Transient() }
        }
        #expect(all == [[0, 1], [0, 2], [0, 3], [5, 1], [5, 2], [5, 3]])
    }

    @Test("copies that nothing tells apart don't hold their patient up for ever", arguments: EventOrdering.allCases)
    func alike(ordering: EventOrdering) async throws {
        try bench.put("p", version: 0)
        try commit(1)
        try bench.put("q", version: 7)
        let all = try await handled(until: 6, { $0.ordering = ordering }) { event, context in
            if event.versionID == "7", context.attempt == 1 {
                for version in [1, 2] { try self.putReplay(version, origin: 0, replay: nil) }
                try bench.put("p", version: 3)
            }
            if context.attempt < 2 { throw Transient() }
        }
        #expect(all.contains([3, 2]))
    }

    @Test("a replay whose origin main never had is handled: when main has nothing more to bring", arguments: [true, false])
    func beyondMain(isLive: Bool) async throws {
        try bench.put("p", version: 0)
        if !isLive { try putReplay(5, origin: 70, replay: 0) }
        let all = try await handled(until: 2) { event, _ in
            if isLive, event.versionID == "0" { try self.putReplay(5, origin: 70, replay: 0) }
        }
        #expect(Set(all) == [[0, 1], [5, 1]] && all.count == 2)
    }

    @Test("triage-replay is kept on the event's later retries and on its dead letter")
    func kept() async throws {
        try bench.put("p", version: 0)
        try commit(1)
        try putReplay(5, origin: 0, replay: 0)
        try await bench.run { _, _ in throw Transient() }
        #expect(bench.retries.count == 4)
        #expect(Set(bench.retries.map { $0.headers.text(HeaderName.replay) }) == [mark(0)])
        #expect(bench.deadLetters.map { $0.headers.text(HeaderName.replay) } == [mark(0)])
        #expect(bench.deadLetters.map { $0.headers.text(HeaderName.origin) } == ["\(main)/0"])
    }

    // MARK: After a crash

    @Test("main redelivers the event: its replay is handled all the same, after it, since it may say something else")
    func redeliveredBefore() async throws {
        try bench.put("p", version: 0)
        try commit(0)
        try putReplay(5, origin: 0, replay: 0)
        try putReplay(0, origin: 0, replay: nil, retries: 1, writer: "00000000000000aa")
        #expect(try await handled() == [[0, 1], [5, 1]])
    }

    @Test("main redelivers a replay that was written to it: the retry record of it is void, others of its origin aren't")
    func replayInMain() async throws {
        let headers = Headers([Header("triage-replay", text: mark(0) ?? "")])
        try bench.put("p", version: 5, headers: headers)
        try commit(0)
        try putReplay(5, origin: 0, replay: 0, retries: 1, writer: "00000000000000aa")
        try putReplay(6, origin: 0, replay: 1)
        #expect(try await handled() == [[5, 1], [6, 1]])
    }

    @Test("of one replay's records the one with the most retries counts, of two replays each has its own")
    func rebuilt() async throws {
        try bench.put("p", version: 0)
        try commit(1)
        try putReplay(1, origin: 0, replay: 0)
        try putReplay(2, origin: 0, replay: 1)
        try putReplay(1, origin: 0, replay: 0, retries: 2, writer: "00000000000000aa")
        let all = try await handled()
        #expect(all.count == 2 && Set(all) == [[1, 3], [2, 1]])
    }

    @Test("offsets that a commit calls complete and that don't exist any more are forgotten: what stands there later is handled")
    func truncated() async throws {
        for version in 0..<3 { try bench.put("p", version: version) }
        try commit(2, [3..<5])
        let all = try await handled(until: 4) { event, _ in
            if event.versionID == "2" { for version in 3..<6 { try bench.put("p", version: version) } }
        }
        #expect(all == [[2, 1], [3, 1], [4, 1], [5, 1]])
    }
}

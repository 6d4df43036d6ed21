import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// What the engine tells of replays in `triage.dead-letters`.
@Suite("Engine: outcomes of replays", .timeLimit(.minutes(1)))
struct EngineOutcomeTests {
    private let bench: EngineBench
    private let main = TopicPartition(EngineBench.topic, 0)
    private let retry = TopicPartition(EngineBench.topic + ".retry", 0)
    private let id = EngineReplayTests.ids[0]

    init() {
        var bench = EngineBench(partitions: 1)
        bench.followsStates = true
        self.bench = bench
    }

    private func letter(_ offset: Int64) -> RecordPosition {
        RecordPosition(topic: bench.deadLetterTopic, partition: 0, offset: offset)
    }

    /// What engines told.
    private var outcomes: [DeadLetterChanges.Change] { bench.states.filter { $0.state?.by == "workers" } }

    /// One event is dead-lettered and replayed to `target`.
    private func replay(to target: DeadLetterReplay.Target = .retry) async throws {
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        try bench.put("p", version: 0)
        try await bench.run { _, _ in throw Persistent() }
        try bench.replay(0, to: target)
        bench.recorder.removeAll()
    }

    @Test("a replay that is handled is told as completed, under its process", arguments: DeadLetterReplay.Target.allCases)
    func completed(target: DeadLetterReplay.Target) async throws {
        try await replay(to: target)
        let summary = try await bench.run { _, context in
            if context.attempt < 3 { throw Transient() }
        }
        #expect(summary.completed == 1)
        let all = outcomes
        let told = try #require(all.first)
        #expect(all.count == 1 && told.key.description == "workers/\(letter(0))")
        #expect(told.state?.status == .completed && told.state?.replay == id)
        // Who asked for it, when and why is what was said before, and so is which event it is, wherever its replay stood.
        let asked = try #require(bench.states.first?.state)
        #expect(asked.status == .replayed && told.state?.replayedBy == "ann" && told.state?.reason == "it is mended")
        #expect(told.state?.replayedAt == asked.time && told.state?.lane == DeadLetterState.lane(of: ByteSlice("p")))
        #expect(told.state?.origin == RecordPosition(topic: EngineBench.topic, partition: 0, offset: 0))
        #expect(told.state?.originTimestamp == asked.originTimestamp && asked.originTimestamp != nil)
        let record = try #require(bench.records(TopicName.deadLetterState).last)
        #expect(record.value?.utf8Text?.contains("\"p\"") == false)
        let send = try #require(bench.recorder.spans.first { $0.template.name == "send triage.dead-letters" })
        let process = try #require(bench.recorder.spans.last { $0.template.name.hasPrefix("process ") })
        #expect(send.parentSpanID == process.context.spanID && send.context.traceID == process.context.traceID)
        #expect(record.headers.text(HeaderName.traceparent)?.contains("\(send.context.spanID)") == true)
        bench.expectAllCommitted()
    }

    @Test(
        "a replay that fails again is told with the dead letter that it became, whose headers keep the replay",
        arguments: DeadLetterReplay.Target.allCases)
    func failedAgain(target: DeadLetterReplay.Target) async throws {
        try await replay(to: target)
        let summary = try await bench.run { _, _ in throw Transient() }
        #expect(summary.deadLettered == 1 && summary.retries == 3)
        #expect(bench.deadLetters.last?.headers.text(HeaderName.replay) == "\(id) \(letter(0))")
        let all = outcomes
        #expect(all.map(\.key.position) == [letter(0)])
        #expect(all.first?.state?.status == .failedAgain && all.first?.state?.successor == letter(1))
        #expect(all.first?.state?.replay == id && all.first?.state?.replayedBy == "ann")
        bench.expectAllCommitted()
    }

    @Test("what nobody replayed is told nowhere")
    func ordinary() async throws {
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        try bench.put("p", version: 0)
        try bench.put("q", version: 0)
        try await bench.run { event, _ in if event.resourceID == "p" { throw Persistent() } }
        #expect(bench.states.isEmpty && bench.deadLetters.count == 1)
    }

    @Test("a replay in a main topic that another group's dead letter was written for is that group's to tell of")
    func othersReplay() async throws {
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        let mark = Header("triage-replay", text: "\(id) \(letter(0))")
        try bench.put("p", version: 0, headers: Headers([mark, Header("triage-group", text: "others")]))
        #expect(try await bench.run { _, _ in }.completed == 1)
        #expect(bench.states.isEmpty)
        bench.expectAllCommitted()
    }

    @Test("the replay's offset is complete when its outcome is acknowledged, not before; its patient goes on meanwhile")
    func acknowledged() async throws {
        try await replay()
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { [bench] event, context in
            if event.versionID == "0" { bench.broker.holdAcknowledgements() }
            journal.note(event, context)
        }
        await eventually("it is told") { !self.outcomes.isEmpty }
        try bench.put("p", version: 1)
        await journal.entries.until { $0.count == 2 }
        await eventually("main is committed") { self.bench.broker.committed(group: "workers")[self.main]?.offset == 2 }
        #expect(bench.broker.committed(group: "workers")[retry]?.offset == 0)
        bench.broker.releaseAcknowledgements()
        await eventually("the replay is") { self.bench.broker.committed(group: "workers")[self.retry]?.offset == 1 }
        running.engine.stop()
        try await running.finished()
        #expect(journal.all.map(\.version) == [0, 1])
    }

    @Test("an outcome that fails to be written now is written later, and only then is the replay complete")
    func writtenLater() async throws {
        try await replay()
        bench.broker.failNextProduces(3, with: BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true))
        let summary = try await bench.run { _, _ in }
        #expect(summary.produceFailures == 3 && summary.completed == 1)
        #expect(outcomes.map(\.state?.status) == [.completed])
        bench.expectAllCommitted()
    }

    @Test("where the topic may not be written work goes on: one notice however many replays there are")
    func refused() async throws {
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        for patient in ["p", "q"] { try bench.put(patient, version: 0) }
        try await bench.run { _, _ in throw Persistent() }
        for offset in [0, 1] as [Int64] { try bench.replay(offset) }
        bench.broker.failNextProduces(2, with: BrokerError("TOPIC_AUTHORIZATION_FAILED", operation: "produce"))
        let running = bench.start { _, _ in }
        let summary = try await running.finished()
        #expect(summary.completed == 2)
        #expect(running.notices.value.count { if case .stateRefused = $0 { true } else { false } } == 1)
        bench.expectAllCommitted()
    }

    // MARK: The count

    @Test("open dead letters are those that nobody replayed, discarded or completed; the oldest of them gives the age")
    func openOnes() async throws {
        let clock = ManualClock()
        let ticking = Ticking(clock)
        var bench = EngineBench(partitions: 1, clock: clock)
        bench.followsStates = true
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        let topic = bench.deadLetterTopic
        func tell(_ offset: Int64, _ status: DeadLetterState.Status, group: String = "workers") throws {
            let key = DeadLetterKey(group: group, position: RecordPosition(topic: topic, partition: 0, offset: offset))
            try bench.put(
                DeadLetterState(status, time: clock.now(), by: "somebody").json, key: ByteSlice(key.description),
                to: TopicName.deadLetterState, partition: 0)
        }
        for _ in 0..<4 {
            try bench.put(ByteSlice("x"), to: topic, partition: 0)
            clock.advance(by: .seconds(1000))
        }
        try tell(0, .discarded)
        try tell(1, .replayed)
        try tell(1, .failedAgain)
        try tell(3, .completed)
        try tell(3, .open)
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { _, _ in
        }
        await eventually("looked at and followed") {
            ticking.tick()
            if running.engine.isLookDue { running.engine.look(by: bench.broker.inspector(), timeout: .seconds(1)) }
            return bench.total(.deadLetterSize) == 2 && !running.engine.isLookDue
        }
        // The third was written 2,000 s before the clock stood still.
        #expect(bench.values(.deadLetterOldestAge).allSatisfy { $0 >= 2000 && $0 < 3000 })
        try tell(2, .discarded, group: "others")
        try tell(3, .discarded)
        await eventually("none is open") {
            ticking.tick()
            return bench.total(.deadLetterSize) == 0 && bench.hasPoints(.deadLetterSize)
        }
        #expect(bench.values(.deadLetterOldestAge) == [0])
        // Another one comes, and one is opened again.
        try bench.put(ByteSlice("x"), to: topic, partition: 0)
        try tell(0, .open)
        await eventually("two are") {
            ticking.tick()
            running.engine.look(by: bench.broker.inspector(), timeout: .seconds(1))
            return bench.total(.deadLetterSize) == 2
        }
        running.engine.look(by: bench.broker.inspector(), timeout: .seconds(1))
        #expect(bench.values(.deadLetterOldestAge).allSatisfy { $0 >= 4000 })
        running.engine.stop()
        try await running.finished()
    }
}

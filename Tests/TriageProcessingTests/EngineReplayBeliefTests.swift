import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Who writes in `triage-replay` that an event is a replay isn't believed: only the states say what operators did.
@Suite("Engine: whether a replay is one", .timeLimit(.minutes(1)))
struct EngineReplayBeliefTests {
    private let bench: EngineBench
    private let main = TopicPartition(EngineBench.topic, 0)
    private let retry = TopicPartition(EngineBench.topic + ".retry", 0)
    private let ids = EngineReplayTests.ids

    init() {
        var bench = EngineBench(partitions: 1)
        bench.followsStates = true
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        self.bench = bench
    }

    private func letter(_ offset: Int64) -> RecordPosition {
        RecordPosition(topic: bench.deadLetterTopic, partition: 0, offset: offset)
    }
    /// What engines told: place and status of the dead letters, in order.
    private var told: [String] {
        bench.states.filter { $0.state?.by == "workers" }
            .map { "\($0.key.position.offset) \($0.state?.status.rawValue ?? "-")" }
    }

    /// Dead letters of these patients, in this order.
    private func fail(_ patients: String...) async throws {
        for patient in patients { try bench.put(patient, version: 0) }
        try await bench.run { _, _ in throw Persistent() }
        #expect(bench.deadLetters.count == patients.count)
    }

    /// An event of a patient that says which replay it is.
    private func forge(_ patient: String, _ id: String, _ letter: RecordPosition) throws {
        let mark = ReplayMark(id: id, deadLetter: letter)
        try bench.put(patient, version: 7, headers: Headers([Header("triage-replay", text: mark.description)]))
    }

    private func run(
        patience: Duration = .milliseconds(50), bound: Duration = .seconds(3600), in bench: EngineBench? = nil,
        handler: @escaping EventHandler = { _, _ in }
    ) async throws -> (summary: EngineSummary, unknown: [RecordPosition]) {
        let running = (bench ?? self.bench).start(
            prepare: {
                $0.replayPatience = patience
                $0.replayBound = bound
            }, handler: handler)
        let summary = try await running.finished()
        let unknown = running.notices.value.compactMap { notice -> RecordPosition? in
            if case .replayUnknown(let position, _) = notice { position } else { nil }
        }
        return (summary, unknown)
    }

    @Test(
        "an id that nobody replayed a dead letter with closes none, and is told of once; nor does it if it fails",
        arguments: [false, true])
    func forged(fails: Bool) async throws {
        try await fail("p")
        for id in ids { try forge("p", id, letter(0)) }
        let (summary, unknown) = try await run { _, _ in if fails { throw Persistent() } }
        #expect(summary.completed == (fails ? 0 : 3) && bench.deadLetters.count == (fails ? 4 : 1))
        #expect(bench.states.isEmpty && unknown == [RecordPosition(topic: EngineBench.topic, partition: 0, offset: 1)])
        bench.expectAllCommitted()
    }

    @Test("another id than the replay's that is under way closes nothing; the replay does, however often it is named before")
    func otherID() async throws {
        try await fail("p")
        try forge("p", ids[1], letter(0))
        try bench.replay(0)
        let (_, unknown) = try await run()
        #expect(told == ["0 completed"] && bench.states.last?.state?.replay == ids[0] && unknown.count == 1)
        bench.expectAllCommitted()
    }

    @Test("the id of a replay on another patient's event closes nothing, and isn't waited for")
    func otherLane() async throws {
        try await fail("p", "q")
        try bench.tellReplayed(0)
        try forge("q", ids[0], letter(0))
        // Of another dead letter, too.
        try forge("p", ids[0], letter(1))
        let running = bench.start(prepare: { $0.replayPatience = .milliseconds(50) }) { _, _ in }
        try await running.finished()
        #expect(told.isEmpty)
        try bench.replay(0, isTold: false)
        _ = try await run()
        #expect(told == ["0 completed"])
        bench.expectAllCommitted()
    }

    @Test(
        "a state that is read later than its replay was handled: the outcome is told then, and only then is the replay complete",
        arguments: [false, true])
    func stateComesLater(fails: Bool) async throws {
        try await fail("p")
        try bench.replay(0, isTold: false)
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
        } prepare: {
            // However long other tests keep the processors from this one.
            $0.replayPatience = .seconds(3600)
        } handler: { event, context in
            journal.note(event, context)
            if fails, event.versionID == "0" { throw Persistent() }
        }
        await journal.entries.until { $0.count == 1 }
        // Its patient goes on meanwhile.
        try bench.put("p", version: 1)
        await journal.entries.until { $0.count == 2 }
        await eventually("main is committed") { bench.broker.committed(group: "workers")[main]?.offset == 2 }
        await eventually("its dead letter stands") { bench.deadLetters.count == (fails ? 2 : 1) }
        #expect(told.isEmpty && bench.broker.committed(group: "workers")[retry]?.offset == 0)
        try bench.tellReplayed(0)
        await eventually("it is told") { told == [fails ? "0 failed_again" : "0 completed"] }
        await eventually("and complete") { bench.broker.committed(group: "workers")[retry]?.offset == 1 }
        running.engine.stop()
        try await running.finished()
        let state = try #require(bench.states.last?.state)
        #expect(state.successor == (fails ? letter(1) : nil) && state.replayedBy == "ann" && state.reason == "it is mended")
        #expect(journal.all.map(\.version) == [0, 1])
        bench.expectAllCommitted()
    }

    @Test("states that can't be read for longer than a mark is waited for: what they say afterwards is told")
    func unreadableForAWhile() async throws {
        try await fail("p")
        try bench.replay(0)
        bench.broker.failInspections(with: BrokerError("_TRANSPORT", operation: "watermarks", isRetriable: true))
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
        } prepare: {
            // Over as soon as it begins.
            $0.replayPatience = .zero
            $0.replayBound = .seconds(3600)
        } handler: { event, context in
            journal.note(event, context)
        }
        await journal.entries.until { $0.count == 1 }
        try bench.put("q", version: 1)
        await journal.entries.until { $0.count == 2 }
        await eventually("main is committed") { bench.broker.committed(group: "workers")[main]?.offset == 2 }
        #expect(told.isEmpty && bench.broker.committed(group: "workers")[retry]?.offset ?? 0 == 0)
        bench.broker.failInspections(with: nil)
        await eventually("it is told") { told == ["0 completed"] }
        running.engine.stop()
        try await running.finished()
        bench.expectAllCommitted()
    }

    @Test("a stop while a state is waited for ends in time and leaves the replay to the next run, which tells it")
    func stopped() async throws {
        try await fail("p")
        try bench.replay(0, isTold: false)
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.drainTimeout = .milliseconds(100)
        } prepare: {
            $0.replayPatience = .seconds(3600)
        } handler: { event, context in
            journal.note(event, context)
        }
        await journal.entries.until { $0.count == 1 }
        running.engine.stop()
        try await running.finished()
        #expect(told.isEmpty && bench.broker.committed(group: "workers")[retry]?.offset == 0)
        try bench.tellReplayed(0)
        #expect(try await run().summary.completed == 1)
        #expect(told == ["0 completed"])
        bench.expectAllCommitted()
    }

    @Test("nobody who reads the states, none there, or none that can be read: no outcome is told, and everything is done")
    func unreadable() async throws {
        try await fail("p")
        try bench.replay(0)
        bench.broker.failInspections(with: BrokerError("_TRANSPORT", operation: "watermarks", isRetriable: true))
        #expect(try await run(bound: .milliseconds(60)).unknown.count == 1)
        bench.broker.failInspections(with: nil)
        try bench.replay(0, id: ids[1])
        var deaf = bench
        deaf.followsStates = false
        #expect(try await run(patience: .seconds(100), in: deaf).unknown.count == 1)
        #expect(told.isEmpty)
        bench.expectAllCommitted()
    }

    @Test("a replay that was told and comes again after a crash is told no more, nor is it waited for")
    func redelivered() async throws {
        try await fail("p")
        try bench.replay(0)
        #expect(try await run().unknown.isEmpty)
        let consumer = bench.broker.consumer(group: "workers")
        try consumer.commitAndWait([OffsetCommit(main, offset: 1), OffsetCommit(retry, offset: 0)])
        let (summary, unknown) = try await run(patience: .seconds(100))
        #expect(summary.completed == 1 && unknown.isEmpty && told == ["0 completed"])
        bench.expectAllCommitted()
    }

    @Test("copies of a dead letter that were replayed with it are closed with it")
    func copies() async throws {
        try await fail("p")
        let consumer = bench.broker.consumer(group: "workers")
        try consumer.commitAndWait([OffsetCommit(main, offset: 0), OffsetCommit(retry, offset: 0)])
        try await bench.run { _, _ in throw Persistent() }
        #expect(Set(bench.deadLetters.map { DeadLetter($0).identity }).count == 1)
        try bench.replay(1, copies: [0])
        _ = try await run()
        #expect(told == ["1 completed", "0 completed"])
        bench.expectAllCommitted()
    }
}

import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// `dead-letters: sequence`: a patient waits behind its dead letter until an operator has decided about it.
@Suite("Engine: patients held behind dead letters", .timeLimit(.minutes(1)))
struct EngineSequenceTests {
    private let bench: EngineBench
    private let main = TopicPartition(EngineBench.topic, 0)
    private let retry = TopicPartition(EngineBench.topic + ".retry", 0)

    init() {
        var bench = EngineBench(partitions: 1)
        bench.followsStates = true
        bench.configuration.deadLetters = .sequence
        bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
        self.bench = bench
    }

    private func letter(_ offset: Int64) -> RecordPosition {
        RecordPosition(topic: bench.deadLetterTopic, partition: 0, offset: offset)
    }
    private var states: [DeadLetterChanges.Change] {
        bench.records(TopicName.deadLetterState).compactMap { BenchFeed.change($0) }
    }
    /// The status and place of each state, in order.
    private var told: [String] { states.map { "\($0.key.position.offset) \($0.state?.status.rawValue ?? "-")" } }

    private func tell(_ offset: Int64, _ status: DeadLetterState.Status, replay: Int? = nil) throws {
        let known = states.last { $0.key.position == letter(offset) }?.state
        try bench.put(
            DeadLetterState(
                status, time: bench.tracer.clock.now(), by: "an operator", replay: replay.map { EngineReplayTests.ids[$0] },
                origin: known?.origin, follows: known?.follows, lane: known?.lane
            ).json,
            key: ByteSlice("workers/\(letter(offset))"), to: TopicName.deadLetterState, partition: 0)
    }

    /// What the operator's tool writes, in its order.
    private func replay(
        _ offset: Int64, to target: DeadLetterReplay.Target = .retry, id: Int = 0, isTold: Bool = true
    ) throws {
        let dead = try #require(bench.deadLetters.first { $0.offset == offset })
        let record = try DeadLetterReplay(to: target, id: EngineReplayTests.ids[id]).outbound(dead, at: bench.tracer.clock.now())
        try bench.put(record.value, key: record.key, headers: record.headers, to: record.topic, partition: 0)
        if isTold { try tell(offset, .replayed, replay: id) }
    }

    /// Runs until all is done that can be; version 0 fails for good unless told otherwise.
    private func handled(isHealed: Bool = false) async throws -> [Int] {
        let journal = Journal()
        try await bench.run { event, context in
            journal.note(event, context)
            if !isHealed, event.versionID == "0" { throw Persistent() }
        }
        return journal.all.map(\.version)
    }

    @Test("its later events are parked and not handled, other patients' are; the run ends, and a restart changes nothing")
    func held() async throws {
        for version in 0..<3 { try bench.put("p", version: version) }
        try bench.put("q", version: 7)
        #expect(Set(try await handled()) == [0, 7])
        #expect(told == ["0 open"])
        let state = try #require(states.first?.state)
        #expect(state.origin == main.position(0) && state.lane == DeadLetterState.lane(of: ByteSlice("p")))
        #expect(bench.retries.map { $0.headers.text(HeaderName.parkedBehind) } == ["\(main)/0", "\(main)/0"])
        #expect(bench.broker.committed(group: "workers")[main]?.offset == 4)
        #expect(bench.broker.committed(group: "workers")[retry]?.offset == 0)
        // Nothing of it is handled by the next one either, and what comes then is parked too.
        try bench.put("p", version: 3)
        #expect(try await handled() == [])
        #expect(bench.retries.count == 3 && told == ["0 open"])
        // Nor by whoever comes when an operator has decided: then everything is, in order.
        try tell(0, .discarded)
        #expect(try await handled() == [1, 2, 3])
        bench.expectAllCommitted()
    }

    @Test("held before a restart is held after it, also when nothing was parked yet")
    func restart() async throws {
        try bench.put("p", version: 0)
        #expect(try await handled() == [0])
        bench.expectAllCommitted()
        try bench.put("p", version: 1)
        #expect(try await handled() == [])
        #expect(bench.retries.count == 1)
        try replay(0)
        #expect(try await handled(isHealed: true) == [0, 1])
        #expect(told == ["0 open", "0 replayed", "0 completed"])
        bench.expectAllCommitted()
    }

    @Test("a decision is acted upon while the engine is at work", arguments: [true, false])
    func whileRunning(isReplay: Bool) async throws {
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { event, context in
            journal.note(event, context)
            if event.versionID == "0", context.record.headers.last(HeaderName.replay) == nil { throw Persistent() }
        }
        for version in 0..<3 { try bench.put("p", version: version) }
        await eventually("they are parked") { bench.retries.count == 2 && told == ["0 open"] }
        try bench.put("q", version: 7)
        await journal.entries.until { $0.contains { $0.version == 7 } }
        #expect(journal.all.map(\.version) == [0, 7])
        if isReplay { try replay(0) } else { try tell(0, .discarded) }
        await journal.entries.until { $0.contains { $0.version == 2 } }
        #expect(journal.all.map(\.version) == (isReplay ? [0, 7, 0, 1, 2] : [0, 7, 1, 2]))
        await eventually("all is committed") {
            bench.broker.committed(group: "workers")[retry]?.offset == bench.broker.end(of: retry)
        }
        running.engine.stop()
        try await running.finished()
        // The bench writes a replay and its state one after the other, and yet nothing comes between.
        if isReplay { #expect(told == ["0 open", "0 replayed", "0 completed"]) }
    }

    @Test("a replay that fails again: the new dead letter holds, also while the replay is retried")
    func failsAgain() async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        #expect(try await handled() == [0])
        try replay(0)
        let journal = Journal()
        try await bench.run { event, context in
            journal.note(event, context)
            throw Transient()
        }
        #expect(journal.all.map { [$0.version, $0.attempt] } == [[0, 1], [0, 2], [0, 3], [0, 4]])
        #expect(told == ["0 open", "0 replayed", "1 open", "0 failed_again"])
        #expect(states.last?.state?.successor == letter(1))
        #expect(try await handled() == [])
        try replay(1, id: 1)
        #expect(try await handled(isHealed: true) == [0, 1])
        #expect(told.suffix(2) == ["1 replayed", "1 completed"])
        bench.expectAllCommitted()
    }

    @Test("a replay to the main topic doesn't wait for itself, and its retries take its event's place")
    func toOrigin() async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        #expect(try await handled() == [0])
        try replay(0, to: .origin)
        let journal = Journal()
        try await bench.run { event, context in
            journal.note(event, context)
            if context.attempt < 3, event.versionID == "0" { throw Transient() }
        }
        #expect(journal.all.map { [$0.version, $0.attempt] } == [[0, 1], [0, 2], [0, 3], [1, 1]])
        #expect(told == ["0 open", "0 replayed", "0 completed"])
        // Where the event was first delivered, not where its replay was.
        #expect(states.last?.state?.origin == main.position(0))
        bench.expectAllCommitted()
    }

    @Test("a replay to the main topic whose state is read late is parked behind its own event, and goes on when it is known")
    func toOriginLate() async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        #expect(try await handled() == [0])
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { event, context in
            journal.note(event, context)
        }
        try replay(0, to: .origin, isTold: false)
        await eventually("it is parked") {
            bench.retries.count == 2 && bench.retries.last?.headers.contains("triage-replay") == true
        }
        #expect(journal.all.isEmpty)
        try tell(0, .replayed, replay: 0)
        await journal.entries.until { $0.count == 2 }
        await eventually("all is committed") {
            bench.broker.committed(group: "workers")[retry]?.offset == bench.broker.end(of: retry)
        }
        running.engine.stop()
        try await running.finished()
        #expect(journal.all.map(\.version) == [0, 1])
        #expect(told == ["0 open", "0 replayed", "0 completed"])
    }

    @Test(
        "who only says that an event is the replay waits like all others of the patient",
        arguments: DeadLetterReplay.Target.allCases)
    func forged(target: DeadLetterReplay.Target) async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        #expect(try await handled() == [0])
        // Nobody has replayed it with this id, nor has it this place.
        let mark = ReplayMark(id: EngineReplayTests.ids[2], deadLetter: letter(0))
        if target == .origin {
            try bench.put("p", version: 5, headers: Headers([Header("triage-replay", text: mark.description)]))
        } else {
            let headers = ["triage-replay": mark.description, "triage-origin": "\(main)/9", "triage-group": "workers"]
            try bench.put(
                EngineBench.event("p", version: 5), key: ByteSlice("p"), headers: Headers(headers.map { Header($0, text: $1) }),
                to: bench.retryTopic, partition: 0)
        }
        #expect(try await handled() == [])
        #expect(told == ["0 open"])
        try tell(0, .discarded)
        let journal = Journal()
        let running = bench.start(prepare: { $0.replayPatience = .milliseconds(50) }) { event, context in
            journal.note(event, context)
        }
        try await running.finished()
        #expect(journal.all.map(\.version) == [1, 5] && told == ["0 open", "0 discarded"])
        bench.expectAllCommitted()
    }

    @Test("two heads one behind the other: each holds in its turn")
    func twoHeads() async throws {
        for version in 0..<3 { try bench.put("p", version: version) }
        func run() async throws -> [Int] {
            let journal = Journal()
            try await bench.run { event, context in
                journal.note(event, context)
                if event.versionID != "2" { throw Persistent() }
            }
            return journal.all.map(\.version)
        }
        #expect(try await run() == [0])
        try tell(0, .discarded)
        #expect(try await run() == [1])
        #expect(told == ["0 open", "0 discarded", "1 open"])
        try tell(1, .discarded)
        #expect(try await run() == [2])
        bench.expectAllCommitted()
    }

    @Test("main redelivers a head after a crash: handled well this time, it releases its patient")
    func redelivered() async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        #expect(try await handled() == [0])
        // The commit was lost, the dead letter and its state weren't.
        let consumer = bench.broker.consumer(group: "workers")
        try consumer.commitAndWait([OffsetCommit(main, offset: 0), OffsetCommit(retry, offset: 0)])
        #expect(try await handled(isHealed: true) == [0, 1])
        #expect(told == ["0 open", "0 completed"])
        bench.expectAllCommitted()
    }

    @Test("main redelivers a head after a crash, which fails again: the copy holds too, and both are settled together")
    func copies() async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        #expect(try await handled() == [0])
        let consumer = bench.broker.consumer(group: "workers")
        try consumer.commitAndWait([OffsetCommit(main, offset: 0), OffsetCommit(retry, offset: 0)])
        #expect(try await handled() == [0])
        #expect(told == ["0 open", "1 open"])
        try tell(0, .discarded)
        #expect(try await handled() == [1])
        bench.expectAllCommitted()
    }

    @Test("a second instance that takes the partition over holds the patient too")
    func rebalance() async throws {
        try bench.put("p", version: 0)
        let journal = Journal()
        let handler: EventHandler = { event, context in
            journal.note(event, context)
            if event.versionID == "0" { throw Persistent() }
        }
        let first = bench.start {
            $0.endsWhenIdle = false
        } handler: {
            try await handler($0, $1)
        }
        await eventually("it holds") { told == ["0 open"] }
        let second = bench.start {
            $0.endsWhenIdle = false
        } handler: {
            try await handler($0, $1)
        }
        first.engine.stop()
        try await first.finished()
        try bench.put("p", version: 1)
        try bench.put("q", version: 2)
        await journal.entries.until { $0.contains { $0.version == 2 } }
        await eventually("parked") { bench.retries.count == 1 }
        #expect(journal.all.map(\.version) == [0, 2])
        second.engine.stop()
        try await second.finished()
    }

    @Test("without the topic, or if nobody answers, the run ends with an error that names it", arguments: [true, false])
    func unreadable(isMissing: Bool) async throws {
        var bench = EngineBench(partitions: 1)
        bench.followsStates = true
        bench.configuration.deadLetters = .sequence
        bench.configuration.stateTimeout = .milliseconds(20)
        if !isMissing {
            bench.broker.createTopic(TopicName.deadLetterState, partitions: 1)
            bench.broker.failInspections(with: BrokerError("_TRANSPORT", operation: "watermarks", isRetriable: true))
        }
        try bench.put("p", version: 0)
        let running = bench.start { _, _ in Issue.record("handled") }
        let error = await #expect(throws: EngineError.self) { try await running.finished() }
        #expect(error?.description.contains("triage.dead-letters") == true)
        #expect(error?.description.contains("topics create") == true)
    }

    @Test("release, the default: nobody is held, and no state is written")
    func release() async throws {
        for version in 0..<2 { try bench.put("p", version: version) }
        let journal = Journal()
        try await bench.run {
            $0.deadLetters = .release
        } handler: { event, context in
            journal.note(event, context)
            if event.versionID == "0" { throw Persistent() }
        }
        #expect(journal.all.map(\.version) == [0, 1] && told.isEmpty)
        bench.expectAllCommitted()
    }
}

extension TopicPartition {
    fileprivate func position(_ offset: Int64) -> RecordPosition {
        RecordPosition(topic: topic, partition: partition, offset: offset)
    }
}

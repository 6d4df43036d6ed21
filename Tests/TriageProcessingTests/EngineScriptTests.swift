import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// The engine on the test's own thread, with a client that follows a script; handlers here never suspend for long.
@Suite("Engine: what clients do", .timeLimit(.minutes(1)))
struct EngineScriptTests {
    private let main = Script.main
    private let retry = Script.retry
    private let bench = EngineBench(partitions: 1)

    private func with(_ change: (inout EngineConfiguration) -> Void) -> EngineConfiguration {
        var configuration = bench.configuration
        change(&configuration)
        return configuration
    }

    private func makeEngine(
        _ consumer: ScriptedConsumer, _ configuration: EngineConfiguration? = nil, on other: EngineBench? = nil,
        notices: Watched<[EngineNotice]> = Watched([]), handler: @escaping EventHandler = { _, _ in }
    ) -> Engine {
        let bench = other ?? bench
        return Engine(
            configuration ?? bench.configuration, consumer: consumer, sink: bench.sink, tracer: bench.tracer, meter: bench.meter,
            log: { notice in notices.change { $0.append(notice) } }, handler: handler
        )
    }

    @Test("an eager rebalance takes everything away first: that isn't the end")
    func eagerRebalance() throws {
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0, 1]), Script.revoke(), Script.nothing, Script.nothing, Script.assign(),
            Script.records([2, 3]), Script.ends([main: 4, retry: 0]),
        ])
        consumer.committedOffsets = [:]
        let journal = Journal()
        let engine = makeEngine(consumer) { journal.note($0, $1) }
        try engine.run()
        #expect(journal.all.map(\.version) == [0, 1, 2, 3])
        #expect(engine.summary.completed == 4)
    }

    @Test("before the first assignment there is no end either")
    func beforeAssignment() throws {
        let consumer = ScriptedConsumer([
            Script.nothing, Script.nothing, Script.assign(), Script.records([0]), Script.ends([main: 1, retry: 0]),
        ])
        let engine = makeEngine(consumer)
        #expect(engine.assignedPartitions == nil)
        #expect(engine.lastPoll == nil)
        try engine.run()
        #expect(engine.summary.completed == 1)
        #expect(engine.assignedPartitions == 2)
        #expect(engine.lastPoll != nil)
    }

    @Test("an end that is reported before what was written meanwhile has been read isn't believed")
    func staleEnd() throws {
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0]), Script.ends([main: 1, retry: 0]), Script.nothing, Script.nothing,
            Script.records([0], of: retry, key: "p0", headers: ["retryCount": "1"].headers), Script.ends([retry: 1]),
        ])
        let engine = makeEngine(consumer) { _, context in
            if !context.isRetry { throw Transient() }
        }
        try engine.run()
        #expect(engine.summary.completed == 1)
        #expect(engine.summary.retries == 1)
    }

    @Test("records of partitions that aren't assigned are left alone, and so are their ends and answers")
    func strangers() throws {
        let other = TopicPartition("fhir.Patient", 9)
        let consumer = ScriptedConsumer([
            Script.records([0]), Script.assign(), Script.records([7, 8], of: other), Script.ends([other: 9]), Script.records([0]),
            { batch, _, _ in batch.commits.append(([OffsetCommit(other, offset: 3)], nil)) }, Script.ends([main: 1, retry: 0]),
        ])
        let engine = makeEngine(consumer)
        try engine.run()
        #expect(engine.summary.completed == 1)
        #expect(!consumer.commits.contains { $0.topicPartition == other })
    }

    @Test("an offset that comes twice is handled once")
    func duplicates() throws {
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0, 1]), Script.records([0, 1, 2]), Script.records([1]),
            Script.ends([main: 3, retry: 0]),
        ])
        let journal = Journal()
        let engine = makeEngine(consumer) { journal.note($0, $1) }
        try engine.run()
        #expect(journal.all.map(\.version) == [0, 1, 2])
        #expect(engine.summary.duplicates == 3)
        #expect(consumer.commits.filter { $0.topicPartition == main }.map(\.offset).max() == 3)
    }

    @Test("a leader that moves while partitions are assigned is waited for")
    func leaderless() throws {
        let consumer = ScriptedConsumer([Script.assign(), Script.records([0, 1]), Script.ends([main: 2, retry: 0])])
        consumer.leaderless = 4
        let notices = Watched<[EngineNotice]>([])
        let engine = makeEngine(consumer, notices: notices)
        try engine.run()
        #expect(engine.summary.completed == 2)
        #expect(notices.value.filter { if case .clientError = $0 { true } else { false } }.count == 4)
    }

    @Test("a fatal error ends the run; what was handled before is committed, what came with it isn't begun")
    func fatal() {
        let error = BrokerError("_FATAL", operation: "consume", isFatal: true)
        let notices = Watched<[EngineNotice]>([])
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0, 1]),
            Script.error(BrokerError("_ALL_BROKERS_DOWN", operation: "x", isRetriable: true)),
            Script.error(error), Script.records([2]),
        ])
        let journal = Journal()
        let engine = makeEngine(consumer, notices: notices) { journal.note($0, $1) }
        #expect(throws: EngineError.broker(error)) { try engine.run() }
        #expect(journal.all.map(\.version) == [0, 1])
        #expect(consumer.commits.filter { $0.topicPartition == main }.map(\.offset).max() == 2)
        #expect(notices.value.contains(.clientError(error)))
        #expect(notices.value.filter { if case .clientError = $0 { true } else { false } }.count == 2)
    }

    @Test("lost partitions are dropped without a commit; what waits of them is never handed over")
    func lost() throws {
        let clock = ManualClock()
        let bench = EngineBench(partitions: 1, clock: clock)
        let due = "\(clock.now().milliseconds + 20)"
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0], of: retry, headers: ["triage-due-at": due].headers), Script.lose(),
            Script.assign(), Script.advance(clock, by: .seconds(1)),
            Script.ends([main: 0, retry: 0]),
        ])
        consumer.committedOffsets = [main: 0, retry: 0]
        let journal = Journal()
        let notices = Watched<[EngineNotice]>([])
        let engine = makeEngine(consumer, on: bench, notices: notices) { journal.note($0, $1) }
        try engine.run()
        #expect(journal.all.isEmpty)
        #expect(notices.value.contains(.lost(2)))
        #expect(!consumer.commits.contains { $0.offset > 0 })
        #expect(engine.waiting.count == 0)
        #expect(engine.load == IntakeControl.Load())
    }

    @Test("revoked while retries wait: they are left to whoever comes next, and nothing of them stays")
    func waitingRevoked() throws {
        let due = "\(bench.tracer.clock.now().milliseconds + 3_600_000)"
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0, 1, 2], of: retry, headers: ["triage-due-at": due].headers), Script.revoke(),
            Script.assign(), Script.ends([main: 0, retry: 0]),
        ])
        consumer.committedOffsets = [main: 0, retry: 0]
        let notices = Watched<[EngineNotice]>([])
        let engine = makeEngine(consumer, notices: notices)
        try engine.run()
        #expect(engine.summary.consumed == 0)
        #expect(notices.value.contains(.revoked(2, abandoned: 3)))
        #expect(engine.load == IntakeControl.Load())
        #expect(!consumer.commits.contains { $0.offset > 0 })
    }

    @Test("a pause that the client refuses is asked for again")
    func refusedPause() throws {
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records(Array(0..<5), key: "one"), Script.nothing, Script.nothing,
            Script.ends([main: 5, retry: 0]),
        ])
        consumer.refusals = 2
        let engine = makeEngine(consumer, with { $0.maximumInFlight = 2 }) { _, _ in
            // Longer than a turn, so that the loop balances intake in between.
            let end = ContinuousClock.now + .milliseconds(110)
            while ContinuousClock.now < end {}
        }
        try engine.run()
        #expect(engine.summary.completed == 5)
        #expect(consumer.log.contains("pause fhir.Patient/0 fhir.Patient.retry/0"))
        #expect(consumer.log.contains("resume fhir.Patient/0 fhir.Patient.retry/0"))
    }

    @Test("a produce of a partition that is taken away is forgotten, its late answer ignored, the memory freed")
    func revokedSend() throws {
        let bench = bench
        bench.broker.holdAcknowledgements()
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records([0]), Script.nothing, Script.revoke(),
            { _, _, _ in bench.broker.releaseAcknowledgements() }, Script.assign(), Script.records([0]), Script.nothing,
            Script.ends([main: 1, retry: 0]),
        ])
        consumer.committedOffsets = [main: 0, retry: 0]
        let engine = makeEngine(consumer, with { $0.revocationTimeout = .milliseconds(1) }) { _, _ in throw Persistent() }
        try engine.run()
        #expect(engine.sends.isEmpty)
        #expect(engine.unsent.isEmpty)
        #expect(engine.resends.count == 0)
        #expect(engine.lanes.activeKeys == 0)
        #expect(engine.load.bytes == 0)
        #expect(engine.summary.deadLettered == 1)
        #expect(bench.total(.deliveries, ["triage.outcome": "abandoned"]) == 1)
        #expect(bench.total(.deliveries) == engine.summary.consumed)
        #expect(bench.deadLetters.count == 2)
        #expect(consumer.commits.filter { $0.topicPartition == main }.map(\.offset) == [0, 0, 0, 1, 1])
    }

    @Test("after any run nothing is held: lanes, sends, waiting records, bytes")
    func memory() throws {
        let consumer = ScriptedConsumer([
            Script.assign(), Script.records(Array(0..<50)), Script.records(Array(50..<60), key: "same"), Script.ends([main: 60]),
            Script.records(Array(0..<20), of: retry, headers: ["retryCount": "3", "triage-group": "workers"].headers),
            Script.records([20], of: retry, headers: ["triage-group": "others"].headers), Script.ends([retry: 70]),
        ])
        let engine = makeEngine(consumer) { event, context in
            if context.isRetry { throw Unexpected() }
            if event.versionID == "7" { throw Persistent() }
        }
        try engine.run()
        #expect(engine.summary.completed == 59)
        #expect(engine.summary.deadLettered == 21)
        #expect(engine.summary.skipped == 1)
        #expect(engine.lanes.activeKeys == 0)
        #expect(engine.lanes.waiting == 0)
        #expect(engine.sends.isEmpty)
        #expect(engine.waiting.count == 0)
        #expect(engine.load.bytes == 0)
        #expect(engine.load.waitingBytes == 0)
        #expect(consumer.commits.last { $0.topicPartition == retry }?.offset == 70)
        #expect(bench.tracer.counts.live == 0)
    }

    @Test("a process may make any number of engines, tracers and generators: thread-specific keys are few")
    func manyEngines() {
        var ids: Set<SpanID> = []
        for number in UInt64(0)..<1500 {
            let generator = IDGenerator(seed: number)
            let again = IDGenerator(seed: number)
            #expect(generator.traceID() == again.traceID())
            ids.insert(Tracer(clock: ManualClock(), processors: []).start(template, parent: nil, at: start).context.spanID)
            _ = makeEngine(ScriptedConsumer([]))
        }
        #expect(ids.count == 1500)
    }

    private let template = SpanTemplate(name: "t", kind: .internal, attributes: [], packed: ByteSlice(""))
    private let start = Timestamp(milliseconds: 0)
}

import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// What a handler calls, and whether it is there.
private final class Service: Sendable {
    struct State {
        var isDown = true
        var calls = 0
        /// Calls from this on are answered.
        var recoversAt = Int.max
        var poison: Set<String> = []
    }
    let state: Watched<State>
    let journal = Journal()

    init(recoversAt: Int = .max, poison: Set<String> = []) {
        state = Watched(State(recoversAt: recoversAt, poison: poison))
    }

    func call(_ event: PatientEvent, _ context: HandlerContext) throws {
        state.change { state in
            state.calls += 1
            if state.calls >= state.recoversAt { state.isDown = false }
        }
        if state.value.isDown { throw Transient() }
        if state.value.poison.contains(context.record.key?.utf8Text ?? "") { throw Unexpected() }
        journal.note(event, context)
    }

    func recover() { state.change { $0.isDown = false } }
}

/// A clock that moves with each reading: time passes as fast as the loop turns.
private final class HurryingClock: EventClock {
    private let time = Atomic<Int64>(1_700_000_000_000_000_000)
    private let step = Atomic<Int64>(1_000_000)
    func hurry(_ step: Duration) { self.step.store(step.wholeNanoseconds, ordering: .relaxed) }
    func now() -> Timestamp {
        Timestamp(nanoseconds: time.wrappingAdd(step.load(ordering: .relaxed), ordering: .relaxed).newValue)
    }
}

@Suite("Engine: outage", .timeLimit(.minutes(1)))
struct EngineOutageTests {
    private let quick = OutagePolicy(
        failuresInRow: 5, failureRatio: 0, probeDelay: .milliseconds(1), maximumProbeDelay: .milliseconds(3))

    private func closings(_ running: RunningEngine) -> Int {
        running.notices.value.count { if case .gateClosed = $0 { true } else { false } }
    }

    @Test("the handler's service is away for a while: no dead letter, nothing charged after closing, order kept, all done")
    func outage() async throws {
        let bench = EngineBench(partitions: 3)
        for version in 0..<4 {
            for number in 0..<30 { try bench.put("p\(number)", version: version) }
        }
        let service = Service(recoversAt: 60)
        let running = bench.start {
            $0.outage = quick
        } handler: {
            try service.call($0, $1)
        }
        let summary = try await running.finished()
        #expect(bench.deadLetters.isEmpty)
        #expect(summary.completed == 120)
        // The handler never suspends, so no more than one is in flight: four failed before the fifth closed the gate.
        let failed = bench.retries.filter { $0.headers.text(HeaderName.error) != nil }
        #expect(failed.count == 4 && summary.retries == 4 && bench.retries.count == 4 + summary.parked)
        #expect(summary.deferred == 59 - 4)
        #expect(closings(running) == 1)
        #expect(running.notices.value.count { if case .gateOpened = $0 { true } else { false } } == 1)
        for (key, versions) in service.journal.byKey { #expect(versions == [0, 1, 2, 3], "\(key)") }
        let charged = Set(failed.map { EventHistory(of: $0).origin })
        #expect(service.journal.all.allSatisfy { $0.attempt == (charged.contains($0.origin) ? 2 : 1) })
        bench.expectAllCommitted()
        #expect(bench.total(.deliveries, ["triage.outcome": "deferred"]) == summary.deferred)
        #expect(bench.total(.deliveries) == summary.consumed && bench.total(.processDuration) == summary.consumed)
        #expect(bench.total(.gateState, ["triage.gate.state": "open"]) == 1 && bench.total(.gateState) == 1)
        // The four waited for the outage's end, and say so once each; so may those that were parked behind them.
        #expect(bench.total(.retryWaitDuration, ["triage.wait.reason": "outage"]) >= 4)
        #expect(bench.total(.retryWaitDuration) == bench.retries.count)
        #expect(bench.total(.recordsInFlight) == 0 && bench.total(.retryWaiting) == 0)
    }

    @Test("each step of it is a span: deferred with its error, one event for each change, links from attempt to attempt")
    func spans() async throws {
        let bench = EngineBench(partitions: 1)
        for number in 0..<10 { try bench.put("p\(number)", version: 0) }
        let service = Service(recoversAt: 12)
        let summary = try await bench.run {
            $0.outage = quick
        } handler: {
            try service.call($0, $1)
        }
        let processes = bench.recorder.spans.filter { $0.template.name.hasPrefix("process ") }
        #expect(processes.count == summary.consumed)
        func has(_ span: SpanData, _ outcome: String) -> Bool {
            span.attributes.contains { $0.key == "triage.outcome" && "\($0.value)".contains(outcome) }
        }
        let deferred = processes.filter { has($0, "deferred") }
        #expect(deferred.count == summary.deferred && summary.deferred == 11 - 4)
        #expect(deferred.allSatisfy { if case .error = $0.status { true } else { false } })
        let events = processes.flatMap { span in span.events.map { ($0.name.description, span) } }
        #expect(events.count { $0.0 == "triage.gate.closed" } == 1 && events.count { $0.0 == "triage.gate.opened" } == 1)
        #expect(events.first { $0.0 == "triage.gate.closed" }.map { has($0.1, "deferred") } == true)
        #expect(events.first { $0.0 == "triage.gate.opened" }.map { has($0.1, "completed") } == true)
        // Each deferred attempt is what exactly one later attempt and its process link to.
        let attempts = bench.recorder.spans.filter { $0.template.name == "attempt" }
        for span in deferred {
            let attempt = try #require(attempts.first { $0.parentSpanID == span.context.spanID })
            #expect(attempts.count { $0.links.contains { $0.context.spanID == attempt.context.spanID } } == 1)
            #expect(processes.count { $0.links.contains { $0.context.spanID == attempt.context.spanID } } == 1)
        }
        // Each retry record has one wait, however often it was deferred.
        #expect(bench.recorder.spans.count { $0.template.name.hasPrefix("wait ") } == summary.retries)
    }

    @Test("five minutes by the clock, default settings, every strategy: zero dead letters, at most the threshold is charged")
    func fiveMinutes() async throws {
        let clock = HurryingClock()
        let bench = EngineBench(partitions: 3, clock: clock)
        for number in 0..<150 { try bench.put("p\(number)", version: 0) }
        let end = clock.now() + .seconds(300)
        let running = bench.start {
            $0.retry = RetryPolicy()
            $0.outage = OutagePolicy()
            $0.attemptTimeout = nil
        } handler: { _, _ in
            if clock.now() < end { throw Transient() }
        }
        // A millisecond for each reading until it closes, then a second: its five minutes pass in no time.
        await running.notices.until { $0.contains { if case .gateClosed = $0 { true } else { false } } }
        clock.hurry(.seconds(1))
        let summary = try await running.finished()
        #expect(bench.deadLetters.isEmpty && summary.completed == 150)
        #expect(bench.retries.count < 20)
        #expect(closings(running) == 1)
        // Probes were few: their delays grow.
        #expect(summary.deferred < 25)
    }

    @Test("tries in place stop with the gate, and what was charged before it counts after it")
    func immediate() async throws {
        let bench = EngineBench(partitions: 1)
        for key in ["a", "b"] { try bench.put(key, version: 0) }
        let turnstile = Turnstile()
        let isDown = Mutex(true)
        let attempts = Mutex<[String: [Int]]>([:])
        let running = bench.start {
            $0.retry = RetryPolicy(.immediate, retries: 2)
            $0.outage = OutagePolicy(
                failuresInRow: 2, failureRatio: 0, probeDelay: .milliseconds(1), maximumProbeDelay: .milliseconds(1))
        } handler: { event, context in
            let key = event.resourceID ?? ""
            attempts.withLock { $0[key, default: []].append(context.attempt) }
            if key == "a", context.attempt == 1 { throw Transient() }
            await turnstile.enter(key)
            if isDown.withLock({ $0 }) { throw Transient() }
        }
        // a was charged once and is at its second attempt, b at its first: b's failure makes the row.
        _ = await turnstile.arrivals(2)
        turnstile.release("b")
        turnstile.release("a")
        await eventually("both are deferred") { bench.total(.deliveries, ["triage.outcome": "deferred"]) == 2 }
        isDown.withLock { $0 = false }
        turnstile.open()
        let summary = try await running.finished()
        #expect(summary.completed == 2 && summary.deadLettered == 0)
        #expect(attempts.withLock { $0 } == ["a": [1, 2, 2], "b": [1, 1]])
    }

    @Test("an event that fails alone doesn't close the gate, however often it is tried: it is dead-lettered")
    func poison() async throws {
        let bench = EngineBench(partitions: 2)
        for version in 0..<20 {
            try bench.put("poisoned", version: version)
            try bench.put("p\(version)", version: version)
        }
        let service = Service(poison: ["poisoned"])
        service.recover()
        let running = bench.start {
            $0.outage = OutagePolicy(failuresInRow: 2, failureRatio: 0.5, minimumAttempts: 10)
        } handler: {
            try service.call($0, $1)
        }
        let summary = try await running.finished()
        #expect(summary.completed == 20 && summary.deadLettered == 20 && summary.deferred == 0)
        #expect(closings(running) == 0)
    }

    @Test("persistent failures are dead-lettered at once, during an outage too")
    func persistent() async throws {
        let bench = EngineBench(partitions: 2)
        for number in 0..<20 { try bench.put("p\(number)", version: 0) }
        for number in 0..<6 { try bench.put(ByteSlice("{"), key: ByteSlice("bad\(number)")) }
        let service = Service(recoversAt: 30)
        let running = bench.start {
            $0.outage = quick
        } handler: { event, context in
            if ["p3", "p11"].contains(event.resourceID) { throw Persistent() }
            try service.call(event, context)
        }
        let summary = try await running.finished()
        #expect(summary.completed == 18 && summary.deadLettered == 8)
        #expect(closings(running) == 1)
        bench.expectAllCommitted()
    }

    @Test("events that always fail, more than make a row, don't keep others waiting for ever")
    func poisonInARow() async throws {
        let bench = EngineBench(partitions: 2)
        for number in 0..<12 { try bench.put("bad\(number)", version: 0, partition: 0) }
        let service = Service(poison: Set((0..<12).map { "bad\($0)" }))
        service.recover()
        let running = bench.start {
            $0.outage = quick
            $0.endsWhenIdle = false
        } handler: {
            try service.call($0, $1)
        }
        await running.notices.until { $0.contains { if case .gateClosed = $0 { true } else { false } } }
        // What comes now is fetched all the same, to probe with, and opens the gate.
        for number in 0..<40 { try bench.put("p\(number)", version: 0, partition: Int32(number % 2)) }
        await service.journal.entries.until { $0.count == 40 }
        running.engine.stop()
        let summary = try await running.finished()
        #expect(summary.completed == 40)
        #expect(Set(service.journal.all.map(\.key)).count == 40)
    }

    @Test("a stop while the gate is closed ends at once and loses nothing: the next run goes on")
    func stop() async throws {
        let bench = EngineBench(partitions: 2)
        for number in 0..<50 { try bench.put("p\(number)", version: 0) }
        let service = Service()
        let running = bench.start {
            $0.outage = OutagePolicy(failuresInRow: 5, probeDelay: .seconds(3600), maximumProbeDelay: .seconds(3600))
            $0.drainTimeout = .seconds(3600)
        } handler: {
            try service.call($0, $1)
        }
        await service.state.until { $0.calls == 5 }
        await eventually("closed, all partitions paused") {
            bench.total(.gateState, ["triage.gate.state": "open"]) == 0 && bench.total(.partitionsPaused) == 4
        }
        running.engine.stop()
        var summary = try await running.finished()
        #expect(summary.completed == 0 && bench.deadLetters.isEmpty)
        service.recover()
        summary = try await bench.run {
            $0.outage = quick
        } handler: {
            try service.call($0, $1)
        }
        #expect(summary.completed == 50 && bench.deadLetters.isEmpty)
        #expect(Set(service.journal.all.map(\.key)).count == 50)
        bench.expectAllCommitted()
    }

    @Test("a rebalance while the gate is closed loses nothing and doubles nothing")
    func rebalance() async throws {
        let bench = EngineBench(partitions: 4)
        for version in 0..<2 {
            for number in 0..<40 { try bench.put("p\(number)", version: version) }
        }
        let service = Service()
        let handler: EventHandler = { try service.call($0, $1) }
        let first = bench.start(
            {
                $0.outage = quick
                $0.endsWhenIdle = false
            }, handler: handler)
        await service.state.until { $0.calls > 15 }
        let second = bench.start(
            {
                $0.outage = quick
                $0.endsWhenIdle = false
            }, handler: handler)
        await second.notices.until { $0.contains { if case .gateClosed = $0 { true } else { false } } }
        service.recover()
        await service.journal.entries.until { $0.count >= 80 }
        await eventually("all is committed") {
            [bench.topic, bench.retryTopic].allSatisfy { topic in
                (0..<4).allSatisfy { number in
                    let id = TopicPartition(topic, Int32(number))
                    return bench.broker.committed(group: "workers")[id]?.offset == bench.broker.end(of: id)
                }
            }
        }
        for running in [first, second] {
            running.engine.stop()
            try await running.finished()
        }
        #expect(bench.deadLetters.isEmpty)
        #expect(service.journal.all.count == 80)
        #expect(Set(service.journal.all.map(\.origin)).count == 80)
    }

    @Test("handlers that are at work when it closes are deferred, too, and a probe that never comes back holds up nobody")
    func inFlight() async throws {
        let bench = EngineBench(partitions: 2)
        for number in 0..<12 { try bench.put("p\(number)", version: 0) }
        let turnstile = Turnstile()
        let isDown = Mutex(true)
        let running = bench.start {
            $0.outage = quick
            $0.concurrency = 12
        } handler: { _, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
            if isDown.withLock({ $0 }) { throw Transient() }
        }
        // All twelve are in flight, then fail: five make the row, of which four are charged; eight are deferred.
        let arrived = await turnstile.arrivals(12)
        for name in arrived { turnstile.release(name) }
        // Whatever comes now is a probe: one at a time.
        _ = await turnstile.arrivals(13)
        #expect(turnstile.state.value.inside.count == 1)
        await eventually("four retries") { bench.retries.count == 4 }
        isDown.withLock { $0 = false }
        turnstile.open()
        let summary = try await running.finished()
        #expect(summary.completed == 12 && summary.deadLettered == 0)
        #expect(summary.retries == 4 && summary.deferred == 8)
    }

    @Test("a run that ends when all is done gives up what always fails, more patients than make a row, once nothing else is left")
    func poisonAtTheEnd() async throws {
        let clock = HurryingClock()
        // So that the last success is long ago when only retries are left.
        clock.hurry(.milliseconds(50))
        let bench = EngineBench(partitions: 2, clock: clock)
        for number in 0..<400 { try bench.put("p\(number)", version: 0) }
        let service = Service(poison: Set((0..<40).map { "p\($0 * 10)" }))
        service.recover()
        let running = bench.start {
            $0.outage = OutagePolicy()
            $0.attemptTimeout = nil
        } handler: {
            try service.call($0, $1)
        }
        let summary = try await running.finished()
        #expect(summary.completed == 360 && summary.deadLettered == 40 && closings(running) == 0)
    }

    @Test(
        "a closed gate doesn't hold up a revocation: what it keeps is handed over at once",
        arguments: InMemoryBroker.Rebalancing.allCases)
    func revocation(rebalancing: InMemoryBroker.Rebalancing) async throws {
        // The clock stands still, so nothing may wait for it.
        let clock = ManualClock()
        let bench = EngineBench(partitions: 4, clock: clock, rebalancing: rebalancing)
        for number in 0..<60 { try bench.put("p\(number)", version: 0) }
        let service = Service()
        let first = bench.start {
            $0.outage = OutagePolicy(
                failuresInRow: 5, failureRatio: 0, probeDelay: .seconds(3600), maximumProbeDelay: .seconds(3600))
            $0.endsWhenIdle = false
        } handler: {
            try service.call($0, $1)
        }
        await first.notices.until { $0.contains { if case .gateClosed = $0 { true } else { false } } }
        let journal = Journal()
        let second = bench.start {
            $0.endsWhenIdle = false
        } handler: {
            journal.note($0, $1)
        }
        let notices = await first.notices.until { $0.contains { if case .revoked = $0 { true } else { false } } }
        #expect(notices.contains { if case .revoked(_, let abandoned) = $0 { abandoned > 0 } else { false } })
        // What the first charged waits for a time that doesn't come; everything else of its partitions is done by the second.
        await journal.entries.until { $0.count >= 20 }
        first.engine.stop()
        #expect(try await first.finished().completed == 0)
        clock.advance(by: .seconds(60))
        await journal.entries.until { $0.count >= 60 }
        second.engine.stop()
        try await second.finished()
        #expect(bench.deadLetters.isEmpty && Set(journal.all.map(\.origin)).count == 60)
        #expect(service.state.value.calls == 5)
    }

    @Test(
        "a lane that has its share of what is in flight holds its partition back, and no other", arguments: EventOrdering.allCases
    )
    func crowded(ordering: EventOrdering) async throws {
        let bench = EngineBench(partitions: 2)
        for version in 0..<200 { try bench.put("hot", version: version, partition: 0) }
        for number in 0..<100 { try bench.put("p\(number)", version: 0, partition: 1) }
        let turnstile = Turnstile()
        let journal = Journal()
        let running = bench.start {
            $0.ordering = ordering
            $0.maximumInFlight = 40
            $0.pollSize = 10
        } handler: { event, context in
            if event.resourceID == "hot" { await turnstile.enter("hot") }
            journal.note(event, context)
        }
        await journal.entries.until { $0.count { $0.key != "hot" } == 100 }
        #expect(turnstile.state.value.arrivals.count == 1)
        await eventually("one partition is paused") { bench.total(.partitionsPaused) == 1 }
        #expect(bench.total(.recordsInFlight) < 40 + 10)
        turnstile.open()
        let summary = try await running.finished()
        #expect(summary.completed == 300 && summary.parked == 0)
        #expect(journal.byKey["hot"] == Array(0..<200))
    }
}

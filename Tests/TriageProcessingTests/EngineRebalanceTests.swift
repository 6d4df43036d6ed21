import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: rebalances and stops", .timeLimit(.minutes(1)))
struct EngineRebalanceTests {
    typealias Rebalancing = InMemoryBroker.Rebalancing

    /// Expects that the first completions of each key are in order and none is missing.
    private func expectOrder(_ journal: Journal, keys: Int, versions: Int, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(journal.byKey.count == keys, sourceLocation: sourceLocation)
        for (key, all) in journal.byKey {
            var firsts: [Int] = []
            for version in all where !firsts.contains(version) { firsts.append(version) }
            #expect(firsts == Array(0..<versions), "\(key)", sourceLocation: sourceLocation)
        }
    }

    @Test(
        "a second engine joins in the middle: nothing is lost, first completions stay in order", arguments: [0, 3],
        Rebalancing.allCases)
    func join(gapEvery: Int, rebalancing: Rebalancing) async throws {
        let bench = EngineBench(partitions: 4, gapEvery: gapEvery, rebalancing: rebalancing)
        for version in 0..<30 {
            for key in 0..<20 { try bench.put("p\(key)", version: version) }
        }
        let journal = Journal()
        let handler: EventHandler = { event, context in
            for _ in 0..<(event.versionID?.hashValue.magnitude ?? 0) % 3 { await Task.yield() }
            await Task.detached { await Task.yield() }.value
            journal.note(event, context)
        }
        let first = bench.start({ $0.pollSize = 20 }, handler: handler)
        await journal.entries.until { $0.count >= 50 }
        let second = bench.start({ $0.pollSize = 20 }, handler: handler)
        let summaries = [try await first.finished(), try await second.finished()]
        #expect(summaries.map(\.completed).reduce(0, +) == journal.all.count)
        #expect(first.notices.value.contains { if case .revoked = $0 { true } else { false } })
        expectOrder(journal, keys: 20, versions: 30)
        bench.expectAllCommitted()
    }

    @Test("engines come and go while events fail: none is lost, each ends once", arguments: Rebalancing.allCases)
    func turmoil(rebalancing: Rebalancing) async throws {
        let bench = EngineBench(partitions: 6, rebalancing: rebalancing)
        for version in 0..<20 {
            for key in 0..<30 { try bench.put("p\(key)", version: version) }
        }
        let journal = Journal()
        let handler: EventHandler = { event, context in
            await Task.detached { await Task.yield() }.value
            let version = event.versionID.flatMap { Int($0) } ?? 0
            if version % 7 == 3, context.attempt < 3 { throw Transient() }
            if version == 11 { throw Persistent() }
            journal.note(event, context)
        }
        var engines = [bench.start({ $0.pollSize = 10 }, handler: handler)]
        for count in [40, 90, 140] {
            await journal.entries.until { $0.count >= count }
            engines.append(bench.start({ $0.pollSize = 10 }, handler: handler))
        }
        await journal.entries.until { $0.count >= 200 }
        engines[1].engine.stop()
        for engine in engines { try await engine.finished() }
        // One that stops last may have been given partitions that it doesn't work on any more.
        try await bench.run(handler: handler)
        let done = Set(journal.all.map(\.origin))
        let dead = Set(bench.deadLetters.compactMap { $0.headers.text(HeaderName.origin) }.compactMap { RecordPosition($0) })
        #expect(done.isDisjoint(with: dead))
        #expect(done.union(dead) == Set(bench.records(bench.topic).map(\.position)))
        #expect(dead.count == 30)
        bench.expectAllCommitted()
    }

    @Test(
        "a handler that is busy when its partition goes may finish, and is committed before the partition is given up",
        arguments: Rebalancing.allCases)
    func busyWhileRevoked(rebalancing: Rebalancing) async throws {
        var bench = EngineBench(partitions: 2, rebalancing: rebalancing)
        bench.configuration.revocationTimeout = .seconds(50)
        try bench.put("a", version: 0, partition: 0)
        try bench.put("b", version: 0, partition: 1)
        try bench.put("b", version: 1, partition: 1)
        let turnstile = Turnstile()
        let journal = Journal()
        let first = bench.start { event, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
            journal.note(event, context)
        }
        _ = await turnstile.arrivals(2)
        let joined = Journal()
        let second = bench.start { joined.note($0, $1) }
        // The first engine is in its revocation now or soon: the second gets nothing before that has ended.
        turnstile.release("b")
        turnstile.open()
        try await first.finished()
        try await second.finished()
        #expect(Set(journal.all + joined.all).count == 3)
        #expect(journal.all.filter { $0.key == "b" && $0.version == 0 }.count == 1)
        #expect(!joined.all.contains { $0.version == 0 && $0.key == "b" })
        bench.expectAllCommitted()
    }

    @Test("an attempt whose time is over while its partition goes is cancelled then too, and its retry is written")
    func overdueWhileRevoked() async throws {
        var bench = EngineBench(partitions: 1)
        bench.configuration.revocationTimeout = .seconds(50)
        bench.configuration.attemptTimeout = .milliseconds(500)
        try bench.put("a", version: 0)
        let turnstile = Turnstile()
        let first = bench.start { _, context in
            guard context.attempt == 1 else { return }
            await turnstile.enter("a")
            try await Task.sleep(for: .seconds(1000))
        }
        _ = await turnstile.arrivals(1)
        let second = bench.start { _, _ in }
        turnstile.open()
        try await first.finished()
        try await second.finished()
        #expect(bench.retries.count == 1)
        #expect(bench.deadLetters.isEmpty)
        bench.expectAllCommitted()
    }

    @Test(
        "a handler that doesn't return in time is abandoned, and its event delivered again, to the new owner",
        arguments: Rebalancing.allCases)
    func abandoned(rebalancing: Rebalancing) async throws {
        let isEager = rebalancing == .eager
        let bench = EngineBench(partitions: 2, rebalancing: rebalancing)
        try bench.put("a", version: 0, partition: 0)
        try bench.put("b", version: 0, partition: 1)
        let turnstile = Turnstile()
        let first = bench.start {
            $0.revocationTimeout = .milliseconds(1)
        } handler: { _, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
            throw Transient()
        }
        _ = await turnstile.arrivals(2)
        let journal = Journal()
        let second = bench.start { journal.note($0, $1) }
        await first.notices.until { $0.contains(isEager ? .revoked(4, abandoned: 2) : .revoked(2, abandoned: 1)) }
        try await second.finished()
        #expect(journal.all.map(\.key) == ["b"])
        // All is the first engine's again before its handlers go on: no other rebalance may abandon what they begin now.
        await first.notices.until { $0.last == .assigned(isEager ? 4 : 2) }
        turnstile.open()
        let summary = try await first.finished()
        // What the abandoned handler threw has no effect; the other one's failure is retried.
        #expect(bench.retries.allSatisfy { $0.key?.utf8Text == "a" })
        #expect(bench.deadLetters.allSatisfy { $0.key?.utf8Text == "a" })
        #expect(summary.retries >= 1)
        #expect(bench.total(.deliveries, ["triage.outcome": "abandoned"]) == (isEager ? 2 : 1))
        #expect(bench.recorder.spans.contains { $0.attributes.contains(Attribute("triage.outcome", .literal("abandoned"))) })
        bench.expectAllCommitted()
    }

    @Test("retry records that wait when their partition goes are left to the new owner", arguments: Rebalancing.allCases)
    func waitingWhileRevoked(rebalancing: Rebalancing) async throws {
        let isEager = rebalancing == .eager
        let clock = ManualClock()
        let bench = EngineBench(partitions: 2, clock: clock, rebalancing: rebalancing)
        for key in 0..<8 { try bench.put("p\(key)", version: 0, partition: Int32(key % 2)) }
        let due = clock.now() + .seconds(60)
        let journal = Journal()
        let handler: EventHandler = { event, context in
            if context.attempt == 1 { throw RetryLater(retryAt: due) }
            journal.note(event, context)
        }
        let first = bench.start(handler: handler)
        await eventually("all retry records are read") { bench.total(.consumedMessages) == 16 }
        let second = bench.start(handler: handler)
        await second.notices.until { $0.contains(.assigned(2)) }
        // What the first engine gives up only to get it back it reads again.
        await eventually("its retry records are read") { bench.total(.consumedMessages) == (isEager ? 24 : 20) }
        #expect(first.notices.value.contains(isEager ? .revoked(4, abandoned: 8) : .revoked(2, abandoned: 4)))
        clock.advance(by: .seconds(61))
        let summaries = [try await first.finished(), try await second.finished()]
        #expect(summaries.map(\.completed).reduce(0, +) == 8)
        #expect(journal.all.count == 8)
        #expect(journal.all.allSatisfy { $0.isRetry })
        #expect(bench.retries.count == 8)
        bench.expectAllCommitted()
    }

    @Test("more engines than partitions: the one that gets none ends when the group has settled", arguments: Rebalancing.allCases)
    func surplus(rebalancing: Rebalancing) async throws {
        var bench = EngineBench(partitions: 1, rebalancing: rebalancing)
        bench.configuration.revocationTimeout = .seconds(50)
        for version in 0..<10 { try bench.put("p", version: version) }
        let turnstile = Turnstile()
        let first = bench.start { _, _ in await turnstile.enter("x") }
        _ = await turnstile.arrivals(1)
        let second = bench.start { _, _ in }
        #expect(try await second.finished() == EngineSummary())
        #expect(second.engine.assignedPartitions == 0)
        turnstile.open()
        #expect(try await first.finished().completed == 10)
    }

    @Test("stop: what was delivered is finished and committed; a second run gets none of it again")
    func stop() async throws {
        let bench = EngineBench(partitions: 3)
        for version in 0..<10 {
            for key in 0..<12 { try bench.put("p\(key)", version: version) }
        }
        let turnstile = Turnstile()
        let journal = Journal()
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.pollSize = 30
            $0.maximumInFlight = 40
            $0.concurrency = 4
        } handler: { event, context in
            if event.versionID == "1" { await turnstile.enter(context.record.key?.utf8Text ?? "") }
            journal.note(event, context)
            if context.record.offset % 5 == 0, context.attempt == 1 { throw Transient() }
        }
        _ = await turnstile.arrivals(4)
        running.engine.stop()
        turnstile.open()
        let summary = try await running.finished()
        let first = Set(journal.all.map(\.origin))
        #expect(summary.consumed == journal.all.count + summary.parked)
        #expect(!running.notices.value.contains { if case .drainIncomplete = $0 { true } else { false } })
        #expect(first.count < 120)

        let parked = Set(
            bench.retries.filter { $0.headers.text(HeaderName.parkedBehind) != nil }.map { EventHistory(of: $0).origin })
        #expect(parked.count == summary.parked)
        let rest = Journal()
        try await bench.run { event, context in rest.note(event, context) }
        let failed = Set(journal.all.filter { $0.origin.offset % 5 == 0 && $0.attempt == 1 }.map(\.origin))
        #expect(first.subtracting(failed).isDisjoint(with: Set(rest.all.map(\.origin))))
        #expect(first.subtracting(failed).count + rest.all.count == 120)
        bench.expectAllCommitted()
    }

    @Test("stop with workers parked, and stop before and after the run")
    func stopIdle() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p", version: 0)
        let running = bench.start {
            $0.endsWhenIdle = false
        } handler: { _, _ in
            await Task.yield()
        }
        await eventually("it is idle") { bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 0)]?.offset == 1 }
        running.engine.stop()
        #expect(try await running.finished().completed == 1)
        running.engine.stop()

        let stopped = Engine(
            bench.configuration, consumer: bench.broker.consumer(group: "late"), sink: bench.sink, tracer: bench.tracer,
            meter: bench.meter, handler: { _, _ in }
        )
        stopped.stop()
        try stopped.run()
        #expect(stopped.summary == EngineSummary())
    }

    @Test("a handler that outlasts the drain is given up and told; its event is delivered again")
    func drainDeadline() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<5 { try bench.put("p\(version)", version: version) }
        let turnstile = Turnstile()
        let running = bench.start {
            $0.drainTimeout = .milliseconds(20)
            $0.endsWhenIdle = false
        } handler: { event, _ in
            if event.versionID == "2" { await turnstile.enter("2") }
        }
        _ = await turnstile.arrivals(1)
        running.engine.stop()
        let summary = try await running.finished()
        #expect(summary.completed == 4)
        #expect(running.notices.value.contains(.drainIncomplete(1)))
        #expect(bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 0)]?.offset == 2)
        let journal = Journal()
        try await bench.run { journal.note($0, $1) }
        #expect(journal.all.first?.version == 2)
        turnstile.open()
    }

    @Test(
        "partitions that come while an engine drains are neither worked on nor committed past", arguments: Rebalancing.allCases)
    func assignedWhileDraining(rebalancing: Rebalancing) async throws {
        let isEager = rebalancing == .eager
        let bench = EngineBench(partitions: 2, rebalancing: rebalancing)
        let turnstile = Turnstile()
        let handler: EventHandler = { _, context in await turnstile.enter(context.record.key?.utf8Text ?? "") }
        let first = bench.start(
            {
                $0.endsWhenIdle = false
                // An eager rebalance gives up what this engine is busy with, too.
                $0.revocationTimeout = .milliseconds(1)
            }, handler: handler)
        await first.notices.until { $0 == [.assigned(4)] }
        let second = bench.start(
            {
                $0.endsWhenIdle = false
                $0.drainTimeout = .milliseconds(1)
            }, handler: handler)
        await second.notices.until { $0.contains(.assigned(2)) }
        try bench.put("a", version: 0, partition: 0)
        for version in 0..<5 { try bench.put("b", version: version, partition: 1) }
        #expect(await turnstile.arrivals(2).sorted() == ["a", "b"])
        first.engine.stop()
        await first.notices.until { $0.contains(.stopping(1)) }
        // What it can't finish goes to the first engine, which drains: it is for none of them.
        second.engine.stop()
        try await second.finished()
        await first.notices.until { notices in
            notices.count { $0 == .assigned(isEager ? 4 : 2) } == (isEager ? 2 : 1)
        }
        turnstile.open()
        try await first.finished()
        #expect(turnstile.state.value.arrivals.count == 2)
        let journal = Journal()
        try await bench.run { journal.note($0, $1) }
        #expect(journal.byKey["b"] == Array(0..<5))
        bench.expectAllCommitted()
    }

    @Test("a rebalance doesn't prolong a stop", arguments: Rebalancing.allCases)
    func drainDeadlineWhileRevoked(rebalancing: Rebalancing) async throws {
        let clock = ManualClock()
        let bench = EngineBench(partitions: 2, clock: clock, rebalancing: rebalancing)
        for key in ["a", "b"] { try bench.put(key, version: 0, partition: key == "a" ? 0 : 1) }
        let turnstile = Turnstile()
        let first = bench.start {
            $0.endsWhenIdle = false
            $0.revocationTimeout = .seconds(1_000_000_000)
        } handler: { _, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
        }
        _ = await turnstile.arrivals(2)
        first.engine.stop()
        await first.notices.until { $0.contains(.stopping(2)) }
        let journal = Journal()
        let second = bench.start { journal.note($0, $1) }
        // The second engine comes soon, the deadline in its time.
        await eventually("the first engine ends") {
            clock.advance(by: .seconds(1))
            return first.hasEnded
        }
        try await first.finished()
        try await second.finished()
        // It may have been done with its share before the first engine's came free.
        try await bench.run { journal.note($0, $1) }
        #expect(Set(journal.all.map(\.key)) == ["a", "b"])
        turnstile.open()
        bench.expectAllCommitted()
    }

    @Test("a rebalance while intake is paused: what stays goes on, what comes is paused too", arguments: Rebalancing.allCases)
    func pausedRebalance(rebalancing: Rebalancing) async throws {
        let bench = EngineBench(partitions: 4, rebalancing: rebalancing)
        for version in 0..<50 {
            for key in 0..<8 { try bench.put("p\(key)", version: version) }
        }
        let turnstile = Turnstile()
        let journal = Journal()
        let first = bench.start {
            $0.maximumInFlight = 10
            $0.pollSize = 5
        } handler: { event, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
            journal.note(event, context)
        }
        _ = await turnstile.arrivals(1)
        let second = bench.start {
            $0.maximumInFlight = 10
            $0.pollSize = 5
        } handler: { event, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
            journal.note(event, context)
        }
        turnstile.open()
        try await first.finished()
        try await second.finished()
        expectOrder(journal, keys: 8, versions: 50)
        bench.expectAllCommitted()
        #expect(bench.total(.partitionsPaused) == 0)
    }
}

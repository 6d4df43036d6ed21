import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: concurrency", .timeLimit(.minutes(1)))
struct EngineConcurrencyTests {
    @Test("suspended handlers: different keys at the same time, one key one at a time")
    func suspended() async throws {
        let bench = EngineBench(partitions: 2)
        for version in 0..<3 {
            for key in ["a", "b", "c", "d", "e"] { try bench.put(key, version: version) }
        }
        let turnstile = Turnstile()
        let running = bench.start { _, context in await turnstile.enter(context.record.key?.utf8Text ?? "") }
        #expect(Set(await turnstile.arrivals(5)) == ["a", "b", "c", "d", "e"])
        turnstile.release("c")
        // The next event of c comes in, and nobody else: the others' lanes are occupied.
        #expect(await turnstile.arrivals(6).last == "c")
        turnstile.release("c")
        #expect(await turnstile.arrivals(7).last == "c")
        turnstile.open()
        #expect(try await running.finished().completed == 15)
        #expect(turnstile.state.value.most == 5)
        bench.expectAllCommitted()
    }

    @Test("never more handlers at a time than the concurrency, and as many", arguments: [1, 3])
    func limit(concurrency: Int) async throws {
        let bench = EngineBench(partitions: 2)
        for key in 0..<12 { try bench.put("p\(key)", version: 0) }
        let turnstile = Turnstile()
        let running = bench.start {
            $0.concurrency = concurrency
        } handler: { _, context in
            await turnstile.enter(context.record.key?.utf8Text ?? "")
        }
        for count in concurrency...12 {
            let arrived = await turnstile.arrivals(count)
            #expect(turnstile.state.value.inside.count == concurrency)
            turnstile.release(arrived[count - concurrency])
        }
        turnstile.open()
        #expect(try await running.finished().completed == 12)
        #expect(turnstile.state.value.most == concurrency)
    }

    @Test("without a key the resource id is the lane; without either an event is alone")
    func keyless() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<3 { try bench.put(EngineBench.event(nil, version: version), partition: 0) }
        for version in 3..<5 { try bench.put(EngineBench.event("p1", version: version), partition: 0) }
        try bench.put("p1", version: 5, partition: 0)
        let turnstile = Turnstile()
        let running = bench.start { event, _ in await turnstile.enter(event.versionID ?? "") }
        #expect(Set(await turnstile.arrivals(4)) == ["0", "1", "2", "3"])
        turnstile.release("3")
        #expect(await turnstile.arrivals(5).last == "4")
        turnstile.release("4")
        #expect(await turnstile.arrivals(6).last == "5")
        turnstile.open()
        #expect(try await running.finished().completed == 6)
    }

    @Test("a time-out cancels the task, counts as transient, and keeps the lane occupied until the handler returns")
    func timeout() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("slow", version: 0)
        try bench.put("slow", version: 1)
        try bench.put("quick", version: 0)
        let turnstile = Turnstile()
        let journal = Journal()
        let cancelled = Watched<[Bool]>([])
        let running = bench.start {
            $0.attemptTimeout = .milliseconds(5)
        } handler: { event, context in
            if context.record.key?.utf8Text == "slow", context.attempt == 1, event.versionID == "0" {
                await turnstile.enter("slow")
                cancelled.change { $0.append(Task.isCancelled) }
                try Task.checkCancellation()
            }
            journal.note(event, context)
        }
        _ = await turnstile.arrivals(1)
        await running.notices.until { notices in
            notices.contains {
                guard case .attemptOverdue(let position, let context) = $0 else { return false }
                return position == RecordPosition(topic: bench.topic, partition: 0, offset: 0) && context == $0.context
            }
        }
        await journal.entries.until { $0.contains { $0.key == "quick" } }
        #expect(!journal.all.contains { $0.key == "slow" })
        turnstile.open()
        let summary = try await running.finished()
        #expect(cancelled.value == [true])
        #expect(summary.completed == 3)
        #expect(summary.retries == 1)
        #expect(bench.retries.first?.headers.text(HeaderName.error) == "AttemptTimeout")
        #expect(bench.retries.first?.headers.text(HeaderName.errorClass) == "transient")
        #expect(bench.total(.handlerOverruns) == 1)
        bench.expectAllCommitted()
    }

    @Test("worker after worker is replaced after its time-out; cancellation never reaches the next event")
    func replacement() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<6 { try bench.put("p\(version)", version: version) }
        let turnstile = Turnstile()
        let cancelledAtStart = Watched(0)
        let running = bench.start {
            $0.attemptTimeout = .milliseconds(2)
            $0.concurrency = 2
            $0.retry = RetryPolicy(.immediate, retries: 1)
        } handler: { event, context in
            if Task.isCancelled { cancelledAtStart.change { $0 += 1 } }
            guard context.attempt == 1 else { return }
            await turnstile.enter(event.versionID ?? "")
            try Task.checkCancellation()
        }
        for count in 1...6 {
            let name = await turnstile.arrivals(count)[count - 1]
            await running.notices.until { notices in
                notices.filter { if case .attemptOverdue = $0 { true } else { false } }.count >= count
            }
            turnstile.release(name)
        }
        let summary = try await running.finished()
        #expect(cancelledAtStart.value == 0)
        #expect(summary.completed == 6)
        #expect(summary.retries == 6)
        // The task is spent, so even an immediate retry goes through the retry topic.
        #expect(bench.retries.count == 6)
    }

    @Test("a handler that succeeds after its time-out has succeeded")
    func lateSuccess() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p1", version: 0)
        try bench.put("p1", version: 1)
        let turnstile = Turnstile()
        let running = bench.start {
            $0.attemptTimeout = .milliseconds(2)
            $0.concurrency = 1
        } handler: { event, _ in
            if event.versionID == "0" { await turnstile.enter("p1") }
        }
        _ = await turnstile.arrivals(1)
        await running.notices.until { $0.contains { if case .attemptOverdue = $0 { true } else { false } } }
        turnstile.open()
        let summary = try await running.finished()
        #expect(summary.completed == 2)
        #expect(summary.retries == 0)
    }

    @Test("handlers that hop away come back to the loop's thread, whatever wakes them")
    func hops() async throws {
        let bench = EngineBench(partitions: 3)
        for version in 0..<10 {
            for key in 0..<30 { try bench.put("p\(key)", version: version) }
        }
        let journal = Journal()
        let summary = try await bench.run { event, context in
            await Task.yield()
            let value = await Task.detached { event.versionID }.value
            _ = await Task { value }.value
            journal.note(event, context)
            if context.attempt == 1, value == "9" { throw Transient() }
        }
        #expect(summary.completed == 300)
        for (key, versions) in journal.byKey { #expect(Array(versions.prefix(10)) == Array(0..<10), "\(key)") }
        bench.expectAllCommitted()
    }

    @Test("handlers that never suspend don't keep the loop from polling and committing")
    func greedyHandlers() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<10 { try bench.put("p\(version)", version: version) }
        let committed = Watched<Set<Int64>>([])
        let broker = bench.broker
        let id = TopicPartition(bench.topic, 0)
        try await bench.run { _, _ in
            // Each takes longer than a worker's turn, without ever suspending.
            let end = ContinuousClock.now + .milliseconds(110)
            while ContinuousClock.now < end {}
            let offset = broker.committed(group: "workers")[id]?.offset ?? 0
            committed.change { _ = $0.insert(offset) }
        }
        #expect(committed.value.count >= 5)
        bench.expectAllCommitted()
    }
}

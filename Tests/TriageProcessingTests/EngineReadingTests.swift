import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Moves a manual clock on while a test waits for the loop, which publishes by it, at twice the pace of the real one: a test that is
/// kept waiting by others moves it no further than one that isn't.
final class Ticking: Sendable {
    private let clock: ManualClock
    private let last = Mutex(ContinuousClock.now)

    init(_ clock: ManualClock) { self.clock = clock }

    func tick() {
        last.withLock { last in
            guard ContinuousClock.now - last > .milliseconds(50) else { return }
            last = ContinuousClock.now
            clock.advance(by: .milliseconds(101))
        }
    }
}

@Suite("Engine: levels", .timeLimit(.minutes(2)))
struct EngineReadingTests {
    private let origin = ["messaging.destination.name": EngineBench.topic, "messaging.consumer.group.name": "workers"]

    private func partition(_ topic: String, _ number: Int) -> [String: String] {
        ["messaging.destination.name": topic, "messaging.destination.partition.id": "\(number)"]
    }

    @Test("lag: records behind the watermark and the age of the first, partition by partition; gone with the partition")
    func lag() async throws {
        let clock = ManualClock()
        let bench = EngineBench(partitions: 2, clock: clock)
        for version in 0..<3 { try bench.put("p\(version)", version: version, partition: 0) }
        let turnstile = Turnstile()
        clock.advance(by: .seconds(40))
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.attemptTimeout = nil
            $0.commitInterval = .zero
        } handler: { event, _ in
            await turnstile.enter(event.resourceID ?? "")
        }
        _ = await turnstile.arrivals(3)
        let ticking = Ticking(clock)
        await eventually("three behind") {
            ticking.tick()
            return bench.total(.consumerLag, partition(bench.topic, 0)) == 3 && bench.total(.recordsInFlight, origin) == 3
        }
        #expect(bench.hasPoints(.consumerLag, partition(bench.topic, 1)))
        #expect(bench.total(.consumerLag, partition(bench.topic, 1)) == 0)
        #expect(bench.values(.consumerLagTime, partition(bench.topic, 1)) == [0])
        #expect(bench.values(.consumerLagTime, partition(bench.topic, 0)).allSatisfy { $0 >= 40 && $0 < 60 })
        // The first is done: the age is that of the second, which came at the same time. The last alone changes nothing.
        turnstile.release("p2")
        turnstile.release("p0")
        await eventually("two behind") {
            ticking.tick()
            return bench.total(.consumerLag, partition(bench.topic, 0)) == 2
        }
        turnstile.open()
        await eventually("none behind") {
            ticking.tick()
            return bench.total(.consumerLag) == 0
        }
        #expect(bench.values(.consumerLagTime) == [0, 0, 0, 0])
        running.engine.stop()
        try await running.finished()
        #expect(!bench.hasPoints(.consumerLag) && !bench.hasPoints(.consumerLagTime))
        #expect(bench.total(.recordsInFlight, origin) == 0 && bench.hasPoints(.recordsInFlight, origin))
    }

    @Test("lanes: one for each patient with records in flight, in whatever partitions; none for retries that wait")
    func lanes() async throws {
        let clock = ManualClock()
        let ticking = Ticking(clock)
        let bench = EngineBench(partitions: 2, clock: clock)
        for version in 0..<3 { try bench.put("a", version: version, partition: 0) }
        try bench.put("b", version: 0, partition: 0)
        try bench.put("c", version: 0, partition: 1)
        try bench.put("later", version: 0, partition: 1)
        let turnstile = Turnstile()
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.attemptTimeout = nil
            $0.retry = RetryPolicy(base: .seconds(3600), cap: .seconds(3600), jitter: 0)
        } handler: { event, _ in
            let id = event.resourceID ?? ""
            if id == "later" { throw RetryLater(retryAt: nil) }
            await turnstile.enter(id)
        }
        _ = await turnstile.arrivals(3)
        await eventually("five records in three lanes") {
            ticking.tick()
            return bench.total(.retryWaiting) == 1 && bench.total(.recordsInFlight) == 5 && bench.total(.lanes) == 3
        }
        #expect(bench.total(.lanes, ["messaging.consumer.group.name": "workers"]) == 3)
        #expect(!bench.hasPoints(.lanes, ["messaging.destination.name": bench.topic]))
        turnstile.release("b")
        await eventually("two lanes are left") {
            ticking.tick()
            return bench.total(.lanes) == 2 && bench.total(.recordsInFlight) == 4
        }
        turnstile.open()
        await eventually("no lane is left") {
            ticking.tick()
            return bench.total(.lanes) == 0 && bench.total(.recordsInFlight) == 0
        }
        running.engine.stop()
        try await running.finished()
    }

    @Test("retries that wait: how many and why, and since when; those that are at the handler are in flight")
    func retries() async throws {
        let clock = ManualClock()
        let ticking = Ticking(clock)
        let bench = EngineBench(partitions: 1, clock: clock)
        for version in 0..<5 { try bench.put("p\(version)", version: version) }
        let later = clock.now() + .seconds(500)
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.attemptTimeout = nil
            $0.retry = RetryPolicy(base: .seconds(100), cap: .seconds(100), jitter: 0)
        } handler: { event, context in
            if context.isRetry { return }
            throw RetryLater(retryAt: event.resourceID == "p0" ? later : nil)
        }
        await eventually("five wait") {
            ticking.tick()
            return bench.total(.retryWaiting, origin) == 5
        }
        #expect(bench.total(.retryWaiting, ["triage.wait.reason": "scheduled"]) == 1)
        #expect(bench.total(.retryWaiting, ["triage.wait.reason": "backoff"]) == 4)
        #expect(bench.total(.recordsInFlight) == 0)
        #expect(bench.total(.consumerLag, partition(bench.retryTopic, 0)) == 5)
        #expect(bench.total(.consumerLag, partition(bench.topic, 0)) == 0)
        #expect(bench.values(.retryOldestAge, origin).allSatisfy { $0 < 60 })
        clock.advance(by: .seconds(60))
        #expect(bench.values(.retryOldestAge, origin).allSatisfy { $0 >= 60 && $0 < 100 })
        clock.advance(by: .seconds(60))
        await eventually("one waits") {
            ticking.tick()
            return bench.total(.retryWaiting) == 1
        }
        #expect(bench.values(.retryOldestAge, origin).allSatisfy { $0 >= 120 })
        clock.advance(by: .seconds(500))
        await eventually("none waits") {
            ticking.tick()
            return bench.total(.retryWaiting) == 0 && bench.total(.eventsProcessed) == 5
        }
        #expect(bench.total(.retryWaitDuration, ["triage.wait.reason": "scheduled"]) == 1)
        #expect(bench.total(.retryWaitDuration, ["triage.wait.reason": "backoff"]) == 4)
        let waits = bench.recorder.spans.filter { $0.template.name.hasPrefix("wait ") }
        #expect(waits.count { $0.attributes.contains { $0.key == "triage.wait.reason" && $0.value == .text("scheduled") } } == 1)
        await eventually("no age") {
            ticking.tick()
            return bench.values(.retryOldestAge, origin) == [0]
        }
        running.engine.stop()
        try await running.finished()
        #expect(bench.retries.count { $0.headers.text(HeaderName.waitReason) == "scheduled" } == 1)
        #expect(bench.retries.count { $0.headers.text(HeaderName.waitReason) != nil } == 1)
    }

    @Test("a waiting retry's partition that is taken away takes its level along")
    func revokedWhileWaiting() async throws {
        let bench = EngineBench(partitions: 2)
        for number in 0..<6 { try bench.put("p\(number)", version: 0, partition: Int32(number % 2)) }
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.retry = RetryPolicy(base: .seconds(3600), cap: .seconds(3600))
        } handler: { _, _ in
            throw Transient()
        }
        await eventually("six wait") { bench.total(.retryWaiting) == 6 }
        let other = bench.broker.consumer(group: "workers")
        final class Nobody: AssignmentObserver {
            func assigned(_: [TopicPartition], by: any RecordConsumer) -> [TopicPartition: StartOffset] { [:] }
            func revoked(_: [TopicPartition], by: any RecordConsumer) {}
            func lost(_: [TopicPartition], by: any RecordConsumer) {}
        }
        let nobody = Nobody()
        try other.subscribe(to: [bench.topic, bench.retryTopic], observer: nobody)
        await eventually("three wait") { bench.total(.retryWaiting) == 3 }
        #expect(bench.total(.rebalances, ["triage.rebalance.type": "revoked"]) == 1)
        running.engine.stop()
        try await running.finished()
        #expect(bench.total(.retryWaiting) == 0)
    }

    @Test("polls and commits have durations like sends; a commit that failed says why")
    func durations() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<20 { try bench.put("p\(version)", version: version) }
        bench.broker.failNextCommits(1, with: BrokerError("REBALANCE_IN_PROGRESS", operation: "commit", isRetriable: true))
        let summary = try await bench.run { _, context in if !context.isRetry { throw Transient() } }
        func durations(_ operation: String, _ more: [String: String] = [:]) -> Int {
            bench.total(.clientOperationDuration, more.merging(["messaging.operation.name": operation]) { $1 })
        }
        #expect(durations("send") == summary.retries)
        #expect(durations("commit") == bench.total(.commits))
        #expect(durations("commit", ["error.type": "REBALANCE_IN_PROGRESS"]) == 1)
        #expect(bench.total(.commits, ["error.type": "REBALANCE_IN_PROGRESS"]) == 1)
        let polls = bench.recorder.spans.count { $0.template.name.hasPrefix("poll") }
        #expect(durations("poll") >= max(1, polls))
        #expect(durations("poll", ["messaging.operation.type": "receive", "messaging.consumer.group.name": "workers"]) >= 1)
    }

    @Test("counters of fixed attributes are there before they count: rebalances, overruns, duplicates, gate, levels")
    func zeros() async throws {
        let bench = EngineBench(partitions: 1)
        try await bench.run { _, _ in }
        for type in ["assigned", "revoked", "lost"] {
            #expect(bench.hasPoints(.rebalances, ["triage.rebalance.type": type]))
        }
        for metric in [Metric.handlerOverruns, .duplicates, .recordsInFlight, .partitionsPaused] {
            #expect(bench.hasPoints(metric, origin) && bench.total(metric) == 0, "\(metric.name)")
        }
        #expect(bench.hasPoints(.lanes, ["messaging.consumer.group.name": "workers"]) && bench.total(.lanes) == 0)
        for reason in ["backoff", "scheduled", "parked", "outage"] {
            #expect(bench.hasPoints(.retryWaiting, ["triage.wait.reason": reason]))
        }
        #expect(bench.total(.gateState, ["triage.gate.state": "open"]) == 1)
        #expect(bench.hasPoints(.gateState, ["triage.gate.state": "closed"]) && bench.total(.gateState) == 1)
    }

    @Test("open dead letters: of the owned partitions, at once for one's own, after a look for others'; unknown, no point")
    func deadLetters() async throws {
        let clock = ManualClock()
        let ticking = Ticking(clock)
        let bench = EngineBench(partitions: 2, clock: clock)
        let inspector = bench.broker.inspector()
        // One stands there already, written an hour ago by somebody.
        try bench.put(ByteSlice("old"), key: ByteSlice("old"), to: bench.deadLetterTopic, partition: 1)
        clock.advance(by: .seconds(3600))
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.attemptTimeout = nil
        } handler: { _, _ in
            throw Persistent()
        }
        await eventually("assigned") { running.engine.assignedPartitions == 4 }
        await eventually("a look is due") { running.engine.isLookDue }
        #expect(!bench.hasPoints(.deadLetterSize))
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(!running.engine.isLookDue)
        #expect(bench.total(.deadLetterSize, origin) == 1)
        #expect(bench.values(.deadLetterOldestAge, origin).allSatisfy { $0 >= 3600 })

        for number in 0..<3 { try bench.put("p\(number)", version: 0, partition: 0) }
        await eventually("three more, without a look") {
            ticking.tick()
            return bench.total(.deadLetterSize, origin) == 4
        }
        try bench.put(ByteSlice("foreign"), key: ByteSlice("foreign"), to: bench.deadLetterTopic, partition: 0)
        #expect(bench.total(.deadLetterSize) == 4)
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(bench.total(.deadLetterSize) == 5)

        // Retention takes the first: the next one's age counts.
        bench.broker.trim(TopicPartition(bench.deadLetterTopic, 1), before: 1)
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(bench.total(.deadLetterSize) == 4)
        #expect(bench.values(.deadLetterOldestAge, origin).allSatisfy { $0 < 3600 })

        // Nobody answers: the last numbers stay, and one notice however long it lasts.
        let error = BrokerError("_TRANSPORT", operation: "watermarks", isRetriable: true)
        bench.broker.failInspections(with: error)
        for _ in 0..<3 { running.engine.look(by: inspector, timeout: .seconds(1)) }
        #expect(bench.total(.deadLetterSize) == 4 && bench.hasPoints(.deadLetterOldestAge))
        #expect(running.notices.value.filter { $0 == .backlogUnknown(error) }.count == 1)
        // One partition is in trouble: the other goes on.
        bench.broker.failInspections(with: nil)
        bench.broker.failInspections(of: TopicPartition(bench.deadLetterTopic, 0), with: error)
        for number: Int32 in 0..<2 {
            try bench.put(ByteSlice("foreign"), key: ByteSlice("foreign"), to: bench.deadLetterTopic, partition: number)
        }
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(bench.total(.deadLetterSize) == 5)
        bench.broker.failInspections(of: TopicPartition(bench.deadLetterTopic, 0), with: nil)
        running.engine.look(by: inspector, timeout: .seconds(1))
        #expect(bench.total(.deadLetterSize) == 6)

        running.engine.stop()
        try await running.finished()
        #expect(!bench.hasPoints(.deadLetterSize))
    }

    @Test("two instances: the sum of the shares is what there is, each dead letter once")
    func deadLetterShares() async throws {
        let bench = EngineBench(partitions: 4)
        for number in 0..<8 { try bench.put(ByteSlice("x"), to: bench.deadLetterTopic, partition: Int32(number % 4)) }
        let running = (0..<2).map { _ in
            bench.start {
                $0.endsWhenIdle = false
            } handler: { _, _ in
            }
        }
        await eventually("shared") { running.allSatisfy { $0.engine.assignedPartitions == 4 } }
        // Both report to the one meter of this test, which adds them up.
        await eventually("each has its share") {
            for running in running { running.engine.look(by: bench.broker.inspector(), timeout: .seconds(1)) }
            return bench.total(.deadLetterSize) == 8
        }
        for running in running {
            running.engine.stop()
            try await running.finished()
        }
    }

    @Test("the end of a paused partition is looked up, so that an outage's lag shows")
    func pausedLag() async throws {
        let bench = EngineBench(partitions: 1)
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.outage = OutagePolicy(failuresInRow: 1, probeDelay: .seconds(3600), maximumProbeDelay: .seconds(3600))
        } handler: { _, _ in
            throw Transient()
        }
        try bench.put("p", version: 0)
        await eventually("paused") { bench.total(.partitionsPaused) == 2 }
        for version in 1..<10 { try bench.put("p", version: version) }
        running.engine.look(by: bench.broker.inspector(), timeout: .seconds(1))
        #expect(bench.total(.consumerLag) == 10)
        running.engine.stop()
        try await running.finished()
    }
}

import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

extension SpanData {
    fileprivate func value(_ key: StaticString) -> AttributeValue? {
        (template.attributes + attributes).last { $0.key == StaticText(key) }?.value
    }
    fileprivate var name: String { template.name }
}

@Suite("Engine: retry policies and long waits", .timeLimit(.minutes(1)))
struct EnginePolicyTests {
    @Test("tries in place first, then by the retry topic; attempts are counted on")
    func immediateThenExponential() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p1", version: 1)
        let journal = Journal()
        let summary = try await bench.run {
            $0.retry = RetryPolicy(retries: 3, immediate: 2, base: .milliseconds(2), jitter: 0)
        } handler: {
            journal.note($0, $1)
            throw Transient()
        }
        #expect(journal.all.map(\.attempt) == [1, 2, 3, 4])
        #expect(journal.all.map(\.isRetry) == [false, false, false, true])
        #expect(bench.retries.map { $0.headers.text("retryCount") } == ["3"])
        #expect(bench.deadLetters.count == 1 && summary.retries == 3)
        #expect(bench.total(.retries, ["triage.retry.strategy": "immediate"]) == 2)
        #expect(bench.total(.retries, ["triage.retry.strategy": "exponential"]) == 1)
    }

    @Test("the class of the failure and the event's topic choose the policy")
    func byClassAndTopic() async throws {
        let bench = EngineBench(partitions: 1)
        for key in ["system", "transient"] { try bench.put(key, version: 1) }
        let journal = Journal()
        try await bench.run {
            $0.retries.byClass[.system] = RetryPolicy.none
            $0.retries.byTopic["another.topic"] = RetryPolicy.none
        } handler: { event, context in
            journal.note(event, context)
            if event.resourceID == "system" { throw Unexpected() } else { throw Transient() }
        }
        #expect(journal.byKey.mapValues(\.count) == ["system": 1, "transient": 4])
        #expect(bench.deadLetters.count == 2)

        let other = EngineBench(partitions: 1)
        for key in ["system", "transient"] { try other.put(key, version: 1) }
        let second = Journal()
        try await other.run {
            $0.retries.byTopic[other.topic] = RetryPolicy.none
            $0.retries.byPlace[.init(topic: other.topic, errorClass: .system)] = RetryPolicy(.immediate, retries: 1)
        } handler: { event, context in
            second.note(event, context)
            if event.resourceID == "system" { throw Unexpected() } else { throw Transient() }
        }
        #expect(second.byKey.mapValues(\.count) == ["system": 2, "transient": 1])
    }

    @Test("what can't be done within the limit is dead-lettered, counted from the event's first record")
    func limit() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p1", version: 1)
        let journal = Journal()
        try await bench.run {
            $0.retry = RetryPolicy(retries: 100, base: .milliseconds(1), jitter: 0, limit: .milliseconds(40))
        } handler: {
            journal.note($0, $1)
            throw Transient()
        }
        // 1, 2, 4, 8 and 16 ms end before 40 ms, and 32 more don't; a slow machine gives up earlier.
        let dead = try #require(bench.deadLetters.first)
        #expect((1...6).contains(journal.all.count) && bench.deadLetters.count == 1)
        let origin = try #require(dead.headers.text(HeaderName.originTimestamp).flatMap { Int64($0) })
        for record in bench.retries {
            let due = try #require(record.headers.text(HeaderName.dueAt).flatMap { Int64($0) })
            #expect(due <= origin + 40)
        }
        // A time of the error's own is no way round it.
        let later = EngineBench(partitions: 1)
        try later.put("p1", version: 1)
        try await later.run {
            $0.retry = RetryPolicy(limit: .seconds(60))
        } handler: { _, _ in
            throw RetryLater(retryAt: SystemClock().now() + .seconds(90))
        }
        #expect(later.retries.isEmpty && later.deadLetters.count == 1)
    }

    @Test("a long wait begins a new trace: its send is a root with links to the attempt and the origin, all else hangs under it")
    func newTrace() async throws {
        let bench = EngineBench(partitions: 1)
        let origin = try await bench.sink.send(
            OutboundRecord(topic: bench.topic, key: ByteSlice("p1"), value: EngineBench.event("p1", version: 1)), parent: nil
        ).1
        try await bench.run {
            $0.retry = RetryPolicy(retries: 2, base: .milliseconds(8), cap: .milliseconds(30), jitter: 0)
            $0.newTraceAfter = .milliseconds(12)
        } handler: { _, _ in
            throw Transient()
        }
        let spans = bench.recorder.spans
        func named(_ name: String) -> [SpanData] {
            spans.filter { $0.name == name }.sorted { $0.start.nanoseconds < $1.start.nanoseconds }
        }
        let sends = named("send fhir.Patient.retry")
        let processes = named("process fhir.Patient") + named("process fhir.Patient.retry")
        let waits = named("wait fhir.Patient.retry")
        let attempts = named("attempt")
        try #require(sends.count == 2 && processes.count == 3 && waits.count == 2 && attempts.count == 3)
        // 8 ms are short.
        #expect(sends[0].context.traceID == origin.traceID && sends[0].parentSpanID == processes[0].context.spanID)
        #expect(sends[0].links.isEmpty)
        // 16 ms are long.
        #expect(sends[1].context.traceID != origin.traceID && !sends[1].parentSpanID.isValid)
        #expect(sends[1].links.map(\.context.spanID) == [attempts[1].context.spanID, origin.spanID])
        #expect(sends[1].links.allSatisfy { $0.context.traceID == origin.traceID })
        let records = bench.retries.sorted { $0.offset < $1.offset }
        #expect(records[1].headers.last(HeaderName.traceparent) == sends[1].context.traceparent)
        #expect(records[1].headers.last(HeaderName.originTraceparent) == origin.traceparent)
        #expect(waits[1].parentSpanID == sends[1].context.spanID && processes[2].parentSpanID == sends[1].context.spanID)
        #expect(
            processes[2].links.map(\.context.spanID)
                == [sends[1].context.spanID, attempts[1].context.spanID, waits[1].context.spanID])
        let dead = try #require(named("send fhir.Patient.dlq").first)
        #expect(dead.context.traceID == sends[1].context.traceID && dead.parentSpanID == processes[2].context.spanID)
        #expect(bench.deadLetters.first?.headers.last(HeaderName.originTraceparent) == origin.traceparent)
    }

    /// Polls and commits have traces of their own.
    private func traces(_ spans: [SpanData]) -> Set<TraceID> {
        Set(spans.filter { $0.name != "commit" && !$0.name.hasPrefix("poll") }.map(\.context.traceID))
    }

    @Test(
        "switched off or not long enough, nothing begins a new trace; a failed one that was flagged stays sampled in the new one")
    func newTraceEdges() async throws {
        for limit in [nil, Duration.seconds(3600)] {
            let bench = EngineBench(partitions: 1)
            try bench.put("p1", version: 1)
            try await bench.run {
                $0.newTraceAfter = limit
            } handler: { _, _ in
                throw Transient()
            }
            #expect(traces(bench.recorder.spans).count == 1)
        }
        let unsampled = EngineBench(partitions: 1, sampler: .alwaysOff)
        try unsampled.put("p1", version: 1)
        try await unsampled.run {
            $0.newTraceAfter = .zero
            $0.retry.retries = 1
        } handler: { _, _ in
            throw Transient()
        }
        let spans = unsampled.recorder.spans
        #expect(traces(spans).count == 2)
        #expect(spans.count { $0.name.hasPrefix("process") } == 2 && spans.count { $0.name.hasPrefix("send") } == 2)
    }
}

@Suite("Engine: storm", .timeLimit(.minutes(1)))
struct EngineStormTests {
    private let quick = StormPolicy(
        share: 0.5, minimumEvents: 10, pause: .milliseconds(1), maximumPause: .milliseconds(3))

    private func stops(_ running: RunningEngine) -> [EngineNotice] {
        running.notices.value.filter { if case .stormStopped = $0 { true } else { false } }
    }

    @Test("rubbish for a while: intake stops at the threshold, probes go on one by one, and a completed one opens it")
    func storm() async throws {
        let bench = EngineBench(partitions: 3)
        for number in 0..<100 { try bench.put("p\(number)", version: 0) }
        let calls = Mutex(0)
        let running = bench.start {
            $0.storm = quick
        } handler: { _, _ in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            if call < 25 { throw Persistent() }
        }
        let summary = try await running.finished()
        #expect(bench.deadLetters.count == 24 && summary.deadLettered == 24 && summary.completed == 76)
        // The handler never suspends, so nothing was in flight beside the tenth.
        #expect(stops(running) == [.stormStopped(deadLetters: 10, events: 10)])
        #expect(running.notices.value.count { if case .stormOpened = $0 { true } else { false } } == 1)
        let processes = bench.recorder.spans.filter { $0.name.hasPrefix("process ") }
        let events = processes.flatMap { span in span.events.map { ($0.name.description, span) } }
        #expect(events.map(\.0).filter { $0.hasPrefix("triage.storm") } == ["triage.storm.stopped", "triage.storm.opened"])
        #expect(events.first { $0.0 == "triage.storm.opened" }?.1.value("triage.outcome") == .literal("completed"))
        #expect(bench.total(.stormState, ["triage.storm.state": "open"]) == 1 && bench.total(.stormState) == 1)
        bench.expectAllCommitted()
    }

    @Test("events that can't be decoded are a storm as well; while it lasts the gauge says so, and a stop gives the rest back")
    func stopped() async throws {
        let bench = EngineBench(partitions: 1)
        for _ in 0..<50 { try bench.put(ByteSlice("no JSON"), key: ByteSlice("p")) }
        let running = bench.start {
            $0.storm = quick
            $0.storm?.pause = .seconds(3600)
            $0.storm?.maximumPause = .seconds(3600)
        } handler: { _, _ in
        }
        await running.notices.until { $0.contains { if case .stormStopped = $0 { true } else { false } } }
        await eventually("the dead letters are written") { bench.deadLetters.count == 10 }
        #expect(bench.total(.stormState, ["triage.storm.state": "stopped"]) == 1 && bench.total(.stormState) == 1)
        await eventually("it is paused") { bench.total(.partitionsPaused) > 0 }
        // Who looks from outside sees it in the commit.
        await eventually("the commit says so") {
            guard let commit = bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 0)],
                let metadata = try? CommitMetadata(commit.metadata ?? "", at: commit.offset)
            else { return false }
            return commit.offset == 10 && metadata.flags.contains(.isStormy)
        }
        running.engine.stop()
        let summary = try await running.finished()
        #expect(summary.deadLettered == 10 && bench.deadLetters.count == 10)
        // Who comes next, without a breaker, goes on where it stopped.
        let rest = try await bench.run { _, _ in }
        #expect(rest.deadLettered == 40 && bench.deadLetters.count == 50)
        bench.expectAllCommitted()
    }

    @Test("dead letters for transient failures don't stop it, nor do persistent ones when it is off")
    func others() async throws {
        for isOff in [false, true] {
            let bench = EngineBench(partitions: 1)
            for number in 0..<40 { try bench.put("p\(number)", version: 0) }
            let running = bench.start {
                $0.storm = isOff ? nil : quick
                $0.retry = .none
            } handler: { _, _ in
                if isOff { throw Persistent() } else { throw Transient() }
            }
            try await running.finished()
            #expect(bench.deadLetters.count == 40 && stops(running).isEmpty)
        }
    }

    @Test("an outage within a storm: the gate closes, nothing is charged, and both open when a probe is completed")
    func outage() async throws {
        let bench = EngineBench(partitions: 1)
        for number in 0..<60 { try bench.put("p\(number)", version: 0) }
        let calls = Mutex(0)
        let running = bench.start {
            $0.storm = quick
            $0.outage = OutagePolicy(
                failuresInRow: 3, failureRatio: 0, probeDelay: .milliseconds(1), maximumProbeDelay: .milliseconds(3))
        } handler: { _, _ in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            // A storm of ten, then an outage, then all is well.
            if call <= 10 { throw Persistent() }
            if call <= 40 { throw Transient() }
        }
        let summary = try await running.finished()
        #expect(bench.deadLetters.count == 10 && summary.completed == 50)
        #expect(stops(running).count == 1)
        #expect(running.notices.value.count { if case .gateClosed = $0 { true } else { false } } == 1)
        #expect(summary.retries == 2 && summary.deferred == 28)
        #expect(bench.total(.stormState, ["triage.storm.state": "open"]) == 1)
        #expect(bench.total(.gateState, ["triage.gate.state": "open"]) == 1)
        bench.expectAllCommitted()
    }
}

@Suite("Engine: duplicates and versions", .timeLimit(.minutes(1)))
struct EngineMemoryTests {
    private func event(_ id: String, version: String = "1", patient: String = "p1") -> ByteSlice {
        ByteSlice(
            #"{"type":"PatientUpdated","data":{"resourceType":"Patient","id":"\#(patient)","meta":{"versionId":"\#(version)"}},"#
                + #""metadata":{"eventId":"\#(id)"}}"#)
    }

    private func put(
        _ bench: EngineBench, _ id: String, version: String = "1", patient: String = "p1", headers: Headers = Headers()
    ) throws {
        try bench.put(event(id, version: version, patient: patient), key: ByteSlice(patient), headers: headers, partition: 0)
    }

    private func processes(_ bench: EngineBench) -> [SpanData] {
        bench.recorder.spans.filter { $0.name.hasPrefix("process ") }.sorted { $0.start.nanoseconds < $1.start.nanoseconds }
    }

    @Test("an event that was completed before is skipped, linked to the first; another version, id or patient isn't")
    func duplicates() async throws {
        let bench = EngineBench(partitions: 1)
        try put(bench, "a")
        try put(bench, "a")
        try put(bench, "a", version: "2")
        try put(bench, "b", version: "2")
        try put(bench, "a", patient: "p2")
        try put(bench, "a", headers: Headers([Header("triage-replay", text: "1b4e28ba-2fa1-11d2-883f-0016d3cca427 t.dlq/0/1")]))
        let journal = Journal()
        let summary = try await bench.run {
            $0.dedupeWindow = 100
        } handler: {
            journal.note($0, $1)
        }
        #expect(summary.completed == 5 && summary.deduplicated == 1 && summary.skipped == 0 && journal.all.count == 5)
        let spans = processes(bench)
        let skipped = try #require(spans.first { $0.value("triage.duplicate") == .bool(true) })
        #expect(skipped.value("triage.outcome") == .literal("skipped"))
        #expect(skipped.value("triage.duplicate.origin") == .text("fhir.Patient/0/0"))
        #expect(skipped.value("messaging.kafka.offset") == .int(1))
        #expect(skipped.links.map(\.context.spanID) == [spans[0].context.spanID])
        #expect(bench.total(.eventsDeduplicated) == 1)
        #expect(bench.total(.deliveries, ["triage.outcome": "skipped"]) == 1)
        #expect(bench.total(.eventsProcessed) == 5 && bench.total(.processDuration) == 6)
        bench.expectAllCommitted()
    }

    @Test("without a window all are handled; a window of one forgets")
    func windows() async throws {
        for (window, handled) in [(0, 4), (1, 3), (2, 2)] {
            let bench = EngineBench(partitions: 1)
            for id in ["a", "a", "b", "a"] { try put(bench, id) }
            let summary = try await bench.run {
                $0.dedupeWindow = window
            } handler: { _, _ in
            }
            #expect(summary.completed == handled, "window \(window)")
            #expect(bench.hasPoints(.eventsDeduplicated) && bench.total(.eventsDeduplicated) == 4 - handled)
        }
    }

    @Test("what failed is no duplicate: the second of two is handled if the first was dead-lettered; of two only one completes")
    func failed() async throws {
        let bench = EngineBench(partitions: 1)
        try put(bench, "a")
        try put(bench, "a")
        let calls = Mutex(0)
        var summary = try await bench.run {
            $0.dedupeWindow = 100
        } handler: { _, _ in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            if call == 1 { throw Persistent() }
        }
        #expect(summary.completed == 1 && summary.deadLettered == 1 && summary.skipped == 0)

        // The first waits for its retry: whichever is completed first, the other one is skipped.
        let second = EngineBench(partitions: 1)
        try put(second, "a")
        try put(second, "a")
        calls.withLock { $0 = 0 }
        summary = try await second.run {
            $0.dedupeWindow = 100
        } handler: { _, _ in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            if call == 1 { throw Transient() }
        }
        #expect(summary.completed == 1 && summary.deadLettered == 0 && summary.deduplicated == 1)
        second.expectAllCommitted()
    }

    @Test("a version older than one handled is marked, counted, and handled all the same; what is no number says nothing")
    func stale() async throws {
        let bench = EngineBench(partitions: 1)
        let versions = ["5", "3", "6", "x7", "6", "05", "5", "4-", "99999999999999999999"]
        for (number, version) in versions.enumerated() { try put(bench, "e\(number)", version: version) }
        try put(bench, "other", version: "1", patient: "p2")
        let seen = Watched<[String]>([])
        let summary = try await bench.run { event, context in
            if context.isStale { seen.change { $0.append(event.versionID ?? "") } }
        }
        #expect(seen.value == ["3", "05", "5"])
        #expect(bench.deadLetters.compactMap { $0.headers.text("error") }.isEmpty)
        #expect(summary.completed == versions.count + 1)
        #expect(processes(bench).compactMap { $0.value("triage.stale") } == [.bool(true), .bool(true), .bool(true)])
        #expect(bench.total(.stale) == 3)
    }

    @Test("where an owner that didn't end cleanly was at work, events may have been handled; after a clean end they are new")
    func predecessors() async throws {
        for flags in [CommitMetadata.Flags.isOpen, []] {
            let bench = EngineBench(partitions: 1)
            for version in 0..<3 { try bench.put("p1", version: version) }
            let metadata = try #require(CommitMetadata(flags: flags).encoded(at: 1))
            let predecessor = bench.broker.consumer(group: "workers")
            try predecessor.commitAndWait([OffsetCommit(TopicPartition(bench.topic, 0), offset: 1, metadata: metadata)])
            predecessor.close()
            let seen = Watched<[Bool]>([])
            try await bench.run { _, context in seen.change { $0.append(context.isRedelivery) } }
            #expect(seen.value == (flags.isEmpty ? [false, false] : [true, true]))
        }
    }

    @Test("a handler is told that it may have seen the event: after a failed attempt")
    func redelivered() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p1", version: 1)
        let seen = Watched<[Bool]>([])
        try await bench.run {
            $0.retry = RetryPolicy(retries: 2, immediate: 1, base: .milliseconds(1))
        } handler: { _, context in
            seen.change { $0.append(context.isRedelivery) }
            throw Transient()
        }
        #expect(seen.value == [false, true, true])
    }
}

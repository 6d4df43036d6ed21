import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: events, retries, dead letters", .timeLimit(.minutes(1)))
struct EngineFlowTests {
    @Test("every event is completed, in order within its key, and committed to the end", arguments: [0, 1, 7])
    func completion(gapEvery: Int) async throws {
        let bench = EngineBench(partitions: 4, gapEvery: gapEvery)
        for version in 0..<40 {
            for key in 0..<25 { try bench.put("p\(key)", version: version) }
        }
        let journal = Journal()
        let summary = try await bench.run { journal.note($0, $1) }
        #expect(summary.completed == 1000)
        #expect(summary.consumed == 1000)
        #expect(journal.byKey.count == 25)
        for (key, versions) in journal.byKey { #expect(versions == Array(0..<40), "\(key)") }
        #expect(bench.retries.isEmpty)
        #expect(bench.deadLetters.isEmpty)
        bench.expectAllCommitted()
    }

    @Test("compaction's gaps hold nothing up, at the end of a partition neither")
    func compaction() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<20 { try bench.put("p", version: version) }
        bench.broker.compact(TopicPartition(bench.topic, 0), removing: [0, 1, 5, 6, 7, 18, 19])
        let journal = Journal()
        let summary = try await bench.run { journal.note($0, $1) }
        #expect(summary.completed == 13)
        bench.expectAllCommitted()
    }

    @Test("no topic's events, no partitions: the engine ends all the same")
    func nothing() async throws {
        let bench = EngineBench(partitions: 2)
        let summary = try await bench.run { _, _ in }
        #expect(summary == EngineSummary())
        bench.expectAllCommitted()
    }

    @Test("a failure is healed on a later attempt", arguments: [2, 3, 4])
    func healed(onAttempt attempt: Int) async throws {
        let bench = EngineBench()
        for key in 0..<10 { try bench.put("p\(key)", version: 0) }
        let journal = Journal()
        let summary = try await bench.run { event, context in
            journal.note(event, context)
            if context.attempt < attempt { throw attempt.isMultiple(of: 2) ? Transient() as any Error : Unexpected() }
        }
        #expect(summary.completed == 10)
        #expect(summary.retries == 10 * (attempt - 1))
        #expect(summary.deadLettered == 0)
        #expect(bench.retries.count == 10 * (attempt - 1))
        for calls in Dictionary(grouping: journal.all, by: \.key).values {
            #expect(calls.map(\.attempt) == Array(1...attempt))
            #expect(calls.map(\.isRetry) == [false] + Array(repeating: true, count: attempt - 1))
            #expect(Set(calls.map(\.origin)).count == 1)
            #expect(calls.first?.origin.topic == bench.topic)
        }
        bench.expectAllCommitted()
    }

    @Test("what fails four times is dead-lettered: headers, bytes, key and partition number")
    func exhausted() async throws {
        let bench = EngineBench(partitions: 5)
        let foreign: Headers = [Header("X-Bytes", ByteSlice([0, 255])), Header("X-Null", nil)]
        try bench.put("p1", version: 7, headers: foreign, partition: 3)
        let original = try #require(bench.records(bench.topic).first)
        let summary = try await bench.run { _, _ in throw Transient() }
        #expect(summary.deadLettered == 1)
        #expect(summary.retries == 3)
        #expect(summary.completed == 0)
        #expect(summary.consumed == 4)

        #expect(bench.retries.map { $0.headers.text(HeaderName.retryCount) } == ["1", "2", "3"])
        #expect(bench.retries.map { AttemptLedger($0.headers.text(HeaderName.attempts) ?? "").entries.count } == [1, 2, 3])
        #expect(Set(bench.retries.map { $0.headers.text(HeaderName.writer) }).count == 1)
        let dead = try #require(bench.deadLetters.first)
        for record in bench.retries + [dead] {
            #expect(record.partition == 3)
            #expect(record.value == original.value)
            #expect(record.key == original.key)
            #expect(Array(record.headers.prefix(2)) == Array(foreign))
            #expect(record.headers.text(HeaderName.origin) == "fhir.Patient/3/0")
            #expect(record.headers.text(HeaderName.originTimestamp) == original.timestamp.map { "\($0.milliseconds)" })
            #expect(record.headers.text(HeaderName.errorClass) == "transient")
            #expect(record.headers.text(HeaderName.error) == "Transient")
            #expect(record.headers.text(HeaderName.errorFingerprint)?.count == 16)
            #expect(record.headers.text(HeaderName.group) == "workers")
            let names = record.headers.map(\.name)
            #expect(Set(names).count == names.count)
        }
        #expect(dead.headers.text(HeaderName.retryCount) == "3")
        #expect(dead.headers.count(of: HeaderName.dueAt) == 0)
        let attempts = AttemptLedger(dead.headers.text(HeaderName.attempts) ?? "")
        #expect(attempts.entries.count == 4)
        #expect(attempts.entries.map(\.time) == attempts.entries.map(\.time).sorted())
        bench.expectAllCommitted()
    }

    @Test("a retry is not handed over before it is due")
    func due() async throws {
        let bench = EngineBench()
        for key in 0..<20 { try bench.put("p\(key)", version: 0) }
        let early = Watched(0)
        let clock = bench.tracer.clock
        try await bench.run { _, context in
            let due = context.record.headers.text(HeaderName.dueAt).flatMap { Int64($0) }
            if let due, clock.now() < Timestamp(milliseconds: due) { early.change { $0 += 1 } }
            if context.attempt < 3 { throw Transient() }
        }
        #expect(early.value == 0)
    }

    @Test("a persistent failure goes to the dead letters at once")
    func persistent() async throws {
        let bench = EngineBench()
        try bench.put("p1", version: 0)
        let summary = try await bench.run { _, _ in throw Persistent() }
        #expect(summary.retries == 0)
        #expect(summary.deadLettered == 1)
        #expect(bench.retries.isEmpty)
        #expect(bench.deadLetters.first?.headers.text(HeaderName.errorClass) == "persistent")
        #expect(bench.deadLetters.first?.headers.text(HeaderName.retryCount) == "0")
        bench.expectAllCommitted()
    }

    @Test("immediate retries stay in place and in the lane")
    func immediate() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<5 { try bench.put("p1", version: version) }
        let journal = Journal()
        let summary = try await bench.run { configuration in
            configuration.retry = RetryPolicy(.immediate, retries: 2)
        } handler: { event, context in
            journal.note(event, context)
            if event.versionID == "4" || context.attempt < 2 { throw Transient() }
        }
        #expect(journal.all.map(\.version) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
        #expect(summary.completed == 4)
        #expect(summary.deadLettered == 1)
        #expect(summary.retries == 4 + 2)
        #expect(bench.retries.isEmpty)
        #expect(AttemptLedger(bench.deadLetters.first?.headers.text(HeaderName.attempts) ?? "").entries.count == 3)
        bench.expectAllCommitted()
    }

    @Test("an error that names a time is retried then")
    func scheduled() async throws {
        let bench = EngineBench()
        try bench.put("p1", version: 0)
        let clock = bench.tracer.clock
        let due = Watched<Timestamp?>(nil)
        let summary = try await bench.run { _, context in
            guard context.attempt == 1 else { return }
            let time = Timestamp(milliseconds: clock.now().milliseconds + 50)
            due.change { $0 = time }
            throw RetryLater(retryAt: time)
        }
        #expect(summary.completed == 1)
        #expect(bench.retries.first?.headers.text(HeaderName.dueAt) == due.value.map { "\($0.milliseconds)" })
        #expect(bench.total(.retries, ["triage.retry.strategy": "scheduled"]) == 1)
    }

    @Test("no retries: the first failure is final")
    func none() async throws {
        let bench = EngineBench()
        try bench.put("p1", version: 0)
        let summary = try await bench.run {
            $0.retry = .none
        } handler: { _, _ in
            throw Unexpected()
        }
        #expect(summary.deadLettered == 1)
        #expect(bench.deadLetters.first?.headers.text(HeaderName.errorClass) == "system")
    }

    @Test("another group's retry record is skipped and committed past; one that names no group is handled")
    func foreignGroup() async throws {
        let bench = EngineBench(partitions: 1)
        for group in ["others", "workers"] {
            try bench.put(
                EngineBench.event("p1", version: 1), key: ByteSlice("p1"),
                headers: ["triage-group": group, "retryCount": "1"].headers,
                to: bench.retryTopic
            )
        }
        try bench.put(EngineBench.event("p1", version: 2), key: ByteSlice("p1"), to: bench.retryTopic)
        let journal = Journal()
        let summary = try await bench.run { journal.note($0, $1) }
        #expect(summary.skipped == 1)
        #expect(summary.completed == 2)
        #expect(journal.all.map(\.attempt).sorted() == [1, 2])
        #expect(bench.total(.deliveries, ["triage.outcome": "skipped"]) == 1)
        bench.expectAllCommitted()
    }

    @Test("a retry record with damaged headers is handled, retried and dead-lettered like any other")
    func damagedRetry() async throws {
        let bench = EngineBench(partitions: 1)
        let damaged = [
            "retryCount": "9223372036854775807", "triage-attempts": "~9223372036854775807;~5;;,,", "triage-due-at": "soon",
            "triage-origin": "nowhere", "triage-origin-timestamp": "-9223372036854775808", "triage-origin-traceparent": "x",
        ]
        try bench.put(EngineBench.event("p1", version: 1), key: ByteSlice("p1"), headers: damaged.headers, to: bench.retryTopic)
        var negative = damaged
        negative["retryCount"] = "-5"
        negative["triage-due-at"] = "-9223372036854775808"
        try bench.put(EngineBench.event("p2", version: 1), key: ByteSlice("p2"), headers: negative.headers, to: bench.retryTopic)
        let summary = try await bench.run { _, _ in throw Transient() }
        #expect(summary.deadLettered == 2)
        #expect(summary.retries == 3)
        #expect(bench.deadLetters.first?.headers.text(HeaderName.origin) == "fhir.Patient.retry/0/0")
        bench.expectAllCommitted()
    }

    @Test(
        "a main partition without its retry twin ends the run with an error that names both, whatever the order",
        arguments: [EventOrdering.perKey, .none])
    func notCoPartitioned(ordering: EventOrdering) async throws {
        let bench = EngineBench(partitions: 1)
        bench.broker.createTopic("lonely", partitions: 2)
        bench.broker.createTopic("lonely.retry", partitions: 1)
        try bench.put(EngineBench.event("p1", version: 1), key: ByteSlice("p1"), to: "lonely", partition: 1)
        let journal = Journal()
        let expected = EngineError.notCoPartitioned(TopicPartition("lonely", 1), twin: TopicPartition("lonely.retry", 1))
        await #expect(throws: expected) {
            try await bench.run {
                $0.topics = ["lonely"]
                $0.ordering = ordering
            } handler: {
                journal.note($0, $1)
            }
        }
        #expect(expected.description.contains("lonely/1"))
        #expect(expected.description.contains("lonely.retry/1"))
        #expect(journal.all.isEmpty)
    }

    @Test("main topics start at the end if so configured, retry topics at the beginning regardless; a commit goes before both")
    func startsAtEnd() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("old", version: 0)
        try bench.put(EngineBench.event("retried", version: 0), key: ByteSlice("retried"), to: bench.retryTopic)
        let journal = Journal()
        var summary = try await bench.run {
            $0.startsAtEnd = true
        } handler: {
            journal.note($0, $1)
        }
        #expect(journal.all.map(\.key) == ["retried"])
        bench.expectAllCommitted()
        try bench.put("new", version: 0)
        summary = try await bench.run {
            $0.startsAtEnd = true
        } handler: {
            journal.note($0, $1)
        }
        #expect(summary.completed == 1)
        #expect(journal.all.map(\.key) == ["retried", "new"])
        summary = try await bench.run {
            $0.group = "second"
        } handler: {
            journal.note($0, $1)
        }
        #expect(summary.completed == 3)
    }

    @Test("a topic that was truncated below the committed offset is worked from its beginning")
    func truncated() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<10 { try bench.put("p", version: version) }
        try await bench.run { _, _ in }
        let again = EngineBench(partitions: 1)
        for version in 0..<3 { try again.put("p", version: version) }
        // The group has committed 10 in the topic's former life; the client resets to what exists.
        let consumer = again.broker.consumer(group: "workers")
        try consumer.commitAndWait([OffsetCommit(TopicPartition(again.topic, 0), offset: 10)])
        #expect(again.broker.committed(group: "workers").count == 1)
        let journal = Journal()
        let summary = try await again.run { journal.note($0, $1) }
        #expect(summary.completed == 3)
        #expect(summary.duplicates == 0)
        again.expectAllCommitted()
    }
}

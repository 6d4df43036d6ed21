import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: what the broker refuses for its size", .timeLimit(.minutes(1)))
struct EngineTooLargeTests {
    /// Valid, and larger than `limit`: white space is JSON.
    private func large(_ id: String, version: Int) -> ByteSlice {
        ByteSlice((EngineBench.event(id, version: version).utf8Text ?? "") + String(repeating: " ", count: 8000))
    }
    private let limit = 4000

    private func spans(_ bench: EngineBench, _ name: String) -> [SpanData] {
        bench.recorder.spans.filter { $0.template.name == name }
    }

    private func attribute(_ span: SpanData, _ key: StaticString) -> AttributeValue? {
        span.attributes.last { $0.key == StaticText(key) }?.value
    }

    @Test(
        "a retry record that is refused becomes a dead letter with the event's bytes, its class and the reason; the patient goes on"
    )
    func retry() async throws {
        let bench = EngineBench(partitions: 1)
        bench.broker.setMaximumRecordSize(limit, of: bench.retryTopic)
        let value = large("p", version: 0)
        try bench.put(value, key: ByteSlice("p"), headers: [Header("theirs", text: "x")])
        try bench.put("p", version: 1)
        let journal = Journal()
        let running = bench.start { event, context in
            journal.note(event, context)
            if event.versionID == "0" { throw Transient() }
        }
        let summary = try await running.finished()
        #expect((summary.deadLettered, summary.completed, summary.retries, summary.parked) == (1, 1, 0, 0))
        #expect(bench.retries.isEmpty)
        let dead = try #require(bench.deadLetters.first)
        #expect(bench.deadLetters.count == 1)
        #expect(dead.value == value)
        #expect(dead.headers.text(HeaderName.errorClass) == "transient")
        #expect(dead.headers.text(HeaderName.error) == "Transient, retry refused: MSG_SIZE_TOO_LARGE")
        #expect(dead.headers.text(HeaderName.retryCount) == "0")
        #expect(dead.headers.text(HeaderName.origin) == "fhir.Patient/0/0")
        #expect(dead.headers.last(HeaderName.pointer) == nil)
        #expect(dead.headers.last(HeaderName.dueAt) == nil && dead.headers.last(HeaderName.writer) == nil)
        #expect(dead.headers.last("theirs")?.utf8Text == "x")
        #expect(AttemptLedger(dead.headers.text(HeaderName.attempts) ?? "").entries.count == 1)
        #expect(journal.all.map(\.version) == [0, 1])
        bench.expectAllCommitted()
        // Both sends stand under the delivery's span: the one that was refused, and the one that says so.
        let process = try #require(spans(bench, "process fhir.Patient").first)
        let refused = try #require(spans(bench, "send fhir.Patient.retry").first)
        let sent = try #require(spans(bench, "send fhir.Patient.dlq").first)
        #expect(attribute(refused, "error.type") == .text("MSG_SIZE_TOO_LARGE"))
        #expect(attribute(sent, "triage.retry.refused") == .text("MSG_SIZE_TOO_LARGE"))
        #expect(refused.parentSpanID == process.context.spanID && sent.parentSpanID == process.context.spanID)
        #expect(bench.total(.deadLetterPointers) == 0)
        let notices = running.notices.value
        #expect(notices.contains { if case .refusedAsTooLarge(_, _, false, _) = $0 { true } else { false } })
        #expect(!notices.contains { if case .produceFailed = $0 { true } else { false } })
        #expect(bench.tracer.counts.live == 0)
    }

    @Test("a dead letter in place of a refused retry record counts the tries that were made in place")
    func retryAfterTries() async throws {
        let bench = EngineBench(partitions: 1)
        bench.broker.setMaximumRecordSize(limit, of: bench.retryTopic)
        try bench.put(large("p", version: 0), key: ByteSlice("p"))
        try await bench.run {
            $0.retry.immediate = 2
        } handler: { _, _ in
            throw Transient()
        }
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.headers.text(HeaderName.retryCount) == "2")
        #expect(AttemptLedger(dead.headers.text(HeaderName.attempts) ?? "").entries.count == 3)
    }

    @Test(
        "a dead letter that is refused becomes a pointer: our headers, the origin, the reason and the size",
        arguments: [true, false])
    func deadLetter(afterRetry: Bool) async throws {
        let bench = EngineBench(partitions: 1)
        bench.broker.setMaximumRecordSize(limit, of: bench.deadLetterTopic)
        if afterRetry { bench.broker.setMaximumRecordSize(limit, of: bench.retryTopic) }
        let value = large("p", version: 0)
        try bench.put(
            value, key: ByteSlice("p"),
            headers: [Header("theirs", text: String(repeating: "h", count: 5000)), Header("triage-pointer", text: "foreign")])
        try bench.put("p", version: 1)
        let running = bench.start { event, _ in
            if event.versionID == "0" { throw afterRetry ? Transient() as any Error : Persistent() }
        }
        let summary = try await running.finished()
        #expect((summary.deadLettered, summary.completed, summary.retries) == (1, 1, 0))
        let dead = try #require(bench.deadLetters.first)
        #expect(bench.deadLetters.count == 1)
        #expect(dead.value == nil)
        #expect(dead.key?.utf8Text == "p")
        #expect(dead.headers.text(HeaderName.pointer) == "MSG_SIZE_TOO_LARGE \(value.count)")
        #expect(dead.headers.text(HeaderName.origin) == "fhir.Patient/0/0")
        #expect(dead.headers.text(HeaderName.errorClass) == (afterRetry ? "transient" : "persistent"))
        #expect(dead.headers.text(HeaderName.error)?.contains("retry refused") == afterRetry)
        #expect(dead.headers.text(HeaderName.group) == "workers")
        #expect(dead.headers.last(HeaderName.traceparent) != nil)
        #expect(dead.headers.last("theirs") == nil)
        #expect(dead.headers.last(HeaderName.contentType) == nil)
        #expect(bench.total(.deadLetterPointers) == 1)
        #expect(bench.total(.deadLetters) == 1)
        bench.expectAllCommitted()
        let sends = spans(bench, "send fhir.Patient.dlq")
        #expect(sends.count == 2)
        #expect(sends.map { attribute($0, "triage.dead_letter.pointer") } == [nil, .bool(true)])
        #expect(attribute(try #require(sends.last), "triage.dead_letter.refused_bytes") == .int(Int64(value.count)))
        #expect(running.notices.value.contains { if case .refusedAsTooLarge(_, _, true, _) = $0 { true } else { false } })
    }

    @Test("a pointer that is refused as well is sent again until it is taken, its offset incomplete meanwhile")
    func pointerRefused() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put(large("p", version: 0), key: ByteSlice("p"))
        bench.broker.setMaximumRecordSize(0, of: bench.deadLetterTopic)
        let running = bench.start { _, _ in throw Persistent() }
        await running.notices.until { $0.filter { if case .produceFailed = $0 { true } else { false } }.count > 3 }
        #expect((bench.broker.committed(group: "workers")[TopicPartition(bench.topic, 0)]?.offset ?? 0) == 0)
        // What is lost on the way isn't shrunk: only a refusal for its size says that trying again is no use.
        bench.broker.setMaximumRecordSize(limit, of: bench.deadLetterTopic)
        #expect(try await running.finished().deadLettered == 1)
        #expect(bench.deadLetters.count == 1)
        bench.expectAllCommitted()
    }

    @Test("another error than the size shrinks nothing")
    func otherErrors() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p", version: 0)
        bench.broker.failNextProduces(5, with: BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true))
        let summary = try await bench.run { _, context in if context.attempt == 1 { throw Transient() } }
        #expect((summary.completed, summary.deadLettered, summary.retries) == (1, 0, 1))
    }

    @Test("an event that can't be parked is dead-lettered as persistent, and those before and behind it go on in order")
    func parked() async throws {
        let bench = EngineBench(partitions: 1)
        bench.broker.setMaximumRecordSize(limit, of: bench.retryTopic)
        try bench.put("p", version: 0)
        try bench.put(large("p", version: 1), key: ByteSlice("p"))
        try bench.put("p", version: 2)
        let journal = Journal()
        let summary = try await bench.run { event, context in
            journal.note(event, context)
            if event.versionID == "0", context.attempt < 3 { throw Transient() }
        }
        #expect((summary.completed, summary.deadLettered) == (2, 1))
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.headers.text(HeaderName.origin) == "fhir.Patient/0/1")
        #expect(dead.headers.text(HeaderName.errorClass) == "persistent")
        #expect(dead.headers.text(HeaderName.error) == "MSG_SIZE_TOO_LARGE")
        #expect(dead.headers.last(HeaderName.parkedBehind) == nil)
        #expect(journal.all.map(\.version) == [0, 0, 0, 2])
        bench.expectAllCommitted()
        #expect(bench.tracer.counts.live == 0)
    }

    @Test("retries that grow too large with their attempts: each event ends once")
    func secondRetry() async throws {
        let bench = EngineBench(partitions: 2)
        for number in 0..<40 { try bench.put("p\(number % 10)", version: number) }
        // Enough for a first retry record, not for a second, whose attempts are longer.
        let value = EngineBench.event("p0", version: 10)
        bench.broker.setMaximumRecordSize(value.count + 620, of: bench.retryTopic)
        let summary = try await bench.run { _, _ in throw Transient() }
        #expect(summary.completed == 0)
        #expect(summary.deadLettered == 40)
        #expect(summary.retries > 0 && summary.retries < 120)
        let origins = bench.deadLetters.compactMap { $0.headers.text(HeaderName.origin) }
        #expect(Set(origins).count == 40 && origins.count == 40)
        bench.expectAllCommitted()
    }
}

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
    fileprivate var outcome: String? {
        guard case .literal(let text)? = value("triage.outcome") else { return nil }
        return text.description
    }
    fileprivate var isError: Bool { if case .error = status { true } else { false } }
    fileprivate var linked: [SpanID] { links.map(\.context.spanID) }
}

@Suite("Engine: spans", .timeLimit(.minutes(1)))
struct EngineSpanTests {
    /// Publishes an event through the traced sink, as a producer that is traced does.
    private func publish(_ bench: EngineBench, _ value: ByteSlice = EngineBench.event("p1", version: 1)) async throws
        -> TraceContext
    {
        try await bench.sink.send(OutboundRecord(topic: bench.topic, key: ByteSlice("p1"), value: value), parent: nil).1
    }

    @Test("a dead-lettered event: sixteen spans, one trace, the design's parents and links")
    func deadLettered() async throws {
        let bench = EngineBench(partitions: 2)
        let origin = try await publish(bench)
        try await bench.run { _, _ in throw Transient() }
        let trace = bench.recorder.spans(of: origin.traceID)
        #expect(trace.count == 16)
        func named(_ name: String) -> [SpanData] { trace.filter { $0.name == name } }
        let send = try #require(named("send fhir.Patient").first)
        #expect(send.context.spanID == origin.spanID)
        #expect(!send.parentSpanID.isValid)
        let first = named("process fhir.Patient")
        let again = named("process fhir.Patient.retry")
        #expect(first.count == 1)
        #expect(again.count == 3)
        let processes = first + again
        let attempts = named("attempt")
        let sends = named("send fhir.Patient.retry")
        let waits = named("wait fhir.Patient.retry")
        #expect([attempts.count, sends.count, waits.count] == [4, 3, 3])
        let last = try #require(named("send fhir.Patient.dlq").first)

        for (number, process) in processes.enumerated() {
            let sent = number == 0 ? send : sends[number - 1]
            #expect(process.template.kind == .consumer)
            #expect(process.parentSpanID == sent.context.spanID)
            #expect(process.parentIsRemote)
            #expect(
                process.linked
                    == (number == 0
                        ? [sent.context.spanID]
                        : [sent.context.spanID, attempts[number - 1].context.spanID, waits[number - 1].context.spanID])
            )
            #expect(process.outcome == (number < 3 ? "retry_scheduled" : "dead_lettered"))
            #expect(process.isError)
            #expect(process.value("error.type") == .text("Transient"))
            #expect(process.events.isEmpty)
            #expect(process.value("triage.retry.count") == (number == 0 ? nil : .int(Int64(number))))
            #expect(process.value("event.type") == .literal("PatientCreated"))
            #expect(process.value("event.resource.type") == .literal("Patient"))
            #expect(process.value("event.resource.id") == .identifier(ByteSlice("p1")))

            let attempt = attempts[number]
            #expect(attempt.template.kind == .internal)
            #expect(attempt.parentSpanID == process.context.spanID)
            #expect(attempt.linked == (number == 0 ? [] : [attempts[number - 1].context.spanID]))
            #expect(attempt.value("triage.attempt") == .int(Int64(number + 1)))
            #expect(attempt.isError)
            #expect(attempt.events.map(\.name) == ["exception"])

            let out = number < 3 ? sends[number] : last
            #expect(out.template.kind == .producer)
            #expect(out.parentSpanID == process.context.spanID)
            #expect(out.status == .unset)
            #expect(process.end >= attempt.end)
        }
        for (number, wait) in waits.enumerated() {
            #expect(wait.template.kind == .internal)
            #expect(wait.parentSpanID == sends[number].context.spanID)
            #expect(wait.value("triage.wait.reason") == .text("backoff"))
            #expect(wait.start.milliseconds == bench.retries.sorted { $0.offset < $1.offset }[number].timestamp?.milliseconds)
            #expect(wait.status == .unset)
        }
        // The headers carry the context of the send span; the first one of all never changes.
        let records = bench.retries.sorted { $0.offset < $1.offset } + bench.deadLetters
        for (record, out) in zip(records, sends + [last]) {
            #expect(record.headers.last(HeaderName.traceparent) == out.context.traceparent)
            #expect(record.headers.last(HeaderName.originTraceparent) == origin.traceparent)
        }
        // The ledger names the attempts' spans.
        let ledger = AttemptLedger(bench.deadLetters.first?.headers.text(HeaderName.attempts) ?? "")
        #expect(ledger.entries.map(\.spanID) == attempts.map(\.context.spanID))
        // By links alone there is a way back from the dead letter's process to the first produce.
        var at = last.parentSpanID
        for _ in 0..<20 {
            guard let span = trace.first(where: { $0.context.spanID == at }), at != send.context.spanID else { break }
            at = span.linked.first ?? span.parentSpanID
            if let sent = trace.first(where: { $0.context.spanID == at }), sent.name == "send fhir.Patient.retry" {
                at = sent.parentSpanID
            }
        }
        #expect(at == send.context.spanID)
        #expect(bench.recorder.spans.allSatisfy { $0.status != .ok })
        #expect(bench.tracer.counts.live == 0)
    }

    @Test("a completed event: send, process, attempt; nothing has a status")
    func completed() async throws {
        let bench = EngineBench()
        let origin = try await publish(bench)
        try await bench.run { _, context in context.span.set("triage.attempt.note", .literal("seen")) }
        let trace = bench.recorder.spans(of: origin.traceID)
        #expect(trace.map(\.name).sorted() == ["attempt", "process fhir.Patient", "send fhir.Patient"])
        #expect(trace.allSatisfy { $0.status == .unset && $0.events.isEmpty })
        let process = try #require(trace.first { $0.name == "process fhir.Patient" })
        #expect(process.outcome == "completed")
        #expect(process.value("error.type") == nil)
        let attempt = try #require(trace.first { $0.name == "attempt" })
        #expect(attempt.value("triage.attempt.note") == .literal("seen"))
    }

    @Test("a healed event ends without an error: its last process has no status, the failed ones have")
    func healed() async throws {
        let bench = EngineBench()
        let origin = try await publish(bench)
        try await bench.run { _, context in if context.attempt < 3 { throw Unexpected() } }
        let processes = bench.recorder.spans(of: origin.traceID).filter { $0.name.hasPrefix("process") }
        #expect(processes.map(\.outcome) == ["retry_scheduled", "retry_scheduled", "completed"])
        #expect(processes.map(\.isError) == [true, true, false])
        let immediate = EngineBench()
        let second = try await publish(immediate)
        try await immediate.run {
            $0.retry = RetryPolicy(.immediate)
        } handler: { _, context in
            if context.attempt < 3 { throw Unexpected() }
        }
        let trace = immediate.recorder.spans(of: second.traceID)
        let attempts = trace.filter { $0.name == "attempt" }
        #expect(attempts.map(\.isError) == [true, true, false])
        #expect(attempts.map(\.linked) == [[], [attempts[0].context.spanID], [attempts[1].context.spanID]])
        #expect(trace.first { $0.name == "process fhir.Patient" }?.status == .unset)
    }

    @Test("persistent and undecodable events: dead-lettered at once; what wasn't decoded has no attempt, but an exception")
    func persistent() async throws {
        let bench = EngineBench()
        let persistent = try await publish(bench)
        let undecodable = try await publish(bench, ByteSlice("{"))
        try await bench.run { _, _ in throw Persistent() }
        let first = bench.recorder.spans(of: persistent.traceID)
        #expect(first.map(\.name).sorted() == ["attempt", "process fhir.Patient", "send fhir.Patient", "send fhir.Patient.dlq"])
        let second = bench.recorder.spans(of: undecodable.traceID)
        #expect(second.map(\.name).sorted() == ["process fhir.Patient", "send fhir.Patient", "send fhir.Patient.dlq"])
        let process = try #require(second.first { $0.name == "process fhir.Patient" })
        #expect(process.isError)
        #expect(process.events.map(\.name) == ["exception"])
        #expect(process.outcome == "dead_lettered")
    }

    @Test("an event without a context: its process begins the trace, which is the origin's from then on")
    func rootless() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p1", version: 1)
        try await bench.run { _, _ in throw Transient() }
        let process = try #require(bench.recorder.spans.first { $0.name == "process fhir.Patient" })
        #expect(!process.parentSpanID.isValid)
        #expect(process.links.isEmpty)
        for record in bench.retries + bench.deadLetters {
            #expect(record.headers.last(HeaderName.originTraceparent) == process.context.traceparent)
            #expect(TraceContext(headers: record.headers)?.traceID == process.context.traceID)
        }
    }

    @Test("poll and commit are roots; a poll links to what it brought, at most 128, the rest counted")
    func pollAndCommit() async throws {
        let bench = EngineBench(partitions: 1)
        var origins: Set<SpanID> = []
        for _ in 0..<200 { origins.insert(try await publish(bench).spanID) }
        try await bench.run { _, _ in }
        let polls = bench.recorder.spans.filter { $0.name.hasPrefix("poll") }
        #expect(polls.allSatisfy { $0.template.kind == .client && !$0.parentSpanID.isValid && $0.links.count <= 128 })
        #expect(polls.reduce(0) { $0 + $1.links.count + Int($1.droppedLinks) } == 200)
        #expect(Set(polls.flatMap(\.linked)).isSubset(of: origins))
        #expect(polls.contains { $0.name == "poll fhir.Patient" })
        let commits = bench.recorder.spans.filter { $0.name == "commit" }
        #expect(!commits.isEmpty)
        #expect(commits.allSatisfy { $0.template.kind == .client && !$0.parentSpanID.isValid && $0.status == .unset })
    }

    @Test("without tracing the incoming context passes through byte for byte, to retries and dead letters, and to handlers")
    func disabled() async throws {
        let bench = EngineBench(partitions: 1, isTracing: false)
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        let headers: Headers = [
            Header("traceparent", text: traceparent), Header("tracestate", text: "a=1, b=2"), Header("tracestate", text: "c=3"),
            Header("baggage", text: "k=v"),
        ]
        try bench.put("p1", version: 1, headers: headers)
        try bench.put("p2", version: 1)
        let contexts = Watched<[TraceContext]>([])
        try await bench.run { event, context in
            if event.resourceID == "p1" { contexts.change { $0.append(context.span.context) } }
            throw Transient()
        }
        #expect(bench.recorder.spans.isEmpty)
        #expect(bench.tracer.counts.sampled == 0)
        for record in bench.retries + bench.deadLetters {
            if record.key?.utf8Text == "p1" {
                #expect(Array(record.headers.prefix(4)) == Array(headers))
                #expect(record.headers.count(of: HeaderName.traceparent) == 1)
                #expect(record.headers.text(HeaderName.originTraceparent) == traceparent)
            } else {
                #expect(record.headers.count(of: HeaderName.traceparent) == 0)
                #expect(record.headers.count(of: HeaderName.originTraceparent) == 0)
            }
        }
        #expect(bench.retries.count == 6)
        #expect(bench.deadLetters.count == 2)
        #expect(bench.deadLetters.allSatisfy { AttemptLedger($0.headers.text(HeaderName.attempts) ?? "").entries.count == 4 })
        #expect(contexts.value.allSatisfy { $0.traceparent.utf8Text == traceparent })
        #expect(contexts.value.count == 4)
    }

    @Test("an unsampled parent, and no failure traces: no spans, but contexts of the same trace that say so")
    func unsampled() async throws {
        let bench = EngineBench(partitions: 1, failureTraces: nil)
        let headers = ["traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "tracestate": "a=1"].headers
        try bench.put("p1", version: 1, headers: headers)
        try await bench.run { _, _ in throw Transient() }
        #expect(bench.recorder.spans.filter { $0.name != "commit" }.isEmpty)
        var spans: Set<SpanID> = []
        for record in bench.retries + bench.deadLetters {
            let context = try #require(TraceContext(headers: record.headers))
            #expect(context.traceID.description == "0af7651916cd43dd8448eb211c80319c")
            #expect(record.headers.text(HeaderName.traceparent)?.hasSuffix("-00") == true)
            #expect(context.traceState?.text == "a=1")
            spans.insert(context.spanID)
            #expect(record.headers.text(HeaderName.originTraceparent)?.hasSuffix("b7ad6b7169203331-00") == true)
        }
        #expect(spans.count == 4)
    }

    @Test("a record that the producer had no room for leaves no span that never ends")
    func queueFull() async throws {
        let bench = EngineBench(partitions: 1, capacity: 1)
        for version in 0..<20 { try bench.put("p\(version)", version: version) }
        bench.broker.holdAcknowledgements()
        let journal = Journal()
        let running = bench.start { event, context in
            journal.note(event, context)
            throw Persistent()
        }
        await journal.entries.until { $0.count == 20 }
        bench.broker.releaseAcknowledgements()
        try await running.finished()
        #expect(bench.recorder.spans.filter { $0.name == "send fhir.Patient.dlq" }.count == 20)
        #expect(bench.tracer.counts.live == 0)
    }
}

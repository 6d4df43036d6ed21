import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: every failure has a trace", .timeLimit(.minutes(1)))
struct EngineFailureTraceTests {
    private func limits(_ perSecond: Int) -> FailureTraceLimits {
        var limits = FailureTraceLimits()
        limits.tracesPerSecond = perSecond
        return limits
    }

    private func publish(_ bench: EngineBench, _ id: String, _ value: ByteSlice? = nil) async throws -> TraceContext {
        let value = value ?? EngineBench.event(id, version: 1)
        return try await bench.sink.send(OutboundRecord(topic: bench.topic, key: ByteSlice(id), value: value), parent: nil).1
    }

    private func isPartial(_ span: SpanData) -> Bool { span.attributes.contains(Attribute("triage.trace.partial", .bool(true))) }

    private func names(_ spans: [SpanData]) -> [String: Int] {
        Dictionary(grouping: spans, by: \.template.name).mapValues(\.count)
    }

    private static let samplers: [Sampler] = [
        .parentBased(root: .traceIDRatio(0)), .parentBased(root: .alwaysOff), .traceIDRatio(0), .alwaysOff,
    ]

    @Test(
        "at ratio 0 each failed event's trace is whole from its first failure to its end, and nothing else is exported",
        arguments: samplers)
    func everyFailure(sampler: Sampler) async throws {
        let bench = EngineBench(sampler: sampler, failureTraces: limits(0))
        var contexts: [String: TraceContext] = [:]
        for index in 0..<60 {
            let kind = ["good", "good", "good", "exhausted", "healed", "refused"][index % 6]
            contexts["\(kind)\(index)"] = try await publish(bench, "\(kind)\(index)")
        }
        contexts["undecodable"] = try await publish(bench, "undecodable", ByteSlice("{"))
        try await bench.run { event, context in
            let id = event.resourceID ?? ""
            if id.hasPrefix("exhausted") { throw Transient() }
            if id.hasPrefix("healed"), context.attempt < 3 { throw Transient() }
            if id.hasPrefix("refused") { throw Persistent() }
        }
        let retried = "process fhir.Patient.retry"
        for (id, origin) in contexts {
            let trace = bench.recorder.spans(of: origin.traceID)
            if id.hasPrefix("good") {
                #expect(trace.isEmpty, "\(id)")
                continue
            }
            let expected: [String: Int] =
                if id.hasPrefix("exhausted") {
                    [
                        "process fhir.Patient": 1, retried: 3, "attempt": 4, "send fhir.Patient.retry": 3,
                        "wait fhir.Patient.retry": 3, "send fhir.Patient.dlq": 1,
                    ]
                } else if id.hasPrefix("healed") {
                    [
                        "process fhir.Patient": 1, retried: 2, "attempt": 3, "send fhir.Patient.retry": 2,
                        "wait fhir.Patient.retry": 2,
                    ]
                } else if id.hasPrefix("undecodable") {
                    ["process fhir.Patient": 1, "send fhir.Patient.dlq": 1]
                } else {
                    ["process fhir.Patient": 1, "attempt": 1, "send fhir.Patient.dlq": 1]
                }
            #expect(names(trace) == expected, "\(id)")
            // Each span once, sampled, under a parent that is there; but the first, under the refused send.
            let ids = Set(trace.map(\.context.spanID))
            #expect(ids.count == trace.count && trace.allSatisfy { $0.context.isSampled }, "\(id)")
            let rootless = trace.filter { !ids.contains($0.parentSpanID) }
            #expect(rootless.map(\.template.name) == ["process fhir.Patient"], "\(id)")
            #expect(rootless.first?.parentSpanID == (origin.spanID), "\(id)")
            #expect(trace.filter { isPartial($0) }.map(\.context.spanID) == rootless.map(\.context.spanID), "\(id)")
        }
        // What was written after the failure says sampled; what was written before it never changes.
        for record in bench.retries + bench.deadLetters {
            #expect(TraceContext(headers: record.headers)?.isSampled == true)
            #expect(record.headers.text(HeaderName.originTraceparent)?.hasSuffix("-02") == true)
        }
        let traces = Set(bench.recorder.spans.filter { $0.template.name.hasPrefix("process") }.map(\.context.traceID))
        #expect(traces.count == 31)
        #expect(!bench.recorder.spans.contains { $0.template.name == "send fhir.Patient" || $0.template.name == "commit" })
        // The polls that brought retries are sampled with them.
        let linked = Set(
            bench.recorder.spans.filter { $0.template.name.hasPrefix("poll") }.flatMap { $0.links.map(\.context.spanID) })
        let sent = Set(bench.recorder.spans.filter { $0.template.name == "send fhir.Patient.retry" }.map(\.context.spanID))
        #expect(linked == sent)
        let counts = bench.tracer.counts
        #expect(counts.failureTraces.flaggedTraces == 31 && counts.failureTraces.limitedTraces == 0)
        #expect(counts.live == 0 && counts.exported == bench.recorder.spans.count)
        #expect(counts.ended == counts.exported + counts.failureTraces.notFailed)
    }

    @Test("an event without a context: its process is the origin, and says that it is sampled")
    func rootless() async throws {
        let bench = EngineBench(partitions: 1, sampler: .alwaysOff, failureTraces: limits(0))
        try bench.put("p1", version: 1)
        try await bench.run { _, _ in throw Transient() }
        let process = try #require(bench.recorder.spans.first { $0.template.name == "process fhir.Patient" })
        for record in bench.retries + bench.deadLetters {
            #expect(record.headers.last(HeaderName.originTraceparent) == process.context.traceparent)
        }
        #expect(process.context.isSampled && !process.parentSpanID.isValid)
    }

    @Test("tries in place: a failure exports its process though a later try succeeds; spans of the handler belong to it")
    func immediate() async throws {
        let bench = EngineBench(partitions: 1, sampler: .alwaysOff, failureTraces: limits(0))
        let origin = try await publish(bench, "p1")
        let inner = bench.tracer.template("inner", kind: .internal, [])
        let seen = Mutex<[Bool]>([])
        try await bench.run {
            $0.retry = RetryPolicy(.immediate)
        } handler: { _, context in
            let span = bench.tracer.start(inner, parent: context.span.context, at: bench.tracer.clock.now())
            seen.withLock { $0.append(span.context.isSampled) }
            bench.tracer.end(span, at: bench.tracer.clock.now())
            _ = try await bench.sink.send(
                OutboundRecord(topic: bench.topic + ".dlq", key: nil, value: nil), parent: context.span.context)
            if context.attempt < 3 { throw Unexpected() }
        }
        let trace = bench.recorder.spans(of: origin.traceID)
        #expect(names(trace) == ["process fhir.Patient": 1, "attempt": 3, "inner": 3, "send fhir.Patient.dlq": 3])
        #expect(seen.withLock { $0 } == [false, true, true])
        let attempts = trace.filter { $0.template.name == "attempt" }
        #expect(Set(trace.filter { $0.template.name == "inner" }.map(\.parentSpanID)) == Set(attempts.map(\.context.spanID)))
        #expect(bench.tracer.counts.live == 0 && bench.tracer.counts.exported == trace.count)
    }

    @Test("a limit: each failed delivery is flagged or counted as refused, and what leaves says which")
    func limited() async throws {
        let bench = EngineBench(sampler: .alwaysOff, failureTraces: limits(1))
        for index in 0..<200 { _ = try await publish(bench, "p\(index)") }
        let start = ContinuousClock.now
        try await bench.run {
            $0.retry = RetryPolicy(.immediate, retries: 0)
        } handler: { _, _ in
            throw Persistent()
        }
        let seconds = Int((ContinuousClock.now - start).components.seconds) + 1
        let counts = bench.tracer.counts.failureTraces
        let sampled = bench.deadLetters.filter { TraceContext(headers: $0.headers)?.isSampled == true }
        #expect(bench.deadLetters.count == 200)
        #expect(sampled.count == counts.flaggedTraces && counts.flaggedTraces + counts.limitedTraces == 200)
        // One for the fingerprint or the bucket, then one a second.
        #expect((1...2 + seconds).contains(counts.flaggedTraces))
        #expect(bench.recorder.spans.count { $0.template.name == "process fhir.Patient" } == counts.flaggedTraces)
        #expect(bench.recorder.spans.count == counts.flaggedTraces * 3)
        #expect(counts.rateLimited == counts.limitedTraces * 3 && counts.evicted == 0)
        #expect(counts.ended == counts.exported + counts.rateLimited + counts.notFailed)
        #expect(bench.total(.failureTraceFlagged) == 0, "not registered on this meter")
    }

    @Test("a retry refused by the limit may be exported later: its wait and its next failure come with it")
    func later() async throws {
        let bench = EngineBench(partitions: 1, sampler: .alwaysOff, failureTraces: limits(0))
        // A retry record whose first failure was refused: it has a ledger, but its context isn't sampled.
        let headers = [
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "retryCount": "1",
            "triage-origin": "fhir.Patient/0/0", "triage-group": "workers",
            "triage-attempts": "1000,transient,0123456789abcdef,0af7651916cd43dd8448eb211c80319c,00f067aa0ba902b7",
        ].headers
        for (offset, id) in ["bad", "good"].enumerated() {
            let headers = headers.replacing([Header("triage-origin", text: "fhir.Patient/0/\(offset)")])
            try bench.put(
                EngineBench.event(id, version: 1), key: ByteSlice(id), headers: headers, to: bench.retryTopic, partition: 0)
        }
        try await bench.run { event, _ in if event.resourceID == "bad" { throw Persistent() } }
        let spans = bench.recorder.spans
        #expect(
            names(spans.filter { !$0.template.name.hasPrefix("poll") }) == [
                "process fhir.Patient.retry": 1, "wait fhir.Patient.retry": 1, "attempt": 1, "send fhir.Patient.dlq": 1,
            ])
        let process = try #require(spans.first { $0.template.name == "process fhir.Patient.retry" })
        #expect(isPartial(process) && process.links.count == 3)
        let wait = try #require(spans.first { $0.template.name == "wait fhir.Patient.retry" })
        #expect(process.links.last?.context.spanID == wait.context.spanID)
        #expect(bench.tracer.counts.failureTraces.notFailed == 3 && bench.tracer.counts.live == 0)
    }

    @Test("a revoked delivery whose handler failed is no failure")
    func abandoned() async throws {
        let bench = EngineBench(partitions: 1, sampler: .alwaysOff, failureTraces: limits(0))
        try bench.put("p1", version: 1)
        let entered = Watched(false)
        let gate = Watched(false)
        let running = bench.start {
            $0.endsWhenIdle = false
            $0.drainTimeout = .milliseconds(1)
        } handler: { _, _ in
            entered.change { $0 = true }
            await gate.until { $0 }
            throw Unexpected()
        }
        await entered.until { $0 }
        running.engine.stop()
        try await running.finished()
        gate.change { $0 = true }
        #expect(bench.recorder.spans.isEmpty)
        #expect(bench.tracer.counts.failureTraces.flaggedTraces == 0)
    }
}

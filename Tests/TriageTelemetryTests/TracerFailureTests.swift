import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

/// Counts how often it is asked to encode.
private final class CountingEncoder: SpanEncoder {
    let encoded = Atomic<Int>(0)
    func pack(name: String, kind: SpanKind, attributes: [Attribute]) -> ByteSlice { ByteSlice("") }
    func withEncoded(_ span: borrowing SpanData, _ body: (UnsafeRawBufferPointer) -> Void) {
        encoded.wrappingAdd(1, ordering: .relaxed)
        withUnsafeBytes(of: span.context.spanID.value.bigEndian) { body($0) }
    }
}

@Suite("Failure traces: the tracer", .timeLimit(.minutes(1)))
struct TracerFailureTests {
    let ended = EndedSpans()
    let refused = TraceContext(
        traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), flags: .random, traceState: TraceState("a=1"), isRemote: true)

    func tracer(
        _ sampler: Sampler = .parentBased(root: .alwaysOff), _ limits: FailureTraceLimits? = FailureTraceLimits()
    ) -> Tracer { Tracer(sampler: sampler, clock: StandingClock(), processors: [ended], failureTraces: limits) }

    func at(_ nanoseconds: Int64) -> Timestamp { Timestamp(nanoseconds: nanoseconds) }

    func isPartial(_ span: SpanData) -> Bool { span.attributes.contains(Attribute("triage.trace.partial", .bool(true))) }

    @Test("a failed attempt exports its refused process with everything under it, true ids and parents, sampled flags")
    func failure() throws {
        let tracer = tracer()
        let process = tracer.template("process", kind: .consumer, [])
        let inner = tracer.template("attempt", kind: .internal, [])
        var root = tracer.start(process, parent: refused, at: at(1))
        #expect(root.isRecording && !root.context.isSampled && root.context.flags == .random)
        let first = tracer.start(inner, parent: root.context, at: at(2))
        let below = tracer.start(inner, parent: first.context, at: at(2))
        tracer.end(below, at: at(3))
        tracer.end(first, at: at(3))
        var second = tracer.start(inner, parent: root.context, at: at(4))
        #expect(ended.all.isEmpty && tracer.counts.failureTraces.buffered == 2)
        tracer.fail(&second, fingerprint: "f")
        #expect(second.context.flags == [.sampled, .random])
        #expect(ended.all.map(\.context.spanID) == [first.context.spanID, below.context.spanID])
        tracer.end(second, at: at(5))
        // What begins after the failure is sampled, under the context from before it as well.
        let send = tracer.start(tracer.template("send", kind: .producer, []), parent: root.context, at: at(5))
        #expect(send.context.isSampled)
        tracer.end(send, at: at(6))
        #expect(!root.context.isSampled)
        tracer.fail(&root, fingerprint: "f")
        #expect(root.context.isSampled)
        tracer.end(root, at: at(7))
        let all = ended.all
        #expect(all.count == 5 && Set(all.map(\.context.spanID)).count == 5)
        #expect(all.allSatisfy { $0.context.flags == [.sampled, .random] && $0.context.traceState?.text == "a=1" })
        #expect(all.allSatisfy { $0.context.traceID == refused.traceID })
        #expect(all.map(\.parentSpanID) == [root, first, root, root].map(\.context.spanID) + [refused.spanID])
        #expect(all.map { isPartial($0) } == [false, false, false, false, true])
        #expect(tracer.counts.failureTraces.flaggedTraces == 1 && tracer.counts.live == 0 && tracer.counts.ended == 5)
        #expect(tracer.counts.started(.remote, .recordOnly) == 1 && tracer.counts.started(.local, .recordOnly) == 3)
        #expect(tracer.counts.started(.local, .recordAndSample) == 1 && tracer.counts.exported == 5)
    }

    @Test("a local parent decides, whatever the sampler says; of the others the sampler decides")
    func localParents() {
        let inner = SpanTemplate(name: "x", kind: .internal, attributes: [], packed: ByteSlice(""))
        let server = SpanTemplate(name: "x", kind: .server, attributes: [], packed: ByteSlice(""))
        func context(_ flags: TraceFlags, isRemote: Bool) -> TraceContext {
            TraceContext(traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), flags: flags, isRemote: isRemote)
        }
        let off = tracer(.alwaysOff)
        #expect(off.start(inner, parent: context(.sampled, isRemote: false), at: at(1)).result == .recordAndSample)
        #expect(off.start(inner, parent: context(.sampled, isRemote: true), at: at(1)).result == .drop)
        #expect(off.start(server, parent: context(.sampled, isRemote: true), at: at(1)).result == .recordOnly)
        #expect(off.start(server, parent: nil, at: at(1)).result == .recordOnly)
        #expect(off.start(inner, parent: nil, at: at(1)).result == .drop)
        let on = tracer(.alwaysOn)
        #expect(on.start(inner, parent: context([], isRemote: false), at: at(1)).result == .drop)
        #expect(on.start(inner, parent: context([], isRemote: true), at: at(1)).result == .recordAndSample)
        #expect(tracer(.alwaysOff, nil).start(server, parent: nil, at: at(1)).result == .drop)
        let none = Tracer(sampler: .alwaysOff, clock: StandingClock(), processors: [])
        #expect(none.start(server, parent: nil, at: at(1)).result == .drop)
    }

    @Test("a refused success is never encoded, so that no identifier is hashed; a failure is, once a span")
    func lean() async {
        let encoder = CountingEncoder()
        let processor = BatchSpanProcessor(encoder: encoder, exporter: FakeExporter())
        let tracer = Tracer(sampler: .alwaysOff, clock: StandingClock(), encoder: encoder, processors: [processor])
        let process = tracer.template("process", kind: .consumer, [])
        let attempt = tracer.template("attempt", kind: .internal, [])
        func event(fails: Bool) {
            var root = tracer.start(process, parent: nil, at: at(1))
            root.append("event.resource.id", .identifier(ByteSlice("p1")))
            var span = tracer.start(attempt, parent: root.context, at: at(1))
            if fails { tracer.fail(&span, fingerprint: "f") }
            tracer.end(span, at: at(1))
            tracer.end(root, at: at(1))
        }
        for _ in 0..<100 { event(fails: false) }
        #expect(encoder.encoded.load(ordering: .relaxed) == 0)
        event(fails: true)
        #expect(encoder.encoded.load(ordering: .relaxed) == 2)
        await processor.shutdown(timeout: .seconds(30))
        #expect(processor.counts.exported == 2 && tracer.counts.failureTraces.notFailed == 200)
    }

    @Test("a refused produce that fails is exported alone; a discarded one never was")
    func produce() {
        let tracer = tracer()
        let template = tracer.template("send", kind: .producer, [])
        tracer.end(tracer.start(template, parent: nil, at: at(1)), at: at(2))
        tracer.discard(tracer.start(template, parent: nil, at: at(1)))
        #expect(ended.all.isEmpty)
        var failed = tracer.start(template, parent: nil, at: at(1))
        tracer.fail(&failed, fingerprint: "f")
        tracer.end(failed, at: at(2))
        #expect(ended.all.count == 1 && isPartial(ended.all[0]) && ended.all[0].context.isSampled)
        #expect(tracer.counts.live == 0 && tracer.counts.failureTraces.discarded == 1 && tracer.counts.ended == 2)
    }

    @Test("a large text counts, so that the bound on bytes holds whatever a handler writes")
    func estimate() {
        let tracer = tracer()
        var span = tracer.start(tracer.template("x", kind: .server, []), parent: nil, at: at(1))
        let before = span.estimatedBytes
        span.append("a", .text(SafeText(vetted: String(repeating: "x", count: 10_000))))
        span.add(SpanEvent("e", at: at(1), [Attribute("b", .text(SafeText(vetted: String(repeating: "y", count: 5000))))]))
        span.add(SpanLink(refused, [Attribute("c", .text(SafeText(vetted: String(repeating: "z", count: 3000))))]))
        #expect(span.estimatedBytes - before >= 18_000)
        #expect(span.estimatedBytes - before <= 20_000)
    }

    @Test("eight threads end spans while they are exported and the exporter is shut down: every one is counted, once")
    func threads() async {
        let exporter = FakeExporter()
        var queue = SpanQueue.Limits()
        queue.bytes = 64 * 1024
        queue.delay = .milliseconds(1)
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: queue)
        var limits = failureLimits(bytes: 20_000, perSecond: 50, liveSpans: 64)
        limits.fingerprintInterval = .milliseconds(20)
        let tracer = Tracer(
            sampler: .parentBased(root: .traceIDRatio(0.3)), clock: StandingClock(), processors: [processor],
            failureTraces: limits)
        let process = tracer.template("process", kind: .consumer, [])
        let inner = tracer.template("attempt", kind: .internal, [])
        let send = tracer.template("send", kind: .producer, [])
        final class Shared: Sendable {
            let begun = Atomic<Int>(0)
            /// Spans that one thread begins and another one ends.
            let passed = Mutex<[SpanData]>([])
        }
        let shared = Shared()
        let seed = UInt64.random(in: 1 ... .max)
        @Sendable func work(_ thread: Int) {
            var random = QueueRandom(seed &+ UInt64(thread))
            for round in 0..<2000 {
                var root = tracer.start(process, parent: nil, at: Timestamp(nanoseconds: 1))
                var attempt = tracer.start(inner, parent: root.context, at: Timestamp(nanoseconds: 1))
                let below = tracer.start(send, parent: attempt.context, at: Timestamp(nanoseconds: 1))
                let taken = shared.passed.withLock { passed in
                    passed.append(below)
                    return passed.count > 20 ? passed.remove(at: Int.random(in: 0..<20, using: &random)) : nil
                }
                if var taken {
                    if Int.random(in: 0..<20, using: &random) == 0 { tracer.fail(&taken, fingerprint: "send") }
                    tracer.end(taken, at: Timestamp(nanoseconds: 2))
                }
                switch Int.random(in: 0..<20, using: &random) {
                case 0: tracer.fail(&attempt, fingerprint: "\(round % 7)")
                case 1: tracer.fail(&root, fingerprint: "root")
                default: break
                }
                if Int.random(in: 0..<50, using: &random) == 0 {
                    tracer.discard(attempt)
                } else {
                    tracer.end(attempt, at: Timestamp(nanoseconds: 2))
                }
                tracer.end(root, at: Timestamp(nanoseconds: 3))
                shared.begun.wrappingAdd(3, ordering: .relaxed)
                if thread == 0, round % 50 == 0 { _ = tracer.counts.live + processor.counts.ended }
            }
        }
        await withTaskGroup { group in
            for thread in 0..<8 { group.addTask { await onThread { work(thread) } } }
            group.addTask { _ = await processor.forceFlush(timeout: .seconds(30)) }
            group.addTask {
                await exporter.waitForBatches(3)
                await processor.shutdown(timeout: .seconds(30))
            }
        }
        for span in shared.passed.withLock({ $0 }) { tracer.end(span, at: Timestamp(nanoseconds: 2)) }
        await processor.shutdown(timeout: .seconds(30))
        let comment: Comment = "seed \(seed)"
        let counts = tracer.counts
        let failures = counts.failureTraces
        let exported = processor.counts
        #expect(SamplingResult.allCases.reduce(0) { $0 + counts.started($1) } == shared.begun.load(ordering: .relaxed), comment)
        #expect(counts.live == 0 && failures.buffered == 0 && failures.bufferedBytes == 0, comment)
        let unsampled = failures.notFailed + failures.rateLimited + failures.evicted
        #expect(
            counts.ended
                == exported.exported + exported.failed + exported.rejected + exported.dropped + exported.queued
                + exported.inFlight + unsampled, comment)
        #expect(exported.ended == counts.exported && exported.queued == 0 && exported.inFlight == 0, comment)
        #expect(failures.flaggedTraces > 0 && failures.limitedTraces > 0 && exported.droppedAlreadyShutdown > 0, comment)
        let ids = exporter.ids
        #expect(ids.count == exported.exported && Set(ids).count == ids.count, comment)
    }
}

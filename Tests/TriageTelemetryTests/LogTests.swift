import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

/// Encodes a record as the eight bytes of its time.
struct TimeEncoder: LogEncoder {
    func withEncoded(_ record: LogRecord, valueLength: Int?, _ body: (UnsafeRawBufferPointer) -> Void) {
        withUnsafeBytes(of: UInt64(record.timestamp.nanoseconds).bigEndian) { body($0) }
    }
}

/// Lets the log processor have the exporter that spans are tested with.
struct FakeLogExporter: LogExporter {
    let exporter: FakeExporter
    func export(_ records: EncodedLogs) -> ExportResult { exporter.export(records.entries) }
    func cancel() { exporter.cancel() }
}

/// Keeps records.
final class RecordKeeper: LogProcessor {
    private let kept = Mutex<[LogRecord]>([])
    var records: [LogRecord] { kept.withLock { $0 } }
    func onEmit(_ record: LogRecord, limits: LogLimits) { kept.withLock { $0.append(record) } }
}

private struct StillClock: EventClock {
    func now() -> Timestamp { Timestamp(nanoseconds: 7) }
}

private func context(_ span: UInt64, sampled: Bool = true) -> TraceContext {
    TraceContext(traceID: TraceID(high: 1, low: 2), spanID: SpanID(span), flags: sampled ? .sampled : [])
}

@Suite("Exporting log records in batches", .timeLimit(.minutes(1)))
struct BatchLogProcessorTests {
    func record(_ id: Int64, _ severity: LogSeverity = .info) -> LogRecord {
        LogRecord(severity, nil, at: Timestamp(nanoseconds: id))
    }

    @Test("The specification's defaults, and memory bounded")
    func defaults() {
        let limits = BatchLogProcessor.defaultLimits
        #expect(limits.spans == 2048 && limits.batchSpans == 512 && limits.delay == .seconds(1))
        #expect(limits.bytes == 4 << 20 && limits.reservedBytes == 1 << 20)
    }

    @Test("A flush sends what was emitted before it, in order; a shutdown the rest")
    func flush() async {
        let exporter = FakeExporter()
        var limits = BatchLogProcessor.defaultLimits
        limits.delay = .seconds(3600)
        limits.batchSpans = 10
        let processor = BatchLogProcessor(encoder: TimeEncoder(), exporter: FakeLogExporter(exporter: exporter), limits: limits)
        for id in 1...25 as ClosedRange<Int64> { processor.onEmit(record(id), limits: LogLimits()) }
        #expect(await processor.forceFlush(timeout: .seconds(30)))
        #expect(exporter.ids == Array(1...25))
        #expect(exporter.batches.map(\.count) == [10, 10, 5])
        processor.onEmit(record(26), limits: LogLimits())
        await processor.shutdown(timeout: .seconds(30))
        processor.onEmit(record(27), limits: LogLimits())
        #expect(exporter.ids == Array(1...26))
        #expect(processor.counts.exported == 26 && processor.counts.droppedAlreadyShutdown == 1)
    }

    @Test("A full queue drops and counts; errors may use the reserve")
    func full() async {
        let exporter = FakeExporter(.hang)
        var limits = BatchLogProcessor.defaultLimits
        limits.bytes = 80
        limits.reservedBytes = 40
        limits.batchSpans = 1
        let processor = BatchLogProcessor(encoder: TimeEncoder(), exporter: FakeLogExporter(exporter: exporter), limits: limits)
        processor.onEmit(record(1), limits: LogLimits())
        await exporter.waitUntilBegun(1)
        for id in 2...9 as ClosedRange<Int64> { processor.onEmit(record(id, .warning), limits: LogLimits()) }
        #expect(processor.counts.queued == 4 && processor.counts.droppedQueueFull == 4)
        for id in 10...19 as ClosedRange<Int64> { processor.onEmit(record(id, .error), limits: LogLimits()) }
        #expect(processor.counts.queued == 9 && processor.counts.droppedQueueFull == 9)
        exporter.release()
        #expect(await processor.forceFlush(timeout: .seconds(30)))
        #expect(exporter.ids == [1, 2, 3, 4, 5, 10, 11, 12, 13, 14])
        await processor.shutdown(timeout: .seconds(30))
        #expect(processor.counts.ended == 19)
    }
}

@Suite("Emitting log records")
struct LogEmitterTests {
    @Test("Attributes beyond the limit are dropped and counted, allowed ones first")
    func limits() {
        let keeper = RecordKeeper()
        var limits = LogLimits()
        limits.attributes = 3
        let emitter = LogEmitter(limits: limits, clock: StillClock(), processors: [keeper])
        let two = [Attribute("a", .int(1)), Attribute("b", .int(2))]
        func allowed(_ count: Int) -> [LogRecord.AllowedAttribute] {
            (0..<count).map { LogRecord.AllowedAttribute(vettedKey: "k\($0)", vettedValue: "v") }
        }
        for (attributes, extra) in [(two, 1), (two, 4), (two + two, 2)] {
            emitter.emit(LogRecord(.info, "x", at: StillClock().now(), attributes: attributes, allowed: allowed(extra)))
        }
        #expect(keeper.records.map(\.attributes.count) == [2, 2, 3])
        #expect(keeper.records.map(\.allowed.count) == [1, 1, 0])
        #expect(keeper.records.map(\.droppedAttributes) == [0, 3, 3])
        #expect(emitter.created == 3)
        emitter.countWithheld(bodies: 1, attributes: 3)
        #expect(emitter.bodiesWithheld == 1 && emitter.attributesWithheld == 3)
    }

    @Test("Severities: the data model's numbers")
    func severities() {
        #expect(LogSeverity.allCases.map(\.rawValue) == [1, 5, 9, 10, 13, 17, 21])
        let texts = LogSeverity.allCases.map(\.text.description)
        #expect(texts == ["TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR", "FATAL"])
    }
}

@Suite("Failures of steps as events")
struct FailureLogTests {
    let failure = Failure(.transient, type: "Timeout", code: "http_503", step: "handle")

    func tracer(_ keeper: RecordKeeper?, sampler: Sampler = .alwaysOn, _ processors: [any SpanProcessor] = []) -> Tracer {
        let emitter = keeper.map { LogEmitter(clock: StillClock(), processors: [$0]) }
        return Tracer(sampler: sampler, clock: StillClock(), processors: processors, logs: emitter)
    }

    @Test("A failed attempt is one event, ERROR, in its span, whether that is sampled or not", arguments: [true, false])
    func attempt(isSampled: Bool) throws {
        let keeper = RecordKeeper()
        let tracer = tracer(keeper)
        let step = AttemptStep(
            template: AttemptStep.template(tracer: tracer), number: 1, process: context(9, sampled: isSampled), previous: nil,
            tracer: tracer, at: StillClock().now()
        )
        let own = step.span.context
        step.end(failure, tracer: tracer, at: Timestamp(nanoseconds: 12))
        step.end(failure, tracer: tracer, at: Timestamp(nanoseconds: 13))
        let record = try #require(keeper.records.first)
        #expect(keeper.records.count == 1)
        #expect(record.eventName == "messaging.process.exception" && record.severity == .error)
        #expect(record.timestamp == Timestamp(nanoseconds: 12) && record.observed == record.timestamp)
        #expect(record.body == "Timeout http_503" && record.context == own && own.isSampled == isSampled)
        #expect(
            record.attributes == [
                Attribute("exception.type", .text("Timeout")), Attribute("exception.message", .text("Timeout http_503")),
                Attribute("triage.error.class", .text("transient")),
                Attribute("triage.error.fingerprint", .text(SafeText(vetted: failure.fingerprint))),
            ])
    }

    @Test("A success is none; without logs there is nothing to emit to")
    func none() {
        let keeper = RecordKeeper()
        for tracer in [tracer(keeper), tracer(nil)] {
            let step = AttemptStep(
                template: AttemptStep.template(tracer: tracer), number: 1, process: context(9), previous: nil, tracer: tracer,
                at: StillClock().now()
            )
            step.end(tracer.logs == nil ? failure : nil, tracer: tracer, at: StillClock().now())
        }
        #expect(keeper.records.isEmpty)
    }

    @Test("Decoding, sending and committing have events of their own; the last attempt's failure isn't told twice")
    func others() {
        let keeper = RecordKeeper()
        let ended = EndedSpans()
        let tracer = tracer(keeper, [ended])
        let template = ProcessStep.template(topic: "t", partition: 0, group: "g", clientID: nil, tracer: tracer)
        let process = ProcessStep(
            template: template, offset: 1, key: nil, isTombstone: false, context: nil, tracer: tracer, at: StillClock().now())
        process.failed(failure, tracer: tracer, at: StillClock().now())
        process.lastAttemptFailed(failure, tracer: tracer)
        process.end(.deadLettered, tracer: tracer, at: StillClock().now())
        let error = BrokerError("MSG_SIZE_TOO_LARGE", operation: "produce t")
        let send = SendStep(
            template: tracer.template("send t", kind: .producer, [Attribute("messaging.destination.name", .text("t"))]),
            parent: nil, tracer: tracer)
        send.end(.failure(error), tracer: tracer, at: StillClock().now())
        let commit = CommitStep(
            template: CommitStep.template(group: "g", clientID: nil, tracer: tracer), partitions: 1, tracer: tracer,
            at: StillClock().now())
        commit.end(error, tracer: tracer, at: StillClock().now())
        #expect(
            keeper.records.map { $0.eventName?.description } == [
                "messaging.process.exception", "messaging.send.exception", "messaging.settle.exception",
            ])
        #expect(keeper.records.map(\.severity) == [.error, .warning, .warning])
        #expect(keeper.records.map(\.body) == ["Timeout http_503", "MSG_SIZE_TOO_LARGE", "MSG_SIZE_TOO_LARGE"])
        #expect(keeper.records[1].context == send.span.context)
        // Each is an event of its span as well, at the time of its end.
        let spans = ended.all
        #expect(spans.map(\.template.name) == ["process t", "send t", "commit"])
        for span in spans.dropFirst() {
            #expect(span.status == .error("MSG_SIZE_TOO_LARGE"))
            #expect(span.attributes.contains(Attribute("error.type", .text("MSG_SIZE_TOO_LARGE"))))
            #expect(
                span.events == [
                    SpanEvent(
                        "exception", at: StillClock().now(),
                        [
                            Attribute("exception.type", .text("MSG_SIZE_TOO_LARGE")),
                            Attribute("exception.message", .text("MSG_SIZE_TOO_LARGE")),
                        ])
                ])
        }
        #expect(keeper.records[1].attributes.last == Attribute("messaging.destination.name", .text("t")))
    }
}

@Suite("The current span", .serialized)
struct CurrentSpanTests {
    @TaskLocal static var bridged: TraceContext?

    func span(_ id: UInt64) -> Span {
        let template = SpanTemplate(name: "x", kind: .internal, attributes: [], packed: ByteSlice(""))
        return Span(
            SpanData(template: template, context: context(id), parent: nil, start: StillClock().now(), isRecording: true),
            clock: StillClock())
    }

    @Test("Ours inside a span, none outside; an installed lookup goes before it, but not with nothing or an invalid context")
    func lookup() {
        #expect(currentTraceContext() == nil)
        Span.$current.withValue(span(5)) {
            #expect(currentTraceContext() == context(5))
            // Knows only what this test puts there, so tests that run meanwhile see no difference.
            CurrentSpan.install { CurrentSpanTests.bridged }
            #expect(currentTraceContext() == context(5))
            CurrentSpanTests.$bridged.withValue(context(6)) { #expect(currentTraceContext() == context(6)) }
            CurrentSpanTests.$bridged.withValue(context(0)) { #expect(currentTraceContext() == context(5)) }
            CurrentSpan.install(nil)
            CurrentSpanTests.$bridged.withValue(context(6)) { #expect(currentTraceContext() == context(5)) }
        }
        Span.$current.withValue(span(0)) { #expect(currentTraceContext() == nil) }
    }
}

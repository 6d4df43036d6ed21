import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

/// Encodes a span as its eight-byte id.
struct IDEncoder: SpanEncoder {
    func pack(name: String, kind: SpanKind, attributes: [Attribute]) -> ByteSlice { ByteSlice("") }
    func withEncoded(_ span: borrowing SpanData, _ body: (UnsafeRawBufferPointer) -> Void) {
        withUnsafeBytes(of: span.context.spanID.value.bigEndian) { body($0) }
    }
}

/// An exporter that keeps what it gets, and can be told to fail or to hang until it is cancelled or released.
final class FakeExporter: SpanExporter {
    enum Mode { case succeed, fail, hang }

    private struct State {
        var mode: Mode
        var batches: [EncodedSpans] = []
        var begun = 0
        var isCancelled = false
    }

    private let state: Mutex<State>
    private let changed = TestCondition()

    init(_ mode: Mode = .succeed) { state = Mutex(State(mode: mode)) }

    func export(_ spans: EncodedSpans) -> ExportResult {
        state.withLock { $0.begun += 1 }
        changed.signal()
        changed.wait { self.state.withLock { $0.mode != .hang || $0.isCancelled } }
        let result: ExportResult = state.withLock { state in
            guard state.mode == .succeed, !state.isCancelled else { return .failed }
            state.batches.append(spans)
            return .exported
        }
        changed.signal()
        return result
    }

    func cancel() {
        state.withLock { $0.isCancelled = true }
        changed.signal()
    }

    func release() {
        state.withLock { $0.mode = .succeed }
        changed.signal()
    }

    var batches: [EncodedSpans] { state.withLock { $0.batches } }
    var begun: Int { state.withLock { $0.begun } }
    func waitUntilBegun(_ count: Int) async { await onThread { self.changed.wait { self.begun >= count } } }
    func waitForBatches(_ count: Int) async { await onThread { self.changed.wait { self.batches.count >= count } } }

    /// The ids in the batches, in order.
    var ids: [UInt64] {
        batches.flatMap { batch in
            batch.withUnsafeBytes { bytes in
                stride(from: 0, to: bytes.count, by: 8).map {
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self))
                }
            }
        }
    }
}

@Suite("Exporting spans in batches", .timeLimit(.minutes(1)))
struct BatchSpanProcessorTests {
    /// Never exports by itself.
    func limits(_ change: (inout SpanQueue.Limits) -> Void = { _ in }) -> SpanQueue.Limits {
        var limits = SpanQueue.Limits()
        limits.delay = .seconds(3600)
        change(&limits)
        return limits
    }

    func span(_ id: UInt64, isError: Bool = false) -> SpanData {
        let template = SpanTemplate(name: "x", kind: .internal, attributes: [], packed: ByteSlice(""))
        let context = TraceContext(traceID: TraceID(high: 1, low: 1), spanID: SpanID(id), flags: .sampled)
        var span = SpanData(
            template: template, context: context, parent: nil, start: Timestamp(nanoseconds: 1), isRecording: true)
        if isError { span.set(.error("failed")) }
        return span
    }

    @Test("A flush sends what ended before it, in order")
    func flush() async {
        let exporter = FakeExporter()
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits { $0.batchSpans = 10 })
        for id in 1...25 { processor.onEnd(span(UInt64(id))) }
        #expect(await processor.forceFlush(timeout: .seconds(30)))
        #expect(exporter.ids == Array(1...25))
        #expect(exporter.batches.map(\.count) == [10, 10, 5])
        #expect(processor.counts.exported == 25 && processor.counts.queued == 0)
        #expect(await processor.forceFlush(timeout: .seconds(30)))
        await processor.shutdown(timeout: .seconds(30))
    }

    @Test("The delay alone sends a span")
    func delay() async {
        let exporter = FakeExporter()
        let processor = BatchSpanProcessor(
            encoder: IDEncoder(), exporter: exporter, limits: limits { $0.delay = .milliseconds(1) })
        processor.onEnd(span(7))
        await exporter.waitForBatches(1)
        #expect(exporter.ids == [7])
        await processor.shutdown(timeout: .seconds(30))
    }

    @Test("Spans from several threads all arrive once, and each thread's in its order; kept batches don't change")
    func threads() async {
        let exporter = FakeExporter()
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits { $0.batchSpans = 64 })
        await withTaskGroup { group in
            for thread in 0..<4 as Range<UInt64> {
                group.addTask {
                    await onThread {
                        for index in 0..<2500 as Range<UInt64> { processor.onEnd(self.span(thread << 32 | index + 1)) }
                    }
                }
            }
        }
        await processor.shutdown(timeout: .seconds(30))
        let ids = exporter.ids
        #expect(ids.count == 10_000 && Set(ids).count == 10_000)
        for thread in 0..<4 as Range<UInt64> {
            #expect(ids.filter { $0 >> 32 == thread } == (1...2500).map { thread << 32 | $0 })
        }
        #expect(processor.counts.exported == 10_000 && processor.counts.ended == 10_000)
    }

    @Test("With an exporter that hangs, ending spans goes on, memory is bounded and every drop is counted")
    func hangingExporter() async {
        let exporter = FakeExporter(.hang)
        let limits = limits {
            $0.bytes = 800
            $0.reservedBytes = 200
            $0.batchSpans = 10
        }
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits)
        for id in 1...10 as ClosedRange<UInt64> { processor.onEnd(span(id)) }
        await exporter.waitUntilBegun(1)
        for id in 11...200 as ClosedRange<UInt64> { processor.onEnd(span(id)) }
        #expect(processor.counts.inFlight == 10 && processor.counts.queued == 65 && processor.counts.droppedQueueFull == 125)
        for id in 201...300 as ClosedRange<UInt64> { processor.onEnd(span(id, isError: true)) }
        #expect(processor.counts.queued == 90 && processor.counts.queuedBytes == 720 && processor.counts.droppedQueueFull == 200)
        #expect(await processor.forceFlush(timeout: .milliseconds(1)) == false)
        exporter.release()
        #expect(await processor.forceFlush(timeout: .seconds(30)))
        #expect(exporter.ids == Array(1...75) + Array(201...225))
        #expect(processor.counts.ended == 300)
        await processor.shutdown(timeout: .seconds(30))
    }

    @Test("A dead endpoint fails one batch of a shutdown, and the rest is dropped")
    func deadEndpoint() async {
        let exporter = FakeExporter(.hang)
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits { $0.batchSpans = 10 })
        for id in 1...95 as ClosedRange<UInt64> { processor.onEnd(span(id)) }
        await exporter.waitUntilBegun(1)
        await processor.shutdown(timeout: .milliseconds(1))
        await onThread { while processor.counts.inFlight > 0 {} }
        #expect(exporter.begun == 1)
        #expect(processor.counts.failed == 10 && processor.counts.droppedShutdownTimeout == 85 && processor.counts.ended == 95)
    }

    @Test("A failing endpoint doesn't keep a shutdown waiting for its time-out")
    func failingEndpoint() async {
        let exporter = FakeExporter(.fail)
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits())
        processor.onEnd(span(1))
        #expect(await processor.forceFlush(timeout: .seconds(30)) == false)
        processor.onEnd(span(2))
        await processor.shutdown(timeout: .seconds(3600))
        #expect(processor.counts.failed == 2)
    }

    @Test("After the shutdown spans are dropped and counted; flushing and shutting down again return")
    func afterShutdown() async {
        let exporter = FakeExporter()
        let processor = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits())
        processor.onEnd(span(1))
        await processor.shutdown(timeout: .seconds(30))
        #expect(exporter.ids == [1])
        processor.onEnd(span(2))
        #expect(processor.counts.droppedAlreadyShutdown == 1)
        #expect(await processor.forceFlush(timeout: .seconds(30)))
        await processor.shutdown(timeout: .seconds(30))
        #expect(exporter.ids == [1])
    }

    @Test("A processor that is let go without a shutdown still sends what it has")
    func letGo() async {
        let exporter = FakeExporter()
        var processor: BatchSpanProcessor? = BatchSpanProcessor(encoder: IDEncoder(), exporter: exporter, limits: limits())
        processor?.onEnd(span(1))
        processor = nil
        await exporter.waitForBatches(1)
        #expect(exporter.ids == [1])
    }
}

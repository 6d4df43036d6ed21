import Foundation
import Glibc
import Testing
import TriageEvents
import TriageTelemetry

/// Encodes every span as 330 bytes, about what a process span takes.
private struct SizedEncoder: SpanEncoder {
    let bytes = [UInt8](repeating: 7, count: 330)
    func pack(name: String, kind: SpanKind, attributes: [Attribute]) -> ByteSlice { ByteSlice("") }
    func withEncoded(_ span: borrowing SpanData, _ body: (UnsafeRawBufferPointer) -> Void) { bytes.withUnsafeBytes(body) }
}

/// Measured in a process of its own, so only when asked for:
/// `TRIAGE_MEASURE=1 swift test --filter QueueMemoryTests`.
@Suite("Memory of a full span queue", .serialized, .enabled(if: ProcessInfo.processInfo.environment["TRIAGE_MEASURE"] != nil))
struct QueueMemoryTests {
    @Test("A full queue of 32 MiB takes hardly more, whatever the batches' size", arguments: [4096, 512, 16, 1])
    func full(batchSpans: Int) async {
        var limits = SpanQueue.Limits()
        limits.batchSpans = batchSpans
        limits.reservedBytes = 0
        let exporter = FakeExporter(.hang)
        let before = residentBytes()
        let processor = BatchSpanProcessor(encoder: SizedEncoder(), exporter: exporter, limits: limits)
        let template = SpanTemplate(name: "x", kind: .internal, attributes: [], packed: ByteSlice(""))
        let context = TraceContext(traceID: TraceID(high: 1, low: 1), spanID: SpanID(1), flags: .sampled)
        let span = SpanData(
            template: template, context: context, parent: nil, start: Timestamp(nanoseconds: 1), isRecording: true)
        for _ in 0..<200_000 { processor.onEnd(span) }
        let counts = processor.counts
        #expect(counts.droppedQueueFull > 50_000 && counts.queuedBytes > 31 * 1024 * 1024 - limits.batchBytes)
        let mebibytes = Double(residentBytes() - before) / 1_048_576
        print("a full queue of \(counts.queued + counts.inFlight) spans in batches of \(batchSpans): \(mebibytes) MiB")
        #expect(mebibytes < 64)
        await processor.shutdown(timeout: .milliseconds(1))
    }

    private func residentBytes() -> Int {
        let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }
}

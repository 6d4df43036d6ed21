internal import Synchronization
internal import TriageEvents

/// The ``FailureTraces`` of a tracer, for any thread: each call is one short lock, and nothing is exported under it.
final class FailureTraceBuffer: Sendable {
    private let traces: Mutex<FailureTraces<SpanData>>

    init(_ limits: FailureTraceLimits) { traces = Mutex(FailureTraces(limits)) }

    var counts: FailureTraceCounts { traces.withLock(\.counts) }

    /// Begins a local trace that the sampler refused. A produce has no children here, so it needs no place either.
    func beginRoot(_ trace: TraceID, _ span: SpanID, kind: SpanKind) -> BufferedSpanHandle {
        guard kind != .producer else { return .none }
        return traces.withLock { $0.beginRoot(trace: trace.low, span: span.value) }
    }

    func begin(_ trace: TraceID, _ span: SpanID, under parent: SpanID) -> FailureTraces<SpanData>.Begin {
        traces.withLock { $0.begin(trace: trace.low, span: span.value, under: parent.value) }
    }

    func begin(_ trace: TraceID, _ span: SpanID, beside other: BufferedSpanHandle) -> FailureTraces<SpanData>.Begin {
        traces.withLock { $0.begin(trace: trace.low, span: span.value, beside: other) }
    }

    /// Ends a span; gives it back if it is to be exported.
    func end(_ span: consuming SpanData) -> SpanData? {
        if span.buffered == .none {
            let (isFlagged, isLimited) = (span.context.isSampled, span.isRateLimited)
            traces.withLock { $0.endAlone(isFlagged: isFlagged, isLimited: isLimited) }
            return isFlagged ? span : nil
        }
        let handle = span.buffered
        // Moved in and out of the lock rather than copied.
        var ended: SpanData? = consume span
        let end = traces.withLock { $0.end(handle, &ended) { $0.estimatedBytes } }
        return end == .export ? ended : nil
    }

    func discard(_ span: borrowing SpanData) {
        let handle = span.buffered
        traces.withLock { if handle == .none { $0.discardAlone() } else { $0.discard(handle) } }
    }

    /// Something failed in a span; gives the spans that are to be exported for it, those of its trace that ended before.
    func fail(_ span: inout SpanData, fingerprint: String, at now: Duration) -> [SpanData] {
        let handle = span.buffered
        if handle == .none {
            if traces.withLock({ $0.failAlone(fingerprint: fingerprint, at: now) }) {
                span.promote()
            } else {
                span.isRateLimited = true
            }
            return []
        }
        switch traces.withLock({ $0.fail(handle, fingerprint: fingerprint, at: now) }) {
        case .flagged(let earlier, let isOrphan):
            span.promote()
            if isOrphan { span.isLocalRoot = true }
            return earlier
        case .sampled: span.promote()
        case .limited, .ignored: break
        }
        return []
    }
}

extension SpanData {
    /// About what the span occupies while it waits: its parts as they lie in memory, and texts that are not in place.
    var estimatedBytes: Int {
        var bytes = 512 + attributes.count * MemoryLayout<Attribute>.stride + SpanData.textBytes(attributes)
        for event in events {
            bytes += MemoryLayout<SpanEvent>.stride + 32 + event.attributes.count * MemoryLayout<Attribute>.stride
            bytes += SpanData.textBytes(event.attributes)
        }
        for link in links {
            bytes += MemoryLayout<SpanLink>.stride + link.attributes.count * MemoryLayout<Attribute>.stride
            bytes += SpanData.textBytes(link.attributes)
        }
        return bytes
    }

    private static func textBytes(_ attributes: [Attribute]) -> Int {
        var bytes = 0
        for attribute in attributes {
            // A string of up to 15 bytes lies in place.
            if case .text(let text) = attribute.value, text.text.utf8.count > 15 { bytes += 32 + text.text.utf8.count }
        }
        return bytes
    }
}

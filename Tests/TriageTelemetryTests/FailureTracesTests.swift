import Testing

@testable import TriageTelemetry

typealias Traces = FailureTraces<String>

/// Limits on bytes, without one on the rate.
func failureLimits(bytes: Int = 1000, perSecond: Int = 0, liveSpans: Int = 1000) -> FailureTraceLimits {
    var limits = FailureTraceLimits()
    limits.bytes = bytes
    limits.tracesPerSecond = perSecond
    limits.liveSpans = liveSpans
    return limits
}

/// The machine as a reference, so that expectations may change it.
private final class Machine {
    private var traces: Traces

    init(_ limits: FailureTraceLimits = failureLimits()) { traces = Traces(limits) }

    var counts: FailureTraceCounts { traces.counts }

    func beginRoot(trace: UInt64, span: UInt64) -> BufferedSpanHandle { traces.beginRoot(trace: trace, span: span) }

    func begin(_ span: UInt64, under parent: UInt64, trace: UInt64 = 1) -> Traces.Begin {
        traces.begin(trace: trace, span: span, under: parent)
    }

    func begin(_ span: UInt64, beside other: BufferedSpanHandle, trace: UInt64 = 1) -> Traces.Begin {
        traces.begin(trace: trace, span: span, beside: other)
    }

    /// Begins a child; nil if it is not buffered.
    func child(_ span: UInt64, under parent: UInt64, trace: UInt64 = 1) -> BufferedSpanHandle? {
        if case .buffered(let handle) = begin(span, under: parent, trace: trace) { handle } else { nil }
    }

    func end(_ handle: BufferedSpanHandle, _ name: String, bytes: Int = 10) -> Traces.End {
        var payload: String? = name
        let end = traces.end(handle, &payload) { _ in bytes }
        #expect(payload == (end == .kept ? nil : name))
        return end
    }

    func fail(_ handle: BufferedSpanHandle, _ fingerprint: String = "f") -> Traces.Failing {
        traces.fail(handle, fingerprint: fingerprint, at: .zero)
    }

    func failAlone(_ fingerprint: String) -> Bool { traces.failAlone(fingerprint: fingerprint, at: .zero) }
    func endAlone(isFlagged: Bool, isLimited: Bool) { traces.endAlone(isFlagged: isFlagged, isLimited: isLimited) }
    func discard(_ handle: BufferedSpanHandle) { traces.discard(handle) }
    func discardAlone() { traces.discardAlone() }
}

@Suite("Failure traces: the machine")
struct FailureTracesTests {
    @Test("a trace in which nothing fails is forgotten with its root")
    func success() throws {
        let traces = Machine()
        let root = traces.beginRoot(trace: 1, span: 10)
        let attempt = try #require(traces.child(11, under: 10))
        let inner = try #require(traces.child(12, under: 11))
        #expect(traces.end(inner, "inner") == .kept)
        #expect(traces.end(attempt, "attempt", bytes: 20) == .kept)
        #expect(traces.counts.buffered == 2 && traces.counts.bufferedBytes == 30)
        #expect(traces.end(root, "root") == .discarded)
        #expect(traces.counts.ended == 3 && traces.counts.notFailed == 3)
        #expect(traces.counts.buffered == 0 && traces.counts.bufferedBytes == 0)
        #expect(traces.begin(13, under: 11) == .unknown)
        #expect(traces.begin(13, under: 10) == .unknown)
    }

    @Test("a failure gives what has ended, in order of begin; the rest follows as it ends, and new ones are sampled")
    func failure() throws {
        let traces = Machine()
        let root = traces.beginRoot(trace: 1, span: 10)
        let first = try #require(traces.child(11, under: 10))
        let second = try #require(traces.child(12, under: 10))
        let third = try #require(traces.child(13, under: 10))
        let late = try #require(traces.child(14, under: 13))
        #expect(traces.end(second, "second") == .kept)
        #expect(traces.end(first, "first") == .kept)
        #expect(traces.fail(third) == .flagged(["first", "second"], isOrphan: false))
        #expect(traces.fail(third) == .sampled && traces.fail(root) == .sampled)
        #expect(traces.end(third, "third") == .export)
        #expect(traces.begin(15, under: 10) == .sampled)
        #expect(traces.begin(15, beside: root) == .sampled)
        #expect(traces.end(root, "root") == .export)
        #expect(traces.end(late, "late") == .export)
        #expect(traces.begin(16, under: 10) == .unknown)
        #expect(traces.counts.ended == 5 && traces.counts.exported == 5 && traces.counts.flaggedTraces == 1)
    }

    @Test("nothing is given twice: a second end, and a failure after the end, are ignored, in a place that is used again too")
    func once() throws {
        let traces = Machine()
        let root = traces.beginRoot(trace: 1, span: 10)
        let child = try #require(traces.child(11, under: 10))
        #expect(traces.end(child, "child") == .kept)
        #expect(traces.end(child, "child") == .ignored && traces.fail(child) == .ignored)
        #expect(traces.end(root, "root") == .discarded)
        #expect(traces.end(root, "root") == .ignored && traces.fail(root) == .ignored)
        _ = traces.beginRoot(trace: 2, span: 20)
        #expect(traces.end(root, "root") == .ignored && traces.fail(root) == .ignored)
        traces.discard(root)
        #expect(traces.end(.none, "none") == .ignored && traces.fail(.none) == .ignored)
        #expect(traces.counts.ended == 2 && traces.counts.discarded == 0)
    }

    @Test("a span that outlives its root is on its own: it is forgotten, or flags what is left")
    func orphans() throws {
        let traces = Machine()
        let root = traces.beginRoot(trace: 1, span: 10)
        let early = try #require(traces.child(11, under: 10))
        let good = try #require(traces.child(12, under: 10))
        let bad = try #require(traces.child(13, under: 10))
        #expect(traces.end(early, "early") == .kept)
        #expect(traces.end(root, "root") == .discarded)
        #expect(traces.end(good, "good") == .discarded)
        let below = try #require(traces.child(14, under: 13))
        #expect(traces.fail(bad) == .flagged([], isOrphan: true))
        #expect(traces.end(bad, "bad") == .export)
        #expect(traces.end(below, "below") == .export)
        #expect(traces.counts.notFailed == 3 && traces.counts.exported == 2 && traces.counts.ended == 5)
    }

    @Test("beyond the bound the trace that has waited longest gives up its spans; its failure exports what is left")
    func eviction() throws {
        let traces = Machine(failureLimits(bytes: 100))
        let old = traces.beginRoot(trace: 1, span: 10)
        let young = traces.beginRoot(trace: 2, span: 20)
        // What counts is whose spans wait longest, not whose root began first.
        let first = try #require(traces.child(21, under: 20, trace: 2))
        #expect(traces.end(first, "first", bytes: 40) == .kept)
        let second = try #require(traces.child(11, under: 10))
        #expect(traces.end(second, "second", bytes: 60) == .kept)
        #expect(traces.counts.bufferedBytes == 100 && traces.counts.evicted == 0)
        let third = try #require(traces.child(12, under: 10))
        #expect(traces.end(third, "third", bytes: 1) == .kept)
        #expect(traces.counts.evicted == 1 && traces.counts.bufferedBytes == 61)
        let fourth = try #require(traces.child(22, under: 20, trace: 2))
        #expect(traces.fail(fourth) == .flagged([], isOrphan: false))
        #expect(traces.counts.incompleteTraces == 1)
        #expect(traces.end(fourth, "fourth") == .export)
        #expect(traces.end(young, "young") == .export)
        #expect(traces.fail(old) == .flagged(["second", "third"], isOrphan: false))
        #expect(traces.counts.incompleteTraces == 1 && traces.counts.flaggedTraces == 2 && traces.counts.bufferedBytes == 0)
        // One that is larger than the bound alone can't wait at all.
        let huge = traces.beginRoot(trace: 3, span: 30)
        let child = try #require(traces.child(31, under: 30, trace: 3))
        #expect(traces.end(child, "child", bytes: 101) == .kept)
        #expect(traces.counts.evicted == 2 && traces.counts.bufferedBytes == 0)
        #expect(traces.end(huge, "huge") == .discarded)
    }

    @Test("what the rate limit refuses is counted once, whole, unless a later failure is admitted")
    func rateLimit() throws {
        let traces = Machine(failureLimits(perSecond: 1))
        let first = traces.beginRoot(trace: 1, span: 10)
        #expect(traces.fail(first) == .flagged([], isOrphan: false))
        #expect(traces.end(first, "first") == .export)
        let refused = traces.beginRoot(trace: 2, span: 20)
        let attempt = try #require(traces.child(21, under: 20, trace: 2))
        #expect(traces.fail(attempt) == .limited)
        #expect(traces.end(attempt, "attempt") == .kept)
        #expect(traces.fail(refused) == .limited)
        let late = try #require(traces.child(22, under: 20, trace: 2))
        #expect(traces.end(refused, "refused") == .discarded)
        #expect(traces.end(late, "late") == .discarded)
        #expect(traces.counts.limitedTraces == 1 && traces.counts.rateLimited == 3 && traces.counts.notFailed == 0)
        let healed = traces.beginRoot(trace: 3, span: 30)
        let tried = try #require(traces.child(31, under: 30, trace: 3))
        #expect(traces.fail(tried) == .limited)
        #expect(traces.end(tried, "tried") == .kept)
        #expect(traces.fail(healed, "another") == .flagged(["tried"], isOrphan: false))
        #expect(traces.counts.limitedTraces == 1 && traces.counts.flaggedTraces == 2)
        let orphaned = traces.beginRoot(trace: 4, span: 40)
        let orphan = try #require(traces.child(41, under: 40, trace: 4))
        #expect(traces.end(orphaned, "orphaned") == .discarded)
        #expect(traces.fail(orphan) == .limited && traces.fail(orphan) == .limited)
        #expect(traces.counts.limitedTraces == 2)
        #expect(traces.fail(orphan, "a third") == .flagged([], isOrphan: true))
        #expect(traces.counts.limitedTraces == 1 && traces.counts.flaggedTraces == 3)
    }

    @Test("a discarded span never was; a discarded root takes its trace with it")
    func discarding() throws {
        let traces = Machine()
        let root = traces.beginRoot(trace: 1, span: 10)
        let child = try #require(traces.child(11, under: 10))
        let other = try #require(traces.child(12, under: 10))
        traces.discard(child)
        #expect(traces.begin(13, under: 11) == .unknown)
        #expect(traces.end(other, "other") == .kept)
        traces.discard(root)
        #expect(traces.begin(13, under: 10) == .unknown)
        #expect(traces.counts.discarded == 2 && traces.counts.ended == 1 && traces.counts.notFailed == 1)
    }

    @Test("without room for more spans a root is on its own, and its failure exports it alone")
    func full() throws {
        let traces = Machine(failureLimits(liveSpans: 2))
        let root = traces.beginRoot(trace: 1, span: 10)
        let child = try #require(traces.child(11, under: 10))
        #expect(traces.beginRoot(trace: 2, span: 20) == .none)
        #expect(traces.begin(12, under: 10) == .unknown)
        #expect(traces.end(child, "child") == .kept)
        #expect(traces.child(12, under: 10) != nil)
        #expect(traces.failAlone("f"))
        traces.endAlone(isFlagged: true, isLimited: false)
        traces.endAlone(isFlagged: false, isLimited: true)
        traces.endAlone(isFlagged: false, isLimited: false)
        traces.discardAlone()
        #expect(traces.end(root, "root") == .discarded)
        let counts = traces.counts
        #expect(counts.exported == 1 && counts.rateLimited == 1 && counts.limitedTraces == 1 && counts.notFailed == 3)
        #expect(counts.ended == 5 && counts.discarded == 1 && counts.flaggedTraces == 1)
    }
}

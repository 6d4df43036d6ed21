/// Names a span that ``FailureTraces`` knows of; a span that has ended is not mistaken for a later one in its place.
struct BufferedSpanHandle: Sendable, Hashable {
    let slot: UInt32
    let generation: UInt32

    /// Of a span that the machine doesn't know of.
    static let none = BufferedSpanHandle(slot: .max, generation: 0)
}

/// What became of the spans that the sampler refused and that were recorded all the same.
///
/// Read in one go, so ``ended`` is at any moment the sum of ``exported``, ``notFailed``, ``rateLimited``, ``evicted`` and
/// ``buffered``.
public struct FailureTraceCounts: Sendable, Hashable {
    /// Spans that ended.
    public var ended = 0
    /// Ended spans that were handed to the processors, since their local trace failed.
    public var exported = 0
    /// Ended spans of local traces in which nothing failed.
    public var notFailed = 0
    /// Ended spans of local traces that failed beyond the rate limit.
    public var rateLimited = 0
    /// Ended spans given up for the bound on memory before it was known whether their local trace fails.
    public var evicted = 0
    /// Ended spans that wait for their local root.
    public var buffered = 0
    /// Estimated bytes of the spans that wait.
    public var bufferedBytes = 0
    /// Spans that were begun for something that didn't happen.
    public var discarded = 0
    /// Local traces that failed and were exported.
    public var flaggedTraces = 0
    /// Local traces that failed and were not exported, for the rate limit.
    public var limitedTraces = 0
    /// Flagged traces that lack spans which had been evicted.
    public var incompleteTraces = 0

    /// No spans yet.
    public init() {}
}

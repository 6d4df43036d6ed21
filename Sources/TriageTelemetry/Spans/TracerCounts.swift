internal import Synchronization

/// What a tracer counts about its own spans; read by the metric catalogue (`otel.sdk.span.*`).
public final class TracerCounts: Sendable {
    private let sampledCount = Atomic<Int>(0)
    private let droppedCount = Atomic<Int>(0)
    private let endedCount = Atomic<Int>(0)

    /// Spans begun and recorded.
    public var sampled: Int { sampledCount.load(ordering: .relaxed) }
    /// Spans begun that the sampler refused.
    public var unsampled: Int { droppedCount.load(ordering: .relaxed) }
    /// Recorded spans that have ended.
    public var ended: Int { endedCount.load(ordering: .relaxed) }

    @inline(__always)
    func countStart(sampled: Bool) {
        if sampled { sampledCount.wrappingAdd(1, ordering: .relaxed) } else { droppedCount.wrappingAdd(1, ordering: .relaxed) }
    }

    @inline(__always)
    func countEnd() { endedCount.wrappingAdd(1, ordering: .relaxed) }
}

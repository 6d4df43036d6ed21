public import TriageEvents

/// Decides whether requests can be taken in: a pure machine, time is an argument.
///
/// - Live: always. A server that can't listen ends the process, and brokers that are away are healed by no restart.
/// - Ready: it listens and isn't stopping, a broker answered within ``maxSilence``, and not everything that was sent of late failed.
///
/// Failures count for as long as they are fresh: an instance that gets no requests since it isn't ready would never learn otherwise
/// that the brokers take what is sent again.
public struct IntakeHealth: HealthReading, Equatable {
    /// How long no broker may have answered: three looks of 5 s.
    public static let maxSilence: Duration = .seconds(15)
    /// How long everything must have failed: what takes less is passed over by whoever sends again.
    static let patience: Duration = .seconds(10)
    /// How long the last failure counts.
    static let freshness: Duration = .seconds(30)

    private var isListening = false
    private var isStopping = false
    private var lastReached: Timestamp?
    private var failing: ClosedRange<Timestamp>?

    /// A server that doesn't listen yet.
    public init() {}

    /// It listens, or doesn't any more.
    public mutating func listens(_ listens: Bool) { isListening = listens }

    /// A broker answered.
    public mutating func reached(at now: Timestamp) { lastReached = lastReached.map { max($0, now) } ?? now }

    /// From when to when all that was sent failed; nil if what was sent last was taken.
    public mutating func sendsFail(_ times: ClosedRange<Timestamp>?) { failing = times }

    /// The shutdown began.
    public mutating func stopping() { isStopping = true }

    /// Whether the process should be left running.
    public func liveness(at now: Timestamp) -> HealthStatus { .ok }

    /// Whether requests can be taken in.
    public func readiness(at now: Timestamp) -> HealthStatus {
        var reasons: [HealthReason] = []
        if isStopping { reasons.append(.stopping) }
        if !isListening { reasons.append(.notListening) }
        let isSilent = lastReached.map { now - $0 > IntakeHealth.maxSilence } ?? true
        let isRefused =
            failing.map { now - $0.lowerBound > IntakeHealth.patience && now - $0.upperBound <= IntakeHealth.freshness } ?? false
        if isSilent || isRefused { reasons.append(.notProducing) }
        return reasons.isEmpty ? .ok : .failing(reasons)
    }
}

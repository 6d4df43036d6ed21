/// When the outage gate closes, and how it looks for the outage's end (design §3).
public struct OutagePolicy: Sendable, Hashable {
    /// Keys that fail in a row at which the gate closes; 0 for never. Default 20. Failed retries count if nothing has succeeded
    /// for a second.
    public var failuresInRow: Int
    /// Share of failures in the window's attempts at which the gate closes, failed retries not counted; 0 for never.
    /// Default 0.5.
    public var failureRatio: Double
    /// Attempts that the window must hold before the ratio says anything. Default 100.
    public var minimumAttempts: Int
    /// How far the ratio looks back. Default 60 s; kept in six parts, so it is right to a sixth.
    public var window: Duration
    /// The time from closing to the first probe, doubled after each probe that fails. Default 1 s.
    public var probeDelay: Duration
    /// The longest time between probes. Default 30 s.
    public var maximumProbeDelay: Duration

    /// A policy; the defaults let neither single poison events nor a few percent of failures close the gate.
    public init(
        failuresInRow: Int = 20, failureRatio: Double = 0.5, minimumAttempts: Int = 100, window: Duration = .seconds(60),
        probeDelay: Duration = .seconds(1), maximumProbeDelay: Duration = .seconds(30)
    ) {
        self.failuresInRow = max(0, failuresInRow)
        self.failureRatio = failureRatio > 0 ? min(failureRatio, 1) : 0
        self.minimumAttempts = max(1, minimumAttempts)
        self.window = max(.milliseconds(6), window)
        self.probeDelay = max(.zero, probeDelay)
        self.maximumProbeDelay = max(.zero, maximumProbeDelay)
    }

    /// How the times between probes grow: as a retry's delays do, a fifth off at random, so that instances don't probe together.
    var backoff: RetryPolicy { RetryPolicy(base: probeDelay, cap: maximumProbeDelay, jitter: 0.2) }
}

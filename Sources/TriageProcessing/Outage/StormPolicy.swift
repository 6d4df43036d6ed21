/// When the storm breaker stops intake, and how it looks for the storm's end (design §3).
public struct StormPolicy: Sendable, Hashable {
    /// Share of dead letters in the window's final outcomes at which intake stops, more than 0 and at most 1. Default 0.5.
    public var share: Double
    /// Final outcomes that the window must hold before the share says anything, 1 or more. Default 200.
    public var minimumEvents: Int
    /// How far the share looks back. Default 60 s; kept in six parts, so it is right to a sixth.
    public var window: Duration
    /// The time from stopping to the first probe, doubled after each probe that is dead-lettered. Default 10 s.
    public var pause: Duration
    /// The longest time between probes. Default 5 min.
    public var maximumPause: Duration

    /// A policy; by the defaults neither a few poison events nor a quiet topic stop anything.
    public init(
        share: Double = 0.5, minimumEvents: Int = 200, window: Duration = .seconds(60), pause: Duration = .seconds(10),
        maximumPause: Duration = .seconds(300)
    ) {
        self.share = share > 0 ? min(share, 1) : 1
        self.minimumEvents = max(1, minimumEvents)
        self.window = max(.milliseconds(6), window)
        self.pause = max(.zero, pause)
        self.maximumPause = max(.zero, maximumPause)
    }

    /// How the pauses grow: as a retry's delays do, a fifth off at random, so that instances don't probe together.
    var backoff: RetryPolicy { RetryPolicy(base: pause, cap: maximumPause, jitter: 0.2) }
}

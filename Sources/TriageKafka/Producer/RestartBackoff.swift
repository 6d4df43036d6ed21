/// How long a producer that failed for good waits for its successor: the first not at all, each further one at least 1 s, 2 s, 4 s
/// … 30 s after the one before, until one has lived for a minute.
///
/// A value without a clock. It keeps a producer that is fenced again and again from spinning.
struct RestartBackoff: Sendable {
    private let base: Duration
    private let cap: Duration
    private var delay: Duration
    private var last: ContinuousClock.Instant?

    init(base: Duration = .seconds(1), cap: Duration = .seconds(30)) {
        self.base = base
        self.cap = cap
        delay = base
    }

    /// A client failed at `now`: how long to wait before the next is made.
    mutating func pause(at now: ContinuousClock.Instant) -> Duration {
        guard let last, now - last < cap * 2 else {
            delay = base
            last = now
            return .zero
        }
        let pause = max(.zero, last + delay - now)
        delay = min(cap, delay * 2)
        self.last = now + pause
        return pause
    }
}

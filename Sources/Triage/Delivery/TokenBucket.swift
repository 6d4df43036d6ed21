internal import TriageEvents

/// When the next one may go if so many may go a second: a bucket that fills steadily and holds what one second brings, one at least.
///
/// Tokens are taken in advance: each caller is told how long to wait, in the order in which they came.
struct TokenBucket: Sendable, Equatable {
    /// Nanoseconds that one token takes to come.
    private let interval: Double
    /// How far the bucket may be ahead, full, in nanoseconds.
    private let burst: Double
    /// When the next token is there, were there no burst, in nanoseconds.
    private var next: Double?

    /// A bucket of `rate` tokens a second, more than 0; full at first.
    init(rate: Double) {
        interval = 1e9 / rate
        burst = max(0, 1e9 - interval)
    }

    /// Takes a token; how long to wait until it is there.
    mutating func take(at now: Duration) -> Duration {
        let now = Double(now.wholeNanoseconds)
        let next = max(next ?? 0, now - burst)
        self.next = next + interval
        return .nanoseconds(Int64(min(max(0, next - now), 1e18).rounded(.up)))
    }
}

internal import TriageEvents

/// Says how long to wait so that no more than so many go out in a second: times in, pauses out.
struct ReplayPacer: Sendable {
    /// Seconds that a pause takes at most: a day, which no operator waits for.
    private static let longest = 86_400.0

    private let rate: Double?
    /// When the next one may go out.
    private var due: Timestamp

    init(rate: Double?, from start: Timestamp) {
        self.rate = rate.flatMap { $0 > 0 ? $0 : nil }
        due = start
    }

    /// How long to wait before `count` more go out together.
    mutating func pause(before count: Int, at now: Timestamp) -> Duration {
        guard let rate else { return .zero }
        let pause = max(.zero, due - now)
        // A rate may be as small as a number can be.
        let seconds = min(Double(count) / rate, ReplayPacer.longest)
        due = max(due, now) + .nanoseconds(Int64(seconds * 1e9))
        return pause
    }
}

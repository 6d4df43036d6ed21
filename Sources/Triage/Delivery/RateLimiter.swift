internal import Synchronization
internal import TriageTelemetry

/// Lets so many pass a second.
final class RateLimiter: Sendable {
    private let bucket: Mutex<TokenBucket>

    /// A limiter to `rate` a second, more than 0.
    init(rate: Double) { bucket = Mutex(TokenBucket(rate: rate)) }

    /// Waits for its turn; a cancelled one's turn is lost.
    func pass() async throws {
        let wait = bucket.withLock { $0.take(at: MonotonicClock.now) }
        if wait > .zero { try await Task.sleep(for: wait) }
    }
}

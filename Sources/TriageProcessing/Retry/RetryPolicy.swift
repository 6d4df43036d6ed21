public import TriageEvents

/// How often and when a failed event is tried again (design §3).
public struct RetryPolicy: Sendable, Hashable {
    /// The ways to wait.
    public enum Strategy: String, Sendable, CaseIterable {
        /// Again at once, in place, without leaving the handler's lane.
        case immediate
        /// Through the retry topic, after a delay that doubles.
        case exponential
        /// Through the retry topic, at a time that the error named.
        case scheduled
    }

    /// Immediate or exponential.
    public var strategy: Strategy
    /// Retries after the first attempt, 0 or more. Default 3, so four attempts.
    public var retries: Int
    /// The first delay. Default 1 s.
    public var base: Duration
    /// The longest delay. Default 60 s.
    public var cap: Duration
    /// The share by which a delay varies at random, 0 to 1. Default 0.2.
    public var jitter: Double

    /// A policy; the defaults are the design's.
    public init(
        _ strategy: Strategy = .exponential, retries: Int = 3, base: Duration = .seconds(1), cap: Duration = .seconds(60),
        jitter: Double = 0.2
    ) {
        self.strategy = strategy
        self.retries = max(0, retries)
        self.base = base
        self.cap = cap
        self.jitter = jitter > 0 ? min(jitter, 1) : 0
    }

    /// No retries: the first failure is final.
    public static let none = RetryPolicy(retries: 0)

    /// The delay before retry `number`: `min(cap, base · 2^(number−1)) · U(1−j, 1+j)` (design §3).
    ///
    /// - Parameters:
    ///   - number: 1 for the first retry.
    ///   - unit: a uniform random number in 0..<1.
    public func delay(before number: Int, unit: Double) -> Duration {
        let doubled = base.inSeconds * Double(sign: .plus, exponent: min(max(number, 1) - 1, 62), significand: 1)
        // The properties can be set to anything; a delay is neither negative nor longer than a duration in nanoseconds holds.
        let jitter = jitter > 0 ? min(jitter, 1) : 0
        let seconds = max(0, min(cap.inSeconds, doubled)) * (1 - jitter + 2 * jitter * unit)
        return seconds < RetryPolicy.longest ? .nanoseconds(Int64(seconds * 1e9)) : .seconds(RetryPolicy.longest)
    }

    /// Seconds of the longest delay: 292 years, just below 2⁶³ ns.
    private static let longest = 9_200_000_000.0
}

/// What to do about a failed attempt.
public enum RetryDecision: Sendable, Hashable {
    /// Try again at once, in place.
    case again
    /// Produce retry record number `count`, due at `at`.
    case retry(count: Int, at: Timestamp, strategy: RetryPolicy.Strategy)
    /// Give up.
    case deadLetter
}

/// Decides what happens after a failure: the pure part of retrying.
public struct RetryPlan: Sendable, Hashable {
    /// The policy.
    public let policy: RetryPolicy

    /// A plan by `policy`.
    public init(_ policy: RetryPolicy) { self.policy = policy }

    /// The decision about a failed attempt.
    ///
    /// - Parameters:
    ///   - errorClass: persistent failures are never retried.
    ///   - retries: retries made so far, over all deliveries of the event.
    ///   - retryAt: a time that the error named; it goes before the policy's delay.
    ///   - unit: a uniform random number in 0..<1, for the jitter.
    public func failed(
        _ errorClass: ErrorClass, retries: Int, retryAt: Timestamp? = nil, now: Timestamp, unit: Double
    ) -> RetryDecision {
        guard errorClass != .persistent, retries < policy.retries else { return .deadLetter }
        if let retryAt, retryAt > now { return .retry(count: retries + 1, at: retryAt, strategy: .scheduled) }
        switch policy.strategy {
        case .immediate: return .again
        case .exponential, .scheduled:
            return .retry(
                count: retries + 1, at: now + policy.delay(before: retries + 1, unit: unit), strategy: .exponential
            )
        }
    }
}

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
    /// Retries after the first attempt, those in place included, 0 or more. Default 3, so four attempts.
    public var retries: Int
    /// How many of the first retries of ``Strategy/exponential`` are made in place, at once; the backoff's first delay comes after
    /// them. 0 or more, default 0.
    public var immediate: Int
    /// The first delay. Default 1 s.
    public var base: Duration
    /// The longest delay. Default 60 s.
    public var cap: Duration
    /// The share by which a delay varies at random, 0 to 1. Default 0.2.
    public var jitter: Double
    /// The time in which an event must be done, from its first record's timestamp on: no retry is due later. Waiting behind
    /// others and outages count. Default nil: no limit.
    public var limit: Duration?

    /// The longest wait for a retry, whatever a policy or an error asks for: 7 days, half of what the retry topics are planned to
    /// keep. A time further away is cut to it: the attempt then comes too early, which costs a retry, but nothing is lost.
    public static let maximumWait: Duration = .seconds(7 * 86_400)

    /// A policy; the defaults are the design's.
    public init(
        _ strategy: Strategy = .exponential, retries: Int = 3, immediate: Int = 0, base: Duration = .seconds(1),
        cap: Duration = .seconds(60), jitter: Double = 0.2, limit: Duration? = nil
    ) {
        self.strategy = strategy
        self.retries = max(0, retries)
        self.immediate = max(0, immediate)
        self.limit = limit
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
    /// The policies, by topic and class.
    public let policies: RetryPolicies

    /// A plan by one policy for everything.
    public init(_ policy: RetryPolicy) { policies = RetryPolicies(policy) }

    /// A plan by these policies.
    public init(_ policies: RetryPolicies) { self.policies = policies }

    /// The decision about a failed attempt. The failure at hand chooses the policy; retries are counted over all of them.
    ///
    /// - Parameters:
    ///   - errorClass: persistent failures are never retried.
    ///   - retries: retries made so far, over all deliveries of the event.
    ///   - retryAt: a time that the error named; it goes before the policy's delay.
    ///   - topic: the event's main topic; nil for the policies that no topic is named for.
    ///   - origin: when the event's first record was written; nil if nobody knows, and the time limit can't be told.
    ///   - unit: a uniform random number in 0..<1, for the jitter.
    public func failed(
        _ errorClass: ErrorClass, retries: Int, retryAt: Timestamp? = nil, topic: String? = nil, origin: Timestamp? = nil,
        now: Timestamp, unit: Double
    ) -> RetryDecision {
        let policy = policies.policy(for: errorClass, topic: topic)
        guard errorClass != .persistent, retries < policy.retries else { return .deadLetter }
        let last = policy.limit.flatMap { limit in origin.map { $0 + limit } }
        func retry(at due: Timestamp, _ strategy: RetryPolicy.Strategy) -> RetryDecision {
            let due = min(due, now + RetryPolicy.maximumWait)
            if let last, due > last { return .deadLetter }
            return .retry(count: retries + 1, at: due, strategy: strategy)
        }
        if let retryAt, retryAt > now { return retry(at: retryAt, .scheduled) }
        if policy.strategy == .immediate || retries < policy.immediate {
            if let last, now > last { return .deadLetter }
            return .again
        }
        let number = retries + 1 - max(0, policy.immediate)
        return retry(at: now + policy.delay(before: number, unit: unit), .exponential)
    }
}

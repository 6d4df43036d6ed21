/// Decides after each try of an export whether there is another one: a pure state machine. Time is an argument.
///
/// The rules are OTLP's (specification §OTLP/HTTP response, §retryable response codes): only 429, 502, 503 and 504 and
/// failures to get an answer at all are tried again; `Retry-After` is honoured; what can't happen within the time-out of
/// the export isn't waited for.
public struct ExportRetry: Sendable {
    /// How long to wait between tries. The specification fixes no numbers.
    public struct Policy: Sendable, Hashable {
        /// Before the second try. Default 1 s, so that the default time-out of 10 s leaves room for four tries.
        public var initial: Duration = .seconds(1)
        /// The factor from each wait to the next. Default 2.
        public var multiplier = 2.0
        /// The longest wait. Default 30 s.
        public var maximum: Duration = .seconds(30)
        /// The share by which a wait may be shorter or longer, 0 to 1. Default 0.2.
        public var jitter = 0.2
        /// Tries at most, which only matters without a time-out. Default 10.
        public var tries = 10

        /// The defaults.
        public init() {}
    }

    /// How a try ended.
    public enum Attempt: Sendable, Hashable {
        /// With an HTTP status; `retryAfter` from now, if the receiver said so.
        case status(Int, retryAfter: Duration?)
        /// Without an answer: no connection, reset, time-out.
        case unanswered
        /// With an error that another try would meet again, such as a certificate that isn't trusted.
        case unusable
        /// By the exporter's cancellation.
        case cancelled
    }

    /// What follows.
    public enum Decision: Sendable, Hashable {
        /// The receiver took it (any 2xx).
        case delivered
        /// Try again at this time.
        case retry(at: Duration)
        /// Drop it.
        case giveUp
    }

    private let policy: Policy
    private let deadline: Duration?
    private var tries = 0

    /// The machine for one export.
    ///
    /// - Parameter deadline: when its time is up; nil is never.
    public init(_ policy: Policy = Policy(), deadline: Duration?) {
        self.policy = policy
        self.deadline = deadline
    }

    /// What follows `attempt`.
    ///
    /// - Parameter random: a number from 0 up to 1, for the jitter.
    public mutating func decide(after attempt: Attempt, at now: Duration, random: Double) -> Decision {
        tries += 1
        let wait: Duration
        switch attempt {
        case .status(200..<300, _):
            return .delivered
        case .status(429, let retryAfter), .status(502...504, let retryAfter):
            wait = retryAfter ?? backoff(random)
        case .unanswered:
            wait = backoff(random)
        case .status, .unusable, .cancelled:
            return .giveUp
        }
        let next = now + wait
        guard tries < policy.tries, deadline.map({ next < $0 }) ?? true else { return .giveUp }
        return .retry(at: next)
    }

    private func backoff(_ random: Double) -> Duration {
        var wait = policy.initial
        for _ in 1..<max(2, tries) where wait < policy.maximum && tries > 1 { wait = wait * policy.multiplier }
        return min(wait, policy.maximum) * (1 + policy.jitter * (2 * random - 1))
    }
}

/// Lets a warning of each kind through once in five minutes, so that a dead receiver doesn't fill the log.
struct WarningLimiter: Sendable {
    static let interval: Duration = .seconds(300)

    private var last: [String: Duration] = [:]

    /// Whether a warning of this kind is due. Kinds are few and fixed.
    mutating func allows(_ kind: String, at now: Duration) -> Bool {
        if let last = last[kind], now - last < WarningLimiter.interval { return false }
        last[kind] = now
        return true
    }
}

/// How many unsampled traces may be exported after all since a step of theirs failed, and how much memory they may use.
public struct FailureTraceLimits: Sendable, Hashable {
    /// Traces newly exported in a second, 0 for no limit. Default 200 (design §4). A burst may take a second's worth at once.
    public var tracesPerSecond = 200
    /// In this time one trace of each fingerprint is exported whatever ``tracesPerSecond`` says. Default 10 s (design §4).
    public var fingerprintInterval: Duration = .seconds(10)
    /// Estimated bytes of ended spans that wait for their local root to end or to fail. Default 16 MiB (design §4).
    public var bytes = 16 << 20
    /// Spans under way that can be found as parents; beyond it a local root is kept without its children. Default 32,768.
    public var liveSpans = 32_768

    /// The defaults.
    public init() {}
}

/// Decides which failed traces are exported when there are many: a pure state machine.
///
/// A token bucket that holds a second's worth, and beside it the promise that a failure is refused only if a trace of the
/// same fingerprint was admitted within the interval before. Time is an argument, a reading of any clock that doesn't go back.
struct TraceRateLimiter: Sendable {
    /// Fingerprints remembered at most; while as many are fresh, a further one needs a token.
    static let maximumFingerprints = 1024
    /// A token, in the unit of `credit`: so every nanosecond adds a whole number.
    private static let token = 1_000_000_000

    private let perSecond: Int
    private let interval: Duration
    private var credit: Int
    private var refilled: Duration?
    private var admitted: [String: Duration] = [:]
    private var tidied: Duration?

    init(_ limits: FailureTraceLimits) {
        perSecond = min(max(0, limits.tracesPerSecond), 1_000_000)
        interval = max(.zero, limits.fingerprintInterval)
        credit = perSecond * TraceRateLimiter.token
    }

    /// Whether a trace that failed with this fingerprint is exported.
    mutating func admits(_ fingerprint: String, at now: Duration) -> Bool {
        guard perSecond > 0 else { return true }
        refill(now)
        let hasToken = credit >= TraceRateLimiter.token
        let isDue = admitted[fingerprint].map { now - $0 >= interval } ?? hasRoom(now)
        guard hasToken || isDue else { return false }
        if hasToken { credit -= TraceRateLimiter.token }
        if isDue || admitted[fingerprint] != nil { admitted[fingerprint] = now }
        return true
    }

    private mutating func refill(_ now: Duration) {
        let elapsed = min(max(.zero, now - (refilled ?? now)), .seconds(1))
        refilled = max(now, refilled ?? now)
        let (seconds, attoseconds) = elapsed.components
        let nanoseconds = Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000)
        credit = min(credit + nanoseconds * perSecond, perSecond * TraceRateLimiter.token)
    }

    /// Whether one more fingerprint can be remembered; forgets, once a second at most, those that are free again anyway.
    private mutating func hasRoom(_ now: Duration) -> Bool {
        if admitted.count < TraceRateLimiter.maximumFingerprints { return true }
        if let tidied, now - tidied < .seconds(1) { return false }
        tidied = now
        admitted = admitted.filter { now - $0.value < interval }
        return admitted.count < TraceRateLimiter.maximumFingerprints
    }
}

public import TriageEvents
public import TriageProcessing
public import TriageTelemetry

/// Thrown by a handler for a failure that may heal: a network error, a time-out, an overloaded service. *Transient*.
///
/// ```swift
/// throw RetryableError("http_503", after: .seconds(30))
/// ```
public struct RetryableError: ClassifiedError, CustomStringConvertible {
    /// Transient.
    public var errorClass: ErrorClass { .transient }
    /// What failed, in a word; part of the fingerprint. Tools for dead letters show codes like `http_503` and `connectionLost`; for one
    /// with spaces, capitals at its beginning or more than five digits, which anybody could have put there, `(not shown)` stands.
    public let code: SafeText?
    /// When to try again; nil leaves it to the policy.
    public let retryAt: Timestamp?
    /// What else there is to say, patient data included: it stands only in sealed dead letters (`dead-letter-key-file`).
    public var detail: String? { makeDetail() }
    private let makeDetail: @Sendable () -> String?

    /// A transient failure.
    ///
    /// - Parameters:
    ///   - code: what failed, in a word.
    ///   - delay: how long to wait at least; nil leaves it to the policy.
    ///   - detail: see ``detail``; evaluated only where dead letters are sealed.
    public init(
        _ code: SafeText, after delay: Duration? = nil, detail: @autoclosure @escaping @Sendable () -> String? = nil
    ) {
        self.code = code
        retryAt = delay.map { SystemClock().now() + $0 }
        makeDetail = detail
    }

    /// A transient failure that is to be tried again at a given time.
    public init(_ code: SafeText, at time: Timestamp, detail: @autoclosure @escaping @Sendable () -> String? = nil) {
        self.code = code
        retryAt = time
        makeDetail = detail
    }

    /// The code.
    public var description: String { "retryable: \(code?.text ?? "")" }
}

/// Thrown by a handler for an event that will never be accepted: a rule of the business. *Persistent*: no retry.
public struct RejectedError: ClassifiedError, CustomStringConvertible {
    /// Persistent.
    public var errorClass: ErrorClass { .persistent }
    /// Which rule, in a word like `no_id`; part of the fingerprint. What tools show of it: ``RetryableError/code``.
    public let code: SafeText?
    /// What else there is to say, patient data included: it stands only in sealed dead letters (`dead-letter-key-file`).
    public var detail: String? { makeDetail() }
    private let makeDetail: @Sendable () -> String?

    /// A rejection.
    ///
    /// - Parameter detail: see ``detail``; evaluated only where dead letters are sealed.
    public init(_ code: SafeText, detail: @autoclosure @escaping @Sendable () -> String? = nil) {
        self.code = code
        makeDetail = detail
    }

    /// The code.
    public var description: String { "rejected: \(code?.text ?? "")" }
}

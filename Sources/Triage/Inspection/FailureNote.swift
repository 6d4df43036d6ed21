public import TriageEvents
public import TriageProcessing

/// What a retry record or dead letter says about the failure that made it.
public struct FailureNote: Sendable, Hashable {
    /// Error type, code and path; nil if it doesn't say.
    public let error: String?
    /// The failure's class.
    public let errorClass: ErrorClass?
    /// Equal for the same bug on two patients.
    public let fingerprint: String?
    /// When the attempt failed, ISO 8601.
    public let failedAt: String?
    /// Retries so far.
    public let retries: Int
    /// One entry for each failed attempt, the first and last ones kept.
    public let attempts: AttemptLedger
    /// The context of the span that sent the record.
    public let context: TraceContext?

    /// What these headers say; they come from anywhere, so nothing in them is shown that isn't plain text.
    public init(_ headers: Headers) {
        error = headers.text(HeaderName.error).map(PlainText.printable)
        errorClass = headers.text(HeaderName.errorClass).flatMap { ErrorClass(rawValue: $0) }
        fingerprint = headers.text(HeaderName.errorFingerprint).map(PlainText.printable)
        failedAt = headers.text(HeaderName.failedAt).map(PlainText.printable)
        retries = headers.text(HeaderName.retryCount).flatMap { Int($0) }.map { max(0, $0) } ?? 0
        attempts = AttemptLedger(headers.text(HeaderName.attempts) ?? "")
        context = headers.last(HeaderName.traceparent).flatMap { TraceContext(traceparent: $0) }
    }

    /// Whether there was a failure at all: a parked record has none.
    public var isFailure: Bool { error != nil || errorClass != nil }

    /// `transient RetryableError http_503`.
    var text: String {
        let parts = [errorClass?.rawValue, error].compactMap { $0 }
        return parts.isEmpty ? "a failure that it doesn't name" : parts.joined(separator: " ")
    }
}

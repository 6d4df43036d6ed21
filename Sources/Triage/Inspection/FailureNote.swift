public import TriageEvents
public import TriageProcessing

/// What a retry record or dead letter says about the failure that made it: what ``DeadLetter`` believes of its headers.
public struct FailureNote: Sendable, Hashable {
    /// Error type, code and path; of other systems' the names of the exception and its cause; nil if it doesn't say.
    public let error: String?
    /// The failure's class.
    public let errorClass: ErrorClass?
    /// Equal for the same bug on two patients; nil without a failure.
    public let fingerprint: String?
    /// When the attempt failed, ISO 8601.
    public let failedAt: String?
    /// Retries so far.
    public let retries: Int
    /// One entry for each failed attempt, the first and last ones kept.
    public let attempts: AttemptLedger
    /// The context of the span that sent the record.
    public let context: TraceContext?

    /// What a record's headers say; they come from anywhere, so nothing in them is shown that isn't a name or a number.
    public init(_ record: Record) { self.init(DeadLetter(record)) }

    /// What a dead letter's headers say.
    init(_ letter: DeadLetter) {
        error = letter.error
        errorClass = letter.errorClass
        fingerprint = letter.error == nil && letter.errorClass == nil ? nil : letter.fingerprint
        failedAt = letter.failedAt?.iso8601
        retries = letter.retries
        attempts = letter.attempts
        context = letter.context
    }

    /// Whether there was a failure at all: a parked record has none.
    public var isFailure: Bool { error != nil || errorClass != nil }

    /// `transient RetryableError http_503`.
    var text: String {
        let parts = [errorClass?.rawValue, error].compactMap { $0 }
        return parts.isEmpty ? "a failure that it doesn't name" : parts.joined(separator: " ")
    }
}

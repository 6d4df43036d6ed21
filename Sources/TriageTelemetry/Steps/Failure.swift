public import TriageEvents

/// What may be said about a failure outside the process: its class and names from the source, never a payload.
public struct Failure: Sendable, Hashable {
    /// What kind of failure it is.
    public let errorClass: ErrorClass
    /// The error's type name or rule: `error.type` of the semantic conventions.
    public let type: SafeText
    /// A case, code or rule, if the error has one.
    public let code: SafeText?
    /// Where it happened: `decode`, `handle`, `produce`.
    public let step: StaticText
    /// An index-free path, for validation failures.
    public let path: SafeText?
    /// When the error itself names a time to try again.
    public let retryAt: Timestamp?
    /// Sixteen hexadecimal digits over class, type, code, step and path: equal for the same bug on two patients, across
    /// processes and builds.
    public let fingerprint: String
    /// Type, code and path in one line: the text of the `error` header and of the exception event.
    public let message: SafeText

    /// A failure of these parts.
    public init(
        _ errorClass: ErrorClass, type: SafeText, code: SafeText? = nil, step: StaticString, path: SafeText? = nil,
        retryAt: Timestamp? = nil
    ) {
        self.errorClass = errorClass
        self.type = type
        self.code = code
        self.step = StaticText(step)
        self.path = path
        self.retryAt = retryAt
        let parts = [errorClass.rawValue, type.text, code?.text ?? "", step.description, path?.text ?? ""]
        fingerprint = Failure.fingerprint(parts)
        message = Failure.message(type, code, path)
    }

    /// The same failure with another time to try again.
    package func retried(at time: Timestamp?) -> Failure { time == retryAt ? self : Failure(self, retryAt: time) }

    private init(_ failure: Failure, retryAt: Timestamp?) {
        errorClass = failure.errorClass
        type = failure.type
        code = failure.code
        step = failure.step
        path = failure.path
        self.retryAt = retryAt
        fingerprint = failure.fingerprint
        message = failure.message
    }

    private static func message(_ type: SafeText, _ code: SafeText?, _ path: SafeText?) -> SafeText {
        var text = type.text
        if let code, code != type { text += " \(code.text)" }
        if let path, !path.text.isEmpty { text += " at \(path.text)" }
        return SafeText(vetted: text)
    }

    /// Sixteen hexadecimal digits over names that make a failure what it is; for dead letters of others as for ours.
    package static func fingerprint(_ parts: [String]) -> String { fnv1a(parts.joined(separator: "\u{1F}")).hexadecimal }

    /// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv): identifies, doesn't protect.
    private static func fnv1a(_ text: String) -> UInt64 {
        text.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}

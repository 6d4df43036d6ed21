internal import TriageEvents
internal import TriageTelemetry

/// What was found out about errors by their types, so that the same failure of ten thousand events is looked into once.
///
/// Only what depends on the type alone is kept, or what the error itself says again: never a value's own text. A value that is
/// confined to the loop's thread.
struct ErrorMemory {
    /// More types than handlers throw; what comes beyond them is looked into each time.
    private static let limit = 200

    /// Failures of types that say nothing about themselves and whose values can't differ in what is told of them.
    private var plain: [ObjectIdentifier: Failure] = [:]
    /// The last failure of each type that classifies itself.
    private var classified: [ObjectIdentifier: Failure] = [:]

    /// The failure that `error`, thrown by a handler, stands for.
    mutating func failure(_ error: any Error) -> Failure {
        let type = ObjectIdentifier(type(of: error))
        if let known = plain[type] { return known }
        if let known = classified[type], let error = error as? any ClassifiedError, let code = error.code, code == known.code,
            error.errorClass == known.errorClass
        {
            return known.retried(at: error.retryAt)
        }
        let failure = ErrorClassification.failure(error, step: "handle")
        guard plain.count + classified.count < ErrorMemory.limit else { return failure }
        if let error = error as? any ClassifiedError {
            if error.code != nil { classified[type] = failure }
        } else if ErrorClassification.isPlain(error) {
            plain[type] = failure
        }
        return failure
    }
}

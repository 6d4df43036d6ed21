/// Why items could not be exported: the values of `error.type` on an exporter's metrics, besides HTTP status numbers.
public enum ExportErrorType: String, Sendable, Hashable, CaseIterable {
    /// The receiver took the request but refused some of its items.
    case rejected
    /// One item alone is larger than a request may be.
    case tooLarge = "too_large"
    /// The time for the export was up before there was an answer.
    case timeout
    /// No connection, or it was lost before an answer came.
    case noAnswer = "no_answer"
    /// The receiver's certificate isn't trusted, or the own one can't be used.
    case tls
    /// The exporter was told to stop.
    case cancelled
    /// Anything else, such as an answer that is too long.
    case other = "_OTHER"
}

/// What became of one export, however many requests it took.
public struct ExportTally: Sendable, Hashable {
    /// Items that the receiver took.
    public private(set) var exported = 0
    /// Items that it didn't take or that weren't sent, by `error.type`.
    public private(set) var failures: [SafeText: Int] = [:]
    /// The HTTP status of the last answer; nil without one.
    public var status: Int?

    /// Nothing yet.
    public init() {}

    /// Counts items that the receiver took.
    public mutating func export(_ items: Int) { exported += max(0, items) }

    /// Counts items that failed.
    public mutating func fail(_ items: Int, _ error: SafeText) {
        if items > 0 { failures[error, default: 0] += items }
    }

    /// Counts items that failed.
    public mutating func fail(_ items: Int, _ error: ExportErrorType) { fail(items, SafeText(error)) }

    /// The error that most items failed with; nil if none did. Of equal ones the first by name.
    public var mainError: SafeText? {
        failures.max { ($0.value, $1.key.text) < ($1.value, $0.key.text) }?.key
    }

    /// The same for a queue, which need not know why.
    public var result: ExportResult {
        let rejected = failures[SafeText(ExportErrorType.rejected)] ?? 0
        let failed = failures.values.reduce(0, +) - rejected
        if failed == 0 { return rejected == 0 ? .exported : .partial(rejected: rejected) }
        return exported + rejected == 0 ? .failed : .mixed(rejected: rejected, failed: failed)
    }
}

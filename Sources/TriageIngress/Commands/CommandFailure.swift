internal import TriageEvents

/// What callers are told of a command that failed: words of closed vocabularies alone.
///
/// The header `error` of a dead letter is made of safe texts where Triage wrote it. Anyone who may write to that topic can put another
/// text there, and callers needn't be those who may read it; so each word is looked up, and none is passed on.
enum CommandFailure {
    /// Errors by the names of their types, as the engine names them.
    private static let types: Set<String> = [
        "InvalidEvent", "RejectedError", "RetryableError", "BrokerError", "AttemptTimeout", "CancellationError",
    ]
    private static let codes: Set<String> = Set(
        HTTPCallError.Code.allCases.map(\.rawValue) + CommandPlan.Refusal.allCases.map(\.rawValue)
            + InvalidEvent.Rule.allCases.map(\.rawValue)
            + [CommandRunner.contended, CommandPlan.noFHIRAnswer, CommandPlan.otherResource].map(\.description))

    /// The type of the error and its code, `RejectedError http_422_business-rule`; `_OTHER` stands for a type that isn't known, and a
    /// code that isn't is left out.
    static func text(_ header: String) -> String {
        // What a retry record couldn't be written for stands behind a comma.
        let words = header.prefix { $0 != "," }.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        let type = words.first.map(String.init).flatMap { types.contains($0) ? $0 : nil } ?? "_OTHER"
        guard words.count > 1, let code = code(String(words[1])) else { return type }
        return "\(type) \(code)"
    }

    /// The code if it is one: a word, or `http_`, a status from 100 to 599, and possibly `_` and an issue's code of FHIR's.
    private static func code(_ word: String) -> String? {
        if codes.contains(word) { return word }
        let parts = word.split(separator: "_", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count > 1, parts[0] == "http", parts[1].utf8.count == 3,
            parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let status = Int(parts[1]), (100...599).contains(status)
        else { return nil }
        guard parts.count > 2 else { return word }
        return FHIRIssueType(rawValue: String(parts[2])) == nil ? "http_\(status)" : word
    }
}

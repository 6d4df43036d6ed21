internal import TriageEvents

/// What is believed of texts in the headers of dead letters, which anybody who may write to the topic may have written: only what
/// has the form that a name has, or that we write ourselves.
///
/// It is a net, no proof: a surname that is written as a name of the source passes. Dates, sentences, numbers of any length and
/// words that begin with a capital where a code stands don't.
enum VettedText {
    /// What stands for a text that isn't believed.
    static let notShown = "(not shown)"

    /// The name of a topic, as Kafka allows it (its class `Topic`), or of a group or connector, as they are usually made: such names are
    /// configuration. A mail address is none.
    static func isName(_ text: String) -> Bool { HarmlessText.isName(text, limit: 249, more: "._-:/") }

    /// The name of a class or a stage, as Java, .NET, Ruby and Go write them; `_OTHER` for anything else.
    static func typeName(_ text: String) -> String {
        // .NET appends the assembly behind a comma.
        let name = text.prefix { $0 != "," }
        return HarmlessText.isName(name, limit: 200, more: "_.$:`+-") && digits(in: name) <= 5 ? String(name) : "_OTHER"
    }

    /// The name of a header; nil for what may be anything.
    static func headerName(_ text: String) -> String? {
        HarmlessText.isName(text, limit: 100, more: "_.-:") && digits(in: text) <= 5 ? text : nil
    }

    /// Our `error` header, which `Failure` made of names of the source: `Type code at path`, and possibly the name of what refused a
    /// retry. Where a part has no such form, ``notShown`` stands for all but what tells that it is an error's type; nil for no text.
    static func error(_ text: String) -> String? {
        if text.isEmpty { return nil }
        guard text.utf8.count <= 400 else { return notShown }
        let parts = text.split(separator: ", retry refused: ", maxSplits: 1, omittingEmptySubsequences: false)
        guard let message = parts.first else { return notShown }
        let halves = message.split(separator: " at ", maxSplits: 1, omittingEmptySubsequences: false)
        let words = halves[0].split(separator: " ", omittingEmptySubsequences: false)
        guard let type = words.first, isErrorType(type) else { return notShown }
        let isWhole =
            isCode(words.dropFirst()) && (halves.count == 1 || PayloadShape.isPath(halves[1]))
            && (parts.count == 1 || isBrokerName(parts[1]))
        if isWhole { return text }
        return ["Error", "Exception", "Failure", "Timeout"].contains { type.hasSuffix($0) } ? "\(type) \(notShown)" : notShown
    }

    /// Our `triage-pointer`: the name of a broker's error and a size.
    static func pointer(_ text: String) -> String? {
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 2, isBrokerName(words[0]), let size = Int64(words[1]), "\(size)" == words[1] else { return nil }
        return text
    }

    /// The name of an error's type as `ErrorClassification` writes it, or that of a broker's error.
    private static func isErrorType(_ text: Substring) -> Bool {
        guard let first = text.utf8.first, first == UInt8(ascii: "_") || isUpper(first) else { return false }
        return HarmlessText.isName(text, limit: 80, more: "_.<>") && digits(in: text) <= 3
    }

    /// A code: one word whose parts are in lower case or camel case, in capitals, or short numbers: `http_503`, `no_id`,
    /// `http_422_business-rule`, `_MSG_TIMED_OUT`; `case 3`; or none.
    private static func isCode(_ words: ArraySlice<Substring>) -> Bool {
        guard var word = words.first else { return true }
        if words.count == 2, word == "case", let number = words.last { word = number } else if words.count > 1 { return false }
        guard HarmlessText.isName(word, limit: 120, more: "_.-"), digits(in: word) <= 5 else { return false }
        let parts = word.split { $0 == "_" || $0 == "." || $0 == "-" }
        return !parts.isEmpty
            && parts.allSatisfy { part in
                guard let first = part.utf8.first else { return false }
                return !isUpper(first) || part.utf8.count > 1 && part.utf8.allSatisfy { !isLower($0) }
            }
    }

    /// As librdkafka names errors.
    private static func isBrokerName(_ text: Substring) -> Bool {
        HarmlessText.isName(text, limit: 80, more: "_") && text.utf8.allSatisfy { !isLower($0) } && digits(in: text) <= 3
    }

    private static func digits(in text: some StringProtocol) -> Int { text.utf8.count { (0x30...0x39).contains($0) } }
    private static func isUpper(_ byte: UInt8) -> Bool { (0x41...0x5A).contains(byte) }
    private static func isLower(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) }
}

package import TriageEvents

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
        let name = Array(text.utf8.prefix { $0 != UInt8(ascii: ",") })[...]
        let isType = HarmlessText.isName(name, limit: 200, more: "_.$:`+-") && digits(in: name) <= 5
        return isType ? String(decoding: name, as: UTF8.self) : "_OTHER"
    }

    /// The name of a header; nil for what may be anything.
    static func headerName(_ text: String) -> String? {
        let name = Array(text.utf8)[...]
        return HarmlessText.isName(name, limit: 100, more: "_.-:") && digits(in: name) <= 5 ? text : nil
    }

    /// Our `error` header, which `Failure` made of names of the source: `Type code at path`, and possibly the name of what refused a
    /// retry. Where a part has no such form, ``notShown`` stands for all but what tells that it is an error's type; nil for no text.
    static func error(_ text: String) -> String? {
        if text.isEmpty { return nil }
        guard text.utf8.count <= 400 else { return notShown }
        var words = Array(text.utf8).split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)[...]
        var isWhole = true
        if words.count >= 4, Array(words.suffix(3).prefix(2)) == refused, let name = words.last,
            words[words.endIndex - 4].last == UInt8(ascii: ",")
        {
            isWhole = isBrokerName(name)
            words.removeLast(3)
            words[words.endIndex - 1].removeLast()
        }
        guard let type = words.popFirst(), isErrorType(type) else { return notShown }
        if isWhole, isDetail(words) { return text }
        return endings.contains { type.ends(with: $0) } ? "\(String(decoding: type, as: UTF8.self)) \(notShown)" : notShown
    }

    /// Our `triage-pointer`: the name of a broker's error and a size.
    static func pointer(_ text: String) -> String? {
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 2, isBrokerName(Array(words[0].utf8)[...]), let size = Int64(words[1]), "\(size)" == words[1] else {
            return nil
        }
        return text
    }

    private static let endings = ["Error", "Exception", "Failure", "Timeout"].map { Array($0.utf8) }
    private static let at = Array("at".utf8)
    private static let refused = ["retry", "refused:"].map { Array($0.utf8)[...] }
    private static let numbered = Array("case".utf8)

    /// What stands behind an error's type: a code, ` at ` and a path.
    private static func isDetail(_ all: ArraySlice<ArraySlice<UInt8>>) -> Bool {
        var words = all
        if words.count >= 2, words[words.endIndex - 2].elementsEqual(at), let path = words.last {
            guard PayloadShape.isPath(String(decoding: path, as: UTF8.self)) else { return false }
            words.removeLast(2)
        }
        return isCode(words)
    }

    /// The name of an error's type as `ErrorClassification` writes it, or that of a broker's error.
    private static func isErrorType(_ text: ArraySlice<UInt8>) -> Bool {
        guard let first = text.first, first == UInt8(ascii: "_") || isUpper(first) else { return false }
        return HarmlessText.isName(text, limit: 80, more: "_.<>") && digits(in: text) <= 3
    }

    /// A code: one word whose parts are in lower case or camel case, in capitals, or short numbers: `http_503`, `no_id`,
    /// `http_422_business-rule`, `_MSG_TIMED_OUT`; `case 3`; or none.
    private static func isCode(_ words: ArraySlice<ArraySlice<UInt8>>) -> Bool {
        guard var word = words.first else { return true }
        if words.count == 2, word.elementsEqual(numbered), let number = words.last {
            word = number
        } else if words.count > 1 {
            return false
        }
        guard HarmlessText.isName(word, limit: 120, more: "_.-"), digits(in: word) <= 5 else { return false }
        let parts = word.split { $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
        return !parts.isEmpty
            && parts.allSatisfy { part in
                guard let first = part.first else { return false }
                return !isUpper(first) || part.count > 1 && !part.contains(where: isLower)
            }
    }

    /// As librdkafka names errors.
    private static func isBrokerName(_ text: ArraySlice<UInt8>) -> Bool {
        HarmlessText.isName(text, limit: 80, more: "_") && !text.contains(where: isLower) && digits(in: text) <= 3
    }

    private static func digits(in text: ArraySlice<UInt8>) -> Int { text.count { (0x30...0x39).contains($0) } }
    private static func isUpper(_ byte: UInt8) -> Bool { (0x41...0x5A).contains(byte) }
    private static func isLower(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) }
}

extension ArraySlice<UInt8> {
    fileprivate func ends(with other: [UInt8]) -> Bool { suffix(other.count).elementsEqual(other) }
}

extension DeadLetter {
    /// The record's place that a header says; nil for what isn't one, and for one in a topic whose name may be anything.
    package static func place(_ text: String) -> RecordPosition? {
        RecordPosition(text).flatMap { VettedText.isName($0.topic) ? $0 : nil }
    }
}

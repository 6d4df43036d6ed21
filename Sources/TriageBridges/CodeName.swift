/// Tells what a programmer would write as a name from what stands in a record.
///
/// Span, event and metric names reach the bridges as strings, and a type can't tell a literal from a patient's name. So only
/// what looks like code passes: ASCII, at most ``maximumLength`` bytes, words that begin in lower case, such words joined by
/// `.`, `/`, `:`, `-` or `_`, route templates, and a closed list of words in capitals or with digits. What has digits,
/// capitalised words or other characters, as ids, names, dates and addresses have, doesn't: `load.Doe` looks like `load.Type`.
/// Several words pass only behind a verb of a closed list.
/// A surname in lower case would pass: this is a net, not a proof; ``BridgePolicy/NameRule/listed`` is one.
enum CodeName {
    /// Bytes of a name, at most.
    static let maximumLength = 100
    private static let maximumWords = 6

    /// Words that stand in names of spans although they have capitals or digits.
    private static let words: Set<String> = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "HTTP", "HTTPS", "FHIR",
        "SELECT", "INSERT", "UPDATE", "UPSERT", "MERGE", "BEGIN", "COMMIT", "ROLLBACK", "SQL", "JSON", "Patient", "Kafka",
        "Redis", "Postgres", "v1", "v2", "v3", "v4", "http1", "http2", "http3", "s3", "oauth2", "utf8", "base64", "md5",
        "sha1", "sha256", "sha512", "x509", "p50", "p90", "p95", "p99", "ipv4", "ipv6", "r4", "r5",
    ]

    /// What names of several words begin with: HTTP's methods, SQL's commands, OpenTelemetry's operations of messaging.
    private static let verbs: Set<String> = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "HTTP", "SELECT", "INSERT",
        "UPDATE", "UPSERT", "MERGE", "BEGIN", "COMMIT", "ROLLBACK", "SQL", "create", "send", "receive", "poll", "process",
        "settle",
        "commit", "publish",
    ]

    /// Whether `text` looks like a name from the source.
    static func isCodeLike(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard (1...maximumLength).contains(bytes.count) else { return false }
        let parts = bytes.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        // Several words only behind a verb that is known: `GET /patients/{id}`, `process orders`; not `jane doe`.
        guard parts.count == 1 || verbs.contains(String(decoding: parts[0], as: UTF8.self)) else { return false }
        return parts.count <= maximumWords && parts.allSatisfy(isToken)
    }

    /// Whether `text` looks like the name of an error's type: as any name does, or in capitals with an ending that says so.
    static func isErrorType(_ text: String) -> Bool {
        if isCodeLike(text) { return true }
        let bytes = text.utf8
        let isName = bytes.allSatisfy { isLetter($0) || isUnderscore($0) || $0 == UInt8(ascii: ".") }
        guard (1...maximumLength).contains(bytes.count), isName else { return false }
        return ["Error", "Exception", "Failure", "Timeout"].contains { text.hasSuffix($0) }
    }

    /// One word, path, route or function.
    private static func isToken(_ token: ArraySlice<UInt8>) -> Bool {
        var token = token
        if token.last == UInt8(ascii: ")"), let open = token.firstIndex(of: UInt8(ascii: "(")) {
            let labels = token[(open + 1)..<(token.endIndex - 1)]
            guard labels.allSatisfy({ isLetter($0) || isUnderscore($0) || $0 == UInt8(ascii: ":") }) else { return false }
            token = token[..<open]
        }
        if token.first == UInt8(ascii: "/") {
            return token.dropFirst().split(separator: UInt8(ascii: "/")).allSatisfy { isPlaceholder($0) || isWord($0) }
        }
        return token.split(omittingEmptySubsequences: false) {
            $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: "-")
        }.allSatisfy(isWord)
    }

    /// `{id}`, `:id`, `*`.
    private static func isPlaceholder(_ part: ArraySlice<UInt8>) -> Bool {
        if part.allSatisfy({ $0 == UInt8(ascii: "*") }) { return true }
        if part.first == UInt8(ascii: ":") { return isWord(part.dropFirst()) }
        return part.first == UInt8(ascii: "{") && part.last == UInt8(ascii: "}") && isWord(part.dropFirst().dropLast())
    }

    /// `lower`, `lowerCamel`, `lower_snake`, or a word of the list.
    private static func isWord(_ part: ArraySlice<UInt8>) -> Bool {
        if part.contains(UInt8(ascii: "-")) { return part.split(separator: UInt8(ascii: "-")).allSatisfy(isWord) }
        guard let first = part.first else { return false }
        let segments = part.split(separator: UInt8(ascii: "_"))
        if isLower(first) || isUnderscore(first), part.allSatisfy({ isLetter($0) || isUnderscore($0) }) {
            return segments.allSatisfy { segment in segment.first.map(isLower) ?? false }
        }
        return !segments.isEmpty
            && segments.allSatisfy { segment in
                words.contains(String(decoding: segment, as: UTF8.self))
                    || isLower(segment[segment.startIndex]) && segment.allSatisfy(isLetter)
            }
    }

    private static func isUnderscore(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "_") }
    private static func isLower(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }
    private static func isLetter(_ byte: UInt8) -> Bool { isLower(byte | 0x20) }
}

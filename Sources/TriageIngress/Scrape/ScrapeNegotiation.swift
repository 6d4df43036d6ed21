internal import TriageTelemetry

/// What a scraper asks for by its headers `Accept` and `Accept-Encoding`, and what it gets.
///
/// Of the entries of `Accept` that can be served the one with the highest quality wins, the first of equals; entries with
/// quality 0 and those that make no sense are passed over. What can't be served, or no header, gets text 0.0.4.
///
/// | entry | answer |
/// | --- | --- |
/// | `application/openmetrics-text;version=1.0.0` | OpenMetrics 1.0.0 |
/// | `application/openmetrics-text` without version, or `0.0.1` | the same body, called 0.0.1, as Prometheus' own library does |
/// | `application/openmetrics-text` of another version, such as 2.0.0 | passed over |
/// | `text/plain` of any version, `text/*`, `*/*` | text 0.0.4 |
///
/// All names are translated to letters, digits and underscores, so the escaping is always `underscores`. The schemes
/// `allow-utf-8` and `values` give such names the same form and are echoed; `dots` does not.
struct ScrapeNegotiation: Sendable, Equatable {
    /// The format of the body.
    let format: ExpositionFormat
    /// The header `Content-Type`.
    let contentType: String
    /// Whether the body is to be compressed with gzip.
    let usesGzip: Bool

    /// What is answered to these headers; several of one name are joined by commas.
    init(accept: String? = nil, acceptEncoding: String? = nil) {
        let entries = ScrapeNegotiation.entries(accept ?? "")
        var best: (quality: Int, format: ExpositionFormat, version: String, escaping: String?)?
        for entry in entries where entry.quality > (best?.quality ?? 0) {
            guard let (format, version) = ScrapeNegotiation.served(entry) else { continue }
            best = (entry.quality, format, version, entry["escaping"])
        }
        format = best?.format ?? .text
        switch best {
        case (_, .openMetrics, let version, let escaping)?:
            let wanted = escaping?.lowercased() ?? ""
            let scheme = ["allow-utf-8", "values"].contains(wanted) ? wanted : "underscores"
            contentType = "\(format.mediaType); version=\(version); charset=utf-8; escaping=\(scheme)"
        default: contentType = format.contentType
        }
        usesGzip = ScrapeNegotiation.takesGzip(acceptEncoding ?? "")
    }

    private static func served(_ entry: Entry) -> (ExpositionFormat, version: String)? {
        switch entry.name {
        case "text/plain", "text/*", "*/*": return (.text, ExpositionFormat.text.version)
        case "application/openmetrics-text":
            switch entry["version"] {
            case "1.0.0"?: return (.openMetrics, "1.0.0")
            case nil, "0.0.1"?: return (.openMetrics, "0.0.1")
            default: return nil
            }
        default: return nil
        }
    }

    /// Whether gzip is asked for (RFC 9110 §12.5.3): named or covered by `*`, not with quality 0, and not liked less than
    /// no coding at all where that is named.
    private static func takesGzip(_ header: String) -> Bool {
        let entries = entries(header)
        func quality(_ names: [String]) -> Int? { entries.first { names.contains($0.name) }?.quality }
        let gzip = quality(["gzip", "x-gzip"]) ?? quality(["*"]) ?? 0
        return gzip > 0 && gzip >= quality(["identity"]) ?? 0
    }
}

/// One entry of a list with qualities: `name;parameter=value;q=0.5`.
private struct Entry {
    /// In lower case.
    let name: String
    /// In thousandths.
    let quality: Int
    private let parameters: [(name: String, value: String)]

    subscript(_ name: String) -> String? { parameters.first { $0.name == name }?.value }

    /// Nil for what has no name or a quality that is none.
    init?(_ text: Substring) {
        var parts = text.split(separator: ";", omittingEmptySubsequences: false).map { $0.trimmed }
        name = parts.removeFirst().lowercased()
        guard !name.isEmpty else { return nil }
        parameters = parts.compactMap { part in
            let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map { $0.trimmed }
            guard halves.count == 2, !halves[0].isEmpty else { return nil }
            let value = halves[1]
            let isQuoted = value.count >= 2 && value.first == "\"" && value.last == "\""
            return (halves[0].lowercased(), String(isQuoted ? value.dropFirst().dropLast() : value[...]))
        }
        guard let text = parameters.first(where: { $0.name == "q" })?.value else {
            quality = 1000
            return
        }
        guard let thousandths = Entry.thousandths(text) else { return nil }
        quality = thousandths
    }

    /// A quality of 0 to 1 (RFC 9110 §12.4.2). More than three digits behind the point, which some clients send, are cut.
    private static func thousandths(_ text: String) -> Int? {
        let halves = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = halves.first, ["0", "1", ""].contains(whole), !text.isEmpty, text != "." else { return nil }
        var value = whole == "1" ? 1 : 0
        var digits = 0
        for byte in halves.count == 2 ? Array(halves[1].utf8) : [] {
            guard (0x30...0x39).contains(byte) else { return nil }
            if digits == 3 { continue }
            value = value * 10 + Int(byte - 0x30)
            digits += 1
        }
        for _ in digits..<3 { value *= 10 }
        return value <= 1000 ? value : nil
    }
}

extension ScrapeNegotiation {
    /// The entries of a list that make sense, in order.
    fileprivate static func entries(_ header: String) -> [Entry] { header.split(separator: ",").compactMap { Entry($0) } }
}

extension Substring {
    /// Without spaces and tabs at both ends (RFC 9110 §5.6.3).
    fileprivate var trimmed: Substring {
        var rest = self
        while let first = rest.first, first == " " || first == "\t" { rest = rest.dropFirst() }
        while let last = rest.last, last == " " || last == "\t" { rest = rest.dropLast() }
        return rest
    }
}

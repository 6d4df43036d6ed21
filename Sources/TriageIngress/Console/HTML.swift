internal import TriageEvents
public import TriageTelemetry

/// Markup whose text is escaped by construction: literals of the source are markup, whatever is put into them is text.
///
/// ```swift
/// let row: HTML = "<tr><td>\(letter.error)</td><td class=\"number\">\(count)</td></tr>"
/// ```
///
/// Only a literal becomes markup as it stands, since it is a `StaticString`; a `String` can't be turned into one. What is put
/// into an attribute stands between double quotes; for `href` there is ``Interpolation/appendInterpolation(address:)``.
public struct HTML: Sendable, Hashable, ExpressibleByStringInterpolation, CustomStringConvertible {
    /// The markup.
    public private(set) var text: String

    /// Markup of the source.
    public init(stringLiteral value: StaticString) { text = value.description }

    /// Markup of the source with escaped text in it.
    public init(stringInterpolation: Interpolation) { text = stringInterpolation.text }

    private init(markup: String) { text = markup }

    /// Nothing.
    public static let empty: HTML = ""

    /// One behind the other.
    public static func + (left: HTML, right: HTML) -> HTML { HTML(markup: left.text + right.text) }

    /// Appends markup.
    public static func += (left: inout HTML, right: HTML) { left.text += right.text }

    /// The markup.
    public var description: String { text }

    /// Whether there is nothing.
    public var isEmpty: Bool { text.isEmpty }

    /// Several pieces, one behind the other.
    public static func all(_ pieces: some Sequence<HTML>) -> HTML {
        var text = ""
        for piece in pieces { text += piece.text }
        return HTML(markup: text)
    }

    /// Text as it may stand between tags and between quotes.
    ///
    /// Beside the five characters that markup is made of, control characters and those that turn the direction of writing are
    /// replaced: what a record says must not look like something else than it is.
    static func escaped(_ text: some StringProtocol) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            switch byte {
            case 0x26, 0x3C, 0x3E, 0x22, 0x27, 0x60: false
            case 0x0A, 0x20...0x7E: true
            default: false
            }
        }
        if isPlain { return String(text) }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x26: result.append(contentsOf: "&amp;".unicodeScalars)
            case 0x3C: result.append(contentsOf: "&lt;".unicodeScalars)
            case 0x3E: result.append(contentsOf: "&gt;".unicodeScalars)
            case 0x22: result.append(contentsOf: "&quot;".unicodeScalars)
            case 0x27: result.append(contentsOf: "&#39;".unicodeScalars)
            case 0x60: result.append(contentsOf: "&#96;".unicodeScalars)
            case 0x09, 0x0A: result.append(scalar)
            case _ where HarmlessText.isActive(scalar):
                result.append("\u{FFFD}")
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// Collects literals and what is put between them.
    public struct Interpolation: StringInterpolationProtocol {
        var text = ""

        /// Begins an interpolation.
        public init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity + interpolationCount * 16)
        }
        /// Appends markup of the source.
        public mutating func appendLiteral(_ literal: StaticString) { text += literal.description }
        /// Appends text, escaped.
        public mutating func appendInterpolation(_ value: some StringProtocol) { text += HTML.escaped(value) }
        /// Appends text, escaped.
        public mutating func appendInterpolation(_ value: SafeText) { text += HTML.escaped(value.text) }
        /// Appends a whole number.
        public mutating func appendInterpolation(_ value: some BinaryInteger) { text += String(value) }
        /// Appends markup that was made the same way.
        public mutating func appendInterpolation(_ value: HTML) { text += value.text }
        /// Appends the markup of each.
        public mutating func appendInterpolation(_ values: some Sequence<HTML>) { for value in values { text += value.text } }
        /// Appends an address for `href`, escaped: a path of this site, or one of `http` and `https`; anything else, such as
        /// `javascript:`, leads nowhere.
        public mutating func appendInterpolation(address: String) {
            let lower = address.prefix(8).lowercased()
            let isPath = address.hasPrefix("/") && !address.hasPrefix("//") && !address.hasPrefix("/\\")
            let isSafe = isPath || address.hasPrefix("#") || lower.hasPrefix("http://") || lower.hasPrefix("https://")
            text += isSafe ? HTML.escaped(address) : "#"
        }
    }
}

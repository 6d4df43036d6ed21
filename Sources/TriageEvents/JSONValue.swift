/// A value inside a JSON text, where its bytes lie: nothing is copied or parsed before it is asked for.
///
/// For texts that ``EventDecoder/checkObject(_:)`` found to be JSON. Of any other text it reads something or nothing, but it
/// never reads beyond the text and never traps.
public struct JSONValue: Sendable, Equatable {
    /// The value's bytes, without white space around them.
    public let text: ByteSlice

    /// The JSON types (RFC 8259 §3).
    public enum Kind: Sendable, Hashable, CaseIterable, CustomStringConvertible {
        /// `{…}`
        case object
        /// `[…]`
        case array
        /// `"…"`
        case string
        /// A number.
        case number
        /// `true` or `false`.
        case boolean
        /// `null`
        case null

        /// The case's name, without reflection, which a shape of many values would spend its time on.
        public var description: String {
            switch self {
            case .object: "object"
            case .array: "array"
            case .string: "string"
            case .number: "number"
            case .boolean: "boolean"
            case .null: "null"
            }
        }
    }

    /// The value that `text` holds; nil if there is nothing but white space.
    public init?(_ text: ByteSlice) {
        let range: Range<Int>? = text.withUnsafeBytes { bytes in
            let start = JSONScanner.skipSpace(bytes, 0)
            guard start < bytes.count else { return nil }
            return start..<JSONScanner.endOfValue(bytes, start)
        }
        guard let range, !range.isEmpty else { return nil }
        self.text = text.subslice(range)
    }

    /// The same of a text that is one value, as ``EventDecoder/checkObject(_:)`` has found: its end isn't looked for again.
    package init?(checked text: ByteSlice) {
        let range: Range<Int> = text.withUnsafeBytes { bytes in
            let start = JSONScanner.skipSpace(bytes, 0)
            var end = bytes.count
            while end > start, bytes[end - 1] <= 0x20 { end -= 1 }
            return start..<end
        }
        guard !range.isEmpty else { return nil }
        self.text = text.subslice(range)
    }

    private init(known text: ByteSlice) { self.text = text }

    /// What kind of value it is, by its first byte.
    public var kind: Kind {
        switch text.first {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .boolean
        case UInt8(ascii: "n"): .null
        default: .number
        }
    }

    /// The value of the first member called `name`, an ASCII literal; nil if there is none, it is null, or this is no object.
    public subscript(name: StaticString) -> JSONValue? {
        JSONScanner.range(of: name, in: text).map { JSONValue(known: text.subslice($0)) }
    }

    /// The members of an object in order, names as they stand between their quotes (escapes and all); none of anything else.
    ///
    /// - Parameter body: called for each; false ends it.
    public func forEachMember(_ body: (_ name: ByteSlice, _ value: JSONValue) -> Bool) {
        var at = firstItem(UInt8(ascii: "{"))
        while let start = at {
            guard let name = item(from: start), name.kind == .string, name.text.count >= 2,
                let valueStart = behind(start + name.text.count, UInt8(ascii: ":")), let value = item(from: valueStart),
                body(name.text.subslice(1..<name.text.count - 1), value)
            else { return }
            at = behind(valueStart + value.text.count, UInt8(ascii: ","))
        }
    }

    /// The elements of an array in order; none of anything else.
    public var elements: [JSONValue] {
        var elements: [JSONValue] = []
        var at = firstItem(UInt8(ascii: "["))
        while let start = at, let value = item(from: start) {
            elements.append(value)
            at = behind(start + value.text.count, UInt8(ascii: ","))
        }
        return elements
    }

    /// The text of a string with its escapes replaced; nil if it is no string, or an escape makes no Unicode text.
    public var string: String? { stringBytes?.utf8Text }

    /// The same as UTF-8 bytes: a slice of the text where it has no escapes.
    public var stringBytes: ByteSlice? {
        guard kind == .string, text.count >= 2, text.last == UInt8(ascii: "\"") else { return nil }
        let inner = text.subslice(1..<text.count - 1)
        guard inner.contains(UInt8(ascii: "\\")) else { return inner }
        return JSONScanner.unescape(inner)
    }

    /// Whether this is a string that says `literal`.
    public func says(_ literal: StaticString) -> Bool { stringBytes?.equals(literal) ?? false }

    /// A whole number, written as a number or as a string of decimal digits, as FHIR versions differ in that; else nil.
    public var integer: Int64? {
        let digits: ByteSlice?
        switch kind {
        case .number: digits = text
        case .string: digits = stringBytes
        default: digits = nil
        }
        guard let digits, (1...20).contains(digits.count), let text = digits.utf8Text else { return nil }
        return Int64(text)
    }

    /// `true` or `false`; nil for anything else.
    public var boolean: Bool? {
        if text.equals("true") { return true }
        return text.equals("false") ? false : nil
    }

    /// Where the first item of a container begins that opens with `bracket`.
    private func firstItem(_ bracket: UInt8) -> Int? {
        guard text.first == bracket else { return nil }
        return text.withUnsafeBytes { bytes in
            let at = JSONScanner.skipSpace(bytes, 1)
            return at < bytes.count && bytes[at] != bracket + 2 ? at : nil
        }
    }

    private func item(from start: Int) -> JSONValue? {
        let end = text.withUnsafeBytes { JSONScanner.endOfValue($0, start) }
        return end > start && end <= text.count ? JSONValue(known: text.subslice(start..<end)) : nil
    }

    /// Where the next item begins if `separator` stands at `end`, but for white space.
    private func behind(_ end: Int, _ separator: UInt8) -> Int? {
        text.withUnsafeBytes { bytes in
            let at = JSONScanner.skipSpace(bytes, end)
            guard at < bytes.count, bytes[at] == separator else { return nil }
            let next = JSONScanner.skipSpace(bytes, at + 1)
            return next < bytes.count ? next : nil
        }
    }
}

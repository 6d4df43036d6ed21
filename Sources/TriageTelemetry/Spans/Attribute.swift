internal import Glibc
public import TriageEvents

/// The value of a span attribute. Strings can only be made from ``SafeText``, so no payload gets in by accident.
public enum AttributeValue: Sendable, Hashable {
    /// A literal of the source.
    case literal(StaticText)
    /// Vetted text.
    case text(SafeText)
    /// A signed integer.
    case int(Int64)
    /// A floating-point number.
    case double(Double)
    /// A truth value.
    case bool(Bool)
    /// A UUID by its two big-endian halves; written in the usual 36 lower-case characters.
    case uuid(UInt64, UInt64)
    /// A resource id or record key. Exported hashed, plain or not at all, as the ``IdentifierPolicy`` says, and only then computed.
    case identifier(ByteSlice)
}

/// A static string that can be compared and hashed.
public struct StaticText: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The literal.
    public let literal: StaticString

    /// Wraps a literal.
    @inline(__always)
    public init(_ literal: StaticString) { self.literal = literal }

    /// A literal.
    public init(stringLiteral value: StaticString) { literal = value }

    /// The text.
    public var description: String { literal.description }

    /// Equal if the texts are, byte for byte: nothing is made of them for that.
    public static func == (left: StaticText, right: StaticText) -> Bool {
        let count = left.literal.utf8CodeUnitCount
        guard count == right.literal.utf8CodeUnitCount else { return false }
        return left.literal.utf8Start == right.literal.utf8Start
            || memcmp(left.literal.utf8Start, right.literal.utf8Start, count) == 0
    }

    /// Hashes the text.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(bytes: UnsafeRawBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
    }
}

/// An attribute: a key from the source and a value.
public struct Attribute: Sendable, Hashable {
    /// The key: always a literal, so keys can't carry data either.
    public let key: StaticText
    /// The value.
    public var value: AttributeValue

    /// The attribute `key` = `value`.
    @inline(__always)
    public init(_ key: StaticString, _ value: AttributeValue) {
        self.key = StaticText(key)
        self.value = value
    }
}

extension Attribute {
    /// The attribute with at most `length` Unicode scalars of text; nil is unlimited.
    func limited(to length: Int?) -> Attribute {
        guard let length else { return self }
        let text: String
        switch value {
        case .literal(let literal): text = literal.description
        case .text(let safe): text = safe.text
        case .int, .double, .bool, .uuid, .identifier: return self
        }
        var limited = self
        if text.unicodeScalars.count > length {
            limited.value = .text(SafeText(vetted: String(String.UnicodeScalarView(text.unicodeScalars.prefix(max(0, length))))))
        }
        return limited
    }
}

extension AttributeValue {
    /// `text` as a UUID if it is one (8-4-4-4-12 hexadecimal digits, either case), else nil.
    public static func uuid(_ text: ByteSlice) -> AttributeValue? {
        guard text.count == 36 else { return nil }
        return text.withUnsafeBytes { bytes in
            var halves: (UInt64, UInt64) = (0, 0)
            var digits = 0
            for index in 0..<36 {
                let byte = bytes[index]
                if index == 8 || index == 13 || index == 18 || index == 23 {
                    guard byte == UInt8(ascii: "-") else { return nil }
                    continue
                }
                let digit: UInt64
                switch byte {
                case 0x30...0x39: digit = UInt64(byte &- 0x30)
                case 0x61...0x66: digit = UInt64(byte &- 0x57)
                case 0x41...0x46: digit = UInt64(byte &- 0x37)
                default: return nil
                }
                if digits < 16 { halves.0 = halves.0 << 4 | digit } else { halves.1 = halves.1 << 4 | digit }
                digits += 1
            }
            return .uuid(halves.0, halves.1)
        }
    }
}

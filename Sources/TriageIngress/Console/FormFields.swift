/// The pairs of a form (`application/x-www-form-urlencoded`, WHATWG URL §5.1), in order.
///
/// Bounded: ``maximumPairs`` pairs; a value that isn't UTF-8, or holds control characters other than line breaks, makes all
/// of it unreadable.
public struct FormFields: Sendable, Hashable {
    /// The media type.
    static let mediaType = "application/x-www-form-urlencoded"
    /// Pairs that a form may have: a page of the longest list with a box beside each of its lines, and some more.
    public static let maximumPairs = 400

    private var pairs: [(name: String, value: String)] = []

    /// Nothing filled in.
    public init() {}

    /// These pairs.
    public init(_ pairs: [(name: String, value: String)]) { self.pairs = pairs }

    /// Reads a body or a query; nil if it can't be read.
    public init?(_ bytes: some Collection<UInt8>) {
        for raw in bytes.split(separator: UInt8(ascii: "&")) {
            guard pairs.count < FormFields.maximumPairs else { return nil }
            let halves = raw.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = FormFields.decoded(halves[0]),
                let value = halves.count == 2 ? FormFields.decoded(halves[1]) : ""
            else { return nil }
            pairs.append((name, value))
        }
    }

    /// The first value of this name, without spaces at its ends; nil if there is none or it is empty.
    public subscript(_ name: String) -> String? {
        guard let value = pairs.first(where: { $0.name == name })?.value.trimmingSpaces, !value.isEmpty else { return nil }
        return value
    }

    /// All values of this name.
    public func all(_ name: String) -> [String] { pairs.filter { $0.name == name }.map(\.value) }

    /// The names in order, repeated ones as often as they occur.
    public var names: [String] { pairs.map(\.name) }

    /// Whether two forms say the same.
    public static func == (left: FormFields, right: FormFields) -> Bool {
        left.pairs.elementsEqual(right.pairs) { $0 == $1 }
    }

    /// Feeds what it says.
    public func hash(into hasher: inout Hasher) {
        for pair in pairs {
            hasher.combine(pair.name)
            hasher.combine(pair.value)
        }
    }

    private static func decoded(_ text: some Collection<UInt8>) -> String? {
        var bytes: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(0x20)
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(hexValue), let low = rest.popFirst().flatMap(hexValue) else {
                    return nil
                }
                bytes.append(high << 4 | low)
            default: bytes.append(byte)
            }
        }
        guard bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}

extension String {
    fileprivate var trimmingSpaces: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text = text.dropFirst() }
        while text.last?.isWhitespace == true { text = text.dropLast() }
        return String(text)
    }
}

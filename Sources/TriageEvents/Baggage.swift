/// W3C Baggage as it travels in a `baggage` header: untrusted name–value pairs, never copied into telemetry.
///
/// A record's `baggage` header is passed on byte for byte; this type is for a handler that wants to read or write it.
public struct Baggage: Sendable, Hashable {
    /// The pairs in order; a name that came twice keeps its last value.
    public private(set) var members: [(name: String, value: String)] = []

    /// Members and bytes beyond which a receiver may drop members (W3C Baggage §3.3.2).
    public static let maximumMembers = 64
    /// The bytes that must be propagated (W3C Baggage §3.3.2).
    public static let maximumBytes = 8192

    /// No members.
    public init() {}

    /// Parses header values, joined in order. Members that break the grammar, or lie beyond 64 members or 8,192 bytes,
    /// are dropped whole.
    public init(parsing values: [ByteSlice]) {
        var bytes = 0
        for value in values {
            for part in Array(value).split(separator: UInt8(ascii: ",")) {
                bytes += part.count + 1
                guard bytes <= Baggage.maximumBytes + 1, members.count < Baggage.maximumMembers else { return }
                let pair = part.prefix { $0 != UInt8(ascii: ";") }
                guard let equals = pair.firstIndex(of: UInt8(ascii: "=")) else { continue }
                let name = Baggage.trim(pair[..<equals])
                guard !name.isEmpty, name.allSatisfy(Baggage.isTokenByte),
                    let decoded = Baggage.percentDecode(Baggage.trim(pair[(equals + 1)...]))
                else { continue }
                self[String(decoding: name, as: UTF8.self)] = decoded
            }
        }
    }

    /// The value of `name`; setting nil removes it. A name that is no RFC 7230 token is ignored on set.
    public subscript(name: String) -> String? {
        get { members.last { $0.name == name }?.value }
        set {
            members.removeAll { $0.name == name }
            guard let newValue, !name.isEmpty, name.utf8.allSatisfy(Baggage.isTokenByte) else { return }
            members.append((name, newValue))
        }
    }

    /// The header's text, percent-encoded; nil if there are no members.
    public var text: String? {
        members.isEmpty ? nil : members.map { "\($0.name)=\(Baggage.percentEncode($0.value))" }.joined(separator: ",")
    }

    /// Equal if the members are, in order.
    public static func == (left: Baggage, right: Baggage) -> Bool {
        left.members.elementsEqual(right.members) { $0 == $1 }
    }

    /// Hashes the members.
    public func hash(into hasher: inout Hasher) {
        for (name, value) in members {
            hasher.combine(name)
            hasher.combine(value)
        }
    }

    private static func trim(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var bytes = bytes
        while let first = bytes.first, first == 0x20 || first == 0x09 { bytes = bytes.dropFirst() }
        while let last = bytes.last, last == 0x20 || last == 0x09 { bytes = bytes.dropLast() }
        return bytes
    }

    /// `tchar` of RFC 7230 §3.2.6.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// `baggage-octet` of W3C Baggage §3.2: printable ASCII without DQUOTE, comma, semicolon, backslash and space.
    private static func isValueByte(_ byte: UInt8) -> Bool {
        (0x21...0x7E).contains(byte) && byte != 0x22 && byte != 0x2C && byte != 0x3B && byte != 0x5C
    }

    /// Both cases, as RFC 3986 §2.1 has it; no signs, which the standard library's parser would take.
    private static func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }

    private static func percentDecode(_ bytes: ArraySlice<UInt8>) -> String? {
        guard bytes.allSatisfy(isValueByte) else { return nil }
        var decoded: [UInt8] = []
        var rest = bytes
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), let high = rest.first.flatMap(hexadecimalDigit),
                let low = rest.dropFirst().first.flatMap(hexadecimalDigit)
            {
                decoded.append(high << 4 | low)
                rest = rest.dropFirst(2)
            } else {
                decoded.append(byte)
            }
        }
        return String(decoding: decoded, as: UTF8.self)
    }

    private static func percentEncode(_ value: String) -> String {
        var encoded = ""
        for byte in value.utf8 {
            if isValueByte(byte), byte != UInt8(ascii: "%") {
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let hex = String(byte, radix: 16, uppercase: true)
                encoded += hex.count == 1 ? "%0\(hex)" : "%\(hex)"
            }
        }
        return encoded
    }
}

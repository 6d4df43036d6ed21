public import TriageEvents

/// Where in a JSON text a value stands: `/data/name/0/family` (RFC 6901).
public struct JSONPointer: Sendable, Hashable, CustomStringConvertible {
    /// The names and indexes on the way, as UTF-8: names are compared code point by code point (§4).
    public let tokens: [ByteSlice]

    /// The pointer that a text says; nil if it neither is empty nor begins with `/`, or a `~` isn't followed by 0 or 1 (§3).
    public init?(_ text: String) {
        guard !text.isEmpty else {
            tokens = []
            return
        }
        var tokens: [ByteSlice] = []
        var bytes: [UInt8] = []
        var isAfterTilde = false
        let all = Array(text.utf8)
        guard all.first == UInt8(ascii: "/") else { return nil }
        for byte in all.dropFirst() {
            if isAfterTilde {
                guard byte == UInt8(ascii: "0") || byte == UInt8(ascii: "1") else { return nil }
                bytes.append(byte == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
                isAfterTilde = false
            } else if byte == UInt8(ascii: "~") {
                isAfterTilde = true
            } else if byte == UInt8(ascii: "/") {
                tokens.append(ByteSlice(bytes))
                bytes = []
            } else {
                bytes.append(byte)
            }
        }
        guard !isAfterTilde else { return nil }
        self.tokens = tokens + [ByteSlice(bytes)]
    }

    /// The text of the pointer, `~` and `/` in names escaped (§3).
    public var description: String {
        tokens.map { token in
            var text = "/"
            for character in String(decoding: token, as: UTF8.self) {
                text += character == "~" ? "~0" : character == "/" ? "~1" : String(character)
            }
            return text
        }.joined()
    }

    /// Whether another pointer leads into what this one leads to.
    func isAbove(_ other: JSONPointer) -> Bool {
        tokens.count < other.tokens.count && other.tokens.starts(with: tokens)
    }

    /// The number that a token names in an array (§4): digits without a zero before them; nil for anything else.
    static func index(_ token: ByteSlice) -> Int? {
        guard (1...18).contains(token.count), token.allSatisfy({ (0x30...0x39).contains($0) }),
            token.count == 1 || token.first != UInt8(ascii: "0")
        else { return nil }
        return token.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }
}

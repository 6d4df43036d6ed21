/// Finds its way in text that is already known to be valid JSON; in any other it stays within its bounds.
enum JSONScanner {
    /// The range of the value of the first top-level member called `name`, or nil if there is none or it is null.
    static func range(of name: StaticString, in text: ByteSlice) -> Range<Int>? {
        text.withUnsafeBytes { bytes in
            var at = skipSpace(bytes, 0)
            guard at < bytes.count, bytes[at] == UInt8(ascii: "{") else { return nil }
            at = skipSpace(bytes, at + 1)
            while at < bytes.count, bytes[at] == UInt8(ascii: "\"") {
                let nameEnd = endOfString(bytes, at)
                guard nameEnd - at >= 2 else { return nil }
                let isMatch = isName(UnsafeRawBufferPointer(rebasing: bytes[at + 1..<nameEnd - 1]), name)
                at = skipSpace(bytes, nameEnd)
                guard at < bytes.count, bytes[at] == UInt8(ascii: ":") else { return nil }
                at = skipSpace(bytes, at + 1)
                guard at < bytes.count else { return nil }
                let end = endOfValue(bytes, at)
                if isMatch { return bytes[at] == UInt8(ascii: "n") ? nil : at..<end }
                at = skipSpace(bytes, end)
                guard at < bytes.count, bytes[at] == UInt8(ascii: ",") else { return nil }
                at = skipSpace(bytes, at + 1)
            }
            return nil
        }
    }

    /// Whether the text between the quotes of a JSON string says `name`, which is ASCII; escapes count as what they mean,
    /// so that the member found is the one that the parser found.
    private static func isName(_ text: UnsafeRawBufferPointer, _ name: StaticString) -> Bool {
        guard text.contains(UInt8(ascii: "\\")) else { return FHIRGrammar.equals(text, name) }
        var at = 0
        for index in 0..<name.utf8CodeUnitCount {
            guard at < text.count else { return false }
            if text[at] != UInt8(ascii: "\\") {
                guard text[at] == name.utf8Start[index] else { return false }
                at += 1
            } else {
                // No letter of a name has a short escape, only the long one: \u0064.
                guard at + 6 <= text.count, text[at + 1] == UInt8(ascii: "u"),
                    text[at + 2] == UInt8(ascii: "0"), text[at + 3] == UInt8(ascii: "0"),
                    let value = UInt8(String(decoding: text[at + 4..<at + 6], as: UTF8.self), radix: 16),
                    value == name.utf8Start[index]
                else { return false }
                at += 6
            }
        }
        return at == text.count
    }

    static func skipSpace(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        var at = start
        while at < bytes.count, bytes[at] <= 0x20 { at += 1 }
        return at
    }

    /// The index behind the closing quote of the string that opens at `start`.
    private static func endOfString(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        var at = start + 1
        while at < bytes.count {
            // Eight bytes at a time up to the first quote or backslash.
            while at + 8 <= bytes.count {
                let eight = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                let found = zeroBytes(eight ^ 0x2222_2222_2222_2222) | zeroBytes(eight ^ 0x5C5C_5C5C_5C5C_5C5C)
                guard found == 0 else {
                    at += found.trailingZeroBitCount / 8
                    break
                }
                at += 8
            }
            guard at < bytes.count else { break }
            switch bytes[at] {
            case UInt8(ascii: "\\"): at += 2
            case UInt8(ascii: "\""): return at + 1
            default: at += 1
            }
        }
        return bytes.count
    }

    /// The highest bit of the lowest byte that is zero, and maybe of some above it; zero if none is.
    @inline(__always)
    private static func zeroBytes(_ word: UInt64) -> UInt64 {
        (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
    }

    static func endOfValue(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        guard start < bytes.count else { return start }
        var at = start
        switch bytes[at] {
        case UInt8(ascii: "\""):
            return endOfString(bytes, at)
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            var depth = 0
            while at < bytes.count {
                switch bytes[at] {
                case UInt8(ascii: "\""):
                    at = endOfString(bytes, at)
                    continue
                case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    depth -= 1
                    if depth == 0 { return at + 1 }
                default: break
                }
                at += 1
            }
            return bytes.count
        default:
            while at < bytes.count, !",}] \t\r\n".utf8.contains(bytes[at]) { at += 1 }
            return at
        }
    }

    /// The bytes of a string with its escapes replaced (RFC 8259 §7); nil if an escape is none, or half of a surrogate pair.
    static func unescape(_ text: ByteSlice) -> ByteSlice? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var at = 0
        while at < text.count {
            let byte = text[at]
            guard byte == UInt8(ascii: "\\") else {
                bytes.append(byte)
                at += 1
                continue
            }
            guard at + 1 < text.count else { return nil }
            switch text[at + 1] {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): bytes.append(text[at + 1])
            case UInt8(ascii: "b"): bytes.append(0x08)
            case UInt8(ascii: "f"): bytes.append(0x0C)
            case UInt8(ascii: "n"): bytes.append(0x0A)
            case UInt8(ascii: "r"): bytes.append(0x0D)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "u"):
                guard let scalar = unicodeEscape(text, &at) else { return nil }
                bytes.append(contentsOf: Character(scalar).utf8)
            default: return nil
            }
            at += 2
        }
        return ByteSlice(bytes)
    }

    /// The scalar of a `\u` escape, or of two that are a surrogate pair, at `at`, which is left two bytes before their end.
    private static func unicodeEscape(_ text: ByteSlice, _ at: inout Int) -> Unicode.Scalar? {
        guard let first = fourDigits(text, at + 2) else { return nil }
        at += 4
        guard (0xD800..<0xE000).contains(first) else { return Unicode.Scalar(first) }
        guard first < 0xDC00, at + 3 < text.count, text[at + 2] == UInt8(ascii: "\\"), text[at + 3] == UInt8(ascii: "u"),
            let second = fourDigits(text, at + 4), (0xDC00..<0xE000).contains(second)
        else { return nil }
        at += 6
        return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
    }

    private static func fourDigits(_ text: ByteSlice, _ start: Int) -> UInt32? {
        guard start + 4 <= text.count else { return nil }
        var value: UInt32 = 0
        for at in start..<start + 4 {
            guard let digit = Character(Unicode.Scalar(text[at])).hexDigitValue else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }
}

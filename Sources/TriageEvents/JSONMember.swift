/// Finds a member of a JSON object in text that is already known to be valid JSON.
enum JSONMember {
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

    private static func skipSpace(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        var at = start
        while at < bytes.count, bytes[at] <= 0x20 { at += 1 }
        return at
    }

    /// The index behind the closing quote of the string that opens at `start`.
    private static func endOfString(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        var at = start + 1
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "\\"): at += 2
            case UInt8(ascii: "\""): return at + 1
            default: at += 1
            }
        }
        return bytes.count
    }

    private static func endOfValue(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
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
}

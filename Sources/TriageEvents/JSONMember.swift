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
                let isMatch = nameEnd - at - 2 == name.utf8CodeUnitCount
                    && triageEqualBytes(bytes.baseAddress! + at + 1, UnsafeRawPointer(name.utf8Start), name.utf8CodeUnitCount)
                at = skipSpace(bytes, nameEnd)
                guard at < bytes.count, bytes[at] == UInt8(ascii: ":") else { return nil }
                at = skipSpace(bytes, at + 1)
                let end = endOfValue(bytes, at)
                if isMatch { return bytes[at] == UInt8(ascii: "n") ? nil : at..<end }
                at = skipSpace(bytes, end)
                guard at < bytes.count, bytes[at] == UInt8(ascii: ",") else { return nil }
                at = skipSpace(bytes, at + 1)
            }
            return nil
        }
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

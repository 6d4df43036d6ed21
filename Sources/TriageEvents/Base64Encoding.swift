extension Base64 {
    /// The text of bytes (RFC 4648 §4), padded.
    package static func encode(_ bytes: ByteSlice) -> String {
        let count = (bytes.count + 2) / 3 * 4
        return String(unsafeUninitializedCapacity: count) { text in
            bytes.withUnsafeBytes { bytes in
                var at = 0
                for start in stride(from: 0, to: bytes.count, by: 3) {
                    let left = bytes.count - start
                    let group =
                        UInt32(bytes[start]) << 16 | (left > 1 ? UInt32(bytes[start + 1]) << 8 : 0)
                        | (left > 2 ? UInt32(bytes[start + 2]) : 0)
                    for index in 0..<4 {
                        let six = UInt8(truncatingIfNeeded: group >> UInt32(18 - 6 * index)) & 0x3F
                        text[at + index] = index > left ? UInt8(ascii: "=") : character(six)
                    }
                    at += 4
                }
                return at
            }
        }
    }

    private static func character(_ six: UInt8) -> UInt8 {
        switch six {
        case 0..<26: UInt8(ascii: "A") + six
        case 26..<52: UInt8(ascii: "a") + six - 26
        case 52..<62: UInt8(ascii: "0") + six - 52
        case 62: UInt8(ascii: "+")
        default: UInt8(ascii: "/")
        }
    }
}

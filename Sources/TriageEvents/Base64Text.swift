extension TextBytes {
    /// Appends base64 with padding (RFC 4648 §4).
    package mutating func append(base64 source: ByteSlice) {
        bytes.reserveCapacity(bytes.count + (source.count + 2) / 3 * 4)
        source.withUnsafeBytes { source in
            var at = 0
            while at < source.count {
                let left = source.count - at
                let group =
                    UInt32(source[at]) << 16 | (left > 1 ? UInt32(source[at + 1]) << 8 : 0)
                    | (left > 2 ? UInt32(source[at + 2]) : 0)
                bytes.append(TextBytes.base64Digit(group >> 18))
                bytes.append(TextBytes.base64Digit(group >> 12))
                bytes.append(left > 1 ? TextBytes.base64Digit(group >> 6) : UInt8(ascii: "="))
                bytes.append(left > 2 ? TextBytes.base64Digit(group) : UInt8(ascii: "="))
                at += 3
            }
        }
    }

    private static func base64Digit(_ bits: UInt32) -> UInt8 {
        let six = UInt8(truncatingIfNeeded: bits & 63)
        return switch six {
        case 0..<26: UInt8(ascii: "A") &+ six
        case 26..<52: UInt8(ascii: "a") &+ six &- 26
        case 52..<62: UInt8(ascii: "0") &+ six &- 52
        case 62: UInt8(ascii: "+")
        default: UInt8(ascii: "/")
        }
    }
}

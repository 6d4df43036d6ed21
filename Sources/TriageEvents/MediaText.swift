/// Compares the parts of a `Content-Type` where they stand (RFC 9110 §8.3.1): it is looked at for each request, and strings made of
/// its parts cost more than reading the body.
package enum MediaText {
    /// Whether what stands before the first `;`, without blanks, is `name` in whatever case.
    ///
    /// - Parameter name: ASCII in lower case.
    package static func isType(_ contentType: String, _ name: StaticString) -> Bool {
        var matched = 0
        for byte in contentType.utf8 {
            if byte == UInt8(ascii: ";") { break }
            if isBlank(byte) { continue }
            guard matched < name.utf8CodeUnitCount, lowercased(byte) == name.utf8Start[matched] else { return false }
            matched += 1
        }
        return matched == name.utf8CodeUnitCount
    }

    /// Whether every part passes: the type and, behind each `;`, a parameter, without the blanks around it.
    package static func allParts(
        _ contentType: String, _ passes: (_ part: UnsafeRawBufferPointer, _ isType: Bool) -> Bool
    ) -> Bool {
        var text = contentType
        return text.withUTF8 { utf8 in
            let bytes = UnsafeRawBufferPointer(utf8)
            var start = 0
            while true {
                let end = bytes[start...].firstIndex(of: UInt8(ascii: ";")) ?? bytes.count
                var (first, last) = (start, end)
                while first < last, isBlank(bytes[first]) { first += 1 }
                while first < last, isBlank(bytes[last - 1]) { last -= 1 }
                guard passes(UnsafeRawBufferPointer(rebasing: bytes[first..<last]), start == 0) else { return false }
                guard end < bytes.count else { return true }
                start = end + 1
            }
        }
    }

    /// Whether the bytes are `text` in whatever case.
    ///
    /// - Parameter text: ASCII in lower case.
    package static func equals(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        bytes.count == text.utf8CodeUnitCount && hasPrefix(bytes, text)
    }

    /// Whether the bytes begin with `text` in whatever case.
    ///
    /// - Parameter text: ASCII in lower case.
    package static func hasPrefix(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        guard bytes.count >= text.utf8CodeUnitCount else { return false }
        for index in 0..<text.utf8CodeUnitCount where lowercased(bytes[index]) != text.utf8Start[index] { return false }
        return true
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    private static func lowercased(_ byte: UInt8) -> UInt8 { (0x41...0x5A).contains(byte) ? byte | 0x20 : byte }
}

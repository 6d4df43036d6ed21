/// A text as a JSON string (RFC 8259 §7).
package struct JSONText: Sendable {
    /// The text between quotation marks, with what must not stand there escaped.
    package let quoted: String

    /// Quotes `text`.
    package init(_ text: String) {
        var bytes = TextBytes(capacity: text.utf8.count + 2)
        bytes.append(quoted: text)
        quoted = bytes.text
    }
}

extension TextBytes {
    /// Appends text as a JSON string: between quotation marks, with what must not stand there escaped.
    package mutating func append(quoted text: String) {
        append(byte: UInt8(ascii: "\""))
        // Almost no text has anything to be escaped.
        let isPlain = text.utf8.withContiguousStorageIfAvailable { bytes in
            bytes.allSatisfy { $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
        }
        if isPlain == true {
            append(text)
        } else {
            for byte in text.utf8 {
                switch byte {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                    append(byte: UInt8(ascii: "\\"))
                    append(byte: byte)
                case 0x00...0x1F:
                    append("\\u00" as StaticString)
                    append(byte: 0x30 + byte >> 4)
                    let digit = byte & 0x0F
                    append(byte: digit < 10 ? 0x30 + digit : 0x57 + digit)
                default: append(byte: byte)
                }
            }
        }
        append(byte: UInt8(ascii: "\""))
    }
}

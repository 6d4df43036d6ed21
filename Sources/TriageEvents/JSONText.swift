/// A text as a JSON string (RFC 8259 §7).
package struct JSONText: Sendable {
    /// The text between quotation marks, with what must not stand there escaped.
    package let quoted: String

    /// Quotes `text`.
    package init(_ text: String) {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case "\u{00}"..."\u{1F}":
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        self.quoted = quoted + "\""
    }
}

/// Text of anybody's, made such that showing it does nothing: it moves no cursor, and turns no direction of writing.
///
/// That it can be shown doesn't mean that it may be: what it says is a matter of its own.
public enum HarmlessText {
    /// The text in ASCII, `?` for every other character, and no longer than `limit` characters: for names in one line.
    public static func printable(_ text: String, limit: Int = 200) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(limit).map { (0x20...0x7E).contains($0.value) ? $0 : "?" }))
    }

    /// The whole text with line ends and tabs as they are, and what does something as `\u{…}`.
    public static func escaped(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { isActive($0) && !isSpace($0) }) else { return text }
        var shown = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if isActive(scalar), !isSpace(scalar) {
                shown.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
            } else {
                shown.append(scalar)
            }
        }
        return String(shown)
    }

    /// Whether a character does something where it is shown: C0, DEL and C1; the marks and overrides of direction (Unicode Standard
    /// Annex 9, §2); what ends lines in scripts; byte order marks and what is no character.
    public static func isActive(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x1F, 0x7F...0x9F, 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF, 0xFFFE, 0xFFFF: true
        default: false
        }
    }

    /// Whether the text is a name of at most `limit` bytes: ASCII letters and digits, and the characters of `more`.
    public static func isName(_ text: String, limit: Int, more: StaticString) -> Bool {
        var text = text
        return text.withUTF8 { isName($0, limit, more) }
    }

    /// The same of bytes of UTF-8.
    public static func isName(_ bytes: ArraySlice<UInt8>, limit: Int, more: StaticString) -> Bool {
        bytes.withUnsafeBufferPointer { isName($0, limit, more) }
    }

    private static func isName(_ bytes: UnsafeBufferPointer<UInt8>, _ limit: Int, _ more: StaticString) -> Bool {
        (1...limit).contains(bytes.count)
            && bytes.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: more.withUTF8Buffer { $0.contains(byte) }
                }
            }
    }

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool { scalar == "\n" || scalar == "\t" }
}

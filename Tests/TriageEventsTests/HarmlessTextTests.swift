import Testing

@testable import TriageEvents

@Suite("Text of anybody's")
struct HarmlessTextTests {
    @Test("what does something where it is shown is told, and does nothing; other text stays as it is")
    func escaped() {
        #expect(
            HarmlessText.escaped("a\u{1B}[2J\r\n\tb\u{9B}\u{202E}ü😀\u{7F}") == "a\\u{1b}[2J\\u{d}\n\tb\\u{9b}\\u{202e}ü😀\\u{7f}")
        #expect(HarmlessText.escaped("a\n\tü😀") == "a\n\tü😀" && HarmlessText.escaped("") == "")
    }

    @Test("names in a line are ASCII, and not longer than is wanted")
    func printable() {
        #expect(HarmlessText.printable("a\u{1B}[2J\nü") == "a?[2J??")
        #expect(HarmlessText.printable(String(repeating: "x", count: 300)).count == 200)
        #expect(HarmlessText.printable("abc", limit: 2) == "ab")
    }

    @Test("a name has letters, digits and what is allowed beside them")
    func names() {
        #expect(HarmlessText.isName("a.B-9", limit: 5, more: ".-") && !HarmlessText.isName("a.B-9", limit: 4, more: ".-"))
        for text in ["", "a b", "ä", "a@b", "a\0", "a\n"] {
            #expect(!HarmlessText.isName(text, limit: 9, more: "._-"), "\(text)")
        }
    }
}

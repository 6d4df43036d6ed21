import Testing

@testable import TriageEvents

@Suite struct MediaTextTests {
    @Test func aTypeIsKnownInWhateverCaseWithoutItsParameters() {
        for text in [
            "application/fhir+json", "Application/FHIR+JSON", " application/fhir+json ;charset=utf-8", "application/fhir+json;",
        ] {
            #expect(MediaText.isType(text, "application/fhir+json"))
        }
        for text in ["", ";", "application/fhir", "application/fhir+jsonx", "x;application/fhir+json", "application/fhir+xml"] {
            #expect(!MediaText.isType(text, "application/fhir+json"))
        }
    }

    @Test func partsComeWithoutTheBlanksAroundThem() {
        var parts: [String] = []
        #expect(
            MediaText.allParts(" a/b\t; c = d ;;E=\"f\"; ") { part, isType in
                parts.append((isType ? "!" : "") + String(decoding: part, as: UTF8.self))
                return true
            })
        #expect(parts == ["!a/b", "c = d", "", "E=\"f\"", ""])
        var seen = 0
        #expect(
            !MediaText.allParts("a;b;c") { _, isType in
                seen += 1
                return isType
            })
        #expect(seen == 2)
    }

    @Test(
        "Text is quoted as before, and JSON reads it back",
        arguments: ["", "plain", "a\"b\\c", "\u{0}\u{1F}\n", "Zoë 🩺\"", "\u{7F}"])
    func quoted(_ text: String) throws {
        let quoted = JSONText(text).quoted
        #expect(JSONValue(ByteSlice(quoted))?.string == text)
        #expect(quoted.unicodeScalars.allSatisfy { $0.value >= 0x20 })
    }

    @Test("The end of a string is found wherever its quote and its escapes stand", arguments: 0..<40)
    func ends(_ length: Int) {
        let plain = String(repeating: "a", count: length)
        for (text, end) in [
            ("\"\(plain)\",\"x\"", length + 2), ("\"\(plain)\\\"b\"]", length + 5), ("\"\(plain)\\\\\"\"", length + 4),
            ("\"\(plain)", length + 1), ("\"\(plain)\\", length + 2),
        ] {
            ByteSlice(text).withUnsafeBytes { #expect(JSONScanner.endOfValue($0, 0) == end, "\(text)") }
        }
    }

    @Test func aUUIDIsWrittenInFiveGroups() {
        #expect(uuidText(high: 0x0123_4567_89AB_CDEF, low: 0xFEDC_BA98_7654_3210) == "01234567-89ab-cdef-fedc-ba9876543210")
        struct Fixed: RandomNumberGenerator {
            var values: [UInt64]
            mutating func next() -> UInt64 { values.removeFirst() }
        }
        var generator = Fixed(values: [0xFFFF_FFFF_FFFF_FFFF, 0x1234_5678_9ABC_DEF0])
        #expect(randomUUID(using: &generator) == "ffffffff-ffff-4fff-a123-56789abcdef0")
    }
}

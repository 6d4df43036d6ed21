import Testing

@testable import TriageEvents

@Suite("FHIR grammars")
struct FHIRGrammarTests {
    @Test("dates", arguments: ["0001", "9999", "2024-01", "2024-12", "2024-02-29", "2000-02-29", "1999-12-31", "0004-02-29"])
    func dates(text: String) {
        #expect(FHIRGrammar.isDate(ByteSlice(text)))
        #expect(FHIRGrammar.isDateTime(ByteSlice(text)))
        #expect(!FHIRGrammar.isInstant(ByteSlice(text)))
    }

    @Test(
        "no dates",
        arguments: [
            "", "0000", "999", "10000", "2024-", "2024-1", "2024-00", "2024-13", "2024-01-", "2024-01-1", "2024-01-00",
            "2024-01-32",
            "2024-04-31", "2023-02-29", "1900-02-29", "2100-02-29", "2024/01/01", "2024-01/01", "20240101", "-024", "+024",
            " 2024",
            "2024 ", "２０２４", "2024-01-01Z", "0000-01-01", "202a", "2024-0a", "2024-01-0a", "2024-01-:1",
        ]
    )
    func noDates(text: String) {
        #expect(!FHIRGrammar.isDate(ByteSlice(text)))
        #expect(!FHIRGrammar.isDateTime(ByteSlice(text)))
    }

    @Test("every day of four centuries exists, and no other does")
    func calendar() {
        var days: Int64 = Timestamp.days(year: 1800, month: 1, day: 1)
        for year in 1800..<2200 {
            for month in 1...12 {
                for day in 1...31 {
                    let (realYear, realMonth, realDay) = Timestamp.civil(days: days)
                    let exists = (realYear, realMonth, realDay) == (Int64(year), Int64(month), Int64(day))
                    if exists { days += 1 }
                    let text = "\(year)-\(month < 10 ? "0" : "")\(month)-\(day < 10 ? "0" : "")\(day)"
                    if FHIRGrammar.isDate(ByteSlice(text)) != exists { Issue.record("\(text)") }
                }
            }
        }
        #expect(Timestamp.civil(days: days).year == 2200)
    }

    @Test(
        "instants, and the time they name",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00.000000001Z", 1), ("1969-12-31T23:59:59.999999999Z", -1),
            ("2024-02-29T12:34:56.789Z", 1_709_210_096_789_000_000), ("2024-02-29T12:34:56.789+14:00", 1_709_159_696_789_000_000),
            ("2024-02-29T12:34:56.789-13:59", 1_709_260_436_789_000_000), ("2024-01-01T00:00:00.5Z", 1_704_067_200_500_000_000),
            ("2024-01-01T00:00:00.1234567899999Z", 1_704_067_200_123_456_789),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
            ("2024-01-01T00:00:00-00:00", 1_704_067_200_000_000_000),
        ] as [(String, Int64)]
    )
    func instants(text: String, nanoseconds: Int64) {
        #expect(FHIRGrammar.isInstant(ByteSlice(text)))
        #expect(FHIRGrammar.isDateTime(ByteSlice(text)))
        #expect(Timestamp(instant: ByteSlice(text)) == Timestamp(nanoseconds: nanoseconds))
    }

    @Test(
        "an instant beyond 64 bits of nanoseconds is an instant, but no timestamp", arguments: ["0001", "1677", "2263", "9999"])
    func outOfRange(year: String) {
        let text = ByteSlice("\(year)-01-01T00:00:00Z")
        #expect(FHIRGrammar.isInstant(text))
        #expect(Timestamp(instant: text) == nil)
    }

    @Test(
        "no instants",
        arguments: [
            "", "2024-01-01T00:00:00", "2024-01-01T00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01t00:00:00Z", "2024-01-01T00:00:00z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00,1Z",
            "2024-01-01T00:00:00.1", "2024-01-01T00:00:00+14:01", "2024-01-01T00:00:00+15:00", "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+0100", "2024-01-01T00:00:00+01:60", "2024-01-01T00:00:00+01", "2024-01-01T00:00:00Z ",
            "2024-01-01T00:00:00ZZ", "2023-02-29T00:00:00Z", "2024-01T00:00:00Z", "2024-01-01T-1:00:00Z",
            "2024-01-01T00:00:00.1+",
            "2024-01-01T00-00:00Z", "2024-01-01T00:00-00Z", "2024-01-01T00:00:00.1x", "0000-01-01T00:00:00Z",
        ]
    )
    func noInstants(text: String) {
        #expect(!FHIRGrammar.isInstant(ByteSlice(text)))
        #expect(Timestamp(instant: ByteSlice(text)) == nil)
    }

    @Test("ids are judged byte by byte")
    func ids() {
        let allowed = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.".utf8)
        for byte in UInt8.min...UInt8.max {
            #expect(FHIRGrammar.isID(ByteSlice([byte])) == allowed.contains(byte), "\(byte)")
            #expect(FHIRGrammar.isID(ByteSlice([0x61, byte])) == allowed.contains(byte), "\(byte)")
        }
        #expect(!FHIRGrammar.isID(ByteSlice("")))
        #expect(FHIRGrammar.isID(ByteSlice(String(repeating: "x", count: 64))))
        #expect(!FHIRGrammar.isID(ByteSlice(String(repeating: "x", count: 65))))
    }

    @Test("genders")
    func genders() {
        for code in ["male", "female", "other", "unknown"] { #expect(FHIRGrammar.isGender(ByteSlice(code))) }
        for code in ["", "Male", "MALE", "m", "males", "fmale", "Other", "unknowm", "male\0"] {
            #expect(!FHIRGrammar.isGender(ByteSlice(code)))
        }
    }
}

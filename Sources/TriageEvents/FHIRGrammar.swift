/// The grammars of FHIR R4's primitive types (FHIR R4 §2.24.0.1, Primitive Types), judged over the bytes.
///
/// Beyond the regular expressions of that page, days must exist in the proleptic Gregorian calendar, as its text demands.
public enum FHIRGrammar {
    /// Whether `text` is an `id`: `[A-Za-z0-9\-\.]{1,64}`.
    public static func isID(_ text: ByteSlice) -> Bool { text.withUnsafeBytes { isID($0) } }

    /// Whether `text` is a code of AdministrativeGender: `male`, `female`, `other` or `unknown` (FHIR R4, value set).
    public static func isGender(_ text: ByteSlice) -> Bool { text.withUnsafeBytes { isGender($0) } }

    /// Whether `text` is a `date`: `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, years 0001 to 9999.
    public static func isDate(_ text: ByteSlice) -> Bool { text.withUnsafeBytes { isDate($0) } }

    /// Whether `text` is an `instant`: a full date, `T`, `hh:mm:ss`, a fraction if any, and `Z` or an offset of at most 14:00.
    ///
    /// The second may be 60, a leap second; hour 24 is not allowed.
    public static func isInstant(_ text: ByteSlice) -> Bool { text.withUnsafeBytes { instant($0) != nil } }

    /// Whether `text` is a `dateTime`: a `date`, possibly partial, or an `instant`.
    public static func isDateTime(_ text: ByteSlice) -> Bool { text.withUnsafeBytes { isDateTime($0) } }

    /// What an instant says, in numbers that are in range.
    struct Instant {
        var day: CivilDay
        /// Of the day as written, 0 to 86,400 (a leap second at its end).
        var secondOfDay: Int
        /// Of the second; further digits of the fraction are cut off.
        var nanoseconds: Int
        /// Seconds east of UTC.
        var offset: Int

        /// Seconds since the Unix epoch; a leap second counts as the first second of the next minute.
        var seconds: Int64 {
            let days = Timestamp.days(year: Int64(day.year), month: Int64(day.month), day: Int64(day.day))
            return days * 86_400 + Int64(secondOfDay - offset)
        }
    }

    /// A day of the proleptic Gregorian calendar that exists.
    struct CivilDay {
        var year: Int
        var month: Int
        var day: Int
    }

    // Bit n of the two words: whether ASCII character n, or 64 + n, may stand in an id.
    private static let idLow: UInt64 = 0x03FF_6000_0000_0000
    private static let idHigh: UInt64 = 0x07FF_FFFE_07FF_FFFE

    @inline(__always)
    static func isID(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count >= 1, text.count <= 64 else { return false }
        for byte in text {
            let word = byte < 64 ? idLow : byte < 128 ? idHigh : 0
            if (word >> UInt64(byte & 63)) & 1 == 0 { return false }
        }
        return true
    }

    static func isGender(_ text: UnsafeRawBufferPointer) -> Bool {
        switch text.count {
        case 4: equals(text, "male")
        case 5: equals(text, "other")
        case 6: equals(text, "female")
        case 7: equals(text, "unknown")
        default: false
        }
    }

    static func isDate(_ text: UnsafeRawBufferPointer) -> Bool {
        switch text.count {
        case 10: return day(text) != nil
        case 7:
            guard let month = number(text, 5, 2) else { return false }
            return text[4] == UInt8(ascii: "-") && (1...12).contains(month) && number(text, 0, 4) ?? 0 >= 1
        case 4: return number(text, 0, 4) ?? 0 >= 1
        default: return false
        }
    }

    /// The day that the first ten bytes, which must be there, write as `YYYY-MM-DD`.
    @inline(__always)
    private static func day(_ text: UnsafeRawBufferPointer) -> CivilDay? {
        let dash = UInt8(ascii: "-")
        guard let year = number(text, 0, 4), text[4] == dash, let month = number(text, 5, 2), text[7] == dash,
            let day = number(text, 8, 2), year >= 1, month >= 1, month <= 12, day >= 1,
            day <= 28 || day <= days(inMonth: month, of: year)
        else { return nil }
        return CivilDay(year: year, month: month, day: day)
    }

    static func isDateTime(_ text: UnsafeRawBufferPointer) -> Bool {
        text.count <= 10 ? isDate(text) : instant(text) != nil
    }

    static func instant(_ text: UnsafeRawBufferPointer) -> Instant? {
        let colon = UInt8(ascii: ":")
        guard text.count >= 20, let day = day(text), text[10] == UInt8(ascii: "T"),
            let hour = number(text, 11, 2), hour <= 23, text[13] == colon,
            let minute = number(text, 14, 2), minute <= 59, text[16] == colon,
            let second = number(text, 17, 2), second <= 60
        else { return nil }

        var at = 19
        var nanoseconds = 0
        if text[at] == UInt8(ascii: ".") {
            at += 1
            let start = at
            var scale = 100_000_000
            while at < text.count, text[at] &- 0x30 <= 9 {
                nanoseconds += Int(text[at] &- 0x30) * scale
                scale /= 10
                at += 1
            }
            guard at > start, at < text.count else { return nil }
        }

        var offset = 0
        switch text[at] {
        case UInt8(ascii: "Z"):
            guard text.count == at + 1 else { return nil }
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            guard text.count == at + 6, let hours = number(text, at + 1, 2), text[at + 3] == colon,
                let minutes = number(text, at + 4, 2), minutes <= 59, hours <= 13 || hours == 14 && minutes == 0
            else { return nil }
            offset = (hours * 60 + minutes) * (text[at] == UInt8(ascii: "+") ? 60 : -60)
        default:
            return nil
        }
        return Instant(
            day: day, secondOfDay: hour * 3600 + minute * 60 + second, nanoseconds: nanoseconds, offset: offset
        )
    }

    /// The number that `count` digits at `start` write, or nil if they are no digits; the caller knows that they are there.
    @inline(__always)
    private static func number(_ text: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> Int? {
        var value = 0
        for index in start..<start + count {
            let digit = text[index] &- 0x30
            guard digit <= 9 else { return nil }
            value = value * 10 + Int(digit)
        }
        return value
    }

    private static func days(inMonth month: Int, of year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    @inline(__always)
    static func equals(_ text: UnsafeRawBufferPointer, _ other: StaticString) -> Bool {
        guard text.count == other.utf8CodeUnitCount, let base = text.baseAddress else { return false }
        return triageEqualBytes(base, UnsafeRawPointer(other.utf8Start), text.count)
    }
}

extension Timestamp {
    /// The point in time that a FHIR `instant` names (FHIR R4 §2.24.0.1).
    ///
    /// A leap second counts as the first second of the next minute; digits beyond nanoseconds are cut off.
    ///
    /// - Returns: nil if `instant` breaks the grammar, or lies outside what 64 bits of nanoseconds hold (1677 to 2262).
    public init?(instant: ByteSlice) {
        guard let parsed = instant.withUnsafeBytes({ FHIRGrammar.instant($0) }) else { return nil }
        let (product, overflow) = parsed.seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflowed) = product.addingReportingOverflow(Int64(parsed.nanoseconds))
        guard !overflow, !overflowed else { return nil }
        self.init(nanoseconds: sum)
    }
}

import Testing

@testable import TriageEvents

@Suite("Timestamps")
struct TimestampTests {
    @Test(
        "ISO 8601 in UTC with milliseconds, rounded down",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (999_999, "1970-01-01T00:00:00.000Z"), (1_000_000, "1970-01-01T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"), (-1_000_000, "1969-12-31T23:59:59.999Z"), (-1_000_001, "1969-12-31T23:59:59.998Z"),
            (-86_400_000_000_000, "1969-12-31T00:00:00.000Z"), (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999Z"), (1_709_251_200_000_000_000, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400_012_000_000, "2100-03-01T00:00:00.012Z"), (-2_203_891_200_000_000_000, "1900-03-01T00:00:00.000Z"),
            (Int64.max, "2262-04-11T23:47:16.854Z"), (Int64.min, "1677-09-21T00:12:43.145Z"),
        ] as [(Int64, String)]
    )
    func iso8601(nanoseconds: Int64, text: String) {
        #expect(Timestamp(nanoseconds: nanoseconds).iso8601 == text)
    }

    @Test("ISO 8601 is read back as it was written")
    func roundTrip() {
        var generator = SeededGenerator(state: 20_260_101)
        for _ in 0..<5_000 {
            let milliseconds = Int64.random(in: -9_223_372_036_854...9_223_372_036_854, using: &generator)
            let timestamp = Timestamp(milliseconds: milliseconds)
            #expect(Timestamp(instant: ByteSlice(timestamp.iso8601)) == timestamp)
            #expect(timestamp.milliseconds == milliseconds)
        }
    }

    @Test("the calendar and its inverse agree on every day from 1600 to 2400")
    func calendar() {
        for days in Timestamp.days(year: 1600, month: 1, day: 1)...Timestamp.days(year: 2400, month: 12, day: 31) {
            let (year, month, day) = Timestamp.civil(days: days)
            if Timestamp.days(year: year, month: month, day: day) != days { Issue.record("\(days)") }
        }
        #expect(Timestamp.civil(days: 0) == (1970, 1, 1))
        #expect(Timestamp.civil(days: -719_162) == (1, 1, 1))
    }

    @Test("arithmetic is clamped at the ends")
    func arithmetic() {
        let zero = Timestamp(nanoseconds: 0)
        #expect(zero + .milliseconds(1_500) == Timestamp(nanoseconds: 1_500_000_000))
        #expect(zero + .nanoseconds(-1) == Timestamp(nanoseconds: -1))
        #expect(Timestamp(nanoseconds: .max) + .seconds(1) == Timestamp(nanoseconds: .max))
        #expect(Timestamp(nanoseconds: .min) + .seconds(-1) == Timestamp(nanoseconds: .min))
        #expect(Timestamp(nanoseconds: .max) - Timestamp(nanoseconds: .min) == .nanoseconds(Int64.max))
        #expect(Timestamp(nanoseconds: .min) - Timestamp(nanoseconds: .max) == .nanoseconds(Int64.min))
        #expect(Timestamp(milliseconds: .max).nanoseconds == .max && Timestamp(milliseconds: .min).nanoseconds == .min)
        #expect(Timestamp(nanoseconds: -1).milliseconds == -1 && Timestamp(nanoseconds: -1_000_000).milliseconds == -1)
        #expect(Timestamp(nanoseconds: -1) < zero)
    }

    @Test("durations in nanoseconds and seconds")
    func durations() {
        #expect(Duration.milliseconds(-500).wholeNanoseconds == -500_000_000)
        #expect(Duration.milliseconds(-1_500).wholeNanoseconds == -1_500_000_000)
        #expect(Duration.seconds(Int64.max).wholeNanoseconds == .max && Duration.seconds(Int64.min).wholeNanoseconds == .min)
        #expect(Duration.milliseconds(1_500).inSeconds == 1.5)
    }

    @Test("seconds between two points are those of the duration between them, clamped like it")
    func seconds() {
        let pairs: [(Int64, Int64)] = [(0, 0), (1_500_000_000, 0), (0, 250), (.min, .max), (.max, .min), (.max, -1)]
        for (left, right) in pairs {
            let (end, start) = (Timestamp(nanoseconds: left), Timestamp(nanoseconds: right))
            #expect(end.seconds(since: start) == (end - start).inSeconds)
        }
        #expect(Timestamp(milliseconds: 1500).seconds(since: Timestamp(milliseconds: 2000)) == -0.5)
    }
}

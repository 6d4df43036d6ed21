public import TriageEvents

/// Times, durations and counts as a person reads them at night.
public enum PlainText {
    /// `12:03:10Z`, with the date before it on another day than `now`.
    public static func clock(_ time: Timestamp, now: Timestamp) -> String {
        let text = time.iso8601.prefix { $0 != "." } + "Z"
        let day = text.prefix { $0 != "T" }
        return now.iso8601.hasPrefix(day + "T") ? String(text.dropFirst(day.count + 1)) : String(text)
    }

    /// `350 ms`, `12 s`, `4 min 5 s`, `3 h 20 min`, `2 d 4 h`; never negative.
    public static func span(_ duration: Duration) -> String {
        let milliseconds = max(0, duration.wholeNanoseconds / 1_000_000)
        if milliseconds < 1000 { return "\(milliseconds) ms" }
        let seconds = milliseconds / 1000
        func pair(_ large: Int64, _ largeUnit: String, _ small: Int64, _ smallUnit: String) -> String {
            small == 0 ? "\(large) \(largeUnit)" : "\(large) \(largeUnit) \(small) \(smallUnit)"
        }
        switch seconds {
        case ..<60: return "\(seconds) s"
        case ..<3600: return pair(seconds / 60, "min", seconds % 60, "s")
        case ..<86_400: return pair(seconds / 3600, "h", seconds % 3600 / 60, "min")
        default: return pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h")
        }
    }

    /// A count with its noun: `1 event`, `4 events`, `2 retries`.
    public static func count(_ count: Int, _ noun: String) -> String {
        if count == 1 { return "1 \(noun)" }
        return noun.hasSuffix("y") ? "\(count) \(noun.dropLast())ies" : "\(count) \(noun)s"
    }

    /// The text without anything that could move a terminal's cursor, and no longer than 200 characters.
    public static func printable(_ text: String) -> String { HarmlessText.printable(text) }
}

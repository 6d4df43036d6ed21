/// What a status means for trying again (RFC 9110 §15).
public enum HTTPStatus {
    /// The class of failure that a status is; nil for 2xx.
    ///
    /// Transient: 408, 425 (RFC 8470), 429 (RFC 6585) and 5xx. Persistent: everything else, redirects included, since they aren't followed.
    public static func errorClass(_ status: Int) -> ErrorClass? {
        switch status {
        case 200...299: nil
        case 408, 425, 429, 500...599: .transient
        default: .persistent
        }
    }
}

/// `Retry-After` (RFC 9110 §10.2.3): when a server wants to be asked again.
public enum RetryAfter {
    /// The longest wait that is granted to a server: a day. What asks for more is tried after a day.
    public static let maximum: Duration = .seconds(86_400)

    /// The time that a field's value names, seconds from `now` or an HTTP date; nil if it is neither, or long ago.
    ///
    /// - Returns: at least `now`, at most ``maximum`` after it.
    public static func time(_ value: String, now: Timestamp) -> Timestamp? {
        let text = value.trimmed
        if !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            let seconds = Int64(text) ?? .max
            return now + .seconds(min(seconds, maximum.components.seconds))
        }
        guard let date = HTTPDate.time(text) else { return nil }
        return max(now, min(date, now + maximum))
    }
}

/// Dates as HTTP writes them (RFC 9110 §5.6.7).
public enum HTTPDate {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// The time that an IMF-fixdate, an RFC 850 date or an asctime date names; nil for anything else. The day of the week isn't checked.
    public static func time(_ text: String) -> Timestamp? {
        let words = text.split(separator: " ", omittingEmptySubsequences: true)
        if words.count == 6, words[0].hasSuffix(","), words[5] == "GMT" {
            // Sun, 06 Nov 1994 08:49:37 GMT
            return time(day: words[1], month: words[2], year: number(words[3], digits: 4), clock: words[4])
        }
        if words.count == 4, words[0].hasSuffix(","), words[3] == "GMT" {
            // Sunday, 06-Nov-94 08:49:37 GMT; two digits mean this century, as nobody sends dates of the last one any more.
            let parts = words[1].split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count == 3 else { return nil }
            return time(day: parts[0], month: parts[1], year: number(parts[2], digits: 2).map { 2000 + $0 }, clock: words[2])
        }
        if words.count == 5 {
            // Sun Nov  6 08:49:37 1994
            return time(day: words[2], month: words[1], year: number(words[4], digits: 4), clock: words[3])
        }
        return nil
    }

    private static func time(day: Substring, month: Substring, year: Int64?, clock: Substring) -> Timestamp? {
        guard let year, let day = number(day, digits: day.count), (1...31).contains(day),
            let month = months.firstIndex(where: { $0 == month }), (1970...2261).contains(year)
        else { return nil }
        let parts = clock.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, let hour = number(parts[0], digits: 2), let minute = number(parts[1], digits: 2),
            let second = number(parts[2], digits: 2), hour < 24, minute < 60, second <= 60
        else { return nil }
        let days = Timestamp.days(year: year, month: Int64(month) + 1, day: day)
        return Timestamp(milliseconds: ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000)
    }

    private static func number(_ text: Substring, digits: Int) -> Int64? {
        guard text.utf8.count == digits, (1...4).contains(digits), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int64(text)
    }
}

extension String {
    fileprivate var trimmed: String {
        var text = Substring(self)
        while let first = text.first, first == " " || first == "\t" { text = text.dropFirst() }
        while let last = text.last, last == " " || last == "\t" { text = text.dropLast() }
        return String(text)
    }
}

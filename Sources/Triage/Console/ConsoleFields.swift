internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

/// A field of a form or an address that doesn't say what it should: which one, what it says, and what was expected.
struct ConsoleFieldError: Error, Hashable, CustomStringConvertible {
    let name: String
    let value: String
    let expected: String

    init(_ name: String, _ value: String, expected: String) {
        self.name = PlainText.printable(name)
        self.value = PlainText.printable(value)
        self.expected = expected
    }

    var description: String { "\(name)\(value.isEmpty ? "" : "=\(value)"): expected \(expected)" }
}

/// Reads the fields of a form or an address: what isn't known or can't be read is refused, since it would otherwise count as not said,
/// and more would be shown or done than was meant. Empty fields are what forms send for what isn't filled in.
struct ConsoleFields {
    private let fields: FormFields

    /// - Parameters:
    ///   - names: the names that are known.
    ///   - lists: those that may occur more than once.
    init(_ fields: FormFields, _ names: [String], lists: [String] = []) throws(ConsoleFieldError) {
        self.fields = fields
        var seen: Set<String> = []
        for name in fields.names {
            guard names.contains(name) || lists.contains(name) else {
                let known = (names + lists).filter { $0 != "form-token" }.sorted().joined(separator: ", ")
                throw ConsoleFieldError(
                    name, fields[name] ?? "", expected: known.isEmpty ? "no such field" : "no such field, but some of: \(known)")
            }
            guard seen.insert(name).inserted || lists.contains(name) else {
                throw ConsoleFieldError(name, fields[name] ?? "", expected: "it once")
            }
        }
    }

    func text(_ name: String) -> String? { fields[name] }

    /// A whole number within bounds; nil if nothing is said.
    func number(_ name: String, _ range: ClosedRange<Int>) throws(ConsoleFieldError) -> Int? {
        guard let text = fields[name] else { return nil }
        // `Int` takes a sign, which no number here has.
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text), range.contains(number) else {
            let expected = range.upperBound == .max ? "\(range.lowerBound) or more" : "\(range.lowerBound) to \(range.upperBound)"
            throw ConsoleFieldError(name, text, expected: "a number, \(expected)")
        }
        return number
    }

    /// A number of these; nil if nothing is said.
    func rate(_ name: String, within rates: ClosedRange<Double>) throws(ConsoleFieldError) -> Double? {
        guard let text = fields[name] else { return nil }
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2E }), let number = Double(text),
            rates.contains(number)
        else { throw ConsoleFieldError(name, text, expected: "a number from \(rates.lowerBound) to \(Int(rates.upperBound))") }
        return number
    }

    /// A box that is ticked.
    func isOn(_ name: String) throws(ConsoleFieldError) -> Bool {
        guard let text = fields[name] else { return false }
        guard text == "on" else { throw ConsoleFieldError(name, text, expected: "on, or nothing") }
        return true
    }

    /// One of the values of a type; nil if nothing is said.
    func choice<Value: RawRepresentable & CaseIterable>(_ name: String) throws(ConsoleFieldError) -> Value?
    where Value.RawValue == String {
        guard let text = fields[name] else { return nil }
        guard let value = Value(rawValue: text) else {
            throw ConsoleFieldError(name, text, expected: ConsoleFields.list(Value.allCases.map(\.rawValue)))
        }
        return value
    }

    /// The dead letters that are named.
    func ids(atMost maximum: Int) throws(ConsoleFieldError) -> [RecordPosition] {
        let texts = fields.all("id")
        guard texts.count <= maximum else {
            throw ConsoleFieldError("id", "…", expected: "at most \(maximum) of them, not \(texts.count)")
        }
        var ids: [RecordPosition] = []
        for text in texts {
            guard let id = ConsoleRouter.position([text]) else {
                throw ConsoleFieldError("id", text, expected: "TOPIC/PARTITION/OFFSET")
            }
            ids.append(id)
        }
        return ids
    }

    /// A fingerprint: so many hexadecimal digits; nil if nothing is said.
    func fingerprint(atLeast minimum: Int = 1) throws(ConsoleFieldError) -> String? {
        guard let text = fields["fingerprint"]?.lowercased() else { return nil }
        guard (minimum...16).contains(text.utf8.count),
            text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else {
            let count = minimum == 16 ? "16" : "1 to 16"
            throw ConsoleFieldError("fingerprint", text, expected: "\(count) hexadecimal digits, as Failures shows them")
        }
        return text
    }

    /// A time, a day, or a duration before `now`; nil if nothing is said.
    func time(_ name: String, now: Timestamp) throws(ConsoleFieldError) -> Timestamp? {
        guard let text = fields[name] else { return nil }
        if let time = Timestamp(instant: ByteSlice(text)) ?? Timestamp(instant: ByteSlice(text + "T00:00:00Z")) { return time }
        if text.hasSuffix("d"), let days = Int(text.dropLast()), (1...36_500).contains(days) {
            return now + .seconds(-86_400 * days)
        }
        guard let duration = Duration(triage: text), duration > .zero else {
            throw ConsoleFieldError(
                name, text, expected: "a time such as 2026-11-23T04:00:00Z, a day such as 2026-11-23, or a duration such as 2h")
        }
        return now + (.zero - duration)
    }

    private static func list(_ words: [String]) -> String {
        words.count < 2 ? words.joined() : words.dropLast().joined(separator: ", ") + " or " + (words.last ?? "")
    }
}

extension ConsoleFields {
    /// The fields by which lists are filtered.
    static let filters = ["status", "class", "topic", "fingerprint", "since"]

    /// Which dead letters a list shows.
    ///
    /// - Parameters:
    ///   - topics: those that there are.
    ///   - now: what durations are counted from.
    func query(topics: [String], now: Timestamp) throws(ConsoleFieldError) -> LetterQuery {
        var query = LetterQuery()
        query.fingerprint = try fingerprint()
        query.errorClass = try choice("class")
        query.since = try time("since", now: now)
        if let topic = text("topic") {
            // Nothing found in a topic that was mistyped would look like good news.
            guard topics.contains(topic) else {
                throw ConsoleFieldError("topic", topic, expected: ConsoleFields.list(topics))
            }
            query.topic = topic
        }
        if let status = text("status") {
            query.status = status == "any" ? nil : DeadLetterState.Status(rawValue: status)
            guard query.status != nil || status == "any" else {
                throw ConsoleFieldError(
                    "status", status,
                    expected: ConsoleFields.list(DeadLetterState.Status.allCases.map(\.rawValue) + ["any"]))
            }
        }
        return query
    }
}

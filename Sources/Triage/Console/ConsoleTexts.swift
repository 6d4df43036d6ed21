internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

/// How figures, times and states are written on pages.
enum ConsoleTexts {
    /// `0.4`, `12.3`, `1,234`.
    static func number(_ value: Double) -> String {
        guard value.isFinite else { return "–" }
        if value >= 100 || value == value.rounded() { return grouped(Int64(value.rounded())) }
        let tenths = Int64((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    /// `1,234,567`.
    static func grouped(_ value: some BinaryInteger) -> String {
        var text = ""
        for (index, digit) in String(value.magnitude).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return (value < 0 ? "-" : "") + String(text.reversed())
    }

    /// `34 µs`, `1.4 ms`, `12 ms`, `1.2 s`, `4 min 5 s`; `–` for nil.
    static func seconds(_ seconds: Double?) -> String {
        guard let seconds, seconds.isFinite else { return "–" }
        if seconds < 0.000_95 { return seconds <= 0 ? "0 ms" : "\(max(1, Int64((seconds * 1e6).rounded()))) µs" }
        if seconds < 0.01 { return "\(number(seconds * 1000)) ms" }
        if seconds < 1 { return "\(Int64((seconds * 1000).rounded())) ms" }
        if seconds < 60 { return "\(number(seconds)) s" }
        return PlainText.span(.nanoseconds(Int64(min(seconds, 1e9) * 1e9)))
    }

    /// `12:03:10Z`, with the date on another day; the whole of it for whoever asks.
    static func time(_ time: Timestamp?, now: Timestamp) -> HTML {
        guard let time else { return "<span class=\"quiet\">unknown</span>" }
        return "<time datetime=\"\(time.iso8601)\" title=\"\(time.iso8601)\">\(PlainText.clock(time, now: now))</time>"
    }

    /// `5 min ago`.
    static func ago(_ time: Timestamp?, now: Timestamp) -> String {
        time.map { "\(PlainText.span(now - $0)) ago" } ?? "unknown"
    }

    /// JSON with a line for each member; anything else as it is.
    static func indented(_ text: String) -> String {
        guard text.utf8.first == UInt8(ascii: "{") else { return text }
        var result: [UInt8] = []
        var depth = 0
        var isText = false
        var isEscaped = false
        var previous: UInt8 = 0
        func breakLine() { result += [0x0A] + Array(repeating: 0x20, count: min(60, max(0, depth)) * 2) }
        for byte in text.utf8 {
            if isText {
                result.append(byte)
                isText = isEscaped || byte != UInt8(ascii: "\"")
                isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
                previous = byte
                continue
            }
            switch byte {
            case 0x20, 0x09, 0x0A, 0x0D: continue
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                if previous != byte - 2 { breakLine() }
                result.append(byte)
            default:
                if previous == UInt8(ascii: "{") || previous == UInt8(ascii: "[") || previous == UInt8(ascii: ",") { breakLine() }
                result.append(byte)
                if byte == UInt8(ascii: ":") { result.append(0x20) }
                if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") { depth += 1 }
                isText = byte == UInt8(ascii: "\"")
            }
            previous = byte
        }
        return String(decoding: result, as: UTF8.self)
    }

    static func count(_ count: Int, _ noun: String) -> String {
        count < 1000 ? PlainText.count(count, noun) : PlainText.count(count, noun).replacing("\(count)", with: grouped(count))
    }

    /// `12 dead letters`, or `at least 12 dead letters` where there may be more than are known.
    static func count(_ count: Int, _ noun: String, isAtLeast: Bool) -> String {
        (isAtLeast ? "at least " : "") + self.count(count, noun)
    }

    static func status(_ status: DeadLetterState.Status) -> HTML {
        switch status {
        case .open: "<span class=\"pill\" data-tone=\"bad\">open</span>"
        case .replayed: "<span class=\"pill\" data-tone=\"warn\">replayed</span>"
        case .completed: "<span class=\"pill\" data-tone=\"good\">completed</span>"
        case .failedAgain: "<span class=\"pill\" data-tone=\"bad\">failed again</span>"
        case .discarded: "<span class=\"pill\">discarded</span>"
        }
    }

    static func word(_ status: DeadLetterState.Status) -> String { status == .failedAgain ? "failed again" : status.rawValue }

    static func dialect(_ dialect: DeadLetterDialect) -> String {
        switch dialect {
        case .triage: "Triage"
        case .spring, .springRetry: "Spring for Apache Kafka"
        case .connect: "Kafka Connect"
        case .streams: "Kafka Streams"
        case .shareGroup: "a Kafka share group"
        case .karafka: "Karafka"
        case .watermill: "Watermill"
        case .nServiceBus: "NServiceBus"
        case .unknown: "unknown"
        }
    }
}

/// Addresses of pages.
enum ConsolePath {
    static let overview = "/console"
    static let failures = "/console/failures"
    static let letters = "/console/dead-letters"
    static let traces = "/console/traces"
    static let actions = "/console/actions"
    static let act = "/console/act"
    static let export = "/console/export"
    static let patient = "/console/dead-letters/patient"
    static let patientSegments = ["dead-letters", "patient"]

    static func letter(_ id: RecordPosition) -> String { "\(letters)/\(id)" }
    static func trace(_ id: TraceID) -> String { "\(traces)/\(id)" }

    /// A path with a query; pairs without a value are left out.
    static func with(_ path: String, _ pairs: [(String, String?)]) -> String {
        let query = pairs.compactMap { name, value in value.map { "\(name)=\(escaped($0))" } }.joined(separator: "&")
        return query.isEmpty ? path : "\(path)?\(query)"
    }

    /// Everything but unreserved characters as `%XX` (RFC 3986 §2.1, §2.3).
    static func escaped(_ text: String) -> String {
        var escaped = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E, 0x2F:
                escaped.unicodeScalars.append(UnicodeScalar(byte))
            default: escaped += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
        return escaped
    }
}

/// Names of metrics and labels in Prometheus (specification, compatibility/prometheus_and_openmetrics; strategy
/// UnderscoreEscapingWithSuffixes).
enum PrometheusNames {
    /// The name of a metric's family with its unit, without the `_total` of counters.
    static func family(of metric: Metric) -> String {
        var words = sanitized(metric.name).split(separator: "_").map(String.init)
        if metric.instrument == .counter { words.removeAll { $0 == "total" } }
        var name = words.joined(separator: "_")
        if let first = name.utf8.first, isDigit(first) { name = "_" + name }
        if let unit = unit(metric.unit, of: metric.instrument), name != unit, !name.hasSuffix("_" + unit) { name += "_" + unit }
        return name
    }

    /// The name of a label: invalid characters become `_`, one for several in a row, as names that begin with two are
    /// Prometheus' own; a leading digit is preceded by `key_`.
    static func label(_ key: String) -> String {
        var bytes: [UInt8] = []
        for byte in key.utf8 {
            let safe = isLetter(byte) || isDigit(byte) ? byte : UInt8(ascii: "_")
            if safe == UInt8(ascii: "_"), bytes.last == safe { continue }
            bytes.append(safe)
        }
        if let first = bytes.first, isDigit(first) { bytes.insert(contentsOf: "key_".utf8, at: 0) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A UCUM unit as a word; nil if nothing is to be appended.
    static func unit(_ unit: String, of instrument: Instrument) -> String? {
        if unit == "1" { return instrument == .gauge ? "ratio" : nil }
        let parts = unit.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map { withoutAnnotation($0) }
        var word = parts[0].isEmpty ? "" : (words[parts[0]] ?? sanitized(parts[0]))
        if parts.count == 2, !parts[1].isEmpty {
            word += (word.isEmpty ? "per_" : "_per_") + (perWords[parts[1]] ?? sanitized(parts[1]))
        }
        return word.isEmpty ? nil : word
    }

    private static let words: [String: String] = [
        "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
        "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tebibytes",
        "kBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "g": "grams",
        "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "Hz": "hertz", "Cel": "celsius", "%": "percent",
    ]
    private static let perWords: [String: String] = [
        "s": "second", "min": "minute", "h": "hour", "d": "day", "wk": "week", "mo": "month", "a": "year",
    ]

    private static func withoutAnnotation(_ unit: Substring) -> String {
        guard let open = unit.firstIndex(of: "{") else { return String(unit) }
        let close = unit[open...].firstIndex(of: "}").map { unit.index(after: $0) } ?? unit.endIndex
        return String(unit[..<open] + unit[close...])
    }

    /// Only letters, digits, colons and single underscores.
    private static func sanitized(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            let safe = isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: ":") ? byte : UInt8(ascii: "_")
            if safe == UInt8(ascii: "_"), bytes.last == safe { continue }
            bytes.append(safe)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        switch byte | 0x20 {
        case UInt8(ascii: "a")...UInt8(ascii: "z"): true
        default: false
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
}

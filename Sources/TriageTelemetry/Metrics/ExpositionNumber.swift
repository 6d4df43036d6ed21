internal import TriageEvents

/// A number as it stands in a line.
enum ExpositionNumber {
    case integer(Int64)
    case unsigned(UInt64)
    case double(Double)
    /// Seconds since the epoch with milliseconds, all that Prometheus keeps of a time.
    case time(Timestamp)

    func write(into bytes: inout [UInt8]) {
        switch self {
        case .integer(let value):
            if value < 0 { bytes.append(UInt8(ascii: "-")) }
            ExpositionNumber.write(value.magnitude, into: &bytes)
        case .unsigned(let value): ExpositionNumber.write(value, into: &bytes)
        case .double(let value): bytes += ExpositionNumber.text(value).utf8
        case .time(let time):
            let milliseconds = UInt64(max(0, time.milliseconds))
            ExpositionNumber.write(milliseconds / 1000, into: &bytes)
            bytes.append(UInt8(ascii: "."))
            for divisor in [100, 10, 1] as [UInt64] {
                bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: milliseconds / divisor % 10))
            }
        }
    }

    static func write(_ value: UInt64, into bytes: inout [UInt8]) {
        if value < 10 {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value))
            return
        }
        // The largest, 18,446,744,073,709,551,615, has 20 digits.
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var rest = value
            var start = 20
            repeat {
                start -= 1
                digits[start] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            bytes.append(contentsOf: digits[start...])
        }
    }

    /// A sample's value.
    static func text(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return value.description
    }

    /// The value of the label `le`: OpenMetrics appends `.0` where there is neither a point nor an exponent.
    static func limit(_ value: Double, _ format: ExpositionFormat) -> String {
        let text = canonical(value)
        guard format == .openMetrics, value.isFinite, !text.utf8.contains(UInt8(ascii: ".")),
            !text.utf8.contains(UInt8(ascii: "e"))
        else { return text }
        return text + ".0"
    }

    /// A number as it stands in `le`: the shortest digits that read back as the same number, with an exponent of two digits if
    /// it is less than −4 or at least 6, as Prometheus' own libraries write it.
    static func canonical(_ value: Double) -> String {
        guard value.isFinite else { return text(value) }
        let text = value.magnitude.description
        let parts = text.split(separator: "e")
        var exponent = parts.count == 2 ? Int(parts[1]) ?? 0 : 0
        let halves = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        var digits = Array(halves[0].utf8) + (halves.count == 2 ? Array(halves[1].utf8) : [])
        exponent += halves[0].utf8.count - 1
        while digits.count > 1, digits.first == UInt8(ascii: "0") {
            digits.removeFirst()
            exponent -= 1
        }
        while digits.count > 1, digits.last == UInt8(ascii: "0") { digits.removeLast() }
        let sign = value < 0 ? "-" : ""
        func string(_ digits: some Sequence<UInt8>) -> String { String(decoding: Array(digits), as: UTF8.self) }
        if digits == [UInt8(ascii: "0")] { return "0" }
        if exponent < -4 || exponent >= 6 {
            let fraction = digits.count > 1 ? "." + string(digits.dropFirst()) : ""
            let power = exponent.magnitude < 10 ? "0\(exponent.magnitude)" : "\(exponent.magnitude)"
            return sign + string(digits.prefix(1)) + fraction + "e" + (exponent < 0 ? "-" : "+") + power
        }
        if exponent < 0 { return sign + "0." + String(repeating: "0", count: -exponent - 1) + string(digits) }
        if digits.count <= exponent + 1 {
            return sign + string(digits) + String(repeating: "0", count: exponent + 1 - digits.count)
        }
        return sign + string(digits.prefix(exponent + 1)) + "." + string(digits.dropFirst(exponent + 1))
    }
}

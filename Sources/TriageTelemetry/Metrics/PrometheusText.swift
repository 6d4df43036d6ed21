/// Writes metrics in Prometheus' text format 0.0.4 (Prometheus documentation, "Exposition formats").
///
/// Names follow OpenTelemetry's rules for Prometheus: `messaging.process.duration` in seconds becomes
/// `messaging_process_duration_seconds`. The labels `otel_scope_*` are left off: there is one scope, `triage`, and a label
/// that never differs would only lengthen each line. There are neither timestamps nor exemplars, which the format lacks.
///
/// A sum whose name ends in `_count`, `_sum` or `_bucket`, such as `process_thread_count`, is written with type `untyped`:
/// those suffixes belong to the samples of histograms, and Prometheus' own check refuses them on other types.
public struct PrometheusText: Sendable {
    /// The format's media type, for the header `Content-Type`.
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private let targetInfo: [UInt8]

    /// A writer.
    ///
    /// - Parameter resource: attributes of the resource, written as the labels of `target_info`; none leaves it off.
    public init(resource: [(key: String, value: String)] = []) {
        var output = Output()
        if !resource.isEmpty {
            output.metadata(family: "target_info", type: "gauge", help: "Target metadata")
            output.sample("target_info", "", Output.labels(resource), nil, 1)
        }
        targetInfo = output.bytes
    }

    /// The text of `snapshot`, UTF-8, ending in a line feed.
    ///
    /// Of metrics whose names become the same only the first is written, and points that don't fit their metric are left out.
    public func write(_ snapshot: MetricSnapshot) -> [UInt8] {
        var output = Output()
        output.bytes.reserveCapacity(targetInfo.count + 16_384)
        output.bytes += targetInfo
        var families: Set<String> = targetInfo.isEmpty ? [] : ["target_info"]
        for data in snapshot.metrics where !data.points.isEmpty {
            let family = PrometheusNames.family(of: data.metric)
            guard families.insert(family).inserted else { continue }
            output.metadata(family: family, type: PrometheusText.type(of: data.metric, family), help: data.metric.help)
            let limits = data.metric.boundaries.map { PrometheusText.canonical($0) }
            for point in data.points {
                let labels = Output.labels(point.attributes.pairs.map { ($0.key, $0.value) })
                switch point.value {
                case .sum(let value), .intGauge(let value): output.sample(family, "", labels, nil, integer: value)
                case .doubleSum(let value), .gauge(let value): output.sample(family, "", labels, nil, value)
                case .histogram(let counts, let sum, let count, _, _):
                    guard data.metric.instrument == .histogram, counts.count == limits.count + 1 else { continue }
                    output.histogram(family, labels, limits, counts, sum, count)
                case .exponentialHistogram: continue
                }
            }
        }
        return output.bytes
    }

    private static func type(of metric: Metric, _ family: String) -> String {
        switch metric.instrument {
        case .counter: "counter"
        case .histogram: "histogram"
        case .upDownCounter, .gauge: ["_count", "_sum", "_bucket"].contains { family.hasSuffix($0) } ? "untyped" : "gauge"
        }
    }

    /// A number as it stands in `le`: the shortest digits that read back as the same number, with an exponent of two digits if
    /// it is less than −4 or at least 6, as Prometheus' own libraries write it.
    static func canonical(_ value: Double) -> String {
        guard value.isFinite else { return number(value) }
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

    /// A sample's value.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return value.description
    }
}

/// The bytes under way.
private struct Output {
    var bytes: [UInt8] = []

    mutating func metadata(family: String, type: String, help: String) {
        bytes += "# HELP ".utf8
        bytes += family.utf8
        bytes.append(UInt8(ascii: " "))
        Output.escape(help, quotes: false, into: &bytes)
        bytes += "\n# TYPE ".utf8
        bytes += family.utf8
        bytes.append(UInt8(ascii: " "))
        bytes += type.utf8
        bytes.append(UInt8(ascii: "\n"))
    }

    mutating func sample(_ family: String, _ suffix: String, _ labels: [UInt8], _ limit: String?, _ value: Double) {
        series(family, suffix, labels, limit)
        line(PrometheusText.number(value))
    }

    mutating func sample(_ family: String, _ suffix: String, _ labels: [UInt8], _ limit: String?, integer: some BinaryInteger) {
        series(family, suffix, labels, limit)
        line(String(integer))
    }

    mutating func histogram(
        _ family: String, _ labels: [UInt8], _ limits: [String], _ counts: [UInt64], _ sum: Double, _ count: UInt64
    ) {
        var cumulative: UInt64 = 0
        for (limit, count) in zip(limits, counts) {
            cumulative &+= count
            sample(family, "_bucket", labels, limit, integer: cumulative)
        }
        sample(family, "_bucket", labels, "+Inf", integer: count)
        sample(family, "_sum", labels, nil, sum)
        sample(family, "_count", labels, nil, integer: count)
    }

    /// The labels without braces, `a="b",c="d"`. Keys that become the same label are joined, their values by `;` in the order
    /// of the keys.
    static func labels(_ pairs: [(key: String, value: String)]) -> [UInt8] {
        var labels: [(name: String, value: String)] = []
        for (key, value) in pairs.sorted(by: { $0.key < $1.key }) {
            let name = PrometheusNames.label(key)
            if let index = labels.firstIndex(where: { $0.name == name }) {
                labels[index].value += ";" + value
            } else {
                labels.append((name, value))
            }
        }
        var bytes: [UInt8] = []
        for (name, value) in labels {
            if !bytes.isEmpty { bytes.append(UInt8(ascii: ",")) }
            bytes += name.utf8
            bytes += "=\"".utf8
            escape(value, quotes: true, into: &bytes)
            bytes.append(UInt8(ascii: "\""))
        }
        return bytes
    }

    private mutating func series(_ family: String, _ suffix: String, _ labels: [UInt8], _ limit: String?) {
        bytes += family.utf8
        bytes += suffix.utf8
        guard !labels.isEmpty || limit != nil else { return }
        bytes.append(UInt8(ascii: "{"))
        bytes += labels
        if let limit {
            bytes += (labels.isEmpty ? "le=\"" : ",le=\"").utf8
            bytes += limit.utf8
            bytes.append(UInt8(ascii: "\""))
        }
        bytes.append(UInt8(ascii: "}"))
    }

    private mutating func line(_ value: String) {
        bytes.append(UInt8(ascii: " "))
        bytes += value.utf8
        bytes.append(UInt8(ascii: "\n"))
    }

    private static func escape(_ text: String, quotes: Bool, into bytes: inout [UInt8]) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), UInt8(ascii: "\\")]
            case UInt8(ascii: "\n"): bytes += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
            case UInt8(ascii: "\"") where quotes: bytes += [UInt8(ascii: "\\"), UInt8(ascii: "\"")]
            default: bytes.append(byte)
            }
        }
    }
}

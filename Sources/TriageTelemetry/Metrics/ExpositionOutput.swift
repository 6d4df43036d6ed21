internal import TriageEvents

/// The text under way: every line of both formats is made here.
struct ExpositionOutput {
    var bytes: [UInt8] = []
    private let format: ExpositionFormat
    private let scope: ScopeLabels
    private let writesCreated: Bool
    /// How the labels of the last point were laid out: the next one mostly has the same keys.
    private var plan: LabelPlan
    private var labels: [UInt8] = []

    init(format: ExpositionFormat, scope: ScopeLabels, writesCreated: Bool) {
        self.format = format
        self.scope = scope
        self.writesCreated = writesCreated && format == .openMetrics
        plan = LabelPlan(keys: [], scope: scope)
    }

    // MARK: Families

    mutating func targetInfo(labels: [UInt8]) {
        let isText = format == .text
        metadata(isText ? "target_info" : "target", type: isText ? "gauge" : "info", unit: nil, help: "Target metadata")
        bytes += "target_info{".utf8
        bytes += labels
        bytes += "} 1\n".utf8
    }

    mutating func metadata(of family: ExpositionFamily) {
        metadata(
            format == .text ? family.sample : family.name, type: family.type(in: format), unit: family.unit,
            help: family.metric.help)
    }

    mutating func gauges(_ data: MetricData, _ family: ExpositionFamily) {
        for point in data.points {
            let text: ExpositionNumber
            switch point.value {
            case .sum(let value), .intGauge(let value): text = .integer(value)
            case .doubleSum(let value), .gauge(let value): text = .double(value)
            case .histogram, .exponentialHistogram: continue
            }
            lay(point.attributes)
            sample(family.sample, text)
            endLine()
        }
    }

    mutating func counters(_ data: MetricData, _ family: ExpositionFamily) {
        for point in data.points {
            let text: ExpositionNumber
            switch point.value {
            case .sum(let value) where value >= 0: text = .integer(value)
            case .doubleSum(let value) where value >= 0: text = .double(value)
            default: continue
            }
            lay(point.attributes)
            sample(family.sample, text)
            if format == .openMetrics, let latest = point.exemplars.max(by: { $0.timestamp < $1.timestamp }) { exemplar(latest) }
            endLine()
            created(family, point)
        }
    }

    mutating func histograms(_ data: MetricData, _ family: ExpositionFamily) {
        let boundaries = data.metric.boundaries.filter { $0 < .infinity }
        let limits = (boundaries + [.infinity]).map { boundary in
            Array("le=\"\(ExpositionNumber.limit(boundary, format))\"} ".utf8)
        }
        // A histogram of values that may be negative has no sum that only grows: OpenMetrics leaves it off, and the count too.
        let hasSum = (boundaries.first ?? 0) >= 0
        let bucket = Array((family.sample + "_bucket{").utf8)
        for point in data.points {
            guard case .histogram(let counts, let sum, let count, _, _) = point.value, counts.count == limits.count,
                boundaries.count == data.metric.boundaries.count
            else { continue }
            lay(point.attributes, isHistogram: true)
            var cumulative: UInt64 = 0
            for index in limits.indices {
                cumulative = index == counts.count - 1 ? count : cumulative &+ counts[index]
                bytes += bucket
                bytes += labels
                if !labels.isEmpty { bytes.append(UInt8(ascii: ",")) }
                bytes += limits[index]
                ExpositionNumber.write(cumulative, into: &bytes)
                if format == .openMetrics, !point.exemplars.isEmpty {
                    let lower = index == 0 ? -Double.infinity : boundaries[index - 1]
                    let upper = index < boundaries.count ? boundaries[index] : .infinity
                    let latest = point.exemplars.filter { $0.value > lower && $0.value <= upper }
                        .max { $0.timestamp < $1.timestamp }
                    if let latest { exemplar(latest) }
                }
                endLine()
            }
            if hasSum || format == .text {
                sample(family.sample, suffix: "_sum", .double(sum))
                endLine()
                sample(family.sample, suffix: "_count", .unsigned(count))
                endLine()
            }
            created(family, point)
        }
    }

    // MARK: Lines

    private mutating func metadata(_ name: String, type: String, unit: String?, help: String) {
        var escaped: [UInt8] = []
        Escape.append(help, quotes: format == .openMetrics, to: &escaped)
        if format == .text { comment("HELP", name, escaped) }
        comment("TYPE", name, Array(type.utf8))
        if format == .openMetrics {
            if let unit { comment("UNIT", name, Array(unit.utf8)) }
            comment("HELP", name, escaped)
        }
    }

    private mutating func comment(_ keyword: String, _ name: String, _ text: [UInt8]) {
        bytes += "# ".utf8
        bytes += keyword.utf8
        bytes.append(UInt8(ascii: " "))
        bytes += name.utf8
        bytes.append(UInt8(ascii: " "))
        bytes += text
        endLine()
    }

    /// Lays out the labels of a point for the samples that follow.
    private mutating func lay(_ attributes: MetricAttributes, isHistogram: Bool = false) {
        let pairs = attributes.pairs
        if !plan.fits(pairs, isHistogram: isHistogram) {
            plan = LabelPlan(keys: pairs.map(\.key), scope: scope, isHistogram: isHistogram)
        }
        labels.removeAll(keepingCapacity: true)
        plan.write(pairs, into: &labels)
        if !scope.bytes.isEmpty {
            if !labels.isEmpty { labels.append(UInt8(ascii: ",")) }
            labels += scope.bytes
        }
    }

    private mutating func sample(_ name: String, suffix: String = "", _ value: ExpositionNumber) {
        bytes += name.utf8
        bytes += suffix.utf8
        if !labels.isEmpty {
            bytes.append(UInt8(ascii: "{"))
            bytes += labels
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(UInt8(ascii: " "))
        value.write(into: &bytes)
    }

    private mutating func created(_ family: ExpositionFamily, _ point: MetricData.Point) {
        guard writesCreated, point.start.nanoseconds > 0 else { return }
        sample(family.name, suffix: "_created", .time(point.start))
        endLine()
    }

    /// Its labels have 63 code points of the 128 that OpenMetrics allows; there are none if it was measured outside any span.
    private mutating func exemplar(_ exemplar: Exemplar) {
        guard exemplar.value.isFinite else { return }
        bytes += " # {".utf8
        if exemplar.traceID.isValid, exemplar.spanID.isValid {
            bytes += "trace_id=\"".utf8
            bytes += exemplar.traceID.description.utf8
            bytes += "\",span_id=\"".utf8
            bytes += exemplar.spanID.description.utf8
            bytes.append(UInt8(ascii: "\""))
        }
        bytes += "} ".utf8
        ExpositionNumber.double(exemplar.value).write(into: &bytes)
        guard exemplar.timestamp.nanoseconds > 0 else { return }
        bytes.append(UInt8(ascii: " "))
        ExpositionNumber.time(exemplar.timestamp).write(into: &bytes)
    }

    private mutating func endLine() { bytes.append(UInt8(ascii: "\n")) }
}

/// Labels that every sample has, rendered once.
struct ScopeLabels: Sendable {
    let bytes: [UInt8]
    let names: [String]

    static let none = ScopeLabels([])

    init(_ attributes: [(key: String, value: String)]) {
        var bytes: [UInt8] = []
        LabelPlan(keys: attributes.map(\.key), names: []).write(attributes.map(\.value), into: &bytes)
        self.bytes = bytes
        names = attributes.map { PrometheusNames.label($0.key) }
    }
}

/// Where the values of certain attribute keys go: made once for all points that have these keys.
struct LabelPlan: Sendable {
    private let keys: [String]
    private let isHistogram: Bool
    /// What stands before a label's value, and which values make it up: several if their keys become the same label.
    private var parts: [(prefix: [UInt8], values: [Int])] = []

    init(keys: [String], scope: ScopeLabels, isHistogram: Bool = false) {
        self.init(keys: keys, names: scope.names, isHistogram: isHistogram)
    }

    /// A plan that leaves out the labels `taken`, and gives way to the label `le` of histograms.
    init(keys: [String], names taken: [String], isHistogram: Bool = false) {
        self.keys = keys
        self.isHistogram = isHistogram
        var labels: [(name: String, values: [Int])] = []
        for index in keys.indices.sorted(by: { keys[$0] < keys[$1] }) {
            var name = PrometheusNames.label(keys[index])
            if name.isEmpty || taken.contains(name) { continue }
            if isHistogram, name == "le" { name = "exported_le" }
            if let same = labels.firstIndex(where: { $0.name == name }) {
                labels[same].values.append(index)
            } else {
                labels.append((name, [index]))
            }
        }
        for (name, values) in labels { parts.append((Array(((parts.isEmpty ? "" : ",") + name + "=\"").utf8), values)) }
    }

    func fits(_ pairs: [MetricAttributes.Pair], isHistogram: Bool) -> Bool {
        guard keys.count == pairs.count, self.isHistogram == isHistogram else { return false }
        for index in keys.indices where keys[index] != pairs[index].key { return false }
        return true
    }

    func write(_ pairs: [MetricAttributes.Pair], into bytes: inout [UInt8]) { write(into: &bytes) { pairs[$0].value } }

    func write(_ values: [String], into bytes: inout [UInt8]) { write(into: &bytes) { values[$0] } }

    /// `a="b",c="d"`: values of coinciding labels joined by `;` in the order of their keys.
    @inline(__always)
    private func write(into bytes: inout [UInt8], value: (Int) -> String) {
        for part in parts {
            bytes += part.prefix
            for (position, index) in part.values.enumerated() {
                if position > 0 { bytes.append(UInt8(ascii: ";")) }
                Escape.append(value(index), quotes: true, to: &bytes)
            }
            bytes.append(UInt8(ascii: "\""))
        }
    }
}

/// The escapes of both formats: backslash, line feed and, but for the HELP of text 0.0.4, the quotation mark.
enum Escape {
    static func append(_ text: String, quotes: Bool, to bytes: inout [UInt8]) {
        let isPlain: Bool? = text.utf8.withContiguousStorageIfAvailable { source in
            for byte in source where byte == 0x5C || byte == 0x0A || byte == 0x22 { return false }
            bytes.append(contentsOf: source)
            return true
        }
        if isPlain == true { return }
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

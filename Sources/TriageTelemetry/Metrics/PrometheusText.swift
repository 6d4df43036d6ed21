/// Writes metrics in the text formats that Prometheus scrapes: 0.0.4 and OpenMetrics 1.0, from the same snapshot.
///
/// Names follow OpenTelemetry's rules for Prometheus: `messaging.process.duration` in seconds becomes
/// `messaging_process_duration_seconds`. Both formats have the same samples: the same names, labels and values. They differ in
/// this:
///
/// | | text 0.0.4 | OpenMetrics 1.0 |
/// | --- | --- | --- |
/// | the family of a counter | `x_total` | `x`, its sample `x_total` |
/// | unit | in the name | in the name and as `# UNIT` |
/// | `target_info` | a gauge | an info |
/// | `le` of a whole number | `1` | `1.0` |
/// | exemplars | none | on buckets and counters |
/// | `_created` | none | if asked for |
/// | up-down counters and gauges named `…_count`, `…_sum`, `…_bucket` | untyped: Prometheus' own check refuses them else | gauge |
/// | end | | `# EOF` |
///
/// There are no timestamps of samples. What a scraper would refuse is left out of both formats: points that don't fit their
/// metric, counters below zero or that are no number, and of metrics whose samples would have the same name all but the first.
public struct PrometheusText: Sendable {
    private let resource: [UInt8]
    private let scope: ScopeLabels
    private let writesCreated: Bool

    /// A writer.
    ///
    /// - Parameters:
    ///   - resource: attributes of the resource, written as the labels of `target_info`; none leaves it off.
    ///   - scope: attributes of the instrumentation scope, such as `otel.scope.name`, written as labels of every sample
    ///     (specification, compatibility/prometheus_and_openmetrics, instrumentation scope); none leaves them off.
    ///   - writesCreated: whether OpenMetrics tells since when each counter and histogram has counted. Off by default:
    ///     Prometheus stores that as one more series of each unless it is told otherwise.
    public init(
        resource: [(key: String, value: String)] = [], scope: [(key: String, value: String)] = [], writesCreated: Bool = false
    ) {
        var labels: [UInt8] = []
        LabelPlan(keys: resource.map(\.key), scope: .none).write(resource.map(\.value), into: &labels)
        self.resource = labels
        self.scope = ScopeLabels(scope)
        self.writesCreated = writesCreated
    }

    /// The text of `snapshot` in `format`, UTF-8, ending in a line feed.
    public func write(_ snapshot: MetricSnapshot, as format: ExpositionFormat = .text) -> [UInt8] {
        var output = ExpositionOutput(format: format, scope: scope, writesCreated: writesCreated)
        output.bytes.reserveCapacity(estimatedSize(of: snapshot))
        var names = SampleNames()
        if !resource.isEmpty {
            names.claim(["target", "target_info"])
            output.targetInfo(labels: resource)
        }
        for data in snapshot.metrics where !data.points.isEmpty {
            let family = ExpositionFamily(data.metric)
            guard names.claim(family.claims) else { continue }
            output.metadata(of: family)
            switch data.metric.instrument {
            case .histogram: output.histograms(data, family)
            case .counter: output.counters(data, family)
            case .upDownCounter, .gauge: output.gauges(data, family)
            }
        }
        if format == .openMetrics { output.bytes += "# EOF\n".utf8 }
        return output.bytes
    }

    /// Bytes that the text will have, roughly and rather too many, so that it seldom has to move while it grows.
    private func estimatedSize(of snapshot: MetricSnapshot) -> Int {
        var lines = 0
        for data in snapshot.metrics {
            lines += data.points.count * (data.metric.boundaries.isEmpty ? 1 : data.metric.boundaries.count + 4)
        }
        return resource.count + snapshot.metrics.count * 256 + lines * (192 + scope.bytes.count)
    }
}

/// The names that samples have so far: a scraper refuses text in which two families share one.
private struct SampleNames {
    private var taken: Set<String> = []

    /// Takes all of `names`, or none if one is taken.
    @discardableResult
    mutating func claim(_ names: [String]) -> Bool {
        guard names.allSatisfy({ !taken.contains($0) }) else { return false }
        taken.formUnion(names)
        return true
    }
}

/// A metric in Prometheus' terms.
struct ExpositionFamily {
    let metric: Metric
    /// The name without `_total`: OpenMetrics' name of the family.
    let name: String
    /// The name of the sample, or what the names of a histogram's samples begin with.
    let sample: String
    /// The unit as the name ends in it; nil if it has none.
    let unit: String?

    init(_ metric: Metric) {
        self.metric = metric
        name = PrometheusNames.family(of: metric)
        sample = metric.instrument == .counter ? name + "_total" : name
        unit = PrometheusNames.unit(metric.unit, of: metric.instrument).flatMap { [name] in name.hasSuffix("_" + $0) ? $0 : nil }
    }

    /// Every name that a sample of the family may have in either format, and the family's own.
    var claims: [String] {
        switch metric.instrument {
        case .counter: [name, sample, name + "_created"]
        case .histogram: [name] + ["_bucket", "_sum", "_count", "_created"].map { name + $0 }
        case .upDownCounter, .gauge: [name]
        }
    }

    func type(in format: ExpositionFormat) -> String {
        switch metric.instrument {
        case .counter: "counter"
        case .histogram: "histogram"
        case .upDownCounter, .gauge:
            format == .text && ["_count", "_sum", "_bucket"].contains { name.hasSuffix($0) } ? "untyped" : "gauge"
        }
    }
}

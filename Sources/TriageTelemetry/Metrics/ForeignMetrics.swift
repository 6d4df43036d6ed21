extension Metric {
    /// The names that the metric takes in Prometheus: its family's and those of its samples, in either format.
    ///
    /// Two metrics that share one can't both be scraped.
    package var prometheusNames: Set<String> {
        var family = PrometheusNames.family(of: self)
        switch instrument {
        case .counter:
            if family.hasSuffix("_total") { family.removeLast("_total".count) }
            return [family, family + "_total", family + "_created"]
        case .histogram: return [family, family + "_bucket", family + "_count", family + "_sum", family + "_created"]
        case .gauge, .upDownCounter: return [family]
        }
    }
}

extension Meter {
    /// Forgets the series of `metric` that `condition` holds for, as ``remove(_:where:)`` does, for the bridges.
    package func forget(_ metric: Metric, where condition: (MetricAttributes) -> Bool) { remove(metric, where: condition) }
}

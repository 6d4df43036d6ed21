internal import TriageEvents

/// Tells how long a metric reader's collections take: `otel.sdk.metric_reader.collection.duration`.
public struct CollectionTimer: Sendable {
    /// The readers that there are, as `otel.component.type` names them.
    public enum Reader: String, Sendable, CaseIterable {
        /// Pushes metrics at an interval.
        case periodicReader = "periodic_metric_reader"
        /// Is scraped.
        case prometheus = "prometheus_http_text_metric_exporter"
    }

    private let duration: Histogram

    /// A timer of one reader.
    public init(_ reader: Reader, meter: Meter) {
        let name = SafeText(reader)
        duration = meter.histogram(
            .sdkMetricReaderCollectionDuration, ["otel.component.type": name, "otel.component.name": "\(name)/0"])
    }

    /// Runs a collection; what it finds doesn't tell of itself yet.
    public func time<Result>(_ collect: () throws -> Result) rethrows -> Result {
        let begin = MonotonicClock.now
        defer { duration.record((MonotonicClock.now - begin).inSeconds) }
        return try collect()
    }
}

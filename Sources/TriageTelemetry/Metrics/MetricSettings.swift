/// Which measurements may become exemplars: the words of `OTEL_METRICS_EXEMPLAR_FILTER` (specification, metrics/sdk).
public enum ExemplarFilter: String, Sendable, CaseIterable {
    /// Those made in a span that is valid and sampled; the default.
    case traceBased = "trace_based"
    /// All of them, with or without a span.
    case alwaysOn = "always_on"
    /// None, at no cost.
    case alwaysOff = "always_off"
}

/// What a sum or histogram counts from (specification, metrics/data-model, temporality).
public enum Temporality: String, Sendable, CaseIterable {
    /// From the beginning of the series.
    case cumulative
    /// From the reader's previous collection.
    case delta
}

/// Which temporality a reader wants: the words of `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` (specification,
/// metrics/sdk_exporters/otlp). Jaeger and Prometheus need the default.
public enum TemporalityPreference: String, Sendable, CaseIterable {
    /// Everything is cumulative; the default.
    case cumulative
    /// Counters, observed ones too, and histograms are deltas.
    case delta
    /// Counters and histograms are deltas where that needs no memory of the value before: not the observed ones.
    case lowMemory = "lowmemory"

    /// The temporality of an instrument's points. What goes up and down is always cumulative; gauges have none.
    public func temporality(of instrument: Instrument, isObserved: Bool) -> Temporality {
        switch (self, instrument) {
        case (.cumulative, _), (_, .upDownCounter), (_, .gauge): .cumulative
        case (.lowMemory, .counter): isObserved ? .cumulative : .delta
        case (.delta, .counter), (_, .histogram): .delta
        }
    }
}

/// How a reader wants histograms: the words of `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`.
public enum HistogramAggregation: String, Sendable, CaseIterable {
    /// In the buckets that the catalogue names; the default.
    case explicitBucketHistogram = "explicit_bucket_histogram"
    /// In at most 160 buckets whose width grows with the value and adapts to what is recorded.
    case base2ExponentialBucketHistogram = "base2_exponential_bucket_histogram"
}

/// How one reader of a ``Meter`` wants its metrics.
public struct MetricReaderOptions: Sendable, Hashable {
    /// What sums and histograms count from.
    public var temporality: TemporalityPreference
    /// How histograms come.
    public var histograms: HistogramAggregation

    /// The defaults: cumulative, explicit buckets.
    public init(
        temporality: TemporalityPreference = .cumulative, histograms: HistogramAggregation = .explicitBucketHistogram
    ) {
        self.temporality = temporality
        self.histograms = histograms
    }
}

public import TriageEvents

/// All metrics at one moment: what OTLP and Prometheus are written from.
public struct MetricSnapshot: Sendable {
    /// When it was taken; the same for every point.
    public let timestamp: Timestamp
    /// The metrics that have at least one point, in the catalogue's order.
    public let metrics: [MetricData]

    /// A snapshot.
    public init(timestamp: Timestamp, metrics: [MetricData]) {
        self.timestamp = timestamp
        self.metrics = metrics
    }
}

/// One metric of a snapshot.
public struct MetricData: Sendable {
    /// Its definition.
    public let metric: Metric
    /// What its sums or histograms count from; without meaning for gauges.
    public let temporality: Temporality
    /// Its points, one for each set of attributes.
    public let points: [Point]

    /// One metric with its points.
    public init(metric: Metric, temporality: Temporality = .cumulative, points: [Point]) {
        self.metric = metric
        self.temporality = temporality
        self.points = points
    }

    /// The value of one set of attributes.
    public struct Point: Sendable {
        /// The set.
        public let attributes: MetricAttributes
        /// Since when the value has been counted: the series' beginning, or the reader's previous collection for a delta. The
        /// epoch for gauges, which count from nowhere.
        public let start: Timestamp
        /// The value.
        public let value: Value
        /// Measurements that were kept as examples, each with the trace it was made in; a histogram's in bucket order.
        public let exemplars: [Exemplar]

        /// A point.
        public init(attributes: MetricAttributes, start: Timestamp, value: Value, exemplars: [Exemplar] = []) {
            self.attributes = attributes
            self.start = start
            self.value = value
            self.exemplars = exemplars
        }
    }

    /// A point's value.
    public enum Value: Sendable, Hashable {
        /// A counter's or up-down counter's sum.
        case sum(Int64)
        /// A sum that is no integer, such as seconds of CPU time.
        case doubleSum(Double)
        /// A gauge's last value.
        case gauge(Double)
        /// A gauge's last value that was observed as a whole number.
        case intGauge(Int64)
        /// A histogram: counts for each bucket (one more than boundaries), their sum, the count, the extremes.
        case histogram(counts: [UInt64], sum: Double, count: UInt64, minimum: Double, maximum: Double)
        /// A histogram with exponential buckets; only for readers that asked for it.
        case exponentialHistogram(ExponentialHistogramData)
    }
}

/// A histogram whose buckets are powers of `2^(2^-scale)` (specification, metrics/data-model, exponential histogram).
public struct ExponentialHistogramData: Sendable, Hashable {
    /// Counts of neighbouring buckets; bucket *i* holds the magnitudes in (base^i, base^(i+1)].
    public struct Buckets: Sendable, Hashable {
        /// The index *i* of the first count.
        public let offset: Int32
        /// The counts from there on; empty if there are none.
        public let counts: [UInt64]

        /// Counts from the bucket `offset` on.
        public init(offset: Int32, counts: [UInt64]) {
            self.offset = offset
            self.counts = counts
        }
    }

    /// The resolution, -10 to 20: the base is `2^(2^-scale)`.
    public let scale: Int32
    /// Values that were 0.
    public let zeroCount: UInt64
    /// Values above 0.
    public let positive: Buckets
    /// Values below 0, by magnitude.
    public let negative: Buckets
    /// All values, added up.
    public let sum: Double
    /// How many values there are.
    public let count: UInt64
    /// The least; 0 if there are none.
    public let minimum: Double
    /// The greatest; 0 if there are none.
    public let maximum: Double

    /// A histogram of these parts.
    public init(
        scale: Int32, zeroCount: UInt64, positive: Buckets, negative: Buckets, sum: Double, count: UInt64, minimum: Double,
        maximum: Double
    ) {
        self.scale = scale
        self.zeroCount = zeroCount
        self.positive = positive
        self.negative = negative
        self.sum = sum
        self.count = count
        self.minimum = minimum
        self.maximum = maximum
    }
}

/// One measurement, with the span it was made in (specification, metrics/data-model, exemplars).
public struct Exemplar: Sendable, Hashable {
    /// The measured value, in the metric's unit.
    public let value: Double
    /// When it was measured.
    public let timestamp: Timestamp
    /// The trace it belongs to; invalid if it was made outside any span, which only ``ExemplarFilter/alwaysOn`` keeps.
    public let traceID: TraceID
    /// The span it was made in; invalid like the trace.
    public let spanID: SpanID

    /// The measurement `value` at `timestamp` inside a span.
    public init(value: Double, timestamp: Timestamp, traceID: TraceID, spanID: SpanID) {
        self.value = value
        self.timestamp = timestamp
        self.traceID = traceID
        self.spanID = spanID
    }
}

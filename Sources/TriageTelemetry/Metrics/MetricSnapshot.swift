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
    /// Its points, one for each set of attributes.
    public let points: [Point]

    /// One metric with its points.
    public init(metric: Metric, points: [Point]) {
        self.metric = metric
        self.points = points
    }

    /// The value of one set of attributes.
    public struct Point: Sendable {
        /// The set.
        public let attributes: MetricAttributes
        /// Since when the value has been counted (cumulative temporality).
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
        /// A histogram: counts for each bucket (one more than boundaries), their sum, the count, the extremes.
        case histogram(counts: [UInt64], sum: Double, count: UInt64, minimum: Double, maximum: Double)
    }
}

/// One measurement, with the span it was made in (specification, metrics/data-model, exemplars).
public struct Exemplar: Sendable, Hashable {
    /// The measured value, in the metric's unit.
    public let value: Double
    /// When it was measured.
    public let timestamp: Timestamp
    /// The trace it belongs to.
    public let traceID: TraceID
    /// The span it was made in.
    public let spanID: SpanID

    /// The measurement `value` at `timestamp` inside a span.
    public init(value: Double, timestamp: Timestamp, traceID: TraceID, spanID: SpanID) {
        self.value = value
        self.timestamp = timestamp
        self.traceID = traceID
        self.spanID = spanID
    }
}

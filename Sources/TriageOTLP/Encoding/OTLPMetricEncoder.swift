internal import COTLP
internal import CProtobufC
internal import TriageEvents
public import TriageTelemetry

private typealias MetricMessage = Opentelemetry__Proto__Metrics__V1__Metric
private typealias NumberMessage = Opentelemetry__Proto__Metrics__V1__NumberDataPoint
private typealias HistogramMessage = Opentelemetry__Proto__Metrics__V1__HistogramDataPoint

/// Encodes metric snapshots as `ExportMetricsServiceRequest` bodies, always with cumulative temporality.
///
/// Counters become monotonic sums, up-down counters other sums, histograms carry explicit bounds. A point whose value
/// doesn't fit its instrument is left out, and so is a metric without points.
public struct OTLPMetricEncoder: Sendable {
    private let resource: OTLPResource

    /// An encoder for this resource.
    public init(_ resource: OTLPResource) { self.resource = resource }

    /// The body for `snapshot`, and how many points it has; an empty body if there are none.
    public func encode(_ snapshot: MetricSnapshot) -> (body: [UInt8], points: Int) {
        Arena.with { arena in
            var builder = MessageBuilder(arena)
            var points = 0
            let pointers = builder.messages(MetricMessage.self, snapshot.metrics.count)
            var count = 0
            for data in snapshot.metrics {
                guard let metric = pointers[count] else { continue }
                opentelemetry__proto__metrics__v1__metric__init(metric)
                let added = fill(metric, data, snapshot, &builder)
                guard added > 0 else { continue }
                points += added
                count += 1
            }
            guard points > 0 else { return ([], 0) }
            return (pack(pointers, count, &builder), points)
        }
    }

    private func pack(
        _ metrics: MessagePointers<MetricMessage>, _ count: Int, _ builder: inout MessageBuilder
    ) -> [UInt8] {
        let parts = resource.build(&builder)
        let scope = builder.messages(Opentelemetry__Proto__Metrics__V1__ScopeMetrics.self, 1)
        let resourceMetrics = builder.messages(Opentelemetry__Proto__Metrics__V1__ResourceMetrics.self, 1)
        let request = builder.arena.allocate(Opentelemetry__Proto__Collector__Metrics__V1__ExportMetricsServiceRequest.self, 1)
        opentelemetry__proto__metrics__v1__scope_metrics__init(scope[0])
        opentelemetry__proto__metrics__v1__resource_metrics__init(resourceMetrics[0])
        opentelemetry__proto__collector__metrics__v1__export_metrics_service_request__init(request)
        scope[0]?.pointee.scope = parts.scope
        scope[0]?.pointee.schema_url = parts.schemaURL
        scope[0]?.pointee.metrics = metrics
        scope[0]?.pointee.n_metrics = count
        resourceMetrics[0]?.pointee.resource = parts.resource
        resourceMetrics[0]?.pointee.schema_url = parts.schemaURL
        resourceMetrics[0]?.pointee.scope_metrics = scope
        resourceMetrics[0]?.pointee.n_scope_metrics = 1
        request.pointee.resource_metrics = resourceMetrics
        request.pointee.n_resource_metrics = 1
        builder.reserve(OTLPResource.schemaURL.utf8CodeUnitCount + 64)
        return Array(builder.pack(request))
    }

    private func fill(
        _ message: UnsafeMutablePointer<MetricMessage>, _ data: MetricData, _ snapshot: MetricSnapshot,
        _ builder: inout MessageBuilder
    ) -> Int {
        message.pointee.name = builder.cString(data.metric.name)
        message.pointee.description = builder.cString(data.metric.help)
        message.pointee.unit = builder.cString(data.metric.unit)
        builder.reserve(64)
        if data.metric.instrument == .histogram { return fillHistogram(message, data, snapshot, &builder) }
        let (points, count) = numbers(data, snapshot, &builder)
        if data.metric.instrument == .gauge {
            let gauge = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__Gauge.self, 1)
            opentelemetry__proto__metrics__v1__gauge__init(gauge)
            gauge.pointee.data_points = points
            gauge.pointee.n_data_points = count
            message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_GAUGE
            message.pointee.gauge = gauge
        } else {
            let sum = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__Sum.self, 1)
            opentelemetry__proto__metrics__v1__sum__init(sum)
            sum.pointee.data_points = points
            sum.pointee.n_data_points = count
            sum.pointee.aggregation_temporality = cumulative
            sum.pointee.is_monotonic = data.metric.instrument == .counter ? 1 : 0
            message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_SUM
            message.pointee.sum = sum
        }
        return count
    }

    private func numbers(
        _ data: MetricData, _ snapshot: MetricSnapshot, _ builder: inout MessageBuilder
    ) -> (MessagePointers<NumberMessage>, Int) {
        let pointers = builder.messages(NumberMessage.self, data.points.count)
        var count = 0
        for point in data.points {
            guard let target = pointers[count] else { continue }
            opentelemetry__proto__metrics__v1__number_data_point__init(target)
            switch point.value {
            case .sum(let value), .intGauge(let value):
                target.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__NUMBER_DATA_POINT__VALUE_AS_INT
                target.pointee.as_int = value
            case .doubleSum(let value), .gauge(let value):
                target.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__NUMBER_DATA_POINT__VALUE_AS_DOUBLE
                target.pointee.as_double = value
            case .histogram, .exponentialHistogram:
                continue
            }
            target.pointee.start_time_unix_nano = UInt64(max(0, point.start.nanoseconds))
            target.pointee.time_unix_nano = UInt64(max(0, snapshot.timestamp.nanoseconds))
            let attributes = builder.keyValues(point.attributes)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            builder.reserve(48)
            count += 1
        }
        return (pointers, count)
    }

    private func fillHistogram(
        _ message: UnsafeMutablePointer<MetricMessage>, _ data: MetricData, _ snapshot: MetricSnapshot,
        _ builder: inout MessageBuilder
    ) -> Int {
        let bounds = builder.arena.allocate(Double.self, max(1, data.metric.boundaries.count))
        for (index, bound) in data.metric.boundaries.enumerated() { bounds[index] = bound }
        let pointers = builder.messages(HistogramMessage.self, data.points.count)
        var count = 0
        for point in data.points {
            guard let target = pointers[count],
                case .histogram(let buckets, let sum, let total, let minimum, let maximum) = point.value,
                buckets.count == data.metric.boundaries.count + 1
            else { continue }
            opentelemetry__proto__metrics__v1__histogram_data_point__init(target)
            target.pointee.start_time_unix_nano = UInt64(max(0, point.start.nanoseconds))
            target.pointee.time_unix_nano = UInt64(max(0, snapshot.timestamp.nanoseconds))
            target.pointee.count = total
            target.pointee.optional_sum_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_SUM_SUM
            target.pointee.sum = sum
            if total > 0 {
                target.pointee.optional_min_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_MIN_MIN
                target.pointee.min = minimum
                target.pointee.optional_max_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_MAX_MAX
                target.pointee.max = maximum
            }
            let counts = builder.arena.allocate(UInt64.self, buckets.count)
            for (index, bucket) in buckets.enumerated() { counts[index] = bucket }
            target.pointee.bucket_counts = counts
            target.pointee.n_bucket_counts = buckets.count
            target.pointee.explicit_bounds = bounds
            target.pointee.n_explicit_bounds = data.metric.boundaries.count
            let attributes = builder.keyValues(point.attributes)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            builder.reserve(96 + 16 * buckets.count)
            count += 1
        }
        let histogram = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__Histogram.self, 1)
        opentelemetry__proto__metrics__v1__histogram__init(histogram)
        histogram.pointee.data_points = pointers
        histogram.pointee.n_data_points = count
        histogram.pointee.aggregation_temporality = cumulative
        message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_HISTOGRAM
        message.pointee.histogram = histogram
        return count
    }

    private var cumulative: Opentelemetry__Proto__Metrics__V1__AggregationTemporality {
        OPENTELEMETRY__PROTO__METRICS__V1__AGGREGATION_TEMPORALITY__AGGREGATION_TEMPORALITY_CUMULATIVE
    }
}

internal import COTLP
internal import CProtobufC
internal import TriageEvents
public import TriageTelemetry

private typealias MetricMessage = Opentelemetry__Proto__Metrics__V1__Metric

/// Encodes metric snapshots as `ExportMetricsServiceRequest` bodies.
///
/// Counters become monotonic sums, up-down counters other sums; histograms carry explicit bounds, or are exponential if the
/// reader collected them so. Exemplars and the temporality are the snapshot's. A point whose value doesn't fit its instrument
/// is left out, and so is a metric without points. Summaries are never written.
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

    /// Fills a metric with its points and returns how many there are.
    private func fill(
        _ message: UnsafeMutablePointer<MetricMessage>, _ data: MetricData, _ snapshot: MetricSnapshot,
        _ builder: inout MessageBuilder
    ) -> Int {
        message.pointee.name = builder.cString(data.metric.name)
        message.pointee.description = builder.cString(data.metric.help)
        message.pointee.unit = builder.cString(data.metric.unit)
        builder.reserve(64)
        let temporality = OTLPMetricEncoder.temporality(data.temporality)
        switch data.metric.instrument {
        case .histogram where data.isExponential:
            let points = builder.exponentialHistograms(data, at: snapshot.timestamp)
            let histogram = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__ExponentialHistogram.self, 1)
            opentelemetry__proto__metrics__v1__exponential_histogram__init(histogram)
            histogram.pointee.data_points = points.pointers
            histogram.pointee.n_data_points = points.count
            histogram.pointee.aggregation_temporality = temporality
            message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_EXPONENTIAL_HISTOGRAM
            message.pointee.exponential_histogram = histogram
            return points.count
        case .histogram:
            let points = builder.histograms(data, at: snapshot.timestamp)
            let histogram = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__Histogram.self, 1)
            opentelemetry__proto__metrics__v1__histogram__init(histogram)
            histogram.pointee.data_points = points.pointers
            histogram.pointee.n_data_points = points.count
            histogram.pointee.aggregation_temporality = temporality
            message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_HISTOGRAM
            message.pointee.histogram = histogram
            return points.count
        case .gauge:
            let points = builder.numbers(data, at: snapshot.timestamp)
            let gauge = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__Gauge.self, 1)
            opentelemetry__proto__metrics__v1__gauge__init(gauge)
            gauge.pointee.data_points = points.pointers
            gauge.pointee.n_data_points = points.count
            message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_GAUGE
            message.pointee.gauge = gauge
            return points.count
        case .counter, .upDownCounter:
            let points = builder.numbers(data, at: snapshot.timestamp)
            let sum = builder.arena.allocate(Opentelemetry__Proto__Metrics__V1__Sum.self, 1)
            opentelemetry__proto__metrics__v1__sum__init(sum)
            sum.pointee.data_points = points.pointers
            sum.pointee.n_data_points = points.count
            sum.pointee.aggregation_temporality = temporality
            sum.pointee.is_monotonic = data.metric.instrument == .counter ? 1 : 0
            message.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_SUM
            message.pointee.sum = sum
            return points.count
        }
    }

    private static func temporality(
        _ temporality: Temporality
    ) -> Opentelemetry__Proto__Metrics__V1__AggregationTemporality {
        switch temporality {
        case .cumulative: OPENTELEMETRY__PROTO__METRICS__V1__AGGREGATION_TEMPORALITY__AGGREGATION_TEMPORALITY_CUMULATIVE
        case .delta: OPENTELEMETRY__PROTO__METRICS__V1__AGGREGATION_TEMPORALITY__AGGREGATION_TEMPORALITY_DELTA
        }
    }
}

extension MetricData {
    /// Whether its points are exponential histograms; a metric of one snapshot has points of one kind.
    fileprivate var isExponential: Bool {
        points.contains { if case .exponentialHistogram = $0.value { true } else { false } }
    }
}

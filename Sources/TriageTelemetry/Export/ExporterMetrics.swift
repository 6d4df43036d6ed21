internal import TriageEvents

/// What an exporter tells about itself: `otel.sdk.exporter.*` (semantic conventions, otel/sdk-metrics).
///
/// Everything is counted once for each export, after its last try; what is under way counts as in flight across retries.
public final class ExporterMetrics: Sendable {
    /// What is exported, and what the conventions call the one that does.
    public enum Kind: Sendable, Hashable, CaseIterable {
        /// Spans, by `otlp_http_span_exporter`.
        case spans
        /// Metric data points, by `otlp_http_metric_exporter`.
        case metricDataPoints
        /// Log records, by `otlp_http_log_exporter`.
        case logs

        /// `otel.component.type`.
        public var componentType: SafeText {
            switch self {
            case .spans: "otlp_http_span_exporter"
            case .metricDataPoints: "otlp_http_metric_exporter"
            case .logs: "otlp_http_log_exporter"
            }
        }

        var exported: Metric {
            switch self {
            case .spans: .sdkExporterSpanExported
            case .metricDataPoints: .sdkExporterMetricDataPointExported
            case .logs: .sdkExporterLogExported
            }
        }

        var inflight: Metric {
            switch self {
            case .spans: .sdkExporterSpanInflight
            case .metricDataPoints: .sdkExporterMetricDataPointInflight
            case .logs: .sdkExporterLogInflight
            }
        }
    }

    /// Failures that are there from the start with 0, so that the first one shows as an increase.
    private static let known: [ExportErrorType] = [.rejected, .tooLarge, .timeout, .noAnswer]

    private let kind: Kind
    private let meter: Meter
    private let attributes: [(StaticString, SafeText)]
    private let exported: Counter
    private let inflight: UpDownCounter

    /// The metrics of one exporter; their series begin now.
    ///
    /// - Parameters:
    ///   - kind: what it exports.
    ///   - meter: where the metrics go.
    ///   - server: the endpoint's host and port, for `server.address` and `server.port`; from the configuration, never from
    ///     a record.
    public init(_ kind: Kind, meter: Meter, server: (address: String, port: Int)?) {
        self.kind = kind
        self.meter = meter
        var attributes: [(StaticString, SafeText)] = [
            ("otel.component.type", kind.componentType), ("otel.component.name", "\(kind.componentType)/0"),
        ]
        if let server {
            attributes += [("server.address", SafeText(vetted: server.address)), ("server.port", "\(server.port)")]
        }
        self.attributes = attributes
        exported = meter.counter(kind.exported, MetricAttributes(attributes))
        inflight = meter.upDownCounter(kind.inflight, MetricAttributes(attributes))
        for error in ExporterMetrics.known { _ = failed(SafeText(error)) }
    }

    /// An export of so many items begins.
    public func begin(_ items: Int) { inflight.add(Int64(items)) }

    /// It is over, after `duration`, all tries and waits included.
    public func end(_ items: Int, _ tally: ExportTally, duration: Duration) {
        inflight.add(-Int64(items))
        exported.add(Int64(tally.exported))
        for (error, items) in tally.failures { failed(error).add(Int64(items)) }
        var attributes = attributes
        if let error = tally.mainError { attributes.append(("error.type", error)) }
        if let status = tally.status { attributes.append(("http.response.status_code", "\(status)")) }
        meter.histogram(.sdkExporterOperationDuration, MetricAttributes(attributes)).record(duration.inSeconds)
    }

    private func failed(_ error: SafeText) -> Counter {
        meter.counter(kind.exported, MetricAttributes(attributes + [("error.type", error)]))
    }
}

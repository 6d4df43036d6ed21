internal import Logging
internal import TriageEvents
internal import TriageIngress
internal import TriageOTLP
public import TriageTelemetry

/// Where spans and metrics are made and where they go: one for each process.
public final class Telemetry: Sendable {
    /// Makes spans.
    public let tracer: Tracer
    /// Makes metrics.
    public let meter: Meter
    /// What it was told.
    public let configuration: TelemetryConfiguration
    private let spans: BatchSpanProcessor?
    private let reader: PeriodicMetricReader?
    private let logs: LogPipeline?
    private let prometheus: PrometheusText

    /// Telemetry as `configuration` says.
    ///
    /// - Parameters:
    ///   - configuration: exporters, sampler, limits, resource.
    ///   - identifiers: how resource ids and keys show.
    ///   - processors: see every sampled span beside the exporter, such as a recorder.
    ///   - seed: makes ids reproducible, for tests; nil takes one from the system.
    ///   - warn: told, at most once in five minutes for each kind, what keeps telemetry from going out.
    public init(
        _ configuration: TelemetryConfiguration, identifiers: IdentifierPolicy = .omitted, processors: [any SpanProcessor] = [],
        seed: UInt64? = nil, warn: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.configuration = configuration
        let clock = SystemClock()
        let meter = Meter(
            clock: clock, exemplarFilter: configuration.exemplarFilter,
            readers: configuration.isDisabled || configuration.metrics == nil ? [] : [configuration.metricReader], warn: warn)
        let resource = configuration.resource
        let encoder = OTLPSpanEncoder(identifiers: identifiers)
        var spans: BatchSpanProcessor?
        var reader: PeriodicMetricReader?
        if !configuration.isDisabled {
            if let traces = configuration.traces {
                let exporter = OTLPSpanExporter(traces, resource: resource, onWarning: warn)
                spans = BatchSpanProcessor(encoder: encoder, exporter: exporter, limits: configuration.queue)
            }
            if let metrics = configuration.metricExport {
                reader = PeriodicMetricReader(
                    interval: configuration.metricInterval,
                    exporter: OTLPMetricExporter(metrics, resource: resource, onWarning: warn)
                ) { meter.collect(at: clock.now(), reader: 0) }
            }
        }
        let logs = LogPipeline(configuration, identifiers: identifiers, clock: clock, warn: warn)
        let tracer = Tracer(
            sampler: configuration.sampler, limits: configuration.limits, clock: clock, ids: IDGenerator(seed: seed),
            encoder: encoder, processors: (spans.map { [$0] } ?? []) + processors, logs: logs?.emitter,
            failureTraces: configuration.failureTraces, isEnabled: !configuration.isDisabled
        )
        self.meter = meter
        self.tracer = tracer
        self.spans = spans
        self.reader = reader
        prometheus = PrometheusText(resource: configuration.prometheusResource, scope: configuration.prometheusScope)
        self.logs = logs
        ProcessMetrics.register(on: meter)
        if !configuration.isDisabled { tracer.counts.register(on: meter) }
        if let spans { Telemetry.register(spans, on: meter) }
        logs?.register(on: meter)
    }

    /// What became of the ended spans; all zero if nothing is exported.
    public var spanCounts: SpanExportCounts { spans?.counts ?? SpanExportCounts() }

    /// The metrics in a format that Prometheus scrapes, text 0.0.4 by default.
    public func scrape(as format: ExpositionFormat = .text) -> [UInt8] {
        prometheus.write(meter.collect(at: tracer.clock.now()), as: format)
    }
    /// What became of the log records, where it says spans; all zero if none are exported.
    public var logCounts: SpanExportCounts { logs?.processor.counts ?? SpanExportCounts() }


    /// Exports everything that has ended so far; tells whether that worked within `timeout`.
    @discardableResult
    public func flush(timeout: Duration = .seconds(10)) async -> Bool {
        async let flushed = spans?.forceFlush(timeout: timeout) ?? true
        async let read = reader?.forceFlush(timeout: timeout) ?? true
        async let logged = logs?.processor.forceFlush(timeout: timeout) ?? true
        let (spansWent, metricsWent, logsWent) = await (flushed, read, logged)
        return spansWent && metricsWent && logsWent
    }

    /// Exports what is left and ends the exporters, within `timeout` in all.
    ///
    /// Spans and log records go first, so that the last metrics tell what became of them; a collector that didn't take the spans gets a
    /// second for the metrics.
    public func shutdown(timeout: Duration = .seconds(10)) async {
        let deadline = ContinuousClock.now + timeout
        let failedBefore = spanCounts.failed + spanCounts.dropped
        async let logged: Void? = logs?.processor.shutdown(timeout: timeout)
        await spans?.shutdown(timeout: timeout)
        await logged
        let isAnswering = spanCounts.failed + spanCounts.dropped == failedBefore
        await reader?.shutdown(timeout: isAnswering ? max(deadline - ContinuousClock.now, .seconds(1)) : .seconds(1))
    }

    func adminServer(
        at address: Configuration.HTTPAddress, logger: Logger, health: @escaping @Sendable (Timestamp) -> Health,
        onListening: @escaping @Sendable (Int) -> Void
    ) -> AdminServer {
        let clock = tracer.clock
        // The server reports its own end by cancellation as an error. What can fail about it, listening, is thrown.
        var logger = logger
        logger.logLevel = .critical
        return AdminServer(
            configuration: AdminServer.Configuration(host: address.host, port: address.port), logger: logger,
            metrics: { self.scrape(as: $0) },
            gzip: { GzipCompressor().compress($0) },
            liveness: {
                let now = clock.now()
                return health(now).liveness(at: now)
            },
            readiness: {
                let now = clock.now()
                return health(now).readiness(at: now)
            },
            onListening: onListening
        )
    }

    /// `otel.sdk.processor.span.*` and `otel.sdk.exporter.span.*` (semantic conventions, otel/sdk-metrics).
    private static func register(_ spans: BatchSpanProcessor, on meter: Meter) {
        let processor: [(StaticString, SafeText)] = [
            ("otel.component.name", "batching_span_processor/0"), ("otel.component.type", "batching_span_processor"),
        ]
        let exporter: [(StaticString, SafeText)] = [
            ("otel.component.name", "otlp_http_span_exporter/0"), ("otel.component.type", "otlp_http_span_exporter"),
        ]
        @Sendable func with(_ base: [(StaticString, SafeText)], error: SafeText) -> MetricAttributes {
            MetricAttributes(base + [("error.type", error)])
        }
        meter.observe(.sdkProcessorSpanQueueSize) {
            [(MetricAttributes(processor), .int(Int64(spans.counts.queued)))]
        }
        meter.observe(.sdkProcessorSpanProcessed) {
            let counts = spans.counts
            let handedOver = counts.exported + counts.failed + counts.rejected + counts.inFlight
            return [(MetricAttributes(processor), .int(Int64(handedOver)))]
                + SpanQueue.DropReason.allCases.map { reason in
                    (with(processor, error: SafeText(reason)), .int(Int64(counts.dropped(reason))))
                }
        }
        meter.observe(.sdkExporterSpanInflight) {
            [(MetricAttributes(exporter), .int(Int64(spans.counts.inFlight)))]
        }
        meter.observe(.sdkExporterSpanExported) {
            let counts = spans.counts
            return [
                (MetricAttributes(exporter), .int(Int64(counts.exported))),
                (with(exporter, error: "_OTHER"), .int(Int64(counts.failed))),
                (with(exporter, error: "rejected"), .int(Int64(counts.rejected))),
            ]
        }
    }
}

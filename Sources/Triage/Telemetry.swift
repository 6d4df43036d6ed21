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
    /// The spans of recent failed events; nil unless it was told to keep them.
    public let spanStore: SpanStore?
    private let spans: BatchSpanProcessor?
    private let reader: PeriodicMetricReader?
    private let logs: LogPipeline?
    private let prometheus: PrometheusText
    private let scraped: CollectionTimer

    /// Telemetry as `configuration` says.
    ///
    /// - Parameters:
    ///   - configuration: exporters, sampler, limits, resource.
    ///   - identifiers: how resource ids and keys show.
    ///   - processors: see every sampled span beside the exporter, such as a recorder.
    ///   - keeping: bounds on the spans of recent failed events that are kept in memory; nil keeps none.
    ///   - seed: makes ids reproducible, for tests; nil takes one from the system.
    ///   - warn: told, at most once in five minutes for each kind, what keeps telemetry from going out.
    public init(
        _ configuration: TelemetryConfiguration, identifiers: IdentifierPolicy = .omitted, processors: [any SpanProcessor] = [],
        keeping: SpanStore.Limits? = nil, seed: UInt64? = nil, warn: @escaping @Sendable (String) -> Void = { _ in }
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
        let hasWarnings = configuration.logLevel.hasWarnings
        let warnings = OTLPWarnings { text in
            if hasWarnings { warn(text) }
        }
        if !configuration.isDisabled {
            if let traces = configuration.tracesWithinTimeout {
                let exporter = OTLPSpanExporter(traces, resource: resource, meter: meter, warnings: warnings)
                spans = BatchSpanProcessor(encoder: encoder, exporter: exporter, limits: configuration.queue)
            }
            if let metrics = configuration.metricExport {
                let collected = CollectionTimer(.periodicReader, meter: meter)
                reader = PeriodicMetricReader(
                    interval: configuration.metricInterval,
                    exporter: OTLPMetricExporter(metrics, resource: resource, meter: meter, warnings: warnings)
                ) { collected.time { meter.collect(at: clock.now(), reader: 0) } }
            }
        }
        let store =
            configuration.isDisabled
            ? nil
            : keeping.map {
                SpanStore(identifiers: identifiers, service: configuration.serviceName, limits: $0)
            }
        let logs = LogPipeline(configuration, identifiers: identifiers, clock: clock, meter: meter, warnings: warnings)
        let tracer = Tracer(
            sampler: configuration.sampler, limits: configuration.limits, clock: clock, ids: IDGenerator(seed: seed),
            encoder: encoder, processors: (spans.map { [$0] } ?? []) + (store.map { [$0] } ?? []) + processors,
            logs: logs?.emitter,
            failureTraces: configuration.failureTraces, isEnabled: !configuration.isDisabled,
            propagators: configuration.propagators
        )
        self.meter = meter
        self.tracer = tracer
        self.spans = spans
        spanStore = store
        self.reader = reader
        prometheus = PrometheusText(resource: configuration.prometheusResource, scope: configuration.prometheusScope)
        self.logs = logs
        ProcessMetrics.register(on: meter)
        if !configuration.isDisabled { tracer.counts.register(on: meter) }
        spans?.register(on: meter)
        logs?.register(on: meter)
        scraped = CollectionTimer(.prometheus, meter: meter)
    }

    /// What became of the ended spans; all zero if nothing is exported.
    public var spanCounts: SpanExportCounts { spans?.counts ?? SpanExportCounts() }

    /// What became of the log records, where it says spans; all zero if none are exported.
    public var logCounts: SpanExportCounts { logs?.processor.counts ?? SpanExportCounts() }

    /// The metrics in a format that Prometheus scrapes, text 0.0.4 by default.
    public func scrape(as format: ExpositionFormat = .text) -> [UInt8] {
        prometheus.write(scraped.time { meter.collect(at: tracer.clock.now()) }, as: format)
    }

    /// Exports everything that has ended so far, and the metrics as of now, without ending anything; tells whether that
    /// worked within `timeout`.
    @discardableResult
    public func flush(timeout: Duration = .seconds(10)) async -> Bool {
        async let flushed = spans?.forceFlush(timeout: timeout) ?? true
        async let read = reader?.forceFlush(timeout: timeout) ?? true
        async let logged = logs?.processor.forceFlush(timeout: timeout) ?? true
        let (spansWent, metricsWent, logsWent) = await (flushed, read, logged)
        return spansWent && metricsWent && logsWent
    }

    /// Exports what is left and ends the exporters, within `timeout` in all; a collector that doesn't answer costs no more
    /// than the exporters' own time-out (`OTEL_EXPORTER_OTLP_TIMEOUT`).
    ///
    /// Spans and log records go first, so that the last metrics tell what became of them, but metrics wait for them only a
    /// quarter of the time.
    public func shutdown(timeout: Duration = .seconds(10)) async {
        let limit = min(timeout, exportTimeout ?? timeout)
        let deadline = ContinuousClock.now + limit
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [spans, logs] in
                async let logged: Void? = logs?.processor.shutdown(timeout: limit)
                await spans?.shutdown(timeout: limit)
                await logged
            }
            // Cancelled as soon as the spans and log records are through.
            group.addTask { try? await Task.sleep(for: limit / 4) }
            await group.next()
            await reader?.shutdown(timeout: max(deadline - ContinuousClock.now, .milliseconds(1)))
            // Ends the pause if that is what is left; an export under way isn't stopped by it.
            group.cancelAll()
        }
    }

    /// The longest time that an export may take; nil if one has no limit, or nothing is exported.
    private var exportTimeout: Duration? {
        let signals = [configuration.tracesWithinTimeout, configuration.metricExport, configuration.logs]
        let timeouts = signals.compactMap { $0 }.map(\.timeout)
        guard !timeouts.contains(nil) else { return nil }
        return timeouts.compactMap { $0 }.max()
    }

    func adminServer(
        at address: Configuration.HTTPAddress, logger: Logger, console: ConsoleSite? = nil,
        health: @escaping @Sendable (Timestamp) -> [any HealthReading],
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
                return .all(health(now).map { $0.liveness(at: now) })
            },
            readiness: {
                let now = clock.now()
                return .all(health(now).map { $0.readiness(at: now) })
            },
            console: console, onListening: onListening
        )
    }
}

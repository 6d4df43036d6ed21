internal import TriageEvents
internal import TriageOTLP
internal import TriageTelemetry

/// The export of log records: one where the configuration asks for it.
struct LogPipeline: Sendable {
    let emitter: LogEmitter
    let processor: BatchLogProcessor

    /// Nil unless logs are exported.
    init?(
        _ configuration: TelemetryConfiguration, identifiers: IdentifierPolicy, clock: any EventClock, meter: Meter,
        warnings: OTLPWarnings
    ) {
        guard !configuration.isDisabled, let signal = configuration.logs else { return nil }
        processor = BatchLogProcessor(
            encoder: OTLPLogEncoder(identifiers: identifiers),
            exporter: OTLPLogExporter(signal, resource: configuration.resource, meter: meter, warnings: warnings),
            limits: configuration.logQueue
        )
        emitter = LogEmitter(limits: configuration.logLimits, clock: clock, processors: [processor])
    }

    /// `otel.sdk.log.created` and `otel.sdk.processor.log.*` (semantic conventions, otel/sdk-metrics).
    func register(on meter: Meter) {
        let processor: [(StaticString, SafeText)] = [
            ("otel.component.name", "batching_log_processor/0"), ("otel.component.type", "batching_log_processor"),
        ]
        @Sendable func with(_ base: [(StaticString, SafeText)], _ key: StaticString, _ value: SafeText) -> MetricAttributes {
            MetricAttributes(base + [(key, value)])
        }
        let queue = self.processor
        let emitter = emitter
        meter.observe(.sdkLogCreated) { [([:], .int(Int64(emitter.created)))] }
        meter.observe(.sdkProcessorLogQueueSize) { [(MetricAttributes(processor), .int(Int64(queue.counts.queued)))] }
        meter.observe(.sdkProcessorLogQueueCapacity) {
            [(MetricAttributes(processor), .int(Int64(queue.limits.spans ?? 0)))]
        }
        meter.observe(.sdkProcessorLogProcessed) {
            let counts = queue.counts
            let handedOver = counts.exported + counts.failed + counts.rejected + counts.inFlight
            return [(MetricAttributes(processor), .int(Int64(handedOver)))]
                + SpanQueue.DropReason.allCases.map { reason in
                    (with(processor, "error.type", SafeText(reason)), .int(Int64(counts.dropped(reason))))
                }
        }
        meter.observe(.logWithheld) {
            [
                (with([], "triage.log.part", "body"), .int(Int64(emitter.bodiesWithheld))),
                (with([], "triage.log.part", "attribute"), .int(Int64(emitter.attributesWithheld))),
            ]
        }
    }
}

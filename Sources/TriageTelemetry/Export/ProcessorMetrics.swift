extension BatchSpanProcessor {
    /// Has `meter` collect `otel.sdk.processor.span.*` and the queue's bytes (semantic conventions, otel/sdk-metrics).
    ///
    /// The capacity in spans is reported only where one is set: by default the queue is bounded in bytes.
    public func register(on meter: Meter) {
        let component: [(StaticString, SafeText)] = [
            ("otel.component.name", "batching_span_processor/0"), ("otel.component.type", "batching_span_processor"),
        ]
        let attributes = MetricAttributes(component)
        let reasons = SpanQueue.DropReason.allCases.map { reason in
            (reason: reason, attributes: MetricAttributes(component + [("error.type", SafeText(reason))]))
        }
        // The meter outlives nothing of the processor's: a processor that is gone reports nothing.
        meter.observe(.sdkProcessorSpanQueueSize) { [weak self] in
            self.map { [(attributes, .int(Int64($0.counts.queued)))] } ?? []
        }
        if let capacity = limits.spans {
            meter.observe(.sdkProcessorSpanQueueCapacity) { [(attributes, .int(Int64(capacity)))] }
        }
        meter.observe(.sdkProcessorSpanProcessed) { [weak self] in
            guard let counts = self?.counts else { return [] }
            // What became of a span at the exporter is that one's to tell.
            let handedOver = counts.exported + counts.failed + counts.rejected + counts.inFlight
            return [(attributes, .int(Int64(handedOver)))]
                + reasons.map { ($0.attributes, .int(Int64(counts.dropped($0.reason)))) }
        }
        let bytes = limits.bytes
        meter.observe(.spanQueueUsage) { [weak self] in self.map { [([:], .int(Int64($0.counts.queuedBytes)))] } ?? [] }
        meter.observe(.spanQueueLimit) { [([:], .int(Int64(bytes)))] }
    }
}

// The one place where a metric is named: instruments, OTLP, Prometheus, the docs table and the dashboards' test read it here.
//
// Conventional metrics: OpenTelemetry semantic conventions, messaging, http, process and otel.sdk. Everything else is in the
// namespace `triage`, since the conventions know neither retries, dead letters nor lag. Units are UCUM: `s`, `By`, and an
// annotation in the singular for counts.

extension Metric {
    /// Seconds; the bucket boundaries that the messaging and HTTP conventions advise.
    public static let durationBoundaries: [Double] =
        [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    /// Seconds; the same and on to a day, for what includes waiting.
    public static let waitBoundaries: [Double] = durationBoundaries + [30, 60, 120, 300, 900, 3600, 14_400, 86_400]

    private static let place = ["messaging.destination.name", "messaging.consumer.group.name"]
    private static let server = ["server.address", "server.port"]
    private static let component = ["otel.component.name", "otel.component.type"]

    // MARK: Messaging conventions

    /// Time of one send, poll or commit; never of processing.
    public static let clientOperationDuration = Metric(
        "messaging.client.operation.duration", .histogram, unit: "s",
        "Duration of messaging operation initiated by a producer or consumer client.",
        attributes: [
            "messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.partition.id",
            "error.type",
        ] + place + server,
        boundaries: durationBoundaries)
    /// Time of one delivery's processing, equal to its process span.
    public static let processDuration = Metric(
        "messaging.process.duration", .histogram, unit: "s", "Duration of processing operation.",
        attributes: ["messaging.system", "messaging.operation.name", "messaging.destination.partition.id", "error.type"]
            + place + server,
        boundaries: durationBoundaries)
    /// Records that were attempted to be sent.
    public static let sentMessages = Metric(
        "messaging.client.sent.messages", .counter, unit: "{message}",
        "Number of messages producer attempted to send to the broker.",
        attributes: [
            "messaging.system", "messaging.operation.name", "messaging.destination.name", "messaging.destination.partition.id",
            "error.type",
        ] + server)
    /// Records that polls brought.
    public static let consumedMessages = Metric(
        "messaging.client.consumed.messages", .counter, unit: "{message}",
        "Number of messages that were delivered to the application.",
        attributes: ["messaging.system", "messaging.operation.name", "messaging.destination.partition.id", "error.type"]
            + place + server)

    // MARK: Events

    /// One for each process span, whatever became of the delivery.
    public static let deliveries = Metric(
        "triage.deliveries", .counter, unit: "{delivery}", "Deliveries handled, by what became of them.",
        attributes: ["triage.outcome"] + place)
    /// Final outcomes only: the error rate is dead_lettered ÷ all.
    public static let eventsProcessed = Metric(
        "triage.events.processed", .counter, unit: "{event}", "Events that reached a final outcome: completed or dead_lettered.",
        attributes: ["triage.outcome"] + place)
    /// From the first produce to the final outcome, all waits included.
    public static let endToEndDuration = Metric(
        "triage.event.end_to_end.duration", .histogram, unit: "s", "Time from an event's first produce to its final outcome.",
        attributes: ["triage.outcome"] + place, boundaries: waitBoundaries)
    /// Deliveries of an event that was completed before.
    public static let duplicates = Metric(
        "triage.duplicates", .counter, unit: "{record}", "Records voided because another copy of the event counts.",
        attributes: place)
    /// Events that were completed before and came again: skipped, where a dedupe window is configured.
    public static let eventsDeduplicated = Metric(
        "triage.events.deduplicated", .counter, unit: "{event}",
        "Events skipped since an event with the same id was completed before.",
        attributes: place)
    /// Events with a version older than one already handled.
    public static let stale = Metric(
        "triage.stale", .counter, unit: "{event}", "Events whose version is older than one already handled.", attributes: place)
    /// Events that came in by webhook, change data capture, command or library call.
    public static let eventsCaptured = Metric(
        "triage.events.captured", .counter, unit: "{event}", "Events taken in from outside, by source and result.",
        attributes: ["triage.capture.source", "triage.capture.result", "messaging.destination.name"])
    /// Numbers of a subscription's events that were missing for longer than a passing disorder lasts.
    public static let eventNumberGaps = Metric(
        "triage.event_number.gaps", .counter, unit: "{event}", "Events of a subscription whose numbers never came.")

    // MARK: Retries

    /// Retry records written after a failure; parking doesn't count.
    public static let retries = Metric(
        "triage.retries", .counter, unit: "{retry}", "Retries decided on, by strategy and error class.",
        attributes: ["triage.retry.strategy", "triage.error.class"] + place)
    /// How long a record waited in the retry topic.
    public static let retryWaitDuration = Metric(
        "triage.retry.wait.duration", .histogram, unit: "s", "Time that a record spent waiting in the retry topic.",
        attributes: ["triage.wait.reason"] + place, boundaries: waitBoundaries)
    /// How much later than due a retry began.
    public static let retryLateness = Metric(
        "triage.retry.lateness", .histogram, unit: "s", "Time by which a retry was handled later than it was due.",
        attributes: place, boundaries: waitBoundaries)
    /// Records in retry partitions that are not yet handled.
    public static let retryWaiting = Metric(
        "triage.retry.waiting", .upDownCounter, unit: "{record}", "Retry records waiting to be handled.",
        attributes: ["triage.wait.reason"] + place)
    /// Age of the oldest of them, since it was written.
    public static let retryOldestAge = Metric(
        "triage.retry.oldest.age", .gauge, unit: "s", "Age of the oldest waiting retry record.", attributes: place)

    // MARK: Dead letters

    /// Dead letters written. The fingerprint has at most 50 values and `_other`: ``DeadLetterCounter``.
    public static let deadLetters = Metric(
        "triage.dead_letters", .counter, unit: "{record}", "Dead letters written, by error class and fingerprint.",
        attributes: ["triage.error.class", "triage.error.fingerprint"] + place)
    /// Dead letters whose event was too large for the topic: they say where it stands.
    public static let deadLetterPointers = Metric(
        "triage.dead_letter.pointers", .counter, unit: "{record}",
        "Dead letters without their event's bytes, which were refused as too large.", attributes: place)
    /// Dead letters that nobody has replayed or discarded, by the topic `triage.dead-letters`; each instance reports the partitions it
    /// owns, so sum() is right.
    public static let deadLetterSize = Metric(
        "triage.dead_letter.size", .upDownCounter, unit: "{record}",
        "Open dead letters: those that nobody has replayed or discarded.", attributes: place)
    /// Age of the oldest open dead letter.
    public static let deadLetterOldestAge = Metric(
        "triage.dead_letter.oldest.age", .gauge, unit: "s", "Age of the oldest open dead letter.", attributes: place)

    // MARK: The consumer

    /// Records between the watermark and the partition's end. Of retry partitions, too: the destination is the partition's topic.
    public static let consumerLag = Metric(
        "triage.consumer.lag", .upDownCounter, unit: "{record}", "Records of a partition that are not yet complete.",
        attributes: ["messaging.destination.partition.id"] + place)
    /// Age of the oldest record that is not complete.
    public static let consumerLagTime = Metric(
        "triage.consumer.lag.time", .gauge, unit: "s", "Age of a partition's oldest record that is not yet complete.",
        attributes: ["messaging.destination.partition.id"] + place)
    /// Records that were delivered and are not complete; those in ``retryWaiting`` don't count.
    public static let recordsInFlight = Metric(
        "triage.records.in_flight", .upDownCounter, unit: "{record}",
        "Records delivered and not yet complete, without the retries that wait for their time.",
        attributes: place)
    /// Lanes that have a record at the handler or waiting for it; a lane is one patient's, of whatever topic.
    public static let lanes = Metric(
        "triage.lanes", .upDownCounter, unit: "{lane}", "Lanes, one for each patient, that have records in flight.",
        attributes: ["messaging.consumer.group.name"])
    /// Keys with an open retry record.
    public static let keysBlocked = Metric(
        "triage.keys.blocked", .upDownCounter, unit: "{key}", "Keys whose events wait for an earlier one's retry.",
        attributes: ["messaging.consumer.group.name"])
    /// Partitions that are not fetched from at present.
    public static let partitionsPaused = Metric(
        "triage.partitions.paused", .upDownCounter, unit: "{partition}", "Assigned partitions that are paused.",
        attributes: place)
    /// A state metric as the conventions have it: one point for each state.
    public static let gateState = Metric(
        "triage.gate.state", .upDownCounter, unit: "1", "1 for the state that the outage gate is in, 0 for the others.",
        attributes: ["triage.gate.state"] + place)
    /// A state metric as the conventions have it: one point for each state.
    public static let stormState = Metric(
        "triage.storm.state", .upDownCounter, unit: "1", "1 for the state that the storm breaker is in, 0 for the others.",
        attributes: ["triage.storm.state", "messaging.consumer.group.name"])
    /// Commits of offsets.
    public static let commits = Metric(
        "triage.commits", .counter, unit: "{commit}", "Offset commits; those with an error type failed.",
        attributes: ["error.type"] + place)
    /// Changes of the assignment.
    public static let rebalances = Metric(
        "triage.rebalances", .counter, unit: "{rebalance}", "Changes of the partition assignment.",
        attributes: ["triage.rebalance.type", "messaging.consumer.group.name"])
    /// Handlers that went on after their time-out.
    public static let handlerOverruns = Metric(
        "triage.handler.overruns", .counter, unit: "{attempt}", "Attempts whose handler went on after its time-out.",
        attributes: place)

    /// Producers that failed for good and were replaced.
    public static let producerRestarts = Metric(
        "triage.producer.restarts", .counter, unit: "{restart}",
        "Kafka producers replaced after a fatal error, by that error.", attributes: ["error.type"])

    // MARK: HTTP conventions

    /// Time of one request that was answered.
    public static let httpServerRequestDuration = Metric(
        "http.server.request.duration", .histogram, unit: "s", "Duration of HTTP server requests.",
        attributes: [
            "http.request.method", "url.scheme", "http.response.status_code", "http.route", "error.type",
            "network.protocol.version",
        ] + server,
        boundaries: durationBoundaries)
    /// Time of one request that was sent.
    public static let httpClientRequestDuration = Metric(
        "http.client.request.duration", .histogram, unit: "s", "Duration of HTTP client requests.",
        attributes: ["http.request.method", "http.response.status_code", "error.type", "network.protocol.version"] + server,
        boundaries: durationBoundaries)

    // MARK: The SDK's own

    /// Spans begun, sampled or not.
    public static let sdkSpanStarted = Metric(
        "otel.sdk.span.started", .counter, unit: "{span}", "The number of created spans.",
        attributes: ["otel.span.parent.origin", "otel.span.sampling_result"])
    /// Recorded spans that have not ended.
    public static let sdkSpanLive = Metric(
        "otel.sdk.span.live", .upDownCounter, unit: "{span}",
        "The number of created spans with recording=true for which the end operation has not been called yet.",
        attributes: ["otel.span.sampling_result"])
    /// Recorded spans that are over without being exported, mostly since the sampler refused them and nothing failed.
    public static let spanUnsampled = Metric(
        "triage.span.unsampled", .counter, unit: "{span}",
        "Recorded spans that nobody exports: nothing failed, the rate limit refused, the buffer was full, or nothing happened.",
        attributes: ["triage.unsampled.reason"])
    /// Traces exported though the sampler had refused them.
    public static let failureTraceFlagged = Metric(
        "triage.failure_trace.flagged", .counter, unit: "{trace}",
        "Traces that the sampler refused and that were exported since a step of theirs failed.")
    /// Traces not exported, or not whole.
    public static let failureTraceDropped = Metric(
        "triage.failure_trace.dropped", .counter, unit: "{trace}",
        "Failed traces that the rate limit refused (rate_limit), or that were exported without all their spans (evicted).",
        attributes: ["triage.failure_trace.drop.reason"])
    /// Memory of the spans that wait for their trace to fail or end.
    public static let failureTraceBufferSize = Metric(
        "triage.failure_trace.buffer.size", .upDownCounter, unit: "By",
        "Estimated size of the ended spans that wait to see whether their trace fails.")
    /// Spans that wait for their trace to fail or end.
    public static let failureTraceBufferSpans = Metric(
        "triage.failure_trace.buffer.spans", .upDownCounter, unit: "{span}",
        "Ended spans that wait to see whether their trace fails.")
    /// Spans waiting in the queue.
    public static let sdkProcessorSpanQueueSize = Metric(
        "otel.sdk.processor.span.queue.size", .upDownCounter, unit: "{span}",
        "The number of spans in the queue of a given instance of an SDK span processor.", attributes: component)
    /// Spans that fit into the queue.
    public static let sdkProcessorSpanQueueCapacity = Metric(
        "otel.sdk.processor.span.queue.capacity", .upDownCounter, unit: "{span}",
        "The maximum number of spans the queue of a given instance of an SDK span processor can hold.", attributes: component)
    /// Spans handed to the exporter, or dropped with an error type.
    public static let sdkProcessorSpanProcessed = Metric(
        "otel.sdk.processor.span.processed", .counter, unit: "{span}",
        "The number of spans for which the processing has finished, either successful or failed.",
        attributes: component + ["error.type"])
    /// Spans exported, or failed with an error type.
    public static let sdkExporterSpanExported = Metric(
        "otel.sdk.exporter.span.exported", .counter, unit: "{span}",
        "The number of spans for which the export has finished, either successful or failed.",
        attributes: component + server + ["error.type"])
    /// Spans in an export that goes on, its retries included.
    public static let sdkExporterSpanInflight = Metric(
        "otel.sdk.exporter.span.inflight", .upDownCounter, unit: "{span}",
        "The number of spans which were passed to the exporter, but that have not been exported yet.",
        attributes: component + server)
    /// Metric points exported, or failed with an error type.
    public static let sdkExporterMetricDataPointExported = Metric(
        "otel.sdk.exporter.metric_data_point.exported", .counter, unit: "{data_point}",
        "The number of metric data points for which the export has finished, either successful or failed.",
        attributes: component + server + ["error.type"])

    /// Metric points in an export that goes on, its retries included.
    public static let sdkExporterMetricDataPointInflight = Metric(
        "otel.sdk.exporter.metric_data_point.inflight", .upDownCounter, unit: "{data_point}",
        "The number of metric data points which were passed to the exporter, but that have not been exported yet.",
        attributes: component + server)
    /// Time of one export, all its tries and waits included. The conventions give it no boundaries: sum and count only.
    public static let sdkExporterOperationDuration = Metric(
        "otel.sdk.exporter.operation.duration", .histogram, unit: "s",
        "The duration of exporting a batch of telemetry records.",
        attributes: component + server + ["error.type", "http.response.status_code"])
    /// Time of collecting all metrics once. No boundaries, as above.
    public static let sdkMetricReaderCollectionDuration = Metric(
        "otel.sdk.metric_reader.collection.duration", .histogram, unit: "s",
        "The duration of the collect operation of the metric reader.", attributes: component + ["error.type"])
    /// The queue is bounded in bytes, for which the conventions have no metric.
    public static let spanQueueUsage = Metric(
        "triage.span_queue.usage", .upDownCounter, unit: "By", "Encoded bytes of the spans that wait for export.")
    /// The bound itself, so that the share in use can be drawn.
    public static let spanQueueLimit = Metric(
        "triage.span_queue.limit", .upDownCounter, unit: "By", "Encoded bytes that may wait for export.")
    /// Log records emitted.
    public static let sdkLogCreated = Metric(
        "otel.sdk.log.created", .counter, unit: "{log_record}",
        "The number of logs submitted to enabled SDK Loggers.")
    /// Log records waiting in the queue.
    public static let sdkProcessorLogQueueSize = Metric(
        "otel.sdk.processor.log.queue.size", .upDownCounter, unit: "{log_record}",
        "The number of log records in the queue of a given instance of an SDK log processor.", attributes: component)
    /// Log records that fit into the queue.
    public static let sdkProcessorLogQueueCapacity = Metric(
        "otel.sdk.processor.log.queue.capacity", .upDownCounter, unit: "{log_record}",
        "The maximum number of log records the queue of a given instance of an SDK log processor can hold.",
        attributes: component)
    /// Log records handed to the exporter, or dropped with an error type.
    public static let sdkProcessorLogProcessed = Metric(
        "otel.sdk.processor.log.processed", .counter, unit: "{log_record}",
        "The number of log records for which the processing has finished, either successful or failed.",
        attributes: component + ["error.type"])
    /// Log records exported, or failed with an error type.
    public static let sdkExporterLogExported = Metric(
        "otel.sdk.exporter.log.exported", .counter, unit: "{log_record}",
        "The number of log records for which the export has finished, either successful or failed.",
        attributes: component + server + ["error.type"])
    /// Log records in an export that goes on, its retries included.
    public static let sdkExporterLogInflight = Metric(
        "otel.sdk.exporter.log.inflight", .upDownCounter, unit: "{log_record}",
        "The number of log records which were passed to the exporter, but that have not been exported yet.",
        attributes: component + server)
    /// Parts of log records that the privacy rules kept from leaving: `body` or `attribute`.
    public static let logWithheld = Metric(
        "triage.log.withheld", .counter, unit: "{part}",
        "Texts and metadata of log lines that were not exported because they may hold anything.", attributes: ["triage.log.part"])

    // MARK: The bridges

    /// What the bridges to swift-distributed-tracing and swift-metrics kept back, as it might hold patient data.
    public static let bridgeRefusals = Metric(
        "triage.bridge.refusals", .counter, unit: "{refusal}",
        "Names, attributes and texts that the bridges to swift-metrics and swift-distributed-tracing kept back.",
        attributes: ["triage.bridge.item"])

    // MARK: The process

    /// CPU time by mode, user or system.
    public static let processCPUTime = Metric(
        "process.cpu.time", .counter, unit: "s", "Total CPU seconds broken down by different CPU modes.",
        attributes: ["cpu.mode"])
    /// Resident memory.
    public static let processMemoryUsage = Metric(
        "process.memory.usage", .upDownCounter, unit: "By", "The amount of physical memory in use.")
    /// Open descriptors.
    public static let processFileDescriptorCount = Metric(
        "process.unix.file_descriptor.count", .upDownCounter, unit: "{file_descriptor}",
        "Number of unix file descriptors in use by the process.")
    /// Threads.
    public static let processThreadCount = Metric(
        "process.thread.count", .upDownCounter, unit: "{thread}", "Process threads count.")
    /// Time since the process began.
    public static let processUptime = Metric("process.uptime", .gauge, unit: "s", "The time the process has been running.")

    /// Every metric there is, in the order in which they are exported.
    public static let all: [Metric] = [
        clientOperationDuration, processDuration, sentMessages, consumedMessages,
        deliveries, eventsProcessed, endToEndDuration, duplicates, eventsDeduplicated, stale, eventsCaptured, eventNumberGaps,
        retries, retryWaitDuration, retryLateness, retryWaiting, retryOldestAge,
        deadLetters, deadLetterPointers, deadLetterSize, deadLetterOldestAge,
        consumerLag, consumerLagTime, recordsInFlight, lanes, keysBlocked, partitionsPaused, gateState, stormState,
        commits, rebalances, handlerOverruns, producerRestarts,
        httpServerRequestDuration, httpClientRequestDuration,
        sdkSpanStarted, sdkSpanLive, spanUnsampled, failureTraceFlagged, failureTraceDropped, failureTraceBufferSize,
        failureTraceBufferSpans, sdkProcessorSpanQueueSize, sdkProcessorSpanQueueCapacity, sdkProcessorSpanProcessed,
        sdkExporterSpanExported, sdkExporterSpanInflight, sdkExporterMetricDataPointExported,
        sdkLogCreated, sdkProcessorLogQueueSize, sdkProcessorLogQueueCapacity, sdkProcessorLogProcessed,
        sdkExporterLogExported, sdkExporterLogInflight, logWithheld,
        bridgeRefusals,
        sdkExporterMetricDataPointInflight, sdkExporterOperationDuration,
        sdkMetricReaderCollectionDuration, spanQueueUsage, spanQueueLimit,
        processCPUTime, processMemoryUsage, processFileDescriptorCount, processThreadCount, processUptime,
    ]

    /// Each metric's place in ``all``, by name.
    static let order = Dictionary(uniqueKeysWithValues: all.enumerated().map { ($1.name, $0) })
}

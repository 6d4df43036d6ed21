internal import Logging
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
internal import TriageTelemetry

/// Where all that a service takes in leaves for Kafka: one producer, whose batches webhooks, commands and change data share.
final class CaptureOutlet: Sendable {
    /// The only way to the producer.
    let sink: TracedSink
    /// Publishes captured events through it.
    let capture: CaptureSink

    /// A producer that connects in the background.
    ///
    /// Up to 128 MiB of records wait for the brokers (`queue.buffering.max.kbytes`, unless `-X` sets that).
    /// Records wait at most 1 ms (`linger.ms`, unless `-X` sets that) for others to share a batch with.
    ///
    /// - Parameter timeout: how long the brokers may take to acknowledge a record before it counts as lost, so that whoever waits for
    ///   it gets an answer and can send again: `message.timeout.ms`, unless `-X` sets that.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    init(
        _ kafka: KafkaConfiguration, timeout: Duration, pattern: TopicPattern, format: EventFormat, telemetry: Telemetry,
        logger: Logger
    ) throws(KafkaConfigurationError) {
        var kafka = kafka
        let names = ["message.timeout.ms", "delivery.timeout.ms"]
        if !names.contains(where: { kafka.additional[$0] != nil }) {
            kafka.additional["message.timeout.ms"] = "\(max(1, timeout.components.seconds * 1000))"
        }
        // librdkafka waits 5 ms for more of a batch, which is what a request then takes: one that brings a webhook after the other gets
        // 150 a second through. Requests that come together still share batches.
        if !["linger.ms", "queue.buffering.max.ms"].contains(where: { kafka.additional[$0] != nil }) {
            kafka.additional["linger.ms"] = "1"
        }
        // A request is answered when its events are acknowledged, and 503 when there is no room: librdkafka's 1 GiB would only be memory.
        if kafka.additional["queue.buffering.max.kbytes"] == nil { kafka.additional["queue.buffering.max.kbytes"] = "131072" }
        sink = TracedSink(
            producer: try telemetry.producer(kafka, splitsBatches: true, log: logger.kafkaLog), tracer: telemetry.tracer,
            meter: telemetry.meter, clientID: kafka.clientID)
        capture = CaptureSink(sink, tracer: telemetry.tracer, meter: telemetry.meter, pattern: pattern, format: format)
    }

    /// The same as a configuration says.
    convenience init(
        _ configuration: Configuration, timeout: Duration, telemetry: Telemetry, logger: Logger
    ) throws(KafkaConfigurationError) {
        try self.init(
            configuration.kafka, timeout: timeout, pattern: configuration.capture.pattern,
            format: configuration.capture.format, telemetry: telemetry, logger: logger)
    }

    /// Waits for what was handed over, at most `timeout`, and ends the producer.
    func close(within timeout: Duration) async {
        _ = await sink.flush(timeout: timeout)
        sink.close()
    }
}

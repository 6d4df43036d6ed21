internal import TriageEvents
internal import TriageKafka
internal import TriageTelemetry

extension Telemetry {
    /// A producer that outlives fatal errors of its client, each of which counts.
    ///
    /// - Parameter splitsBatches: as ``RestartingProducer`` has it; for retry records and dead letters, whose place is of no matter.
    func producer(
        _ kafka: KafkaConfiguration, splitsBatches: Bool = false, log: KafkaLog?
    ) throws(KafkaConfigurationError) -> RestartingProducer {
        let meter = meter
        return try RestartingProducer(kafka, splitsBatches: splitsBatches, log: log) { error in
            meter.counter(Metric.producerRestarts, MetricAttributes([("error.type", SafeText(vetted: error.name))])).add(1)
        }
    }
}

internal import TriageEvents
internal import TriageKafka
internal import TriageTelemetry

extension Telemetry {
    /// A producer that outlives fatal errors of its client, each of which counts.
    func producer(_ kafka: KafkaConfiguration, log: KafkaLog?) throws(KafkaConfigurationError) -> RestartingProducer {
        let meter = meter
        return try RestartingProducer(kafka, log: log) { error in
            meter.counter(Metric.producerRestarts, MetricAttributes([("error.type", SafeText(vetted: error.name))])).add(1)
        }
    }
}

import Glibc
import TriageEvents
import TriageOTLP
import TriageTelemetry

extension Benchmarks {
    /// A scrape of 2,000 series, each a set of attributes of some metric, collected and written with the scope's labels, and
    /// compressed if so asked. A quarter are histograms: with their buckets there are 10,000 lines.
    static func scrape(_ format: ExpositionFormat, gzip: Bool = false) -> (Int) -> Void {
        let meter = Meter()
        let kinds: [(Metric, Int)] = [
            (.deliveries, 500), (.retries, 500), (.consumerLag, 500), (.processDuration, 500),
        ]
        for (metric, count) in kinds {
            for number in 0..<count {
                let attributes = attributes(of: metric, number)
                switch metric.instrument {
                case .counter: meter.counter(metric, attributes).add(Int64(number))
                case .upDownCounter: meter.upDownCounter(metric, attributes).add(Int64(number))
                case .gauge: meter.gauge(metric, attributes).set(Double(number) * 0.1)
                case .histogram: meter.histogram(metric, attributes).record(Double(number) * 0.01)
                }
            }
        }
        let writer = PrometheusText(
            resource: [("service.name", "triage")],
            scope: [
                ("otel.scope.name", "triage"), ("otel.scope.schema_url", "https://opentelemetry.io/schemas/1.44.0"),
                ("otel.scope.version", "0.1.0"),
            ])
        let clock = SystemClock()
        return { count in
            for _ in 0..<count {
                let text = writer.write(meter.collect(at: clock.now()), as: format)
                guard gzip else { continue }
                guard GzipCompressor().compress(text) != nil else { exit(1) }
            }
        }
    }

    private static func attributes(of metric: Metric, _ number: Int) -> MetricAttributes {
        let keys: [StaticString] = [
            "messaging.destination.name", "messaging.consumer.group.name", "messaging.destination.partition.id",
        ]
        let allowed = keys.filter { metric.attributes.contains($0.description) }
        return MetricAttributes(allowed.map { ($0, "\(number)") })
    }
}

internal import TriageEvents
internal import TriageTelemetry

/// The consumer's own metrics: gauges that the loop sets twice a second, commits and rebalances.
struct EngineGauges {
    /// An up-down counter that is set to a value: it adds the difference to the last one.
    private struct Level {
        let counter: UpDownCounter
        var last: Int64 = 0

        mutating func set(_ value: Int) {
            counter.add(Int64(value) - last)
            last = Int64(value)
        }
    }
    private let meter: Meter
    private let group: SafeText
    private var inFlight: Level
    private var waiting: Level
    private var paused: Level
    private let oldest: Gauge
    private let committed: Counter

    init(meter: Meter, group: String) {
        self.meter = meter
        self.group = SafeText(vetted: group)
        let attributes: MetricAttributes = ["messaging.consumer.group.name": self.group]
        inFlight = Level(counter: meter.upDownCounter(Metric.recordsInFlight, attributes))
        waiting = Level(counter: meter.upDownCounter(Metric.retryWaiting, attributes))
        paused = Level(counter: meter.upDownCounter(Metric.partitionsPaused, attributes))
        oldest = meter.gauge(Metric.retryOldestAge, attributes)
        committed = meter.counter(Metric.commits, attributes)
    }

    func commits(_ error: BrokerError?) -> Counter {
        guard let error else { return committed }
        return meter.counter(
            Metric.commits, ["messaging.consumer.group.name": group, "error.type": SafeText(vetted: error.name)]
        )
    }

    enum Rebalance: String, CaseIterable { case assigned, revoked, lost }

    func rebalances(_ type: Rebalance) -> Counter {
        meter.counter(
            Metric.rebalances, ["messaging.consumer.group.name": group, "triage.rebalance.type": SafeText(type)]
        )
    }

    mutating func set(inFlight count: Int, waiting: Int, paused: Int, oldest age: Duration?) {
        inFlight.set(count)
        self.waiting.set(waiting)
        self.paused.set(paused)
        oldest.set(age?.inSeconds ?? 0)
    }
}

internal import TriageEvents
internal import TriageTelemetry

/// The consumer's own counters and durations: polls, commits, rebalances. Levels are in ``PipelineReadings``.
struct EngineGauges {
    enum Rebalance: String, CaseIterable { case assigned, revoked, lost }

    private let meter: Meter
    private let group: SafeText
    private let committed: Counter
    private let commitDuration: Histogram
    private let rebalanced: [Rebalance: Counter]
    /// By topic; nil for polls that brought records of several.
    private var pollDurations: [String?: Histogram] = [:]

    init(meter: Meter, group: String) {
        let group = SafeText(vetted: group)
        self.meter = meter
        self.group = group
        committed = meter.counter(Metric.commits, ["messaging.consumer.group.name": group])
        commitDuration = EngineGauges.duration("commit", "settle", nil, nil, meter, group)
        // All types that there can be, so that each counter starts at 0 and its first increase shows.
        rebalanced = Dictionary(
            uniqueKeysWithValues: Rebalance.allCases.map { type in
                (
                    type,
                    meter.counter(
                        Metric.rebalances, ["messaging.consumer.group.name": group, "triage.rebalance.type": SafeText(type)])
                )
            })
    }

    func rebalanced(_ type: Rebalance) { rebalanced[type]?.add(1) }

    /// A commit was answered.
    func committed(_ error: BrokerError?, from start: Timestamp, to end: Timestamp) {
        guard let error else {
            committed.add(1)
            commitDuration.record(from: start, to: end)
            return
        }
        let type = SafeText(vetted: error.name)
        meter.counter(Metric.commits, ["messaging.consumer.group.name": group, "error.type": type]).add(1)
        EngineGauges.duration("commit", "settle", nil, type, meter, group).record(from: start, to: end)
    }

    /// A poll brought records. Empty ones aren't recorded, as they are no spans: they took as long as they were told to wait.
    ///
    /// - Parameter topic: nil if they came from several.
    mutating func polled(_ topic: String?, from start: Timestamp, to end: Timestamp) {
        if let known = pollDurations[topic] {
            known.record(from: start, to: end)
            return
        }
        let made = EngineGauges.duration("poll", "receive", topic.map { SafeText(vetted: $0) }, nil, meter, group)
        pollDurations[topic] = made
        made.record(from: start, to: end)
    }

    private static func duration(
        _ operation: SafeText, _ type: SafeText, _ topic: SafeText?, _ error: SafeText?, _ meter: Meter, _ group: SafeText
    ) -> Histogram {
        var attributes: [(StaticString, SafeText)] = [
            ("messaging.system", "kafka"), ("messaging.operation.name", operation), ("messaging.operation.type", type),
            ("messaging.consumer.group.name", group),
        ]
        if let topic { attributes.append(("messaging.destination.name", topic)) }
        if let error { attributes.append(("error.type", error)) }
        return meter.histogram(Metric.clientOperationDuration, MetricAttributes(attributes))
    }
}

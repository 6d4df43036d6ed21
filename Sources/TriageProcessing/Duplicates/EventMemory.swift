internal import TriageEvents
internal import TriageTelemetry

/// What the engine remembers of events that were completed: to tell duplicates and stale versions. Confined to the loop's thread.
final class EventMemory {
    @exclusivity(unchecked) private var window: DuplicateWindow?
    @exclusivity(unchecked) private var versions = VersionTable()
    private let seed: UInt64
    /// The topics of origins, by number.
    private var topics: [String]
    private let meter: Meter
    private let group: SafeText
    private var stale: [String: Counter] = [:]
    private var deduplicated: [String: Counter] = [:]

    /// - Parameters:
    ///   - duplicates: events that are remembered to tell duplicates; 0 for none.
    ///   - topics: the main topics, whose counters start at 0.
    init(duplicates: Int, topics: [String], group: String, meter: Meter, seed: UInt64) {
        window = duplicates > 0 ? DuplicateWindow(capacity: duplicates) : nil
        self.seed = seed
        self.topics = topics
        self.meter = meter
        self.group = SafeText(vetted: group)
        for topic in topics {
            stale[topic] = counter(.stale, topic)
            deduplicated[topic] = counter(.eventsDeduplicated, topic)
        }
    }

    private func counter(_ metric: Metric, _ topic: String) -> Counter {
        meter.counter(
            metric, ["messaging.destination.name": SafeText(vetted: topic), "messaging.consumer.group.name": group])
    }

    /// The event's first completion, and where that came from, if it was completed before. A record that was replayed on purpose
    /// is no duplicate.
    @inline(__always)
    func completion(of event: PatientEvent, in delivery: Delivery) -> (origin: String, span: TraceContext)? {
        window == nil ? nil : known(event, delivery.record)
    }

    private func known(_ event: PatientEvent, _ record: Record) -> (origin: String, span: TraceContext)? {
        guard let identity = EventIdentity(event, seed: seed), let first = window?.completion(of: identity),
            record.headers.last(HeaderName.replay) == nil
        else { return nil }
        let topic = topics.indices.contains(Int(first.origin.topic)) ? topics[Int(first.origin.topic)] : ""
        return ("\(topic)/\(first.origin.partition)/\(first.origin.offset)", first.span)
    }

    /// Whether a higher version of the patient was handled before; counted if so.
    @inline(__always)
    func isStale(_ version: UInt64?, lane: LaneKey, in partition: PartitionState) -> Bool {
        guard let version, versions.isStale(version, of: lane) else { return false }
        countStale(partition.mainTopic)
        return true
    }

    /// A version of the patient was handled.
    @inline(__always)
    func handled(_ version: UInt64, lane: LaneKey) { versions.handled(version, of: lane) }

    private func countStale(_ topic: String) { (stale[topic] ?? counter(.stale, topic)).add(1) }

    /// An event was skipped since it had been completed before.
    func skipped(_ topic: String) { (deduplicated[topic] ?? counter(.eventsDeduplicated, topic)).add(1) }

    /// The event was completed in `span`.
    @inline(__always)
    func completed(_ event: PatientEvent, of delivery: Delivery, in span: @autoclosure () -> TraceContext) {
        if window != nil { remember(event, delivery.knownHistory?.origin ?? delivery.record.position, span()) }
    }

    private func remember(_ event: PatientEvent, _ origin: RecordPosition, _ span: TraceContext) {
        guard let identity = EventIdentity(event, seed: seed) else { return }
        let number = topics.firstIndex(of: origin.topic) ?? topics.count
        if number == topics.count, number < Int16.max { topics.append(origin.topic) }
        window?.completed(
            identity,
            DuplicateWindow.Completion(
                origin: DuplicateWindow.Origin(
                    topic: Int16(clamping: number), partition: origin.partition, offset: origin.offset),
                span: span
            )
        )
    }
}

extension Engine {
    /// Ends a delivery whose event was completed before: nothing is handled, its offset is complete.
    func skip(
        _ delivery: Delivery, step: ProcessStep, first: (origin: String, span: TraceContext), lane: LaneKey,
        at start: Timestamp
    ) {
        step.duplicates(first.span, origin: SafeText(vetted: first.origin))
        counts.deduplicated += 1
        memory.skipped(delivery.partition.mainTopic)
        endSkipped(delivery, step: step, lane: lane, at: start)
    }

    /// Ends a delivery that tells of nothing to handle, such as a tombstone among change data: its offset is complete.
    func passOver(_ delivery: Delivery, _ nothing: InvalidEvent, step: ProcessStep, lane: LaneKey, at start: Timestamp) {
        step.passedOver(SafeText(vetted: nothing.path))
        counts.skipped += 1
        let topic = delivery.partition.mainTopic
        if configuration.roles.role(of: topic) == .changeData {
            meter.counter(
                Metric.eventsCaptured,
                [
                    "triage.capture.source": "change_data", "triage.capture.result": "skipped",
                    "messaging.destination.name": SafeText(vetted: topic),
                ]
            ).add(1)
        }
        endSkipped(delivery, step: step, lane: lane, at: start)
    }

    private func endSkipped(_ delivery: Delivery, step: ProcessStep, lane: LaneKey, at start: Timestamp) {
        let partition = delivery.partition
        let context = step.context
        let isTelling = hasOutcome(delivery) && tells(.completed, of: delivery, step: step)
        let now = clock.now()
        step.end(.skipped, tracer: tracer, at: now)
        partition.metrics.processDuration.record(now.seconds(since: start), in: context, at: now)
        partition.metrics.deliveries(.skipped).add(1)
        if delivery === probe { probeSaidNothing(at: now) }
        if delivery.open != nil { closeRetry(delivery, now) }
        if isTelling { lanes.finished(lane) } else { settle(delivery, lane: lane) }
    }
}

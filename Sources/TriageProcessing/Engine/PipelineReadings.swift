internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// How many retry records wait, by reason.
struct WaitCounts: Sendable, Equatable {
    private var backoff = 0
    private var scheduled = 0
    private var parked = 0
    private var outage = 0

    var total: Int { backoff + scheduled + parked + outage }

    subscript(reason: WaitReason) -> Int {
        get {
            switch reason {
            case .backoff: backoff
            case .scheduled: scheduled
            case .parked: parked
            case .outage: outage
            }
        }
        set {
            switch reason {
            case .backoff: backoff = newValue
            case .scheduled: scheduled = newValue
            case .parked: parked = newValue
            case .outage: outage = newValue
            }
        }
    }
}

/// What the loop last published about its partitions, read by the meter at each collection: the hot path records none of it.
///
/// The meter keeps it, so it must not keep the engine.
final class PipelineReadings: Sendable {
    struct Partition: Sendable {
        let id: TopicPartition
        let mainTopic: String
        let isRetry: Bool
        /// The next offset that isn't complete.
        let watermark: Int64?
        /// The offset behind the last record, as far as the client knows.
        let end: Int64?
        /// When the first record that was delivered and isn't complete was written.
        let oldest: Timestamp?
        let incomplete: Int
        let inFlight: Int
        let waiting: WaitCounts
        let isPaused: Bool
    }

    private struct State {
        var partitions: [Partition] = []
        var lanes = 0
        var blocked = 0
        /// Ends that a broker was asked for, since those of paused partitions stay what they were.
        var asked: [TopicPartition: Int64] = [:]
        var gate = OutageGate.State.open
    }
    private let state = Mutex(State())
    private let topics: [String]
    private let group: SafeText
    private let clock: any EventClock

    /// Registers what is observed; `topics` are the main topics, whose levels are shown as 0 before anything is assigned.
    init(meter: Meter, group: String, topics: [String], clock: any EventClock) {
        self.group = SafeText(vetted: group)
        self.topics = topics
        self.clock = clock
        meter.observe(.recordsInFlight) { self.levels { $0.inFlight } }
        meter.observe(.lanes) {
            [(["messaging.consumer.group.name": self.group], .int(Int64(self.state.withLock(\.lanes))))]
        }
        meter.observe(.keysBlocked) {
            [(["messaging.consumer.group.name": self.group], .int(Int64(self.state.withLock(\.blocked))))]
        }
        meter.observe(.partitionsPaused) { self.levels { $0.isPaused ? 1 : 0 } }
        meter.observe(.retryWaiting) {
            WaitReason.allCases.flatMap { reason in
                self.levels([("triage.wait.reason", SafeText(reason))]) { $0.waiting[reason] }
            }
        }
        meter.observe(.retryOldestAge) { self.retryAges() }
        meter.observe(.consumerLag) { self.lags() }
        meter.observe(.consumerLagTime) { self.lagTimes() }
        meter.observe(.gateState) { self.gateStates() }
    }

    func publish(_ partitions: [Partition], lanes: Int, blocked: Int, gate: OutageGate.State) {
        state.withLock { state in
            state.partitions = partitions
            state.lanes = lanes
            state.blocked = blocked
            state.gate = gate
            if !state.asked.isEmpty {
                let assigned = Set(partitions.map(\.id))
                state.asked = state.asked.filter { assigned.contains($0.key) }
            }
        }
    }

    /// The partitions that are paused, whose ends the client doesn't learn.
    var paused: [TopicPartition] { state.withLock { $0.partitions.filter(\.isPaused).map(\.id) } }

    /// A broker said where a partition ends.
    func learned(end: Int64, of partition: TopicPartition) { state.withLock { $0.asked[partition] = end } }

    // MARK: What is observed

    private func attributes(_ topic: String, _ more: [(StaticString, SafeText)] = []) -> MetricAttributes {
        MetricAttributes(
            [("messaging.destination.name", SafeText(vetted: topic)), ("messaging.consumer.group.name", group)] + more)
    }

    /// A sum for each main topic.
    private func levels(
        _ more: [(StaticString, SafeText)] = [], _ value: (Partition) -> Int
    ) -> [(MetricAttributes, ObservedValue)] {
        var sums = Dictionary(topics.map { ($0, 0) }) { first, _ in first }
        for partition in state.withLock({ $0.partitions }) { sums[partition.mainTopic, default: 0] += value(partition) }
        return sums.map { (attributes($0.key, more), .int(Int64($0.value))) }
    }

    private func retryAges() -> [(MetricAttributes, ObservedValue)] {
        let now = clock.now()
        var ages: [String: Double] = [:]
        for partition in state.withLock({ $0.partitions }) where partition.isRetry {
            let age = partition.oldest.map { max(0, (now - $0).inSeconds) } ?? 0
            ages[partition.mainTopic] = max(age, ages[partition.mainTopic] ?? 0)
        }
        return ages.map { (attributes($0.key), .double($0.value)) }
    }

    /// Of each assigned partition whose end is known, with its own topic: a retry partition's lag isn't its main topic's.
    private func measured() -> [(partition: Partition, lag: Int64, attributes: MetricAttributes)] {
        let (partitions, asked) = state.withLock { ($0.partitions, $0.asked) }
        return partitions.compactMap { partition in
            let ends = [partition.end, asked[partition.id]].compactMap(\.self)
            guard let end = ends.max(), let watermark = partition.watermark else { return nil }
            let number = SafeText("\(partition.id.partition)")
            return (
                partition, max(0, end - watermark),
                attributes(partition.id.topic, [("messaging.destination.partition.id", number)])
            )
        }
    }

    private func lags() -> [(MetricAttributes, ObservedValue)] { measured().map { ($0.attributes, .int($0.lag)) } }

    /// What lies unread behind the watermark has an age that nobody knows yet: no point then.
    private func lagTimes() -> [(MetricAttributes, ObservedValue)] {
        let now = clock.now()
        return measured().compactMap { measured in
            if let oldest = measured.partition.oldest {
                return (measured.attributes, .double(max(0, (now - oldest).inSeconds)))
            }
            return measured.lag == 0 && measured.partition.incomplete == 0 ? (measured.attributes, .double(0)) : nil
        }
    }

    private func gateStates() -> [(MetricAttributes, ObservedValue)] {
        let present = state.withLock(\.gate)
        return OutageGate.State.allCases.map { state in
            (
                ["messaging.consumer.group.name": group, "triage.gate.state": SafeText(state)],
                .int(state == present ? 1 : 0)
            )
        }
    }
}

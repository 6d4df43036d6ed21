internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// How many dead letters stand open, and since when: `triage.dead_letter.size` and `triage.dead_letter.oldest.age`.
///
/// It counts the dead letter partitions with the numbers of the main partitions that this instance owns, so that the sum over
/// all instances is right. Nothing takes dead letters out of their topic yet, so open is what lies between the watermarks.
/// What this instance writes is known at once by its acknowledgement; what others write and what retention takes is looked
/// up now and then, on a thread that may wait.
final class DeadLetterBacklog: Sendable {
    private struct Reading {
        var offsets: Range<Int64>
        /// When the first record was written, with the offset that was looked at.
        var oldest: Timestamp?
    }
    private struct State {
        var owned: Set<TopicPartition> = []
        var readings: [TopicPartition: Reading] = [:]
        /// Ends of what was written since the last look at a partition began: it may not have seen that.
        var written: [TopicPartition: Int64] = [:]
        var isDue = false
        var isFailing = false
    }
    private let state = Mutex(State())
    private let group: SafeText
    private let clock: any EventClock

    init(meter: Meter, group: String, clock: any EventClock) {
        self.group = SafeText(vetted: group)
        self.clock = clock
        meter.observe(.deadLetterSize) {
            self.byTopic { readings in
                .int(readings.reduce(0) { $0 + Int64($1.offsets.count) })
            }
        }
        meter.observe(.deadLetterOldestAge) {
            let now = self.clock.now()
            return self.byTopic { readings in
                let open = readings.filter { !$0.offsets.isEmpty }
                let oldest = open.compactMap(\.oldest).min()
                // Of one that says no time nobody knows the age.
                guard oldest != nil || open.isEmpty else { return nil }
                return .double(oldest.map { max(0, (now - $0).inSeconds) } ?? 0)
            }
        }
    }

    /// The dead letter partitions of these main partitions are this instance's from now on; others are not any more.
    func own(_ mains: some Sequence<TopicPartition>) {
        let owned = Set(mains.map { TopicPartition(TopicName.deadLetter(of: $0.topic), $0.partition) })
        state.withLock { state in
            guard owned != state.owned else { return }
            if !owned.isSubset(of: state.owned) { state.isDue = true }
            state.owned = owned
            state.readings = state.readings.filter { owned.contains($0.key) }
            state.written = state.written.filter { owned.contains($0.key) }
        }
    }

    /// A dead letter was acknowledged at `offset`.
    func wrote(_ partition: TopicPartition, offset: Int64, at now: Timestamp) {
        state.withLock { state in
            guard state.owned.contains(partition) else { return }
            state.written[partition] = offset + 1
            guard var reading = state.readings[partition] else { return }
            if reading.offsets.isEmpty {
                reading = Reading(offsets: offset..<offset + 1, oldest: now)
            } else {
                reading.offsets = reading.offsets.lowerBound..<max(reading.offsets.upperBound, offset + 1)
            }
            state.readings[partition] = reading
        }
    }

    /// Whether partitions came that weren't looked at yet.
    var isDue: Bool { state.withLock(\.isDue) }

    /// Looks at every partition; blocks. Ends early if one can't be read, or `isCancelled` says so.
    ///
    /// - Returns: the error if the last look succeeded and this one failed, so that it is told once.
    func look(_ inspector: any PartitionInspector, timeout: Duration, isCancelled: () -> Bool) -> BrokerError? {
        let owned = state.withLock { state in
            state.isDue = false
            return state.owned.sorted()
        }
        var failure: BrokerError?
        for partition in owned where !isCancelled() {
            do throws(BrokerError) {
                try look(at: partition, inspector, timeout)
            } catch {
                failure = error
                break
            }
        }
        return state.withLock { state in
            defer { state.isFailing = failure != nil }
            guard let failure else { return nil }
            // What can't be read is unknown, and so is what lies behind it in line.
            state.readings.removeAll()
            return state.isFailing ? nil : failure
        }
    }

    private func look(at id: TopicPartition, _ inspector: any PartitionInspector, _ timeout: Duration) throws(BrokerError) {
        let known = state.withLock { state in
            state.written[id] = nil
            return state.readings[id]
        }
        let found = try inspector.watermarks(id, timeout: timeout)
        var oldest = known?.oldest
        if found.isEmpty {
            oldest = nil
        } else if oldest == nil || known?.offsets.lowerBound != found.lowerBound {
            oldest = try inspector.timestamp(in: id, from: found.lowerBound, timeout: timeout)
        }
        state.withLock { state in
            guard state.owned.contains(id) else { return }
            let end = max(found.upperBound, state.written[id] ?? 0)
            state.readings[id] = Reading(offsets: found.lowerBound..<end, oldest: oldest)
        }
    }

    /// A value for each topic of which every owned partition was read; none for the others.
    private func byTopic(_ value: ([Reading]) -> ObservedValue?) -> [(MetricAttributes, ObservedValue)] {
        let (owned, readings) = state.withLock { ($0.owned, $0.readings) }
        return Dictionary(grouping: owned, by: \.topic).compactMap { topic, partitions in
            let known = partitions.compactMap { readings[$0] }
            guard known.count == partitions.count, let value = value(known) else { return nil }
            let main = SafeText(vetted: TopicName.main(of: topic))
            return (["messaging.destination.name": main, "messaging.consumer.group.name": group], value)
        }
    }
}

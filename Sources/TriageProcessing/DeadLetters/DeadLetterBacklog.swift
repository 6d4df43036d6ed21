internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// How many dead letters stand open, and since when: `triage.dead_letter.size` and `triage.dead_letter.oldest.age`.
///
/// It counts the dead letter partitions with the numbers of the main partitions that this instance owns, so that the sum over
/// all instances is right. Open is what lies between the watermarks and wasn't replayed, completed or discarded by what
/// `triage.dead-letters` says of any group. What this instance writes is known at once by its acknowledgement; what others write
/// and what retention takes is looked up now and then, on a thread that may wait.
final class DeadLetterBacklog: Sendable {
    private struct Reading {
        var offsets: Range<Int64>
        /// The first that is open, and when it was written.
        var first: Int64?
        var oldest: Timestamp?
        /// How many of them are open.
        var open = 0
    }
    private struct State {
        var owned: Set<TopicPartition> = []
        var readings: [TopicPartition: Reading] = [:]
        /// Ends of what was written since the last look at a partition began: it may not have seen that.
        var written: [TopicPartition: Int64] = [:]
        /// What isn't open any more, of the partitions of this group's topics, whoever owns them: they may come.
        var closed: [TopicPartition: OffsetSet] = [:]
        var isDue = false
        var isFailing = false

        /// A reading of a partition with these bounds.
        func reading(_ partition: TopicPartition, _ offsets: Range<Int64>, first: Int64?, oldest: Timestamp?) -> Reading {
            let open = offsets.count - (closed[partition]?.count(in: offsets) ?? 0)
            return Reading(offsets: offsets, first: open > 0 ? first : nil, oldest: open > 0 ? oldest : nil, open: open)
        }
    }
    private let state = Mutex(State())
    private let group: SafeText
    private let topics: Set<String>
    private let clock: any EventClock

    init(meter: Meter, group: String, topics: [String], clock: any EventClock) {
        self.group = SafeText(vetted: group)
        self.topics = Set(topics.map { TopicName.deadLetter(of: $0) })
        self.clock = clock
        meter.observe(.deadLetterSize) {
            self.byTopic { readings in
                .int(readings.reduce(0) { $0 + Int64($1.open) })
            }
        }
        meter.observe(.deadLetterOldestAge) {
            let now = self.clock.now()
            return self.byTopic { readings in
                let open = readings.filter { $0.open > 0 }
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
            let isFirst = reading.open == 0
            let range =
                reading.offsets.isEmpty
                ? offset..<offset + 1 : reading.offsets.lowerBound..<max(reading.offsets.upperBound, offset + 1)
            // Of what has just been written nothing is closed.
            reading.open += range.count - reading.offsets.count
            reading.offsets = range
            if isFirst {
                reading.first = offset
                reading.oldest = now
            }
            state.readings[partition] = reading
        }
    }

    /// What became of dead letters was read.
    func learn(_ read: DeadLetterChanges) {
        guard read.startsOver || !read.changes.isEmpty else { return }
        state.withLock { state in
            var touched: Set<TopicPartition> = []
            if read.startsOver {
                touched.formUnion(state.closed.keys)
                state.closed = [:]
            }
            for change in read.changes {
                if let partition = note(change.key.position, change.state, in: &state) { touched.insert(partition) }
            }
            for partition in touched { refresh(partition, in: &state) }
        }
    }

    /// What became of a dead letter was written.
    func learn(_ letter: RecordPosition, _ known: DeadLetterState) {
        state.withLock { state in
            if let partition = note(letter, known, in: &state) { refresh(partition, in: &state) }
        }
    }

    /// - Returns: the partition if that is one of this group's topics.
    private func note(_ letter: RecordPosition, _ known: DeadLetterState?, in state: inout State) -> TopicPartition? {
        guard topics.contains(letter.topic) else { return nil }
        if known?.status.isOpen ?? true {
            state.closed[letter.topicPartition]?.remove(letter.offset)
        } else {
            state.closed[letter.topicPartition, default: OffsetSet()].insert(letter.offset)
        }
        return letter.topicPartition
    }

    /// Counts anew what is open. Since when the first one is, only a look tells; until then it is as old as the one before it.
    private func refresh(_ partition: TopicPartition, in state: inout State) {
        guard let known = state.readings[partition] else { return }
        let first = state.closed[partition].map { $0.firstMissing(in: known.offsets) } ?? known.offsets.lowerBound
        if first != known.first { state.isDue = true }
        state.readings[partition] = state.reading(partition, known.offsets, first: known.first, oldest: known.oldest)
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
        let closed = state.withLock { $0.closed[id] }
        let first = found.isEmpty ? nil : closed?.firstMissing(in: found) ?? (closed == nil ? found.lowerBound : nil)
        var oldest = known?.oldest
        if let first {
            if oldest == nil || known?.first != first { oldest = try inspector.timestamp(in: id, from: first, timeout: timeout) }
        } else {
            oldest = nil
        }
        state.withLock { state in
            guard state.owned.contains(id) else { return }
            let end = max(found.upperBound, state.written[id] ?? 0)
            state.readings[id] = state.reading(id, found.lowerBound..<end, first: first, oldest: oldest)
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

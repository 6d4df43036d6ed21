internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// How many dead letters stand open, and since when: `triage.dead_letter.size` and `triage.dead_letter.oldest.age`.
///
/// It counts the dead letter partitions with the numbers of the main partitions that this instance owns, so that the sum over
/// all instances is right. ``DeadLetterTally`` says what is open in one: what wasn't replayed, completed or discarded by what
/// `triage.dead-letters` says of any group. What this instance writes is known at once by its acknowledgement; what others write
/// and what retention takes is looked up now and then, on a thread that may wait.
final class DeadLetterBacklog: Sendable {
    /// Partitions in trouble that a look puts up with before it leaves the rest for the next one: each costs a time-out.
    static let maximumFailures = 3

    /// What a partition adds to the numbers.
    private struct Reading {
        let open: Int
        let oldest: Timestamp?
    }
    private struct State {
        var owned: Set<TopicPartition> = []
        /// Of the partitions of this group's topics, whoever owns them: they may come.
        var tallies: [TopicPartition: DeadLetterTally] = [:]
        /// The last look at which an owned partition couldn't be read; those that could be are missing.
        var failed: [TopicPartition: Int] = [:]
        /// How many looks there were.
        var looks = 0
        var isDue = false
        var isFailing = false
    }
    private let state = Mutex(State())
    private let group: String
    private let topics: Set<String>
    private let clock: any EventClock

    init(meter: Meter, group: String, topics: [String], clock: any EventClock) {
        self.group = group
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
            for partition in state.owned.subtracting(owned) { state.tallies[partition]?.release() }
            state.owned = owned
            state.failed = state.failed.filter { owned.contains($0.key) }
        }
    }

    /// A dead letter was acknowledged at `offset`.
    func wrote(_ partition: TopicPartition, offset: Int64, at now: Timestamp) {
        state.withLock { state in
            guard state.owned.contains(partition) else { return }
            state.tallies[partition, default: DeadLetterTally()].wrote(offset, at: now)
        }
    }

    /// What became of dead letters was read.
    func learn(_ read: DeadLetterChanges) {
        guard read.startsOver || !read.changes.isEmpty else { return }
        state.withLock { state in
            var touched: Set<TopicPartition> = []
            if read.startsOver {
                touched.formUnion(state.tallies.keys)
                for partition in touched { state.tallies[partition]?.reopenAll() }
            }
            for change in read.changes {
                if let partition = note(change.key.position, change.state, in: &state) { touched.insert(partition) }
            }
            for partition in touched { recount(partition, in: &state) }
        }
    }

    /// What became of a dead letter was written.
    func learn(_ letter: RecordPosition, _ known: DeadLetterState) {
        state.withLock { state in
            if let partition = note(letter, known, in: &state) { recount(partition, in: &state) }
        }
    }

    /// - Returns: the partition if that is one of this group's topics.
    private func note(_ letter: RecordPosition, _ known: DeadLetterState?, in state: inout State) -> TopicPartition? {
        guard topics.contains(letter.topic) else { return nil }
        let partition = letter.topicPartition
        if known?.status.isOpen ?? true {
            state.tallies[partition]?.reopen(letter.offset)
        } else {
            state.tallies[partition, default: DeadLetterTally()].close(letter.offset)
        }
        return partition
    }

    /// Since when the first one is, only a look tells; until then it is as old as the one before it.
    private func recount(_ partition: TopicPartition, in state: inout State) {
        state.tallies[partition]?.recount()
        if state.owned.contains(partition), state.tallies[partition]?.next != nil { state.isDue = true }
    }

    /// Whether there are partitions or records that weren't looked at yet.
    var isDue: Bool { state.withLock(\.isDue) }

    /// Looks at every partition; blocks.
    ///
    /// One that can't be read keeps its last numbers, or is left out if it has none, and goes behind the others the next time.
    ///
    /// - Parameters:
    ///   - inspector: whom to ask.
    ///   - timeout: for each question.
    ///   - isCancelled: asked between questions and records; the look ends early if it says so.
    /// - Returns: the error if the last look succeeded and this one failed, so that it is told once.
    func look(_ inspector: any PartitionInspector, timeout: Duration, isCancelled: () -> Bool) -> BrokerError? {
        let (owned, look) = state.withLock { state in
            state.isDue = false
            state.looks += 1
            let failed = state.failed
            return (state.owned.sorted { (failed[$0] ?? 0, $0) < (failed[$1] ?? 0, $1) }, state.looks)
        }
        var failures: [BrokerError] = []
        for partition in owned where failures.count < DeadLetterBacklog.maximumFailures && !isCancelled() {
            var error: BrokerError?
            do throws(BrokerError) {
                try self.look(at: partition, inspector, timeout, isCancelled)
            } catch let caught {
                error = caught
                failures.append(caught)
            }
            let hasFailed = error != nil
            state.withLock { state in
                state.failed[partition] = hasFailed && state.owned.contains(partition) ? look : nil
            }
        }
        return state.withLock { state in
            defer { state.isFailing = !failures.isEmpty }
            return state.isFailing ? nil : failures.first
        }
    }

    private func look(
        at id: TopicPartition, _ inspector: any PartitionInspector, _ timeout: Duration, _ isCancelled: () -> Bool
    ) throws(BrokerError) {
        state.withLock { $0.tallies[id, default: DeadLetterTally()].begin() }
        let found = try inspector.watermarks(id, timeout: timeout)
        state.withLock { state in
            if state.owned.contains(id) { state.tallies[id]?.found(found) }
        }
        // What is open, then when the first of it was written, should another one have become that.
        for _ in 0..<2 {
            guard let page = state.withLock({ $0.owned.contains(id) ? $0.tallies[id]?.next : nil }), !isCancelled() else { break }
            try read(page, of: id, inspector, timeout, isCancelled)
        }
        state.withLock { state in
            if state.owned.contains(id), state.tallies[id]?.next != nil { state.isDue = true }
        }
    }

    private func read(
        _ page: DeadLetterTally.Page, of id: TopicPartition, _ inspector: any PartitionInspector, _ timeout: Duration,
        _ isCancelled: () -> Bool
    ) throws(BrokerError) {
        var letters: [DeadLetterTally.Letter] = []
        var count = 0
        /// Behind the last record if more was there than was wanted.
        var stopped: Int64?
        try inspector.scan(id, page.range, timeout: timeout) { record in
            count += 1
            if DeadLetter(record).group.map({ $0 == group }) ?? true {
                letters.append(DeadLetterTally.Letter(offset: record.offset, written: record.timestamp))
            }
            if count < page.limit, !isCancelled() { return true }
            stopped = record.offset
            return false
        }
        // Behind the last record there are none: what ends a transaction has an offset, too.
        let end = min(page.range.upperBound, stopped.map { $0 + 1 } ?? page.range.upperBound)
        state.withLock { state in
            if state.owned.contains(id) {
                state.tallies[id]?.read(page.range.lowerBound..<max(page.range.lowerBound, end), letters)
            }
        }
    }

    /// A value for each topic whose owned partitions were all looked at, of those that could be read; none for the others.
    private func byTopic(_ value: ([Reading]) -> ObservedValue?) -> [(MetricAttributes, ObservedValue)] {
        let (readings, unread) = state.withLock { state in
            var readings: [String: [Reading]] = [:]
            var unread: Set<String> = []
            for partition in state.owned {
                if let tally = state.tallies[partition], tally.bounds != nil {
                    readings[partition.topic, default: []].append(Reading(open: tally.open, oldest: tally.oldest))
                } else if state.failed[partition] == nil {
                    unread.insert(partition.topic)
                }
            }
            return (readings, unread)
        }
        return readings.compactMap { topic, readings in
            guard !unread.contains(topic), let value = value(readings) else { return nil }
            let main = SafeText(vetted: TopicName.main(of: topic))
            return (["messaging.destination.name": main, "messaging.consumer.group.name": SafeText(vetted: group)], value)
        }
    }
}

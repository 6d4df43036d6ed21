import TriageEvents

/// What is paused, whether librdkafka knows, and what came of it all the same.
///
/// librdkafka applies a pause on another thread, and drops the older of two operations on a partition without a word
/// when they arrive in the other order ("received outdated op"). Around an assignment that happens, a few times in a
/// thousand under load, with 2.0.2: either the pause is dropped and the partition is fetched all the same, or the start of
/// its fetcher is dropped and the partition stands still for ever. And a resume of a partition whose pause was dropped
/// rewinds it to where the assignment began (librdkafka#4637).
///
/// Hence this ledger. A partition that has brought nothing yet, no record and no end, is paused here only; when it brings
/// something, its fetcher has started, the pause is sent, and what came is held back until it is resumed. After a resume,
/// records before the position that had been reached are dropped.
///
/// A value without I/O. While everything has started and nothing is paused, a batch costs it one comparison.
struct PauseLedger {
    private struct Held {
        var records: [Record] = []
        var end: Int64?
    }

    /// What is paused now.
    private(set) var paused: Set<TopicPartition> = []
    /// Of these, what librdkafka was told about.
    private(set) var sent: Set<TopicPartition> = []
    private var unstarted: Set<TopicPartition> = []
    private var held: [TopicPartition: Held] = [:]
    /// Held records of partitions that were resumed, to be delivered before anything new.
    private var released: [Record] = []
    private var releasedEnds: [(partition: TopicPartition, offset: Int64)] = []
    /// Records before this offset were delivered already.
    private var floors: [TopicPartition: Int64] = [:]

    /// A new assignment; an empty one when there is none any more.
    mutating func assign(_ partitions: Set<TopicPartition>) {
        self = PauseLedger()
        unstarted = partitions
    }

    /// Partitions are paused from now on.
    ///
    /// - Returns: those of which librdkafka must be told now.
    mutating func pause(_ partitions: Set<TopicPartition>) -> Set<TopicPartition> {
        let new = partitions.subtracting(paused)
        paused.formUnion(new)
        for partition in new {
            let records = released.filter { $0.topicPartition == partition }
            let end = releasedEnds.first { $0.partition == partition }?.offset
            guard !records.isEmpty || end != nil else { continue }
            released.removeAll { $0.topicPartition == partition }
            releasedEnds.removeAll { $0.partition == partition }
            held[partition] = Held(records: records, end: end)
        }
        let started = new.subtracting(unstarted)
        sent.formUnion(started)
        return started
    }

    /// Partitions are fetched again from now on.
    ///
    /// - Parameter positions: behind the last record taken, delivered or held, of those that were ``sent``.
    mutating func resume(_ partitions: Set<TopicPartition>, positions: [TopicPartition: Int64]) {
        for partition in partitions.intersection(paused).sorted() {
            paused.remove(partition)
            if sent.remove(partition) != nil { floors[partition] = positions[partition] }
            guard let held = held.removeValue(forKey: partition) else { continue }
            released += held.records
            if let end = held.end { releasedEnds.append((partition, end)) }
        }
    }

    /// Adds what was released to `batch`, at most `maximum` records; whether there was anything.
    mutating func takeReleased(into batch: inout PolledBatch, maximum: Int) -> Bool {
        if released.isEmpty && releasedEnds.isEmpty { return false }
        batch.records += released.prefix(maximum)
        released.removeFirst(min(max(0, maximum), released.count))
        if released.isEmpty {
            batch.ends += releasedEnds
            releasedEnds = []
        }
        return true
    }

    /// Takes out of `batch` what must not be delivered.
    ///
    /// - Returns: paused partitions that brought something: librdkafka must be told about them, again if need be.
    mutating func filter(_ batch: inout PolledBatch) -> Set<TopicPartition> {
        if paused.isEmpty && floors.isEmpty && unstarted.isEmpty { return [] }
        var leaking: Set<TopicPartition> = []
        // Records come in runs of one partition, so looking it up once a run is enough.
        var current: TopicPartition?
        var isPaused = false
        var floor: Int64?
        batch.records.removeAll { record in
            if current?.partition != record.partition || current?.topic != record.topic {
                let partition = record.topicPartition
                current = partition
                isPaused = paused.contains(partition)
                floor = floors[partition]
                unstarted.remove(partition)
            }
            guard let partition = current else { return false }
            if let known = floor {
                if record.offset < known { return true }
                floors[partition] = nil
                floor = nil
            }
            guard isPaused else { return false }
            leaking.insert(partition)
            held[partition, default: Held()].records.append(record)
            held[partition]?.end = nil
            return true
        }
        batch.ends.removeAll { end in
            unstarted.remove(end.partition)
            guard paused.contains(end.partition) else { return false }
            if !sent.contains(end.partition) { leaking.insert(end.partition) }
            held[end.partition, default: Held()].end = end.offset
            return true
        }
        sent.formUnion(leaking)
        return leaking
    }
}

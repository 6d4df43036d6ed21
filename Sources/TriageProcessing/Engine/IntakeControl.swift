internal import TriageEvents

/// Decides which partitions are not fetched from: all of them while too much is in flight, and single ones that wait for
/// something of their own. Two watermarks: paused at the maximum, resumed at half of it.
///
/// What waits for its time pauses nothing (design §3): the record that others wait for may be behind it in the retry topic.
struct IntakeControl: Equatable {
    /// What fills memory.
    struct Load: Equatable {
        /// Records ready or being handled.
        var records = 0
        /// Their bytes.
        var bytes = 0
        /// Bytes of the retry records that wait for their time, as far as they are in memory.
        var waitingBytes = 0
    }
    /// What the client is to be told.
    struct Change: Equatable {
        var pause: [TopicPartition] = []
        var resume: [TopicPartition] = []
    }

    let maximumRecords: Int
    let maximumBytes: Int
    /// What the client has paused.
    private(set) var paused: Set<TopicPartition> = []
    private var isFull = false
    private var isClosed = false
    private var isHeld = false
    /// Partitions that wait for something of their own.
    private var heldBack: Set<TopicPartition> = []
    private var isStale = false

    init(maximumRecords: Int, maximumBytes: Int) {
        self.maximumRecords = maximumRecords
        self.maximumBytes = maximumBytes
    }

    /// Partitions came or went, or the client refused a change: the next ``balance(_:assigned:)`` compares again.
    mutating func invalidate() { isStale = true }

    /// These are not assigned any more; the client forgets with the assignment that they were paused.
    mutating func forget(_ partitions: [TopicPartition]) {
        paused.subtract(partitions)
        heldBack.subtract(partitions)
        isStale = true
    }

    /// No partition is fetched from any more.
    mutating func close() {
        isClosed = true
        isStale = true
    }

    /// While it is held no partition is fetched from, however little is in flight: an outage.
    mutating func hold(_ held: Bool) {
        guard held != isHeld else { return }
        isHeld = held
        isStale = true
    }

    /// Whether one partition isn't fetched from, whatever the others are: while its retry twin is read to its end, while it has
    /// run too far ahead of its watermark, or while one of its lanes has more than its share.
    mutating func hold(back partition: TopicPartition, _ held: Bool) {
        let changed = held ? heldBack.insert(partition).inserted : heldBack.remove(partition) != nil
        if changed { isStale = true }
    }

    /// Whether a partition is held back.
    func isHeldBack(_ partition: TopicPartition) -> Bool { heldBack.contains(partition) }

    /// The change that `load` calls for; nil for none. Ask again only after it was performed or ``refused(_:)``.
    mutating func balance(_ load: Load, assigned: some Sequence<TopicPartition>) -> Change? {
        let isFull = exceeds(load.records, maximumRecords, isFull) || exceeds(load.bytes, maximumBytes, isFull)
        guard isStale || isFull != self.isFull else { return nil }
        self.isFull = isFull
        isStale = false
        let wanted = Set(
            assigned.filter { isFull || isClosed || isHeld || heldBack.contains($0) })
        let change = Change(pause: wanted.subtracting(paused).sorted(), resume: paused.subtracting(wanted).sorted())
        paused = wanted
        return change == Change() ? nil : change
    }

    /// The client refused a part of the change.
    mutating func refused(paused: [TopicPartition] = [], resumed: [TopicPartition] = []) {
        self.paused.subtract(paused)
        self.paused.formUnion(resumed)
        isStale = true
    }

    /// At the maximum, or still above half of it.
    private func exceeds(_ value: Int, _ maximum: Int, _ already: Bool) -> Bool {
        already ? value > maximum / 2 : value >= maximum
    }
}

internal import TriageEvents

/// Decides which partitions are not fetched from: all of them while too much is in flight, retry partitions alone while too
/// many bytes wait for their time, so that waiting doesn't cost main topics anything. Two watermarks each: paused at
/// the maximum, resumed at half of it.
struct IntakeControl: Equatable {
    /// What fills memory.
    struct Load: Equatable {
        /// Records ready or being handled.
        var records = 0
        /// Their bytes.
        var bytes = 0
        /// Bytes of the retry records that are not due yet.
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
    private var isWaitingFull = false
    private var isClosed = false
    private var isHeld = false
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

    /// The change that `load` calls for; nil for none. Ask again only after it was performed or ``refused(_:)``.
    mutating func balance(_ load: Load, assigned: some Sequence<TopicPartition>) -> Change? {
        let isFull = exceeds(load.records, maximumRecords, isFull) || exceeds(load.bytes, maximumBytes, isFull)
        let isWaitingFull = exceeds(load.waitingBytes, maximumBytes, isWaitingFull)
        guard isStale || isFull != self.isFull || isWaitingFull != self.isWaitingFull else { return nil }
        self.isFull = isFull
        self.isWaitingFull = isWaitingFull
        isStale = false
        let wanted = Set(assigned.filter { isFull || isClosed || isHeld || isWaitingFull && TopicName.isRetry($0.topic) })
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

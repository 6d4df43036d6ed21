public import TriageEvents

/// Which records of retry topics are open, as whoever gets the partitions next would find them (design §3).
///
/// Void is what would be completed without being handled: of several records of one origin and replay all but the one with the
/// highest retry count, of equal ones all but the last. A record whose origin isn't complete in main's committed state is
/// *unsettled*: after a crash it is void, since main brings its event again; while the writer lives it is as good as open, since
/// the commit comes within a moment. An operator's replay is settled from the start.
///
/// A value without I/O: records in, in the order of their offsets within each partition.
public struct OpenRetries: Sendable {
    /// A retry record that isn't complete.
    public struct Entry: Sendable, Hashable {
        /// Where it stands.
        public let position: RecordPosition
        /// When it was written.
        public let written: Timestamp?
        /// What it says about itself.
        public let history: EventHistory
        /// Whether its origin is complete in main's committed state.
        public let isSettled: Bool
    }

    /// What was found out about a record.
    public enum Verdict: Sendable, Hashable {
        /// It is open, as far as is known now.
        case open
        /// The group has completed it.
        case complete
        /// Another record of the same origin and replay stands for it.
        case superseded
        /// Another group's, which this one only passes over.
        case foreign
    }

    private let group: String
    private let commits: [TopicPartition: CommittedPartition]
    private let offsets: [TopicPartition: Range<Int64>]
    private var byIdentity: [RetryIdentity: Entry] = [:]
    /// Records that another of the same origin and replay stands for.
    public private(set) var superseded = 0

    /// Nothing found yet.
    ///
    /// - Parameters:
    ///   - group: whose retries are asked for.
    ///   - commits: what it has committed of main and retry partitions; one that is missing counts as never committed.
    ///   - offsets: the offsets that exist in main partitions: what retention took, main can't bring again.
    public init(
        group: String, commits: [TopicPartition: CommittedPartition], offsets: [TopicPartition: Range<Int64>] = [:]
    ) {
        self.group = group
        self.commits = commits
        self.offsets = offsets
    }

    /// Notes a record of a retry topic.
    @discardableResult
    public mutating func add(_ record: Record) -> Verdict {
        let history = EventHistory(of: record)
        if let written = history.group, written != group { return .foreign }
        // It says nothing about others of its origin: it may have been completed because it was void.
        if commits[record.topicPartition]?.isComplete(record.offset) == true { return .complete }
        let identity = history.identity
        if let other = byIdentity[identity] {
            superseded += 1
            let known = (other.history.retries, other.position)
            guard known < (history.retries, record.position) else { return .superseded }
        }
        byIdentity[identity] = Entry(
            position: record.position, written: record.timestamp, history: history,
            isSettled: identity.isReplay || isSettled(history.origin, record))
        return .open
    }

    /// Whether a record is still open after all that came after it.
    ///
    /// - Parameter replay: what it says in `triage-replay`.
    public func isOpen(_ position: RecordPosition, origin: RecordPosition, replay: String? = nil) -> Bool {
        byIdentity[RetryIdentity(origin: origin, replay: replay)]?.position == position
    }

    /// What is open, by origin.
    ///
    /// - Parameter isOwned: whether the one who wrote the records of a retry partition lives: then unsettled ones count as well.
    public func entries(isOwned: (TopicPartition) -> Bool) -> [Entry] {
        byIdentity.values
            .filter { $0.isSettled || isOwned($0.position.topicPartition) }
            .sorted { ($0.history.origin, $0.position) < ($1.history.origin, $1.position) }
    }

    /// Only the main partition beside the retry partition can bring the event again: any other origin is settled.
    private func isSettled(_ origin: RecordPosition, _ record: Record) -> Bool {
        guard origin.topic == TopicName.main(of: record.topic), origin.partition == record.partition else { return true }
        if let offsets = offsets[origin.topicPartition], !offsets.contains(origin.offset) { return true }
        return commits[origin.topicPartition]?.isComplete(origin.offset) ?? false
    }
}

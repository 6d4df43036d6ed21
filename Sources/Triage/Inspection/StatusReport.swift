public import TriageEvents
public import TriageProcessing

/// How a group's work stands: what isn't read, what waits, what was given up, and what is wrong.
public struct StatusReport: Sendable {
    /// A main partition with those beside it.
    public struct Partition: Sendable, Hashable {
        /// The main partition.
        public let main: TopicPartition
        /// The next offset to be read; nil if the group has never committed.
        public let committed: Int64?
        /// The offsets that exist.
        public let offsets: Range<Int64>
        /// What rode with the commit.
        public let metadata: CommitMetadata
        /// Why that couldn't be read, if so.
        public let metadataError: CommitMetadataError?
        /// When the first record that isn't complete was written.
        public let firstOpen: Timestamp?
        /// Who reads it.
        public let owner: PartitionOwner
        /// What waits in its retry partition; nil if there is none.
        public let retries: Backlog?
        /// What stands in its dead letter partition; nil if there is none.
        public let deadLetters: DeadLetters?
        /// For how long its commit was watched and didn't change, though records wait; nil if it did, or there was no reason to.
        public internal(set) var standstill: Duration?

        /// Offsets that are not committed.
        public var lag: Int64 { max(0, offsets.upperBound - start) }
        /// Where reading goes on.
        var start: Int64 { StatusReport.start(committed, in: offsets) }
        /// Records of the main topic that aren't committed, and what is open in retry.
        var waiting: Int { Int(lag) + (retries?.open ?? 0) }
        /// Whether it is a static member's that ended cleanly: until its session times out the partition waits for it.
        public var isLeft: Bool {
            owner.member?.instanceID != nil && committed != nil && metadataError == nil && !metadata.flags.contains(.isOpen)
        }
        /// Records that retention took before the group had read them.
        public var lost: Int64 { committed.map { $0 <= offsets.upperBound ? max(0, offsets.lowerBound - $0) : 0 } ?? 0 }
    }

    /// What is open in a retry partition.
    public struct Backlog: Sendable, Hashable {
        /// Offsets that were looked through: from the committed one to the end.
        public var read: Range<Int64>
        /// Retries that aren't due yet.
        public var waiting = 0
        /// Retries that are due: being handled, or overdue.
        public var due = 0
        /// Events that wait for an earlier one of their patient.
        public var parked = 0
        /// When the oldest of these events was first written.
        public var oldest: Timestamp?
        /// When the next retry that isn't due yet will be.
        public var nextDue: Timestamp?
        /// Since when the first of those that are due has been.
        public var dueSince: Timestamp?

        /// All that is open.
        public var open: Int { waiting + due + parked }

        init(read: Range<Int64>) { self.read = read }

        mutating func add(_ history: EventHistory, now: Timestamp) {
            if let written = history.originTimestamp { oldest = min(oldest ?? written, written) }
            if history.parkedBehind != nil {
                parked += 1
            } else if let due = history.dueAt, due > now {
                waiting += 1
                nextDue = min(nextDue ?? due, due)
            } else {
                due += 1
                if let since = history.dueAt { dueSince = min(dueSince ?? since, since) }
            }
        }
    }

    /// What stands in a dead letter partition, as far as it was looked through.
    public struct DeadLetters: Sendable, Hashable {
        /// Those of the group that are open, copies of one counted once.
        public internal(set) var count = 0
        /// Those of the group that were replayed or discarded, copies of one counted once.
        public internal(set) var closed = 0
        /// Those of other groups.
        public internal(set) var others = 0
        /// Those that don't name a group: other software wrote them.
        public internal(set) var unnamed = 0
        /// Offsets before those that were looked at.
        public internal(set) var older: Int64 = 0
        /// When the newest of the group that is open was written; nil if there is none.
        public internal(set) var newest: Timestamp?
    }

    /// Whose view it is.
    public let group: String
    /// The group as the brokers described it.
    public let description: GroupDescription
    /// When it was looked.
    public let now: Timestamp
    /// The main partitions with those beside them.
    public let partitions: [Partition]
    /// Topics that are missing.
    public let missing: [String]
    /// What else keeps topics from working together, with what to do.
    public let differences: [String]
    /// The events whose dead letters hold their patients until an operator has decided about them.
    public internal(set) var held: [HeldPatients.Head] = []

    /// How long a retry may be due before that is worth a word: what lies in between is the work itself.
    ///
    /// How long a record may stand unhandled before its partition's commits are watched, too.
    public static let patience: Duration = .seconds(10)

    /// Where a group goes on that has committed this: at the first offset there is if it never did, or if the committed one no
    /// longer exists.
    static func start(_ committed: Int64?, in offsets: Range<Int64>) -> Int64 {
        guard let committed, committed <= offsets.upperBound else { return offsets.lowerBound }
        return max(committed, offsets.lowerBound)
    }
}

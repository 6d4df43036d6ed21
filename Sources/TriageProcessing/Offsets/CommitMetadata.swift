/// What rides in a commit beside the offset: what is complete beyond it, and what a successor must know about how it ended.
///
/// Kafka keeps the text for whoever owns the partition next, and shows it to any tool that reads the group's offsets.
public struct CommitMetadata: Sendable, Hashable {
    /// What the owner was doing when it committed.
    public struct Flags: OptionSet, Sendable, Hashable {
        /// One bit for each flag.
        public let rawValue: UInt8
        /// The flags of these bits.
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The owner is at work: whoever finds this at assignment succeeds one that didn't end cleanly.
        public static let isOpen = Flags(rawValue: 1)
        /// The outage gate isn't open.
        public static let isGateClosed = Flags(rawValue: 2)
        /// The partition isn't fetched from.
        public static let isPaused = Flags(rawValue: 4)
        /// The storm breaker has stopped intake.
        public static let isStormy = Flags(rawValue: 8)
        /// What runs alone was running alone at the last crash too.
        public static let isAloneAgain = Flags(rawValue: 16)
        /// What runs alone was running alone at the last two crashes too.
        public static let isAloneOnceMore = Flags(rawValue: 32)
        /// The owner ended cleanly, but handlers had begun what it left undone.
        public static let isUnfinished = Flags(rawValue: 64)
    }

    /// Owners in a row that didn't end cleanly, and where the first of them stood.
    public struct Crashes: Sendable, Hashable {
        /// How many, 1 or more.
        public var count: Int
        /// The committed offset when counting began.
        public var base: Int64
        /// The offset that is being handled alone, if one is.
        public var alone: Int64?

        /// So many, counted from `base` on.
        public init(count: Int, base: Int64, alone: Int64? = nil) {
            self.count = count
            self.base = base
            self.alone = alone
        }
    }

    /// What the owner was doing.
    public var flags: Flags
    /// Set after an owner that didn't end cleanly, until a clean end.
    public var crashes: Crashes?
    /// Offsets beyond the committed one that are complete: ascending, disjoint, none touching the next, none empty. Offsets that
    /// were never delivered (gaps) may lie in them.
    public var completed: [Range<Int64>]

    /// Nothing beyond the offset.
    public init(flags: Flags = [], crashes: Crashes? = nil, completed: [Range<Int64>] = []) {
        self.flags = flags
        self.crashes = crashes
        self.completed = completed
    }

    /// Forgets what is said of offsets from `end` on, which don't exist.
    mutating func clampCompleted(to end: Int64) {
        completed = completed.filter { $0.lowerBound < end }.map { $0.lowerBound..<min($0.upperBound, end) }
    }
}

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

        /// Offsets that are not committed.
        public var lag: Int64 { max(0, offsets.upperBound - start) }
        /// Where reading goes on.
        var start: Int64 { StatusReport.start(committed, in: offsets) }
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

    /// What stands in a dead letter partition.
    public struct DeadLetters: Sendable, Hashable {
        /// How many.
        public let count: Int64
        /// When the newest was written; nil if there is none.
        public let newest: Timestamp?
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

    /// How long a retry may be due before that is worth a word: what lies in between is the work itself.
    public static let patience: Duration = .seconds(10)

    /// Where a group goes on that has committed this: at the first offset there is if it never did, or if the committed one no
    /// longer exists.
    static func start(_ committed: Int64?, in offsets: Range<Int64>) -> Int64 {
        guard let committed, committed <= offsets.upperBound else { return offsets.lowerBound }
        return max(committed, offsets.lowerBound)
    }
}

extension StatusReport {
    /// Records of main topics that aren't committed.
    public var lag: Int64 { partitions.reduce(0) { $0 + $1.lag } }

    /// What is wrong, the worst first; empty if nothing is.
    public var problems: [String] {
        var found = missing.isEmpty ? [] : [StatusReport.sentence(missing: missing)]
        found += differences
        for partition in partitions where partition.lost > 0 {
            found.append("\(partition.main): retention deleted \(partition.lost) offsets before they were read")
        }
        for partition in partitions {
            guard let crashes = partition.metadata.crashes else { continue }
            let alone = crashes.alone.map { ", now \(partition.main)/\($0) runs alone" } ?? ""
            found.append("\(partition.main): the process crashed \(PlainText.count(crashes.count, "time")) in a row\(alone)")
        }
        found += [
            flagged(.isGateClosed, "the outage gate is closed: nothing but probes is handled"),
            flagged(.isStormy, "the storm breaker has stopped intake: too many events were dead-lettered"),
        ].compactMap { $0 }
        let unread = partitions.filter { $0.owner == .nobody && ($0.lag > 0 || ($0.retries?.open ?? 0) > 0) }
        if !unread.isEmpty {
            let events = unread.reduce(0) { $0 + Int($1.lag) + ($1.retries?.open ?? 0) }
            found.append("nobody reads \(named(unread)): \(PlainText.count(events, "event")) wait for `triage run`")
        }
        let crashed = partitions.filter { $0.owner == .nobody && $0.metadata.flags.contains(.isOpen) }
        if !crashed.isEmpty {
            found.append("the last owner of \(named(crashed)) ended without finishing: what it had in flight is handled again")
        }
        let overdue = partitions.filter { partition in
            partition.owner != .nobody && (partition.retries?.dueSince).map { now - $0 > StatusReport.patience } ?? false
        }
        if let since = overdue.compactMap({ $0.retries?.dueSince }).min() {
            let count = overdue.reduce(0) { $0 + ($1.retries?.due ?? 0) }
            found.append(
                "\(PlainText.count(count, "retry")) \(count == 1 ? "is" : "are") overdue, the first by \(PlainText.span(now - since))"
            )
        }
        for partition in partitions {
            guard let error = partition.metadataError else { continue }
            let what = error == .foreign ? "was not written by this version of Triage" : "is damaged"
            found.append("\(partition.main): what rides with its commit \(what), so records may be handled again")
        }
        return found
    }

    /// What is missing and the command that makes it.
    static func sentence(missing: [String]) -> String {
        let names = missing.prefix(3).joined(separator: ", ") + (missing.count > 3 ? " and \(missing.count - 3) more" : "")
        return "\(PlainText.count(missing.count, "topic")) \(missing.count == 1 ? "is" : "are") missing (\(names)): "
            + "`triage topics create` makes what is missing"
    }

    /// One line that says how it stands, what is wrong first.
    public var summary: String {
        let problems = problems
        guard problems.isEmpty else {
            return problems.count == 1 ? problems[0] : "\(problems[0]) (and \(problems.count - 1) more)"
        }
        let open = partitions.reduce(0) { $0 + ($1.retries?.open ?? 0) }
        let letters = partitions.reduce(0) { $0 + ($1.deadLetters?.count ?? 0) }
        let parts = [
            lag == 0 ? "everything is read" : "\(PlainText.count(Int(lag), "record")) behind",
            open == 0 ? "no retry waits" : "\(PlainText.count(open, "event")) in retry",
            letters == 0 ? "no dead letters" : PlainText.count(Int(letters), "dead letter"),
        ]
        return "nothing is wrong: " + parts.joined(separator: ", ")
    }

    private func flagged(_ flag: CommitMetadata.Flags, _ text: String) -> String? {
        let some = partitions.filter { $0.metadata.flags.contains(flag) }
        return some.isEmpty ? nil : "\(text) (\(named(some)))"
    }

    private func named(_ some: [Partition]) -> String {
        if some.count == partitions.count { return some.count == 1 ? "\(some[0].main)" : "any partition" }
        return some.count <= 3
            ? some.map { "\($0.main)" }.joined(separator: ", ") : "\(some.count) of \(partitions.count) partitions"
    }
}

internal import TriageEvents
public import TriageKafka
internal import TriageProcessing

extension ConsumerGroup.Member {
    /// How it is named to a person: `name@host`, by its instance id if it has one, else by its client id.
    public var displayName: String {
        let name = instanceID ?? clientID
        let host = host.hasPrefix("/") ? String(host.dropFirst()) : host
        return host.isEmpty ? name : "\(name)@\(host)"
    }
}

extension StatusReport {
    /// Records of main topics that aren't committed.
    public var lag: Int64 { partitions.reduce(0) { $0 + $1.lag } }

    /// Whether the group has neither commits here nor members: it never worked on these topics, or its name is misspelt.
    public var isUnknownGroup: Bool {
        !partitions.isEmpty && partitions.allSatisfy { $0.committed == nil } && description.members?.isEmpty != false
    }

    /// Whether partitions are being given out: that nobody has them says nothing then.
    private var isRebalancing: Bool { description.state.hasSuffix("Rebalance") }

    /// What is wrong, what stops the most events first; empty if nothing is.
    public var problems: [String] {
        var found = missing.isEmpty ? [] : [StatusReport.sentence(missing: missing)]
        found += differences
        found += unread
        found += [
            flagged(.isGateClosed, "the outage gate is closed: nothing but probes is handled"),
            flagged(.isStormy, "the storm breaker has stopped intake: too many events were dead-lettered"),
        ].compactMap { $0 }
        found += left(where: { $0 > 0 }) + standing + crashLoops
        for partition in partitions where partition.lost > 0 {
            let offsets = PlainText.count(Int(partition.lost), "offset")
            found.append(
                "\(partition.main): retention deleted \(offsets) before \(partition.lost == 1 ? "it was" : "they were") read")
        }
        found += overdue + unfinished
        for partition in partitions {
            guard let error = partition.metadataError else { continue }
            let what = error == .foreign ? "was not written by this version of Triage" : "is damaged"
            found.append("\(partition.main): what rides with its commit \(what), so records may be handled again")
        }
        return found
    }

    /// What one may want to know although nothing is wrong with it.
    public var notes: [String] {
        var notes = isRebalancing ? ["the group is rebalancing: who reads what is settled in a moment"] : []
        notes += left(where: { $0 == 0 })
        if let holding { notes.append(holding) }
        let once = partitions.filter { $0.metadata.crashes?.count == 1 && $0.owner != .nobody }
        if !once.isEmpty {
            notes.append(
                "an earlier owner of \(named(once, all: "every partition")) ended without a clean stop, once: what it had in flight was handled again"
            )
        }
        let starting = partitions.filter {
            $0.owner.member != nil && !$0.isLeft && $0.metadataError == nil && $0.standstill == nil
                && !$0.metadata.flags.contains(.isOpen)
        }
        if !starting.isEmpty, !isRebalancing {
            notes.append(
                "the owner of \(named(starting, all: "every partition")) hasn't committed yet that it is at work: it is starting, or isn't Triage"
            )
        }
        return notes
    }

    /// Partitions that no member of the group has.
    private var unread: [String] {
        let events = partitions.filter { $0.owner != .unknown || isUnknownGroup }.reduce(0) { $0 + $1.waiting }
        if isUnknownGroup {
            let members = description.members == nil ? "" : "no members, "
            let waiting = events == 0 ? "" : ": \(StatusReport.waiting(events)) for `triage run`"
            return ["group \(group) has never worked on these topics (\(members)no commits)\(waiting); -g names another group"]
        }
        let unread = partitions.filter { $0.owner == .nobody && $0.waiting > 0 }
        if unread.isEmpty { return [] }
        let count = unread.reduce(0) { $0 + $1.waiting }
        if isRebalancing {
            // A moment is none of anybody's worry; a member that doesn't answer is.
            guard let first = unread.compactMap(\.firstOpen).min(), now - first > .seconds(10) else { return [] }
            return [
                "the group is rebalancing while \(StatusReport.waiting(count)), the first for \(PlainText.span(now - first)): "
                    + "if that lasts, a member was killed or hangs, and the others wait for it"
            ]
        }
        return ["nobody reads \(named(unread)): \(StatusReport.waiting(count)) for `triage run`"]
    }

    /// Static members that have stopped, with so many events waiting for them.
    private func left(where matches: (Int) -> Bool) -> [String] {
        let left = Dictionary(grouping: partitions.filter(\.isLeft)) { $0.owner.member?.displayName ?? "" }
        return left.sorted { $0.key < $1.key }.compactMap { name, partitions in
            let events = partitions.reduce(0) { $0 + $1.waiting }
            guard matches(events) else { return nil }
            let text = "instance \(name) has stopped and keeps \(named(partitions, all: "every partition"))"
            let until = "until it is started again or its session times out"
            return events == 0
                ? "\(text): what comes waits \(until)" : "\(text), which nobody handles: \(StatusReport.waiting(events)) \(until)"
        }
    }

    /// Partitions whose records wait, and whose owner doesn't commit.
    private var standing: [String] {
        let standing = partitions.filter { $0.standstill != nil && !$0.isLeft }
        guard let watched = standing.compactMap(\.standstill).min() else { return [] }
        let owners = Set(standing.compactMap { $0.owner.member?.displayName }).sorted()
        let who =
            owners.isEmpty
            ? "its last commit says that somebody is at work"
            : "\(owners.prefix(3).joined(separator: ", "))\(owners.count > 3 ? " …" : "") \(owners.count == 1 ? "has" : "have") \(standing.count == 1 ? "it" : "them")"
        let since = standing.compactMap(\.firstOpen).min().map { ", the first for \(PlainText.span(now - $0))" } ?? ""
        let events = standing.reduce(0) { $0 + $1.waiting }
        return [
            "nothing of \(named(standing)) was committed in \(PlainText.span(watched)), though \(who): "
                + "\(StatusReport.waiting(events))\(since); the instance was killed, hangs, or is just starting"
        ]
    }

    /// Crashes in a row; a single one is none.
    private var crashLoops: [String] {
        let crashed = partitions.filter { ($0.metadata.crashes?.count ?? 0) > 1 }
        guard let most = crashed.compactMap({ $0.metadata.crashes?.count }).max() else { return [] }
        let alone = crashed.compactMap { partition in partition.metadata.crashes?.alone.map { "\(partition.main)/\($0)" } }
        let suspect = alone.isEmpty ? "" : "; now \(alone.joined(separator: ", ")) \(alone.count == 1 ? "runs" : "run") alone"
        return ["the process crashed \(PlainText.count(most, "time")) in a row (\(named(crashed)))\(suspect)"]
    }

    private var overdue: [String] {
        let overdue = partitions.filter { partition in
            partition.owner != .nobody && (partition.retries?.dueSince).map { now - $0 > StatusReport.patience } ?? false
        }
        guard let since = overdue.compactMap({ $0.retries?.dueSince }).min() else { return [] }
        let count = overdue.reduce(0) { $0 + ($1.retries?.due ?? 0) }
        return [
            "\(PlainText.count(count, "retry")) \(count == 1 ? "is" : "are") overdue, the first by \(PlainText.span(now - since))"
        ]
    }

    private var unfinished: [String] {
        let crashed = partitions.filter { $0.owner == .nobody && $0.metadata.flags.contains(.isOpen) }
        if crashed.isEmpty || isRebalancing { return [] }
        return ["the last owner of \(named(crashed)) ended without finishing: what it had in flight is handled again"]
    }

    /// `1 event waits`, `4 events wait`.
    private static func waiting(_ events: Int) -> String {
        "\(PlainText.count(events, "event")) \(events == 1 ? "waits" : "wait")"
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
        let isBounded = partitions.contains { ($0.deadLetters?.older ?? 0) > 0 }
        let parts = [
            lag == 0 ? "everything is read" : "\(PlainText.count(Int(lag), "record")) behind",
            open == 0 ? "no retry waits" : "\(PlainText.count(open, "event")) in retry",
            (isBounded ? "at least " : "")
                + (letters == 0 && !isBounded ? "no open dead letters" : PlainText.count(letters, "open dead letter")),
        ]
        return "nothing is wrong: " + parts.joined(separator: ", ")
    }

    private func flagged(_ flag: CommitMetadata.Flags, _ text: String) -> String? {
        let some = partitions.filter { $0.metadata.flags.contains(flag) }
        return some.isEmpty ? nil : "\(text) (\(named(some, all: "every partition")))"
    }

    private func named(_ some: [Partition], all: String = "any partition") -> String {
        if some.count == partitions.count { return some.count == 1 ? "\(some[0].main)" : all }
        return some.count <= 3
            ? some.map { "\($0.main)" }.joined(separator: ", ") : "\(some.count) of \(partitions.count) partitions"
    }
}

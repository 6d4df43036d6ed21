import Triage
import TriageEvents
import TriageKafka
import TriageProcessing

/// What `triage status -o json` prints; times in ISO 8601, ages in seconds, what isn't known is left out.
struct StatusOutput: Encodable {
    struct Crashes: Encodable {
        let count: Int
        let base: Int64
        let alone: Int64?

        init?(_ crashes: CommitMetadata.Crashes?) {
            guard let crashes else { return nil }
            count = crashes.count
            base = crashes.base
            alone = crashes.alone
        }
    }

    struct Retries: Encodable {
        let waiting: Int
        let due: Int
        let parked: Int
        let oldest: String?
        let oldestAge: Double?
        let nextDue: String?
        let dueSince: String?
    }

    struct Partition: Encodable {
        let topic: String
        let partition: Int32
        let committed: Int64?
        let start: Int64
        let end: Int64
        let lag: Int64
        let lagSeconds: Double?
        let lost: Int64
        let owner: Owner?
        let ownerKnown: Bool
        let flags: [String]
        let crashes: Crashes?
        let metadata: String
        let completeBeyond: Int
        let retries: Retries?
        /// Those of the group that are open.
        let deadLetters: Int?
        let deadLettersClosed: Int?
        let deadLettersOfOthers: Int?
        let deadLettersUnnamed: Int?
        let deadLettersNotLookedAt: Int64?
        let newestDeadLetter: String?
        let isLeft: Bool
        let standstillSeconds: Double?
    }

    struct Owner: Encodable {
        let id: String
        let instanceId: String?
        let clientId: String
        let host: String

        init?(_ owner: PartitionOwner) {
            guard let member = owner.member else { return nil }
            id = member.id
            instanceId = member.instanceID
            clientId = member.clientID
            host = member.host
        }
    }

    let group: String
    let state: String
    let members: Int?
    let at: String
    let summary: String
    let problems: [String]
    let notes: [String]
    let lag: Int64
    let partitions: [Partition]

    init(_ report: StatusReport) {
        group = report.group
        state = report.description.state
        members = report.description.members?.count
        at = report.now.iso8601
        summary = report.summary
        problems = report.problems
        notes = report.notes
        lag = report.lag
        func age(_ time: Timestamp?) -> Double? { time.map { max(0, (report.now - $0).inSeconds) } }
        partitions = report.partitions.map { partition in
            Partition(
                topic: partition.main.topic, partition: partition.main.partition, committed: partition.committed,
                start: partition.offsets.lowerBound, end: partition.offsets.upperBound, lag: partition.lag,
                lagSeconds: partition.firstOpen == nil ? (partition.lag == 0 ? 0 : nil) : age(partition.firstOpen),
                lost: partition.lost, owner: Owner(partition.owner), ownerKnown: partition.owner != .unknown,
                flags: partition.metadata.flags.names, crashes: Crashes(partition.metadata.crashes),
                metadata: partition.metadataError.map { $0 == .foreign ? "foreign" : "damaged" } ?? "ok",
                completeBeyond: partition.metadata.completed.count,
                retries: partition.retries.map {
                    Retries(
                        waiting: $0.waiting, due: $0.due, parked: $0.parked, oldest: $0.oldest?.iso8601,
                        oldestAge: age($0.oldest), nextDue: $0.nextDue?.iso8601, dueSince: $0.dueSince?.iso8601)
                },
                deadLetters: partition.deadLetters?.count, deadLettersClosed: partition.deadLetters?.closed,
                deadLettersOfOthers: partition.deadLetters?.others,
                deadLettersUnnamed: partition.deadLetters?.unnamed, deadLettersNotLookedAt: partition.deadLetters?.older,
                newestDeadLetter: partition.deadLetters?.newest?.iso8601, isLeft: partition.isLeft,
                standstillSeconds: partition.standstill?.inSeconds
            )
        }
    }

    /// What `triage status` prints: a line that says how it stands, what else is wrong, then tables.
    static func text(_ report: StatusReport) -> String {
        var lines = [report.summary]
        lines += report.problems.dropFirst().map { "  also: \($0)" }
        lines += report.notes.map { "  note: \($0)" }
        let members =
            report.description.members.map { PlainText.count($0.count, "member") }
            ?? "members unknown\(report.description.error.map { " (\($0.name))" } ?? "")"
        lines += ["", "group \(report.group): \(report.description.state), \(members); \(report.now.iso8601)", ""]
        func age(_ time: Timestamp?) -> String { time.map { PlainText.span(report.now - $0) } ?? "-" }
        func number(_ number: Int64?) -> String { number.map { "\($0)" } ?? "-" }
        let owners = Owners(report.description.members ?? [])
        if report.partitions.isEmpty { return lines.dropLast().joined(separator: "\n") }
        lines.append(
            Table.columns(
                ["PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "OWNER", "STATE"],
                report.partitions.map { partition in
                    [
                        "\(partition.main)", number(partition.committed), "\(partition.offsets.upperBound)", "\(partition.lag)",
                        age(partition.firstOpen), owners.name(partition.owner), state(partition),
                    ]
                }, right: [1, 2, 3, 4]))
        let rows = report.partitions.compactMap { partition -> [String]? in
            let retries = partition.retries
            let letters = partition.deadLetters
            guard (retries?.open ?? 0) > 0 || (letters.map { $0.count > 0 || $0.older > 0 } ?? false) else { return nil }
            let next = retries?.nextDue.map { "in " + PlainText.span($0 - report.now) } ?? "-"
            return [
                "\(partition.main)", number(retries.map { Int64($0.waiting) }), number(retries.map { Int64($0.due) }),
                number(retries.map { Int64($0.parked) }), age(retries?.oldest), next,
                letters.map { "\($0.count)\($0.older > 0 ? "+" : "")" } ?? "-", age(letters?.newest),
            ]
        }
        if rows.isEmpty {
            lines += ["", "No retries and no dead letters of the group are open."]
        } else {
            let header = ["RETRIES AND DEAD LETTERS", "WAITING", "DUE", "PARKED", "OLDEST", "NEXT DUE", "DEAD LETTERS", "NEWEST"]
            lines += ["", Table.columns(header, rows, right: [1, 2, 3, 4, 5, 6, 7])]
        }
        if let text = uncounted(report) { lines += ["", text] }
        return lines.joined(separator: "\n")
    }

    /// Which dead letters are in no number, and why.
    private static func uncounted(_ report: StatusReport) -> String? {
        let letters = report.partitions.compactMap(\.deadLetters)
        let closed = letters.reduce(0) { $0 + $1.closed }
        let others = letters.reduce(0) { $0 + $1.others }
        let unnamed = letters.reduce(0) { $0 + $1.unnamed }
        let older = letters.reduce(0) { $0 + $1.older }
        let parts = [
            closed == 0 ? nil : "\(closed) that \(closed == 1 ? "was" : "were") replayed or discarded",
            others == 0 ? nil : "\(others) of other groups",
            unnamed == 0 ? nil : "\(unnamed) that name\(unnamed == 1 ? "s" : "") no group, of other software",
            older == 0 ? nil : "\(older) older \(older == 1 ? "one" : "ones") (+; --dead-letters looks further back)",
        ].compactMap { $0 }
        return parts.isEmpty
            ? nil : "Dead letters are the open ones of group \(report.group); not counted: " + parts.joined(separator: ", ") + "."
    }

    /// `running`, `stopped`, `gate closed`, `paused`, …; `-` if nothing is known.
    private static func state(_ partition: StatusReport.Partition) -> String {
        let flags = partition.metadata.flags
        var words: [String] = []
        if flags.contains(.isGateClosed) { words.append("gate closed") }
        if flags.contains(.isStormy) { words.append("stormy") }
        if flags.contains(.isPaused) { words.append("paused") }
        if let crashes = partition.metadata.crashes {
            if crashes.count > 1 { words.append("crashed \(crashes.count)×") }
            if let alone = crashes.alone { words.append("\(alone) alone") }
        }
        if let error = partition.metadataError { words.append(error == .foreign ? "foreign metadata" : "damaged metadata") }
        if partition.isLeft { words.append("stopped") }
        if partition.standstill != nil, !partition.isLeft { words.append("standing still") }
        if words.isEmpty, flags.contains(.isOpen) { words.append(partition.owner == .nobody ? "not ended cleanly" : "running") }
        return words.isEmpty ? "-" : words.joined(separator: ", ")
    }

    /// How members are named in a table: by instance or client id and host where that tells them apart, else by their own id.
    private struct Owners {
        private var counts: [String: Int] = [:]

        init(_ members: [ConsumerGroup.Member]) { for member in members { counts[member.displayName, default: 0] += 1 } }

        func name(_ owner: PartitionOwner) -> String {
            switch owner {
            case .unknown: "unknown"
            case .nobody: "nobody"
            case .member(let member): counts[member.displayName] == 1 ? member.displayName : member.id
            }
        }
    }
}

extension CommitMetadata.Flags {
    /// The names of those that are set.
    var names: [String] {
        let all: [(CommitMetadata.Flags, String)] = [
            (.isOpen, "open"), (.isGateClosed, "gate_closed"), (.isPaused, "paused"), (.isStormy, "stormy"),
        ]
        return all.filter { contains($0.0) }.map(\.1)
    }
}

public import TriageEvents
public import TriageProcessing
internal import TriageTelemetry

/// What one group did with one event, as its records, its commits and the operators' states tell.
public struct EventStory: Sendable, Hashable {
    /// A failed attempt.
    public struct Attempt: Sendable, Hashable {
        /// 1 for the first of the event; of a replay it begins anew.
        public let number: Int
        /// Time, class, fingerprint, trace and span.
        public let entry: AttemptLedger.Entry
        /// Type, code and path; nil if no record says it of this attempt.
        public let error: String?
        /// Entries that the ledger dropped before this one.
        public let dropped: Int
    }

    /// A time during which the event stood in the retry topic.
    public struct Wait: Sendable, Hashable {
        /// The record that stood for it.
        public let record: RecordPosition
        /// Why; what an outage added is only known from spans.
        public internal(set) var reason: WaitReason
        /// When that was written.
        public let from: Timestamp?
        /// Not to be handled before.
        public let due: Timestamp?
        /// When it was handled, or written anew; nil if it wasn't yet, or nothing tells.
        public internal(set) var until: Timestamp?
        /// The event that it was parked behind.
        public let behind: RecordPosition?
        /// Whether it still waits.
        public internal(set) var isOpen: Bool
        /// Further records that are copies of it.
        public internal(set) var copies: Int
        /// The context of the span that sent the record.
        public let context: TraceContext?

        /// Whether ``until`` is when it was handed to the handler, as a span tells; else it is when the next thing was known to happen.
        public internal(set) var isMeasured = false

        /// How much later than due it was handed over; nil if no span tells.
        public var lateness: Duration? {
            guard isMeasured, let until, let due else { return nil }
            return max(.zero, until - due)
        }
    }

    /// A dead letter of the event.
    public struct Letter: Sendable, Hashable {
        /// What its headers tell; of several copies the first.
        public let letter: DeadLetter
        /// Where the copies stand.
        public let copies: [RecordPosition]
        /// What became of it; nil if nobody did anything about it.
        public let state: DeadLetterState?
    }

    /// The event's way from its first delivery, or from a replay, to its end.
    public struct Run: Sendable, Hashable {
        /// The replay that began it; nil for the first delivery.
        public let replay: ReplayMark?
        /// What failed.
        public let attempts: [Attempt]
        /// Where it waited.
        public internal(set) var waits: [Wait]
        /// How it ended, if it was given up.
        public let letter: Letter?
        /// When its first record was written.
        let began: Timestamp?
    }

    /// How it stands.
    public enum Fate: Sendable, Hashable {
        /// Nothing of it is complete: it is unread, or being handled.
        case unread
        /// It was handled.
        case completed
        /// Its retry isn't due yet.
        case waiting(until: Timestamp)
        /// Its retry is due: it is being handled, or something holds it up.
        case due(since: Timestamp?)
        /// It waits for an earlier event of its patient.
        case parked(behind: RecordPosition?)
        /// It was given up; what became of that.
        case deadLettered(RecordPosition, DeadLetterState?)
        /// The group has never committed anything of its partition.
        case unknown
    }

    /// The event's first delivery.
    public let origin: RecordPosition
    /// Whose doing it is; nil if no record and nobody who asked named a group.
    public let group: String?
    /// The ways it took; empty if it never failed and never waited.
    public internal(set) var runs: [Run]
    /// How it stands.
    public let fate: Fate
    /// When it was handled, if a span tells.
    public internal(set) var completedAt: Timestamp?

    /// All failed attempts.
    public var attempts: [Attempt] { runs.flatMap(\.attempts) }
    /// All waits.
    public var waits: [Wait] { runs.flatMap(\.waits) }
    /// The dead letter that stands for it now, or stood last.
    public var lastLetter: Letter? { runs.last { $0.letter != nil }?.letter }
    /// What went wrong last; nil if nothing did.
    public var lastFailure: DeadLetter?

    /// What a group's commits say about a main partition and the retry partition beside it.
    struct Commits: Sendable {
        var main: CommittedPartition?
        var retry: CommittedPartition?
    }

    /// The story of an event.
    ///
    /// - Parameters:
    ///   - notes: its retry records and dead letters, of any group.
    ///   - group: whose story; notes of others are left aside. Nil takes all.
    ///   - commits: what the group has committed; nil for a partition that wasn't asked about.
    ///   - states: what operators did.
    ///   - written: when it was first written; notes that name another time are of another event, from the same place of a topic that
    ///     was made anew. Nil takes all.
    init(
        origin: RecordPosition, notes: [EventNote], group: String?, commits: Commits, states: DeadLetterStates,
        written: Timestamp? = nil, now: Timestamp
    ) {
        self.origin = origin
        self.group = group
        // Whom others name needn't be a group that their dead letters are replayed to.
        let own = notes.filter { note in
            (note.letter.dialect != .triage || note.letter.group == nil || group == nil || note.letter.group == group)
                && note.isOf(written) && note.isBelieved(states, group: group)
        }
        let byReplay = Dictionary(grouping: own, by: \.letter.replay)
        var runs = byReplay.map { replay, notes in
            EventStory.run(replay, notes, group: group, states: states)
        }
        // Of two that began at the same time the first delivery came first.
        func order(_ run: Run) -> (Int64, Int) { (run.began?.nanoseconds ?? .max, run.replay == nil ? 0 : 1) }
        runs.sort { order($0) < order($1) }
        lastFailure =
            own.filter { !$0.isRetry || $0.letter.error != nil || $0.letter.errorClass != nil }
            .max { ($0.letter.written?.nanoseconds ?? 0, $0.position) < ($1.letter.written?.nanoseconds ?? 0, $1.position) }?
            .letter
        fate = EventStory.fate(origin, &runs, commits, now)
        self.runs = runs
    }

    private static func run(
        _ replay: ReplayMark?, _ notes: [EventNote], group: String?, states: DeadLetterStates
    ) -> Run {
        let notes = notes.sorted { left, right in
            (left.letter.written?.nanoseconds ?? 0, left.isRetry ? 0 : 1, left.position.offset)
                < (right.letter.written?.nanoseconds ?? 0, right.isRetry ? 0 : 1, right.position.offset)
        }
        let letters = notes.filter { !$0.isRetry }.map(\.letter)
        let attempts = attempts(notes)
        var waits: [Wait] = []
        var known: [[Int64]: Int] = [:]
        for note in notes where note.isRetry {
            if let index = known[note.wait] {
                waits[index].copies += 1
                continue
            }
            known[note.wait] = waits.count
            waits.append(
                Wait(
                    record: note.position, reason: note.reason, from: note.letter.written, due: note.due, until: nil,
                    behind: note.parkedBehind, isOpen: false, copies: 0, context: note.letter.context))
        }
        // A wait ended when the next thing happened: an attempt failed, or the event was written anew, copies apart.
        for (key, index) in known {
            guard let from = waits[index].from else { continue }
            let times = attempts.map(\.entry.time) + notes.filter { !$0.isRetry || $0.wait != key }.compactMap(\.letter.written)
            waits[index].until = times.filter { $0 > from && $0 >= waits[index].due ?? from }.min()
        }
        let letter = letters.first.map { first in
            let copies = letters.map(\.position)
            // Tools close every copy together; one that came later has no state of its own.
            let state = letters.compactMap { states.state(of: $0, group: group) }.max { $0.time < $1.time }
            return Letter(letter: first, copies: copies, state: state)
        }
        return Run(
            replay: replay, attempts: attempts, waits: waits, letter: letter, began: notes.compactMap(\.letter.written).min())
    }

    /// Ledgers go on from record to record, so the longest has nearly all; what was dropped there, an earlier one may have.
    private static func attempts(_ notes: [EventNote]) -> [Attempt] {
        var entries: [AttemptLedger.Entry] = []
        for note in notes {
            for entry in note.letter.attempts.entries where !entries.contains(entry) { entries.append(entry) }
        }
        entries.sort { $0.time < $1.time }
        let dropped = notes.map(\.letter.attempts).map { $0.dropped + $0.entries.count }.max() ?? 0
        let missing = max(0, dropped - entries.count)
        // A record's error is that of its last attempt. Its time is no way to tell which: it was taken when the record was made.
        let errors = Dictionary(
            notes.compactMap { note in note.letter.attempts.entries.last.map { ($0, note.letter.error) } }
        ) { first, _ in first }
        return entries.enumerated().map { index, entry in
            Attempt(
                number: index == 0 ? 1 : index + 1 + missing, entry: entry,
                error: errors[entry].flatMap { $0 }, dropped: index == 1 ? missing : 0)
        }
    }

    private static func fate(_ origin: RecordPosition, _ runs: inout [Run], _ commits: Commits, _ now: Timestamp) -> Fate {
        guard let last = runs.last else {
            guard let main = commits.main, main.offset != nil else { return .unknown }
            return main.isComplete(origin.offset) ? .completed : .unread
        }
        if let letter = last.letter { return .deadLettered(letter.letter.position, letter.state) }
        guard let wait = last.waits.last else { return .unread }
        if commits.retry?.isComplete(wait.record.offset) == true { return .completed }
        runs[runs.count - 1].waits[last.waits.count - 1].isOpen = true
        if wait.reason == .parked { return .parked(behind: wait.behind) }
        guard let due = wait.due else { return .due(since: wait.from) }
        return due > now ? .waiting(until: due) : .due(since: due)
    }
}

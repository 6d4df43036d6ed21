internal import TriageEvents

/// Replays whose ends aren't known yet, as `triage.dead-letters` tells them: a pure machine, states in, answers about marks out.
///
/// A header says anything: whoever can write an event could say in `triage-replay` that it is a replay of somebody else's dead
/// letter, and so close that. A mark is believed if the states say that this dead letter was replayed with this id, and the event is
/// of the same lane. Of each dead letter the last replay is known, from its state until another one follows, so this is as large as
/// what is under way.
struct ReplaysUnderWay: Sendable {
    /// A replay of one dead letter.
    struct Replay: Sendable, Hashable {
        /// The dead letter that the replayed record names.
        let mark: ReplayMark
        /// Who asked for it, when and why.
        let by: String
        let at: Timestamp
        let reason: String?
        /// What is known of the event, for those who look its dead letter up by that.
        let origin: RecordPosition?
        let originTimestamp: Timestamp?
        let follows: ReplayMark?
        let lane: String?
        /// The same as a number; nil for an event without a key.
        let laneNumber: UInt64?
        /// Whether the record went to a main topic, where it has another origin than its event.
        let isInMain: Bool
        /// Where the state stands.
        fileprivate let offset: Int64

        fileprivate init(_ mark: ReplayMark, _ state: DeadLetterState, at offset: Int64) {
            self.mark = mark
            by = state.replayedBy ?? state.by
            at = state.replayedAt ?? state.time
            reason = state.reason
            origin = state.origin
            originTimestamp = state.originTimestamp
            follows = state.follows
            lane = state.lane
            laneNumber = state.laneNumber
            isInMain = state.successor.map { !TopicName.isRetry($0.topic) } ?? true
            self.offset = offset
        }

        /// What would be known if the header were believed: a mistake that a test has an engine make.
        init(believing mark: ReplayMark, of origin: RecordPosition) {
            let state = DeadLetterState(.replayed, time: Timestamp(nanoseconds: 0), by: "", replay: mark.id, origin: origin)
            self.init(mark, state, at: 0)
        }
    }

    /// What is to be thought of a mark.
    enum Verdict: Sendable, Hashable {
        /// It is true, and nobody has told yet how that replay ended.
        case underWay(Replay)
        /// It was true, and what became of the dead letter has been told since, or is another replay's matter.
        case over
        /// The dead letter was replayed with this id, but it is another patient's.
        case isFalse
        /// The states don't know it, or not yet.
        case unknown
    }

    /// What dead letters share that are copies of one another, and are closed together.
    private struct Event: Hashable {
        let replay: String
        let origin: RecordPosition
        let originTimestamp: Timestamp?
        let follows: ReplayMark?
        let lane: UInt64?
    }

    private let group: String
    private var letters: [RecordPosition: Replay] = [:]
    /// The dead letters of one event: those of which the replayed record names one.
    private var copies: [Event: [RecordPosition]] = [:]
    /// Dead letters by the hash that retries know their replays by.
    private var byHash: [UInt64: RecordPosition] = [:]
    private var over = RecentMarks()
    /// Events whose replays have ended: of a copy that is heard of only then nothing more will be.
    private var ended = RecentMarks()

    /// Nothing is under way.
    ///
    /// - Parameter group: whose dead letters count.
    init(group: String) { self.group = group }

    /// How many dead letters wait for the ends of their replays.
    var count: Int { letters.count }

    /// What is to be thought of a mark on an event of this lane, a hash of its key.
    func verdict(_ mark: ReplayMark, lane: UInt64?) -> Verdict {
        if let known = letters[mark.deadLetter], known.mark.id == mark.id {
            return known.laneNumber == nil || known.laneNumber == lane ? .underWay(known) : .isFalse
        }
        return over.contains(mark) ? .over : .unknown
    }

    /// The dead letters that end with a replay: the one that it names, and its copies.
    func letters(of replay: Replay) -> [RecordPosition] {
        let named = replay.mark.deadLetter
        guard let event = ReplaysUnderWay.event(of: replay) else { return [named] }
        return [named] + (copies[event] ?? []).filter { $0 != named }.sorted()
    }

    /// The replay that a retry is of, by ``RetryIdentity/replay`` and its lane.
    func replay(hash: UInt64, lane: UInt64) -> Replay? {
        guard let known = byHash[hash].flatMap({ letters[$0] }), known.laneNumber == nil || known.laneNumber == lane else {
            return nil
        }
        return known
    }

    /// Takes a state.
    ///
    /// - Parameters:
    ///   - state: nil where nothing is known of a dead letter any more.
    ///   - offset: where it stands in the topic.
    /// - Returns: the replay that is under way since then.
    @discardableResult
    mutating func apply(_ key: DeadLetterKey, _ state: DeadLetterState?, at offset: Int64) -> Replay? {
        guard key.group == group else { return nil }
        let letter = key.position
        let known = letters[letter]
        // An outcome of one's own is known before it is read, and so before what stands ahead of it.
        if let known, offset <= known.offset { return nil }
        // An id that is none matches no mark.
        let mark = state?.replay.map { ReplayMark(id: $0, deadLetter: letter) }
        if let state, state.status == .replayed, let mark {
            if let known { forget(known) }
            // Told already how it ended: by a consumer that read what wasn't committed.
            if over.contains(mark) { return nil }
            // A lane that is none is nobody's.
            guard state.lane == nil || state.laneNumber != nil else { return nil }
            let new = Replay(mark, state, at: offset)
            if let event = ReplaysUnderWay.event(of: new), ended.contains(event) { return nil }
            letters[letter] = new
            byHash[RetryIdentity.hash(of: mark)] = letter
            if let event = ReplaysUnderWay.event(of: new) { copies[event, default: []].append(letter) }
            return new
        }
        if let mark { over.insert(mark) }
        guard let known else { return nil }
        let isOutcome = state?.isOutcome == true
        // Somebody replayed it again before the end of the replay before was told: this one's is yet to come.
        if isOutcome, let mark, mark != known.mark { return nil }
        forget(known)
        if isOutcome, mark != nil, let event = ReplaysUnderWay.event(of: known) { ended.insert(event) }
        return nil
    }

    private mutating func forget(_ replay: Replay) {
        let letter = replay.mark.deadLetter
        over.insert(replay.mark)
        letters[letter] = nil
        byHash[RetryIdentity.hash(of: replay.mark)] = nil
        guard let event = ReplaysUnderWay.event(of: replay) else { return }
        copies[event]?.removeAll { $0 == letter }
        if copies[event]?.isEmpty == true { copies[event] = nil }
    }

    /// Nil if nothing says which event it is.
    private static func event(of replay: Replay) -> Event? {
        replay.origin.map { origin in
            Event(
                replay: replay.mark.id, origin: origin, originTimestamp: replay.originTimestamp, follows: replay.follows,
                lane: replay.laneNumber)
        }
    }
}

/// Remembers what was heard of late, by a hash each.
///
/// What is asked about was written, or delivered once more after a crash, moments ago: ``capacity`` are enough.
struct RecentMarks: Sendable {
    /// Marks that are remembered: what a replay of some thousand leaves open at a crash; 100 KB at most.
    static let capacity = 4096

    private var marks: Set<Int> = []
    /// In the order in which they came, once it is full from ``next`` on.
    private var order: [Int] = []
    private var next = 0

    func contains(_ mark: some Hashable) -> Bool { !marks.isEmpty && marks.contains(mark.hashValue) }

    mutating func insert(_ mark: some Hashable) {
        let hash = mark.hashValue
        guard marks.insert(hash).inserted else { return }
        if order.count < RecentMarks.capacity {
            order.append(hash)
        } else {
            marks.remove(order[next])
            order[next] = hash
            next = (next + 1) % RecentMarks.capacity
        }
    }
}

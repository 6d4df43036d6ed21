public import TriageEvents

/// Which patients are held behind a dead letter (`dead-letters: sequence`): a pure machine, states of `triage.dead-letters` in, who is
/// held and who is released out.
///
/// A patient is held behind an event from when its dead letter is open, or replayed and not yet handled, until it is completed or
/// discarded. Of one event several dead letters may stand: copies, which a crash between an acknowledgement and the commit leaves,
/// and those of replays that failed again. A completion or a discard of one of them settles all that became what they are before
/// that; one that failed again only settles itself, since its successor holds the patient now.
///
/// What a consumer writes itself it knows before it reads it: states may come in any order, and each more than once. Their offsets
/// in the topic say which counts.
public struct HeldPatients: Sendable {
    /// An event that holds its patient.
    public struct Head: Sendable, Hashable {
        /// The event's first delivery.
        public let origin: RecordPosition
        /// ``DeadLetterState/lane(of:)`` of the patient, as a number.
        public let lane: UInt64
        /// The dead letter that became what it is last.
        public let letter: RecordPosition
        /// When it did.
        public let since: Timestamp

        /// A head of these parts.
        public init(origin: RecordPosition, lane: UInt64, letter: RecordPosition, since: Timestamp) {
            self.origin = origin
            self.lane = lane
            self.letter = letter
            self.since = since
        }
    }

    /// What a state changes.
    public enum Action: Sendable, Hashable {
        /// A patient is held behind this event from now on.
        case hold(Head)
        /// Nothing holds a patient behind the event of this origin any more.
        case release(RecordPosition)
    }

    /// What ``DeadLetterState/lane(of:)`` hashes keys with.
    package static let laneSeed: UInt64 = 0

    private struct Letter {
        let origin: RecordPosition
        let lane: UInt64
        let since: Timestamp
        /// Where its state stands.
        let offset: Int64
    }
    private let group: String
    private var letters: [RecordPosition: Letter] = [:]
    private var byOrigin: [RecordPosition: [RecordPosition]] = [:]
    /// Up to where the topic was read.
    private var position: Int64 = 0
    /// What was heard of beyond that: where the last state of a dead letter stands, and up to where those of an event are
    /// settled.
    private var latest: [RecordPosition: Int64] = [:]
    private var settled: [RecordPosition: Int64] = [:]
    /// Replays of which it was told how they ended.
    private var ended = RecentMarks()

    /// Nobody is held.
    ///
    /// - Parameter group: whose dead letters count.
    public init(group: String) { self.group = group }

    /// Whether nobody is held.
    public var isEmpty: Bool { letters.isEmpty }
    /// How many events hold their patients.
    public var count: Int { byOrigin.count }

    /// Whether the event of this origin holds its patient.
    public func isHeld(_ origin: RecordPosition) -> Bool { byOrigin[origin] != nil }

    /// The event of this origin, if it holds its patient.
    public func head(_ origin: RecordPosition) -> Head? {
        guard let last = byOrigin[origin]?.max(by: { letters[$0]?.offset ?? -1 < letters[$1]?.offset ?? -1 }),
            let letter = letters[last]
        else { return nil }
        return Head(origin: origin, lane: letter.lane, letter: last, since: letter.since)
    }

    /// The dead letters by which the event of this origin holds its patient.
    public func letters(of origin: RecordPosition) -> [RecordPosition] { (byOrigin[origin] ?? []).sorted() }

    /// The event that a dead letter is of, if it holds a patient.
    public func origin(of letter: RecordPosition) -> RecordPosition? { letters[letter]?.origin }

    /// The events that hold patients of a main partition, in order.
    public func heads(of main: TopicPartition) -> [Head] {
        let topic = TopicName.deadLetter(of: main.topic)
        let origins = Set(
            letters.filter { $0.key.topic == topic && $0.key.partition == main.partition }.map(\.value.origin))
        return origins.sorted().compactMap { head($0) }
    }

    /// Takes a state.
    ///
    /// - Parameters:
    ///   - state: nil where nothing is known of a dead letter any more.
    ///   - offset: where it stands in the topic.
    public mutating func apply(_ key: DeadLetterKey, _ state: DeadLetterState?, at offset: Int64) -> [Action] {
        guard key.group == group, offset >= position else { return [] }
        let letter = key.position
        if let state, let replay = state.replay {
            let mark = ReplayMark(id: replay, deadLetter: letter)
            // Where a consumer told how a replay ended before its operator's state could be read, that one says nothing new.
            if state.status == .replayed, ended.contains(mark) { return [] }
            if state.isOutcome { ended.insert(mark) }
        }
        let known = letters[letter]
        let origin = known?.origin ?? state?.origin
        let wasHeld = origin.map { isHeld($0) } ?? false
        if offset >= max(latest[letter] ?? -1, known?.offset ?? -1) {
            latest[letter] = offset
            remove(letter)
            let lane = state?.lane.flatMap { UInt64($0, radix: 16) } ?? known?.lane
            let holds = state?.status == .open || state?.status == .replayed
            if holds, let state, let origin, let lane, offset > settled[origin] ?? -1 {
                letters[letter] = Letter(origin: origin, lane: lane, since: state.time, offset: offset)
                byOrigin[origin, default: []].append(letter)
            }
        }
        if let origin, state?.status == .completed || state?.status == .discarded, offset > settled[origin] ?? -1 {
            settled[origin] = offset
            for letter in byOrigin[origin] ?? [] where (letters[letter]?.offset ?? 0) < offset { remove(letter) }
        }
        guard let origin, isHeld(origin) != wasHeld else { return [] }
        return wasHeld ? [.release(origin)] : head(origin).map { [.hold($0)] } ?? []
    }

    /// The topic was read up to `offset`: what was heard of earlier needn't be remembered beside it.
    public mutating func read(to offset: Int64) {
        position = max(position, offset)
        latest = latest.filter { $0.value >= offset }
        settled = settled.filter { $0.value >= offset }
    }

    private mutating func remove(_ letter: RecordPosition) {
        guard let known = letters.removeValue(forKey: letter) else { return }
        byOrigin[known.origin]?.removeAll { $0 == letter }
        if byOrigin[known.origin]?.isEmpty == true { byOrigin[known.origin] = nil }
    }
}

internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// What a record of a retry or dead letter topic says about an event.
struct EventNote: Sendable, Hashable {
    /// What its headers tell.
    let letter: DeadLetter
    /// The event's first delivery.
    let origin: RecordPosition
    /// Whether it waits to be handled again; else it was given up.
    let isRetry: Bool
    /// Not to be handled before; never before it was written.
    let due: Timestamp?
    /// Why it waits.
    let reason: WaitReason
    /// The event that it waits for; nil if it waits for none, or doesn't name it properly.
    let parkedBehind: RecordPosition?

    /// What a record says; nil if it doesn't say which event it is about.
    ///
    /// - Parameter standsForItself: whether it is taken as an event of its own then, as some systems' dead letters must be.
    init?(_ record: Record, standsForItself: Bool = false) {
        letter = DeadLetter(record)
        let isOurRetry = TopicName.isRetry(record.topic) && (letter.dialect == .triage || letter.dialect == .unknown)
        isRetry = isOurRetry || letter.isWaiting
        if isOurRetry {
            let history = EventHistory(of: record)
            origin = history.origin
            due = history.dueAt
            reason = history.waitReason
            parkedBehind = history.parkedBehind.flatMap { DeadLetter.place($0) }
        } else {
            guard let origin = letter.origin ?? (standsForItself ? record.position : nil) else { return nil }
            self.origin = origin
            due = letter.dueAt
            reason = .backoff
            parkedBehind = nil
        }
    }

    var position: RecordPosition { letter.position }

    /// Whether it may be of the event that was first written then.
    func isOf(_ written: Timestamp?) -> Bool {
        guard let written, let told = letter.originTimestamp else { return true }
        return told.milliseconds == written.milliseconds
    }

    /// Whether it is of the first delivery, or of a replay that operators' states tell of: anybody who can write there could have written
    /// the header. Of a dead letter that was replayed again later the replays before aren't known any more.
    func isBelieved(_ states: DeadLetterStates, group: String?) -> Bool {
        guard let mark = letter.replay else { return true }
        guard let group = letter.group ?? group, let state = states[DeadLetterKey(group: group, position: mark.deadLetter)],
            let replay = state.replay
        else { return false }
        if replay == mark.id { return true }
        guard let written = letter.written else { return false }
        return (state.replayedAt ?? state.time) >= written
    }

    /// A name for retries that are copies of each other: rewritten at the tail, or sent again after an error of the producer.
    var wait: [Int64] {
        [Int64(letter.retries), due?.nanoseconds ?? 0, parkedBehind?.offset ?? -1, letter.attempts.last == nil ? 0 : 1]
    }
}

extension DeadLetter {
    /// Whether the record waits for another try of Spring's: its topics for that carry a due time, and are no dead letter topics.
    var isWaiting: Bool {
        dialect == .springRetry && dueAt != nil && !position.topic.hasSuffix("-dlt") && !position.topic.hasSuffix(".DLT")
    }
}

/// The retry records and dead letters of a few events, folded from what is read: a value, records in.
struct EventRecords: Sendable {
    /// The events that are asked about, by their first delivery.
    let wanted: Set<RecordPosition>
    /// What was found of each, in the order in which it was read.
    private(set) var notes: [RecordPosition: [EventNote]] = [:]
    /// Groups that records name, of other events too: those that work on the partition.
    private(set) var groups: Set<String> = []
    /// Whether more was found than is kept.
    private(set) var isCut = false
    private let keys: Set<ByteSlice>
    private var positions: Set<RecordPosition> = []

    /// Notes that are kept of all events together: a patient's event may be parked behind thousands.
    static let maximumNotes = 5000

    static let maximumGroups = 8

    /// Nothing found yet.
    ///
    /// - Parameters:
    ///   - wanted: the events' first deliveries.
    ///   - keys: their records' keys, which other records needn't be looked at for.
    init(wanted: Set<RecordPosition>, keys: Set<ByteSlice>) {
        self.wanted = wanted
        self.keys = keys
    }

    /// Takes a record in.
    mutating func add(_ record: Record) {
        if groups.count < EventRecords.maximumGroups, let group = record.headers.last(HeaderName.group), group.count <= 249,
            let name = DeadLetter.groupName(group)
        {
            groups.insert(name)
        }
        // Reading all headers of records of other patients would be most of the work.
        // One that names the event and has another key is of another one: of a topic that was made anew, or of nobody's.
        if let key = record.key, !keys.isEmpty, !keys.contains(key) { return }
        guard let note = EventNote(record), wanted.contains(note.origin), positions.insert(note.position).inserted else { return }
        guard positions.count <= EventRecords.maximumNotes else {
            isCut = true
            return
        }
        notes[note.origin, default: []].append(note)
    }
}

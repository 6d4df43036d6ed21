public import TriageEvents

/// Who operates the dead letters of a cluster: the record `operator` of `triage.dead-letters`.
public struct DeadLetterLease: Sendable, Hashable {
    /// The key of its record.
    public static let key = "operator"
    /// The operator's name.
    public let by: String
    /// Since when.
    public let time: Timestamp
    /// A UUID, one for each time that somebody begins to operate.
    public let id: String

    /// A lease of these parts.
    public init(by: String, time: Timestamp, id: String) {
        self.by = by
        self.time = time
        self.id = id
    }

    /// What a record's value says; nil for anything that isn't one of ours.
    ///
    /// - Parameter value: a JSON object that was found to be one.
    public init?(_ value: JSONValue) {
        guard let by = value["by"]?.string, let time = value["time"]?.stringBytes, let time = Timestamp(instant: time),
            let id = value["id"]?.string
        else { return nil }
        self.init(by: by, time: time, id: id)
    }

    /// The record's value: a JSON object of strings.
    public var json: ByteSlice {
        ByteSlice("{\"by\":\(JSONText(by).quoted),\"time\":\"\(time.iso8601)\",\"id\":\(JSONText(id).quoted)}")
    }
}

/// Which replay of which dead letter an edit's record is about: its key in `triage.dead-letters` is `audit/REPLAY/topic/partition/offset`.
///
/// The record's value is what the event said before the edit. It stays in Kafka, and is as much patient data as the event is.
public struct DeadLetterAuditKey: Sendable, Hashable, CustomStringConvertible {
    /// The replay and the dead letter.
    public let mark: ReplayMark

    /// The edit that went with this replay.
    public init(_ mark: ReplayMark) { self.mark = mark }

    /// What such a key says; nil for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "audit", let mark = ReplayMark("\(parts[1]) \(parts[2])") else { return nil }
        self.init(mark)
    }

    /// `audit/REPLAY/topic/partition/offset`.
    public var description: String { "audit/\(mark.id)/\(mark.deadLetter)" }
}

/// What is known of dead letters from `triage.dead-letters`, read to its end: a value, records in, states out.
///
/// The topic is compacted, so it holds one state for each dead letter that was ever acted on, and so does this: some 350 bytes
/// for each.
public struct DeadLetterStates: Sendable {
    private var byPartition: [String: [TopicPartition: [Int64: DeadLetterState]]] = [:]
    /// The dead letter whose state was set last, by a hash of what all states say of an event: group, place and the replay before it.
    private var byPlace: [Int: DeadLetterKey] = [:]
    /// Those before it that are of another event, which came from the same place: its topic was made anew.
    private var otherEvents: [Int: [DeadLetterKey]] = [:]
    /// Names and reasons, which are few and repeated.
    private var texts: Set<String> = []
    /// How many dead letters aren't open.
    public private(set) var closed = 0
    /// Records that aren't ours.
    public private(set) var malformed = 0
    /// Who operates; nil if nobody ever did.
    public private(set) var lease: DeadLetterLease?

    /// Nothing known: every dead letter is open.
    public init() {}

    /// What became of a dead letter; nil if nothing was ever done about it.
    public subscript(_ key: DeadLetterKey) -> DeadLetterState? {
        byPartition[key.group]?[key.position.topicPartition]?[key.position.offset]
    }

    /// Whether somebody still has to do something about it.
    public func isOpen(_ key: DeadLetterKey) -> Bool { self[key]?.status.isOpen ?? true }

    /// What became of a dead letter, or of a copy of it; nil if nothing was ever done about it.
    ///
    /// A replay is of one of the copies, and so is the outcome that a consumer writes: of the others, whose own states say that
    /// they were replayed with it, that counts as well.
    ///
    /// - Parameter group: the operator's, as for ``DeadLetterKey/init(_:group:)``.
    public func state(of letter: DeadLetter, group: String?) -> DeadLetterState? {
        let key = DeadLetterKey(letter, group: group)
        if let known = state(key, copies: letter.identity(keptUnder: key)) { return known }
        guard letter.dialect != .triage else { return nil }
        // It may have been replayed to another group than is given now.
        let partition = letter.position.topicPartition
        return byPartition.values.compactMap { $0[partition]?[letter.position.offset] }.max { $0.time < $1.time }
    }

    /// A dead letter of this identity that is known; of several the one whose state was set last.
    public func copy(of identity: DeadLetter.Identity) -> DeadLetterKey? {
        let place = DeadLetterStates.place(identity.group, identity.origin, identity.replay)
        guard let last = byPlace[place] else { return nil }
        if matches(last, identity) { return last }
        return otherEvents[place]?.last { matches($0, identity) }
    }

    /// Whether the state of a dead letter is of this identity. What one of them doesn't say doesn't tell them apart: events without a
    /// key have no lane, and states didn't always tell when an event was written.
    private func matches(_ key: DeadLetterKey, _ identity: DeadLetter.Identity) -> Bool {
        guard key.group == identity.group, let state = self[key], state.origin == identity.origin,
            state.follows == identity.replay
        else { return false }
        return state.isOf(lane: identity.lane, originTimestamp: identity.originTimestamp)
    }

    private static func place(_ group: String?, _ origin: RecordPosition, _ replay: ReplayMark?) -> Int {
        DeadLetter.Identity(group: group, origin: origin, replay: replay).hashValue
    }

    /// Calls `body` for every state, in no order, until it says false.
    public func forEach(_ body: (DeadLetterKey, DeadLetterState) -> Bool) {
        for (group, partitions) in byPartition {
            for (partition, states) in partitions {
                for (offset, state) in states {
                    let position = RecordPosition(topic: partition.topic, partition: partition.partition, offset: offset)
                    guard body(DeadLetterKey(group: group, position: position), state) else { return }
                }
            }
        }
    }

    /// Takes a record of the topic; of several about one dead letter the last counts, a null value makes it open again.
    ///
    /// - Parameter parse: makes sure that a value is JSON, and reads it.
    public mutating func add(_ record: Record, parse: (ByteSlice) -> JSONValue?) {
        guard let text = record.key?.utf8Text else {
            malformed += 1
            return
        }
        if text == DeadLetterLease.key {
            let new = record.value.flatMap(parse).flatMap { DeadLetterLease($0) }
            if record.value == nil || new != nil { lease = new } else { malformed += 1 }
            return
        }
        if DeadLetterAuditKey(text) != nil { return }
        guard let key = DeadLetterKey(text) else {
            malformed += 1
            return
        }
        guard let value = record.value else {
            set(key, nil)
            return
        }
        guard let state = parse(value).flatMap({ DeadLetterState($0) }) else {
            malformed += 1
            return
        }
        if let former = self[key], state.isOvertaken(by: former) { return }
        set(key, state)
    }

    /// Sets a state, or forgets it.
    ///
    /// One that doesn't say the event's origin is taken to be of the same one as the state before it: a consumer that writes how a
    /// replay ended only knows the dead letter's place.
    public mutating func set(_ key: DeadLetterKey, _ state: DeadLetterState?) {
        let id = key.position.topicPartition
        let former = self[key]
        let state = state.map { shared($0, former) }
        byPartition[key.group, default: [:]][id, default: [:]][key.position.offset] = state
        if let former, !former.status.isOpen { closed -= 1 }
        if let state, !state.status.isOpen { closed += 1 }
        guard let state, let origin = state.origin else { return }
        let place = DeadLetterStates.place(key.group, origin, state.follows)
        if let other = byPlace[place], other != key, let known = self[other],
            !state.isOf(lane: known.laneNumber, originTimestamp: known.originTimestamp) || known.origin != origin
                || known.follows != state.follows || other.group != key.group
        {
            var others = otherEvents[place, default: []]
            others.removeAll { $0 == key || $0 == other }
            otherEvents[place] = others + [other]
        }
        byPlace[place] = key
    }

    /// The state with what a former one knows of the event, its texts shared with others that say the same.
    private mutating func shared(_ state: DeadLetterState, _ former: DeadLetterState?) -> DeadLetterState {
        var new = DeadLetterState(
            state.status, time: state.time, by: share(state.by), reason: state.reason.map { share($0) },
            replay: state.replay.map { share($0) }, replayedBy: state.replayedBy.map { share($0) },
            replayedAt: state.replayedAt, successor: state.successor, origin: state.origin,
            originTimestamp: state.originTimestamp, follows: state.follows, lane: state.lane)
        // How a replay ended may be told of the dead letter that its mark names alone, or without whether that one followed a replay
        // itself.
        if state.origin == nil || (state.isOutcome && state.follows == nil && state.replayedBy == nil) {
            new.origin = former?.origin
            new.follows = former?.follows
        }
        guard let former else { return new }
        new.lane = state.lane ?? former.lane
        new.originTimestamp = state.originTimestamp ?? former.originTimestamp
        // Nor who asked for it, by consumers that didn't tell that yet.
        guard state.isOutcome, state.replay != nil, former.replay == state.replay else { return new }
        new.reason = new.reason ?? former.reason
        new.replayedBy = new.replayedBy ?? former.replayedBy ?? (former.status == .replayed ? former.by : nil)
        new.replayedAt = new.replayedAt ?? former.replayedAt ?? (former.status == .replayed ? former.time : nil)
        return new
    }

    private mutating func share(_ text: String) -> String {
        guard texts.count < 10_000 else { return text }
        return texts.insert(text).memberAfterInsert
    }
}

extension DeadLetterState {
    /// Whether a former state, or that of a copy, says already how this replay ended.
    ///
    /// A consumer that doesn't wait for commits, as those of librdkafka's mock cluster don't, may have handled a replay before
    /// its operator has written that there is one.
    func isOvertaken(by former: DeadLetterState) -> Bool {
        status == .replayed && replay != nil && former.replay == replay && former.isOutcome
    }

    /// Whether it may be of the event with this lane that was first written then: what isn't known tells nothing apart.
    func isOf(lane other: UInt64?, originTimestamp otherTime: Timestamp?) -> Bool {
        if let other, lane != nil, laneNumber != other { return false }
        if let otherTime, let originTimestamp, originTimestamp != otherTime { return false }
        return true
    }
}

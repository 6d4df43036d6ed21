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
/// The topic is compacted, so it holds one state for each dead letter that was ever acted on, and so does this: some 300 bytes
/// for each.
public struct DeadLetterStates: Sendable {
    private var byPartition: [String: [TopicPartition: [Int64: DeadLetterState]]] = [:]
    /// The dead letter of each identity whose state was set last, by a hash of the identity.
    private var byIdentity: [Int: DeadLetterKey] = [:]
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
    /// - Parameter group: the operator's, as for ``DeadLetterKey/init(_:group:)``.
    public func state(of letter: DeadLetter, group: String?) -> DeadLetterState? {
        let key = DeadLetterKey(letter, group: group)
        if let known = self[key] ?? copy(of: letter.identity(in: key.group)).flatMap({ self[$0] }) { return known }
        guard letter.dialect != .triage else { return nil }
        // It may have been replayed to another group than is given now.
        let partition = letter.position.topicPartition
        return byPartition.values.compactMap { $0[partition]?[letter.position.offset] }.max { $0.time < $1.time }
    }

    /// A dead letter of this identity that is known; of several the one whose state was set last.
    public func copy(of identity: DeadLetter.Identity) -> DeadLetterKey? {
        guard let key = byIdentity[identity.hashValue], let state = self[key], state.origin == identity.origin,
            state.follows == identity.replay, key.group == identity.group
        else { return nil }
        return key
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
        guard let origin = state?.origin else { return }
        let identity = DeadLetter.Identity(group: key.group, origin: origin, replay: state?.follows)
        byIdentity[identity.hashValue] = key
    }

    /// The state with what a former one knows of the event, its texts shared with others that say the same.
    private mutating func shared(_ state: DeadLetterState, _ former: DeadLetterState?) -> DeadLetterState {
        // How a replay ended is told of the dead letter that its mark names: whether that one followed a replay isn't known.
        let isOutcome = state.status == .completed || state.status == .failedAgain
        let isWhole = state.origin != nil && (state.follows != nil || !isOutcome)
        return DeadLetterState(
            state.status, time: state.time, by: share(state.by), reason: state.reason.map { share($0) },
            replay: state.replay.map { share($0) }, successor: state.successor,
            origin: isWhole ? state.origin : former?.origin, follows: isWhole ? state.follows : former?.follows,
            lane: state.lane ?? former?.lane)
    }

    private mutating func share(_ text: String) -> String {
        guard texts.count < 10_000 else { return text }
        return texts.insert(text).memberAfterInsert
    }
}

extension DeadLetterState {
    /// Whether a former state says already how this replay ended.
    ///
    /// A consumer that doesn't wait for commits, as those of librdkafka's mock cluster don't, may have handled a replay before
    /// its operator has written that there is one.
    func isOvertaken(by former: DeadLetterState) -> Bool {
        status == .replayed && replay != nil && former.replay == replay
            && (former.status == .completed || former.status == .failedAgain)
    }
}

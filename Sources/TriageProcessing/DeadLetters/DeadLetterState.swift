public import TriageEvents

/// Which dead letter of which group a state is about: the key of a record of `triage.dead-letters`.
public struct DeadLetterKey: Sendable, Hashable, CustomStringConvertible {
    /// The consumer group that gave the event up.
    public let group: String
    /// Where the dead letter stands.
    public let position: RecordPosition

    /// The dead letter at `position` of `group`.
    public init(group: String, position: RecordPosition) {
        self.group = group
        self.position = position
    }

    /// What `group/topic/partition/offset` says: a group's name may contain slashes, a topic's may not; nil for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 4, let position = RecordPosition(parts.suffix(3).joined(separator: "/")) else { return nil }
        let group = parts.dropLast(3).joined(separator: "/")
        guard !group.isEmpty else { return nil }
        self.init(group: group, position: position)
    }

    /// `group/topic/partition/offset`.
    public var description: String { "\(group)/\(position)" }
}

/// What became of a dead letter: the value of a record of `triage.dead-letters`. One without such a record is open.
public struct DeadLetterState: Sendable, Hashable {
    /// What it is.
    public enum Status: String, Sendable, Hashable, CaseIterable {
        /// Nobody has done anything about it, or a discard was taken back.
        case open
        /// It was written anew, and how that ends isn't known yet.
        case replayed
        /// Its replay was handled.
        case completed
        /// Its replay failed for good: another dead letter stands for the event now.
        case failedAgain = "failed_again"
        /// An operator decided that the event isn't needed any more.
        case discarded

        /// Whether somebody still has to do something about it. What failed again isn't counted: its successor is.
        public var isOpen: Bool { self == .open }
    }
    /// What it is.
    public let status: Status
    /// When it became that.
    public let time: Timestamp
    /// Who made it that: an operator's name, or the group whose consumer found out.
    public let by: String
    /// Why, in the operator's words; those aren't telemetry, and stay in Kafka.
    public let reason: String?
    /// The replay that it went with.
    public let replay: String?
    /// Where the replayed record was written, or the dead letter that it became again.
    public let successor: RecordPosition?

    /// A state of these parts.
    public init(
        _ status: Status, time: Timestamp, by: String, reason: String? = nil, replay: String? = nil,
        successor: RecordPosition? = nil
    ) {
        self.status = status
        self.time = time
        self.by = by
        self.reason = reason
        self.replay = replay
        self.successor = successor
    }
}

extension DeadLetterState {
    /// What a record's value says; nil for anything that isn't one of ours.
    ///
    /// - Parameter value: a JSON object that was found to be one.
    public init?(_ value: JSONValue) {
        guard let status = value["status"]?.string.flatMap(Status.init), let time = value["time"]?.stringBytes,
            let time = Timestamp(instant: time), let by = value["by"]?.string
        else { return nil }
        self.init(
            status, time: time, by: by, reason: value["reason"]?.string, replay: value["replay"]?.string,
            successor: value["successor"]?.string.flatMap { RecordPosition($0) })
    }

    /// The record's value: a JSON object of strings.
    public var json: ByteSlice {
        var text = "{\"status\":\"\(status.rawValue)\",\"time\":\"\(time.iso8601)\",\"by\":\(JSONText(by).quoted)"
        if let reason { text += ",\"reason\":\(JSONText(reason).quoted)" }
        if let replay { text += ",\"replay\":\(JSONText(replay).quoted)" }
        if let successor { text += ",\"successor\":\(JSONText(successor.description).quoted)" }
        return ByteSlice(text + "}")
    }
}

/// What is known of dead letters from `triage.dead-letters`, read to its end: a value, records in, states out.
///
/// The topic is compacted, so it holds one state for each dead letter that was ever acted on, and so does this.
public struct DeadLetterStates: Sendable {
    private var byPartition: [String: [TopicPartition: [Int64: DeadLetterState]]] = [:]
    /// How many dead letters aren't open.
    public private(set) var closed = 0
    /// Records that aren't ours.
    public private(set) var malformed = 0

    /// Nothing known: every dead letter is open.
    public init() {}

    /// What became of a dead letter; nil if nothing was ever done about it.
    public subscript(_ key: DeadLetterKey) -> DeadLetterState? {
        byPartition[key.group]?[key.position.topicPartition]?[key.position.offset]
    }

    /// Whether somebody still has to do something about it.
    public func isOpen(_ key: DeadLetterKey) -> Bool { self[key]?.status.isOpen ?? true }

    /// Takes a record of the topic; of several about one dead letter the last counts, a null value makes it open again.
    ///
    /// - Parameter parse: makes sure that a value is JSON, and reads it.
    public mutating func add(_ record: Record, parse: (ByteSlice) -> JSONValue?) {
        guard let key = record.key?.utf8Text.flatMap({ DeadLetterKey($0) }) else {
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
        set(key, state)
    }

    /// Sets a state, or forgets it.
    public mutating func set(_ key: DeadLetterKey, _ state: DeadLetterState?) {
        let id = key.position.topicPartition
        let old = byPartition[key.group, default: [:]][id, default: [:]].updateOrRemove(key.position.offset, state)
        if let old, !old.status.isOpen { closed -= 1 }
        if let state, !state.status.isOpen { closed += 1 }
    }
}

extension Dictionary {
    fileprivate mutating func updateOrRemove(_ key: Key, _ value: Value?) -> Value? {
        guard let value else { return removeValue(forKey: key) }
        return updateValue(value, forKey: key)
    }
}

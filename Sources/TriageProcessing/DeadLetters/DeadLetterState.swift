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

    /// The key of a dead letter: under the group that it names if it is one of ours; of another's the one that it is to be
    /// replayed to, else the one that it names, else `-`.
    ///
    /// - Parameter group: the operator's group, for dead letters that others wrote.
    public init(_ letter: DeadLetter, group: String?) {
        let names = letter.dialect == .triage ? [letter.group, group] : [group, letter.group]
        self.init(group: names.compactMap { $0 }.first ?? "-", position: letter.position)
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
    /// Why, in the operator's words; those aren't telemetry, and stay in Kafka. What a consumer found out keeps what was said of the
    /// replay.
    public internal(set) var reason: String?
    /// The replay that it went with.
    public let replay: String?
    /// Who asked for that replay: an operator's name. Its outcome keeps it, since it takes the place of the state that said so first.
    public internal(set) var replayedBy: String?
    /// When the replay was written.
    public internal(set) var replayedAt: Timestamp?
    /// Where the replayed record was written, or the dead letter that it became again.
    public let successor: RecordPosition?
    /// The event's first delivery, so that copies of one dead letter are known to be the same; nil if whoever wrote it didn't know.
    public internal(set) var origin: RecordPosition?
    /// When the event was first written: a topic that was made anew has another event at the same place.
    public internal(set) var originTimestamp: Timestamp?
    /// The replay after which the dead letter itself was written: its own `triage-replay`.
    public internal(set) var follows: ReplayMark?
    /// What stands for the event's key without telling it: ``lane(of:)``.
    public internal(set) var lane: String?

    /// A state of these parts.
    public init(
        _ status: Status, time: Timestamp, by: String, reason: String? = nil, replay: String? = nil,
        replayedBy: String? = nil, replayedAt: Timestamp? = nil, successor: RecordPosition? = nil,
        origin: RecordPosition? = nil, originTimestamp: Timestamp? = nil, follows: ReplayMark? = nil, lane: String? = nil
    ) {
        self.status = status
        self.time = time
        self.by = by
        self.reason = reason
        self.replay = replay
        self.replayedBy = replayedBy
        self.replayedAt = replayedAt
        self.successor = successor
        self.origin = origin
        self.originTimestamp = originTimestamp
        self.follows = follows
        self.lane = lane
    }

    /// Whether it says how a replay ended.
    var isOutcome: Bool { status == .completed || status == .failedAgain }
}

extension DeadLetterState {
    /// What stands for a key in a state: sixteen hexadecimal digits of its hash, so that no patient's id stands there.
    public static func lane(of key: ByteSlice) -> String {
        let digits = String(key.hash64(seed: 0), radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// ``lane`` as the number that it tells; nil if it tells none.
    var laneNumber: UInt64? { lane.flatMap { UInt64($0, radix: 16) } }

    /// What a record's value says; nil for anything that isn't one of ours.
    ///
    /// - Parameter value: a JSON object that was found to be one.
    public init?(_ value: JSONValue) {
        guard let status = value["status"]?.string.flatMap(Status.init), let time = value["time"]?.stringBytes,
            let time = Timestamp(instant: time), let by = value["by"]?.string
        else { return nil }
        self.init(
            status, time: time, by: by, reason: value["reason"]?.string, replay: value["replay"]?.string,
            replayedBy: value["replayed_by"]?.string,
            replayedAt: value["replayed_at"]?.stringBytes.flatMap { Timestamp(instant: $0) },
            successor: value["successor"]?.string.flatMap { DeadLetter.place($0) },
            origin: value["origin"]?.string.flatMap { DeadLetter.place($0) },
            originTimestamp: value["origin_timestamp"]?.stringBytes.flatMap { Timestamp(instant: $0) },
            follows: value["follows"]?.string.flatMap { ReplayMark($0) }, lane: value["lane"]?.string)
    }

    /// The record's value: a JSON object of strings.
    public var json: ByteSlice {
        var text = "{\"status\":\"\(status.rawValue)\",\"time\":\"\(time.iso8601)\",\"by\":\(JSONText(by).quoted)"
        if let reason { text += ",\"reason\":\(JSONText(reason).quoted)" }
        if let replay { text += ",\"replay\":\(JSONText(replay).quoted)" }
        if let replayedBy { text += ",\"replayed_by\":\(JSONText(replayedBy).quoted)" }
        if let replayedAt { text += ",\"replayed_at\":\"\(replayedAt.iso8601)\"" }
        if let successor { text += ",\"successor\":\(JSONText(successor.description).quoted)" }
        if let origin { text += ",\"origin\":\(JSONText(origin.description).quoted)" }
        if let originTimestamp { text += ",\"origin_timestamp\":\"\(originTimestamp.iso8601)\"" }
        if let follows { text += ",\"follows\":\(JSONText(follows.description).quoted)" }
        if let lane { text += ",\"lane\":\(JSONText(lane).quoted)" }
        return ByteSlice(text + "}")
    }
}

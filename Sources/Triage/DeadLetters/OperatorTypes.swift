public import TriageEvents
public import TriageProcessing

/// Why an operator can't go on.
public enum OperatorError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Somebody else operates now: who, and since when, as far as it could be found out. Nothing that was under way was written.
    case fenced(by: String?, since: Timestamp?)
    /// ``DeadLetterOperator/begin()`` wasn't called, or what came after it failed.
    case notBegun
    /// `triage.dead-letters` doesn't exist, and making it didn't help.
    case noStateTopic
    /// A transaction failed and was aborted: what came before it counts, nothing of it does.
    case aborted(BrokerError)
    /// It isn't known whether the last transaction counts; ``DeadLetterOperator/begin()`` finds out.
    case uncertain(BrokerError)

    /// What happened and what to do.
    public var description: String {
        switch self {
        case .fenced(let by, let since):
            "\(by ?? "somebody else") operates the dead letters of this cluster now"
                + "\(since.map { ", since \($0.iso8601)" } ?? ""): nothing of what was under way was written"
        case .notBegun: "nothing was begun, or it failed: begin anew"
        case .noStateTopic: "\(TopicName.deadLetterState) doesn't exist: `triage topics create` makes it"
        case .aborted(let error):
            "\(error): the last transaction was aborted; what came before it counts, and isn't done twice when this is run again"
        case .uncertain(let error):
            "\(error): it isn't known whether the last transaction counts; running this again finds out, and does nothing twice"
        }
    }
}

/// How dead letters are replayed.
public struct ReplayOptions: Sendable {
    /// Makes a new value of an old one; nil leaves it as it is. What it throws refuses that one dead letter; the error's text is
    /// shown, so it must tell nothing of the event.
    public typealias Edit = @Sendable (_ entry: DeadLetterEntry, _ record: Record, _ value: ByteSlice?) throws -> ByteSlice?

    /// Where they go. Default the retry topic.
    public var target = DeadLetterReplay.Target.retry
    /// The main topic that they go to, or beside; nil for the one that they came from.
    public var topic: String?
    /// Changes values; the old ones are kept in `triage.dead-letters`. Default nil: nothing is changed.
    public var edit: Edit?
    /// How many are replayed first, the others only if all of these are completed; 0, the default, for none.
    public var canary = 0
    /// How long those may take. Default 120 s.
    public var canaryTimeout: Duration = .seconds(120)
    /// The rates that the command and the console take: from one in a quarter of an hour to more than any broker takes.
    public static let rates: ClosedRange<Double> = 0.001...100_000
    /// Dead letters in a second at most; nil, the default, for as fast as it goes.
    public var rate: Double?
    /// Replay also what isn't open: what was replayed before, completed or discarded. Default false.
    public var force = false
    /// Why, in the operator's words: kept in `triage.dead-letters`.
    public var reason: String?
    /// Dead letters in one transaction at most. Default 100.
    public var batchRecords = 100
    /// Bytes of values in one transaction, but for a single larger one. Default 1 MB.
    public var batchBytes = 1_000_000

    /// The defaults.
    public init() {}

    /// Replays where the edits name new values by place.
    public static func edit(_ values: [RecordPosition: ByteSlice]) -> Edit { { entry, _, _ in values[entry.letter.position] } }
}

/// Why one dead letter wasn't replayed, discarded or opened again.
public enum OperatorRefusal: Error, Sendable, Hashable, CustomStringConvertible {
    /// Nothing stands there any more.
    case gone
    /// It names no group, and none was given; or it names one in an unusual form, and not the one that was given.
    case noGroup
    /// It isn't known which topic it came from.
    case noTopic
    /// Its bytes were refused when it was dead-lettered, and they don't stand at its origin any more.
    case valueGone(RecordPosition?)
    /// It is encrypted, and no key was given.
    case encrypted
    /// It is encrypted, and the key doesn't open it: the error's text.
    case notOpened(String)
    /// The edit failed: its text.
    case notEdited(String)
    /// The broker or its client doesn't take a record of that size.
    case tooLarge
    /// There is no such topic, or no such partition of it, to write to.
    case noPartition(String, Int32?)

    /// What is wrong and what to do.
    public var description: String {
        switch self {
        case .gone: "nothing stands there any more"
        case .noGroup: "it names no group that can be shown: -g names the one that gave it up"
        case .noTopic: "it doesn't say which topic it came from: name one"
        case .valueGone(let origin):
            "its bytes were refused, and they no longer stand at \(origin?.description ?? "its origin, which it doesn't name")"
        case .encrypted: "it is encrypted: a key is needed"
        case .notOpened(let text): "it can't be decrypted: \(text)"
        case .notEdited(let text): "the edit failed: \(text)"
        case .tooLarge: "it is larger than what the brokers take"
        case .noPartition(let topic, let partition):
            "there is no \(partition.map { "partition \($0) of " } ?? "topic ")\(topic) to write it to"
        }
    }
}

/// What an operator has just done; told while it goes on.
public enum OperatorEvent: Sendable {
    /// A dead letter was replayed, and that counts.
    case replayed(RecordPosition, as: RecordPosition)
    /// A dead letter was discarded.
    case discarded(RecordPosition)
    /// A dead letter is open again.
    case reopened(RecordPosition)
    /// There was nothing to do: its status.
    case unchanged(RecordPosition, DeadLetterState.Status)
    /// It couldn't be done.
    case refused(RecordPosition, OperatorRefusal)
    /// The canaries' replays are waited for: how many have ended, of how many.
    case waiting(ended: Int, of: Int)
}

/// What became of a replay.
public struct ReplayReport: Sendable {
    /// How the canaries fared.
    public enum Canary: Sendable, Hashable {
        /// All of them were completed.
        case completed
        /// Some failed again: those; nothing more was replayed.
        case failedAgain([RecordPosition])
        /// Some had not ended in time: those; nothing more was replayed.
        case timedOut([RecordPosition])
    }
    /// The replay's id, in `triage-replay` of what it wrote.
    public let id: String
    /// How many were replayed.
    public internal(set) var replayed = 0
    /// How many had nothing to be done, by their status.
    public internal(set) var unchanged: [DeadLetterState.Status: Int] = [:]
    /// Those that couldn't be replayed, the first 1,000 of them.
    public internal(set) var refusals: [(position: RecordPosition, refusal: OperatorRefusal)] = []
    /// How many couldn't be.
    public internal(set) var refused = 0
    /// How the canaries fared; nil if there were none.
    public internal(set) var canary: Canary?
    /// How many were left alone since the canaries weren't all completed.
    public internal(set) var left = 0

    init(id: String) { self.id = id }

    mutating func refuse(_ position: RecordPosition, _ refusal: OperatorRefusal) {
        refused += 1
        if refusals.count < 1000 { refusals.append((position, refusal)) }
    }
}

/// What became of a discard, or of taking discards back.
public struct StateChangeReport: Sendable {
    /// How many were changed.
    public internal(set) var changed = 0
    /// How many had nothing to be done, by their status.
    public internal(set) var unchanged: [DeadLetterState.Status: Int] = [:]
    /// Those that don't exist, the first 1,000 of them.
    public internal(set) var refusals: [(position: RecordPosition, refusal: OperatorRefusal)] = []
    /// How many don't exist.
    public internal(set) var refused = 0
}

public import TriageEvents
public import TriageTelemetry

/// What the engine needs to know.
public struct EngineConfiguration: Sendable {
    /// The consumer group.
    public var group: String
    /// The topics to work on; their retry topics come along.
    public var topics: [String]
    /// Which of them carry something else than events. Default: the commands' topic carries commands.
    public var roles = TopicRoles()
    /// When and how often to try again, by topic and class.
    public var retries = RetryPolicies()
    /// When and how often to try again where ``retries`` has nothing for a topic or class.
    public var retry: RetryPolicy {
        get { retries.standard }
        set { retries.standard = newValue }
    }
    /// A wait for a retry that is longer than this begins a new trace; nil for never. Default 1 h.
    public var newTraceAfter: Duration? = .seconds(3600)
    /// When an outage of what the handler calls stops everything but probes; nil for never.
    public var outage: OutagePolicy? = OutagePolicy()
    /// When so many dead letters stop everything but probes; nil for never.
    public var storm: StormPolicy? = StormPolicy()
    /// Completed events that are remembered to skip duplicates, at most ``DuplicateWindow/maximumCapacity``; 0, the default, for none.
    public var dedupeWindow = 0
    /// Handlers that may be suspended at the same time, 1 or more. Default 64.
    public var concurrency = 64
    /// Whether a patient's events are kept in order across retries. Default per key.
    public var ordering = EventOrdering.perKey
    /// Whether a patient's later events wait while a dead letter of it is open; needs an order per key. Default release.
    public var deadLetters = DeadLetterOrder.release
    /// How long reading what became of dead letters may take at an assignment, where they hold their patients. Default 30 s.
    public var stateTimeout: Duration = .seconds(30)
    /// How long an attempt may take before its task is cancelled; nil for no limit. Default 60 s.
    public var attemptTimeout: Duration? = .seconds(60)
    /// Records that one poll takes at most. Default 500.
    public var pollSize = 500
    /// How long to wait before a retry record or dead letter that could not be produced is produced again. Default 1 s.
    public var produceRetryDelay: Duration = .seconds(1)
    /// Records in flight at which fetching is paused. Default 4,000; it goes on at half of that.
    public var maximumInFlight = 4000
    /// Bytes in flight at which fetching is paused. Default 64 MiB; it goes on at half of that. Of retry records that wait for
    /// their time as many bytes are kept in memory; beyond that they are read again when they are due.
    public var maximumBytesInFlight = 64 << 20
    /// Offsets that a partition's watermark may stay behind what was delivered: what is complete in between must fit into the
    /// commit's metadata. Default 16,000 (design §3).
    public var maximumOffsetSpan: Int64 = 16_000
    /// Time between commits. Default 1 s.
    public var commitInterval: Duration = .seconds(1)
    /// How long a revoked partition's deliveries in flight may take to finish. Default 5 s.
    public var revocationTimeout: Duration = .seconds(5)
    /// How long a stop may take to finish what is in flight. Default 30 s.
    public var drainTimeout: Duration = .seconds(30)
    /// Where a main partition without a committed offset starts. Default the beginning.
    public var startsAtEnd = false
    /// End when every partition, retries included, has been worked to its end.
    public var endsWhenIdle = false
    /// `messaging.client.id`.
    public var clientID: String?
    /// Makes dead letters unreadable without a key; nil, the default, writes them as their events are.
    public var deadLetterSeal: (any DeadLetterSeal)?
    /// Makes jitter and lane hashing reproducible; nil seeds them from the system.
    public var seed: UInt64?

    /// The defaults for `group` and `topics`.
    public init(group: String, topics: [String]) {
        self.group = group
        self.topics = topics
    }
}

/// Whether a key's events wait for one another across retries.
public enum EventOrdering: String, Sendable, CaseIterable {
    /// A key's events are completed in the order of their origins: while one waits for its retry, those behind it are parked.
    case perKey
    /// An event that waits for its retry holds up nothing: more throughput, no order across retries.
    case none
}

/// What the engine has done so far.
public struct EngineSummary: Sendable, Hashable {
    /// Deliveries that were handled, retries included.
    public var consumed = 0
    /// Events whose handler is done with them.
    public var completed = 0
    /// Retries: retry records that were acknowledged, and tries in place.
    public var retries = 0
    /// Events that were put behind an earlier one of their patient that waits for its retry.
    public var parked = 0
    /// Dead letters that were acknowledged.
    public var deadLettered = 0
    /// Deliveries whose attempt failed during an outage: not charged, tried again after it.
    public var deferred = 0
    /// Records skipped: another group's retries, and void ones.
    public var skipped = 0
    /// Events skipped since one with the same id was completed before, where a dedupe window is configured.
    public var deduplicated = 0
    /// Deliveries of an offset that had been delivered before in the same assignment.
    public var duplicates = 0
    /// Produces of retry records or dead letters that failed and were tried again.
    public var produceFailures = 0
    /// When the first record came; nil before that.
    public var firstRecord: Timestamp?
    /// CPU seconds that the process had used by then: what starting up cost.
    public var cpuSecondsAtFirstRecord = 0.0

    /// Nothing done.
    public init() {}

    /// What two engines of one process have done together.
    public static func + (left: EngineSummary, right: EngineSummary) -> EngineSummary {
        var sum = left
        sum.consumed += right.consumed
        sum.completed += right.completed
        sum.retries += right.retries
        sum.parked += right.parked
        sum.deadLettered += right.deadLettered
        sum.deferred += right.deferred
        sum.skipped += right.skipped
        sum.deduplicated += right.deduplicated
        sum.duplicates += right.duplicates
        sum.produceFailures += right.produceFailures
        if let first = right.firstRecord, sum.firstRecord.map({ first < $0 }) ?? true {
            sum.firstRecord = first
            sum.cpuSecondsAtFirstRecord = right.cpuSecondsAtFirstRecord
        }
        return sum
    }
}

/// Why the engine ended by itself.
public enum EngineError: Error, Sendable, Hashable, CustomStringConvertible {
    /// A main partition and its retry twin are not assigned together, so order can't be kept.
    case notCoPartitioned(TopicPartition, twin: TopicPartition)
    /// What became of dead letters, which hold their patients, can't be read.
    case statesUnknown(BrokerError)
    /// The client reported an error that it can't recover from.
    case broker(BrokerError)

    /// What happened and what to do.
    public var description: String {
        switch self {
        case .notCoPartitioned(let partition, let twin):
            """
            \(partition) is assigned without \(twin): a topic and its .retry topic need equal partition counts, and every \
            member of the group the same topics and the range assignor; `triage topics check` tells what differs or is missing
            """
        case .statesUnknown(let error):
            """
            with dead-letters=sequence the topic \(TopicName.deadLetterState) must be read before events are handled, and it can't be: \
            \(error); `triage topics create` makes it if it is missing
            """
        case .broker(let error): "the Kafka client can't go on: \(error)"
        }
    }
}

/// What a handler is told about a delivery beside the event.
public struct HandlerContext: Sendable {
    /// The record as it was read.
    public let record: Record
    /// The number of this attempt over all deliveries of the event: 1 for the first.
    public let attempt: Int
    /// What the headers of a retry record say of ``origin``.
    let firstOrigin: RecordPosition?
    /// Where the event was delivered first.
    public var origin: RecordPosition { firstOrigin ?? record.position }
    /// Whether the handler may have seen the event before: an attempt was charged or deferred, or its record lies where an owner of
    /// the partition that didn't end cleanly was at work. False says that it is new, but for copies that its producer wrote.
    public let isRedelivery: Bool
    /// The attempt's span, to be annotated.
    public let span: Span
    /// Whether a higher version of the patient was handled before, as far as this instance remembers: best effort, by numbers.
    public internal(set) var isStale = false
    /// Whether the record came through the retry topic.
    public var isRetry: Bool { TopicName.isRetry(record.topic) }
}

/// Handles one event: returning means done, throwing means failed, as the error's class says.
public typealias EventHandler = @Sendable (PatientEvent, HandlerContext) async throws -> Void

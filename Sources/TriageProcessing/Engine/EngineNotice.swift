public import TriageEvents
public import TriageTelemetry

/// What an operator should know about, in safe words.
public enum EngineNotice: Sendable, Hashable, CustomStringConvertible {
    /// Partitions were assigned.
    case assigned(Int)
    /// Partitions were revoked; so many deliveries were given up unfinished.
    case revoked(Int, abandoned: Int)
    /// Partitions were lost.
    case lost(Int)
    /// What a predecessor left in a retry partition was read: so many retries are open, of so many records.
    case rebuilt(TopicPartition, open: Int, read: Int)
    /// So many owners of a partition in a row didn't end cleanly: what may have been in flight runs alone now.
    case crashLoop(TopicPartition, crashes: Int)
    /// A commit's metadata can't be used: what is complete beyond the committed offset is handled again.
    case metadataIgnored(TopicPartition, CommitMetadataError)
    /// A record that waited was taken by the topic's retention: it can't be handled any more.
    case lostToRetention(RecordPosition)
    /// The client reported an error that it may recover from.
    case clientError(BrokerError)
    /// A commit failed; it is tried again.
    case commitFailed(BrokerError)
    /// A retry record or dead letter couldn't be produced; it is tried again, its offset stays incomplete.
    case produceFailed(BrokerError, TraceContext? = nil)
    /// A record was refused for its size: the event goes into the dead letters instead of the retry topic, or its dead letter
    /// becomes a pointer to where it stands.
    case refusedAsTooLarge(BrokerError, origin: RecordPosition, asPointer: Bool, TraceContext? = nil)
    /// An event was given up: where it came from first, why, and the process span that tells the rest.
    case deadLettered(RecordPosition, reason: SafeText, TraceContext? = nil)
    /// An attempt took longer than its time-out and was cancelled.
    case attemptOverdue(RecordPosition, TraceContext? = nil)
    /// The outage gate closed: nothing is handed over but probes, nothing charged, nothing dead-lettered for it.
    case gateClosed(OutageGate.Cause)
    /// A probe succeeded, so long after the gate had closed: everything goes on.
    case gateOpened(after: Duration)
    /// The storm breaker stopped intake: so many of the last final outcomes were dead letters for persistent failures.
    case stormStopped(deadLetters: Int, events: Int)
    /// A probe was completed, so long after the breaker had stopped intake: everything goes on.
    case stormOpened(after: Duration)
    /// How many dead letters stand open can't be read any more; told once until it can be again.
    case backlogUnknown(BrokerError)
    /// What became of dead letters can't be read any more; told once until it can be again.
    case statesUnknown(BrokerError)
    /// What became of a dead letter can't be written; told once until it can be again. The event is done all the same.
    case stateRefused(BrokerError, TraceContext? = nil)
    /// A record says that it is an operator's replay, and no state of its dead letter bears that out: that one stays what it is. Told
    /// once until a replay is known again.
    case replayUnknown(RecordPosition, TraceContext? = nil)
    /// The engine finishes what is in flight, so many deliveries, and takes nothing in any more.
    case stopping(Int)
    /// The grace period ended with handlers still busy.
    case drainIncomplete(Int)

    /// The notice in words.
    public var description: String {
        switch self {
        case .assigned(let count): "\(count) partitions assigned"
        case .revoked(let count, let abandoned): "\(count) partitions revoked, \(abandoned) deliveries abandoned"
        case .lost(let count): "\(count) partitions lost"
        case .rebuilt(let partition, let open, let read): "\(partition): \(open) open retries found among \(read) records"
        case .crashLoop(let partition, let crashes):
            """
            \(partition): \(crashes) owners in a row didn't end cleanly; what may have been in flight runs alone, and an event that \
            runs alone at three crashes in a row is dead-lettered
            """
        case .metadataIgnored(let partition, let error):
            """
            the metadata of the commit of \(partition) \(error == .foreign ? "isn't Triage's" : "is damaged") and is ignored: \
            what was done beyond the committed offset is done again
            """
        case .lostToRetention(let position):
            "\(position) waited longer than its topic keeps records and is lost: raise retention.ms of the retry topic"
        case .clientError(let error): "Kafka client: \(error)"
        case .commitFailed(let error): "commit failed, will be tried again: \(error)"
        case .produceFailed(let error, _): "a retry or dead letter was not acknowledged, will be tried again: \(error)"
        case .refusedAsTooLarge(let error, let origin, let asPointer, _):
            "\(origin): \(error), \(asPointer ? "its dead letter points there instead of carrying it" : "it can't be retried")"
        case .deadLettered(let origin, let reason, _): "\(origin) is dead-lettered: \(reason)"
        case .attemptOverdue(let position, _): "the attempt at \(position) exceeded its time-out and was cancelled"
        case .gateClosed(.row(let keys)):
            "outage: the handler failed for \(keys) keys in a row; only probes go on, nothing is charged or dead-lettered"
        case .gateClosed(.ratio(let failures, let attempts)):
            """
            outage: \(failures) of the last \(attempts) attempts failed; only probes go on, nothing is charged or dead-lettered
            """
        case .gateOpened(let time): "the outage is over after \(Int(time.inSeconds.rounded())) s: everything goes on"
        case .stormStopped(let deadLetters, let events):
            "storm: \(deadLetters) of the last \(events) events were dead-lettered; nothing more is taken in, only probes go on"
        case .stormOpened(let time): "the storm is over after \(Int(time.inSeconds.rounded())) s: everything goes on"
        case .backlogUnknown(let error): "the number of open dead letters can't be read: \(error)"
        case .statesUnknown(let error): "what became of dead letters can't be read: \(error)"
        case .stateRefused(let error, _):
            "what became of a dead letter can't be written: \(error); `triage topics create` makes \(TopicName.deadLetterState)"
        case .replayUnknown(let position, _):
            """
            \(position) says that it is a replay of a dead letter, and \(TopicName.deadLetterState) knows nothing of that: nothing is \
            told of the dead letter
            """
        case .stopping(let count): "stopping with \(count) deliveries in flight"
        case .drainIncomplete(let count): "stopped with \(count) deliveries unfinished; they will be delivered again"
        }
    }

    /// The notice as text that may be exported: it names counts, positions, codes and operations, and nothing of a payload.
    public var text: SafeText { SafeText(vetted: description) }

    /// The span of the event that it is about, if it is about one and there is a span; not necessarily sampled.
    public var context: TraceContext? {
        let context: TraceContext? =
            switch self {
            case .produceFailed(_, let context), .stateRefused(_, let context), .deadLettered(_, _, let context),
                .attemptOverdue(_, let context), .replayUnknown(_, let context),
                .refusedAsTooLarge(_, _, _, let context):
                context
            default: nil
            }
        return context?.isValid == true ? context : nil
    }

    /// How much attention it calls for.
    public enum Weight: Sendable, Hashable {
        /// Part of ordinary operation.
        case information
        /// Part of ordinary operation, and what an operator asks the log for: an event was given up, an outage is over.
        case notable
        /// Something isn't as it should be.
        case warning
    }

    /// How much attention it calls for.
    public var weight: Weight {
        switch self {
        case .assigned, .revoked, .rebuilt, .stopping: .information
        case .deadLettered, .gateOpened, .stormOpened: .notable
        default: .warning
        }
    }
}

public import TriageEvents
internal import TriageTelemetry

/// What an operator should know about, in safe words.
public enum EngineNotice: Sendable, Hashable, CustomStringConvertible {
    /// Partitions were assigned.
    case assigned(Int)
    /// Partitions were revoked; so many deliveries were given up unfinished.
    case revoked(Int, abandoned: Int)
    /// Partitions were lost.
    case lost(Int)
    /// The client reported an error that it may recover from.
    case clientError(BrokerError)
    /// A commit failed; it is tried again.
    case commitFailed(BrokerError)
    /// A retry record or dead letter couldn't be produced; it is tried again, its offset stays incomplete.
    case produceFailed(BrokerError)
    /// An event was given up: where it came from first, why in safe words, and the trace that tells the rest.
    case deadLettered(RecordPosition, reason: String, trace: TraceID)
    /// An attempt took longer than its time-out and was cancelled.
    case attemptOverdue(RecordPosition)
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
        case .clientError(let error): "Kafka client: \(error)"
        case .commitFailed(let error): "commit failed, will be tried again: \(error)"
        case .produceFailed(let error): "a retry or dead letter was not acknowledged, will be tried again: \(error)"
        case .deadLettered(let origin, let reason, let trace):
            "\(origin) is dead-lettered: \(reason)" + (trace.isValid ? ", trace \(trace)" : "")
        case .attemptOverdue(let position): "the attempt at \(position) exceeded its time-out and was cancelled"
        case .stopping(let count): "stopping with \(count) deliveries in flight"
        case .drainIncomplete(let count): "stopped with \(count) deliveries unfinished; they will be delivered again"
        }
    }

    /// Whether it calls for attention.
    public var isWarning: Bool {
        switch self {
        case .assigned, .revoked, .stopping, .deadLettered: false
        default: true
        }
    }
}

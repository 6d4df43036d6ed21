public import TriageEvents

/// Why a probe fails: a closed vocabulary, so that nothing else gets into an answer.
public enum HealthReason: String, Sendable, CaseIterable {
    /// No partition is assigned yet, or any more.
    case notAssigned = "not_assigned"
    /// The consumer hasn't come back to poll for too long.
    case notPolling = "not_polling"
    /// Retry records and dead letters can't be produced, so what failed doesn't get on; or what is taken in can't be.
    case notProducing = "not_producing"
    /// The server that requests are sent to doesn't listen yet, or any more.
    case notListening = "not_listening"
    /// The processor is shutting down.
    case stopping
}

/// A probe's answer.
public enum HealthStatus: Sendable, Hashable {
    /// 200.
    case ok
    /// 503, for these reasons.
    case failing([HealthReason])

    /// The answer for several parts: well if all are, else every reason that one of them gives, each once.
    public static func all(_ parts: [HealthStatus]) -> HealthStatus {
        var reasons: [HealthReason] = []
        for case .failing(let some) in parts { for reason in some where !reasons.contains(reason) { reasons.append(reason) } }
        return reasons.isEmpty ? .ok : .failing(reasons)
    }
}

/// What a part of the process tells probes. Time is an argument.
public protocol HealthReading: Sendable {
    /// Whether the process should be left running.
    func liveness(at now: Timestamp) -> HealthStatus
    /// Whether the part does its work.
    func readiness(at now: Timestamp) -> HealthStatus
}

/// Decides from the consumer's progress whether the process lives and whether it is ready. A pure machine: time is an argument.
///
/// - Live: a poll came back within ``maxPollSilence``, or the process has not run that long. A poll that brings no record
///   counts: an idle topic is no failure. Neither is a closed outage gate, since a restart would heal nothing.
/// - Ready: live, partitions are assigned unless ``needsAssignment`` is false, and it isn't stopping.
public struct Health: HealthReading, Equatable {
    /// How long no poll may come back: 60 s by default, well within Kafka's `max.poll.interval.ms` of 5 min.
    public let maxPollSilence: Duration
    /// Whether it takes partitions to be ready. Not where requests are taken in beside it: those don't need any.
    public var needsAssignment = true
    private var lastSign: Timestamp
    private var isAssigned = false
    private var isStopping = false
    private var produceFailingSince: Timestamp?

    /// A process that began at `start`.
    ///
    /// - Parameter maxPollSilence: how long no poll may come back; longer is more patient with a blocked consumer.
    public init(start: Timestamp, maxPollSilence: Duration = .seconds(60)) {
        lastSign = start
        self.maxPollSilence = maxPollSilence
    }

    /// A poll came back, with records or without.
    public mutating func polled(at now: Timestamp) { lastSign = max(lastSign, now) }

    /// The assignment changed.
    public mutating func assignmentChanged(hasPartitions: Bool) { isAssigned = hasPartitions }

    /// Since when retry records and dead letters can't be produced; nil if they can.
    public mutating func produceFailing(since: Timestamp?) { produceFailingSince = since }

    /// The shutdown began.
    public mutating func stopping() { isStopping = true }

    /// Whether the process should be left running.
    public func liveness(at now: Timestamp) -> HealthStatus {
        now - lastSign > maxPollSilence ? .failing([.notPolling]) : .ok
    }

    /// Whether the process does its work.
    public func readiness(at now: Timestamp) -> HealthStatus {
        var reasons: [HealthReason] = []
        if isStopping { reasons.append(.stopping) }
        if needsAssignment, !isAssigned { reasons.append(.notAssigned) }
        if now - lastSign > maxPollSilence { reasons.append(.notPolling) }
        // One refusal is retried after a second; ten seconds of them are no passing fault.
        if let since = produceFailingSince, now - since > .seconds(10) { reasons.append(.notProducing) }
        return reasons.isEmpty ? .ok : .failing(reasons)
    }
}

/// What kind of failure an error is, which decides what happens next (design §3).
public enum ErrorClass: String, Sendable, CaseIterable {
    /// Network, time-outs, 408/429/5xx: worth a retry.
    case transient
    /// Bad JSON, an invalid resource, a rule of the business: never retried, dead-lettered at once.
    case persistent
    /// Anything unexpected: retried like a transient failure.
    case system
}

/// How the handling of one delivery ended: the attribute `triage.outcome` of its process span.
public enum Outcome: String, Sendable, CaseIterable {
    /// The handler is done with it.
    case completed
    /// It failed and a retry record was acknowledged.
    case retryScheduled = "retry_scheduled"
    /// It waits behind an earlier event of the same patient.
    case parked
    /// It was given up and a dead letter was acknowledged.
    case deadLettered = "dead_lettered"
    /// The outage gate is closed.
    case deferred
    /// Its partition was revoked before it was done.
    case abandoned
    /// It is nothing for this consumer, such as another group's retry record.
    case skipped
}

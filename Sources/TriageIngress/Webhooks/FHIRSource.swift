public import TriageEvents

/// What a FHIR server is asked for that a notification didn't tell.
public enum SourceQuery: Sendable, Hashable {
    /// The current version of a Patient: `GET Patient/ID`.
    case patient(ByteSlice)
    /// Changes of Patients since an instant, the newest first: `GET Patient/_history?_since=…&_count=…`.
    case history(since: String, count: Int)
    /// A further page of that, by the link that the page before it has.
    case page(String)
    /// A subscription's events: `GET Subscription/ID/$events?eventsSinceNumber=…&eventsUntilNumber=…&content=full-resource` (R5
    /// Subscriptions, and the R4 backport).
    case events(subscription: String, since: Int64, until: Int64)
}

/// What it answered.
public enum SourceAnswer: Sendable, Hashable {
    /// 200 with this body.
    case body(ByteSlice)
    /// 410: there was such a resource, and it was deleted.
    case gone
    /// 404: there is no such resource, or no such place at all, as with a base URL that is wrong.
    case missing
    /// The server doesn't offer that: another 4xx, or 501.
    case refused
    /// It would, but at greater length than is taken.
    case tooLarge
    /// It didn't answer, or with a status that may pass: the same may be asked later.
    case unavailable
}

/// The port to the FHIR server that sends the notifications. Each call is a CLIENT span.
public protocol FHIRSource: Sendable {
    /// Asks once; `parent` is the span that the call's span belongs under, nil for a trace of its own.
    func ask(_ query: SourceQuery, parent: TraceContext?) async -> SourceAnswer
}

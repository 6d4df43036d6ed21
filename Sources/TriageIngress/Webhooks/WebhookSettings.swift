public import TriageTelemetry

/// How webhooks are taken in.
public struct WebhookSettings: Sendable {
    /// Judges who asks; by default everyone may.
    public var authenticator = Authenticator()
    /// Whether a caller's trace is continued or linked to.
    public var trust = CallerTrust.continue
    /// Bytes that a body may have, at least 1. Default 2 MiB: Aidbox sends up to 20 events a bundle.
    public var maximumBodyBytes = 2 << 20
    /// How long a request may wait for Kafka, and for the FHIR server where something has to be fetched. Default 25 s, below the 30 s
    /// that Aidbox waits.
    public var timeout: Duration = .seconds(25)
    /// Requests that wait at the same time; more are answered 503 at once. Default 1,000.
    public var maximumWaiting = 1000
    /// What ids are made under: where the changes come from.
    public var namespace = "triage"
    /// Whether the server speaks TLS.
    public var isSecure = false
    /// How long an event number may be missing before what is missing is fetched. Default 5 s: servers deliver several at a time.
    public var gapPatience: Duration = .seconds(5)
    /// Time between two looks at the server's history; nil for looking only when a notification tells nothing.
    public var historyInterval: Duration?

    /// The defaults.
    public init() {}
}

/// What happened that an operator should know.
public enum WebhookNotice: Sendable, Hashable {
    /// So many event numbers of a subscription are missing.
    case gap(numbers: Int64)
    /// An event's number is so far ahead of those before it that it isn't believed alone.
    case unlikelyNumber
    /// So many entries of the history break a rule, and are left out.
    case entriesRefused(Int)
    /// The history can't be read any more, or can be read again.
    case historyReadable(Bool)
    /// The server doesn't have a Patient that a notification names: most likely it is asked at the wrong place. Told once, until it
    /// has one again.
    case patientMissing
}

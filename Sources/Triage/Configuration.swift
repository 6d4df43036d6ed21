public import TriageEvents
public import TriageKafka
public import TriageProcessing

/// Everything a ``Processor`` can be told.
///
/// Made in code, or by ``ConfigurationLoader`` from flags over `TRIAGE_*` environment variables over a YAML file over
/// these defaults.
public struct Configuration: Sendable {
    /// Brokers, TLS, SASL, and any further property of librdkafka but those the design forbids.
    public var kafka: KafkaConfiguration
    /// The consumer group. Instances with the same name share the partitions. Default `triage`; `TRIAGE_GROUP`.
    public var group = "triage"
    /// The topics to work on; their `.retry` and `.dlq` topics come along. Default the hybrid pattern's three; `TRIAGE_TOPICS`.
    public var topics = TopicPattern.hybrid.patientTopics
    /// When and how often a failed event is tried again. Default exponential, 3 retries from 1 s to 60 s; `TRIAGE_RETRY`.
    public var retry: RetryPolicy {
        get { retries.standard }
        set { retries.standard = newValue }
    }
    /// The same with policies of their own for topics and classes of errors; ``retry`` is its standard one. `TRIAGE_RETRY_BY_CLASS`,
    /// `TRIAGE_RETRY_BY_TOPIC`.
    public var retries = RetryPolicies()
    /// A wait for a retry that is longer than this begins a new trace, linked to the old one; nil for never. Default 1 h;
    /// `TRIAGE_NEW_TRACE_AFTER`.
    public var newTraceAfter: Duration? = .seconds(3600)
    /// When an outage of what the handler calls stops everything but probes; nil for never. Default 20 patients in a row, or
    /// half of at least 100 attempts within 60 s; `TRIAGE_OUTAGE_GATE`.
    public var outage: OutagePolicy? = OutagePolicy()
    /// When so many events are dead-lettered that intake stops but for probes; nil for never. Default half of at least 200 events
    /// within 60 s; `TRIAGE_STORM_BREAKER`.
    public var storm: StormPolicy? = StormPolicy()
    /// Seals what dead letters say of patients, by its first key; nil, the default, writes them as their events are.
    /// `TRIAGE_DEAD_LETTER_KEY_FILE`.
    public var deadLetterCipher: DeadLetterCipher?
    /// Completed events that are remembered so that their duplicates are skipped, by event id, version id, resource and action; 0 to
    /// 10,000,000, each takes up to 72 bytes. Default 0: none; `TRIAGE_DEDUPE_WINDOW`.
    public var dedupeWindow = 0
    /// Whether a patient's later events wait while an earlier one waits for its retry. Default per key; `TRIAGE_ORDERING`.
    public var ordering = EventOrdering.perKey
    /// Whether a patient's later events wait while a dead letter of it is open: nobody handles them before an operator has replayed or
    /// discarded that. Needs an order per key, and the topic `triage.dead-letters`. Default release: they go on;
    /// `TRIAGE_DEAD_LETTERS`.
    public var deadLetters = DeadLetterOrder.release
    /// Handlers that may be suspended at the same time, 1 to 10,000. Default 64; `TRIAGE_CONCURRENCY`. One patient's events
    /// are handled one at a time whatever this is.
    public var concurrency = 64
    /// How long one attempt may take before its task is cancelled. Default 60 s, 0 for no limit; `TRIAGE_ATTEMPT_TIMEOUT`.
    public var attemptTimeout: Duration? = .seconds(60)
    /// How long a stop may take to finish what is in flight. Default 30 s; `TRIAGE_GRACE_PERIOD`.
    public var gracePeriod: Duration = .seconds(30)
    /// Time between commits. Default 1 s; `TRIAGE_COMMIT_INTERVAL`. After a crash, what was handled since is handled again.
    public var commitInterval: Duration = .seconds(1)
    /// Where `/metrics` and `/health` are served; nil serves nothing. Default 127.0.0.1:9464; `TRIAGE_HTTP`,
    /// or else `OTEL_EXPORTER_PROMETHEUS_HOST` and `_PORT`.
    public var http: HTTPAddress? = HTTPAddress(host: "127.0.0.1", port: 9464)
    /// The pages beside `/metrics`. `TRIAGE_CONSOLE` and its like.
    public var console = Console()
    /// The server for webhooks and commands; it listens only if one of those is on.
    public var listen = Listen()
    /// Takes commands in over HTTP; nil, the default, does not. `TRIAGE_ACCEPT_COMMANDS`.
    public var acceptedCommands: AcceptedCommands?
    /// How events are written that are taken in from webhooks, change data and commands; `TRIAGE_PATTERN` and others.
    public var capture = Capture()
    /// Topics of change data whose records are published as events; their `.retry` and `.dlq` topics come along. Default
    /// none; `TRIAGE_CHANGE_DATA_TOPICS`.
    public var changeDataTopics: [String] = []
    /// Which of ``topics`` carry something else than events. Default: the commands' topic carries commands.
    public var roles = TopicRoles()
    /// Whether the handler is called with events at all; a service may only take events in. Default true; `TRIAGE_EVENTS`.
    public var handlesEvents = true
    /// End when every partition, retries included, has been worked to its end. Default false.
    public var endsWhenIdle = false
    /// The FHIR server that commands are carried out on and webhooks fetch from; nil for none. `TRIAGE_FHIR_SERVER` and its like.
    public var fhir: FHIR?
    /// How ``TriageService`` carries out commands, on ``fhir``; nil if it doesn't, the default. `TRIAGE_COMMANDS`.
    public var commands: Commands?
    /// How ``TriageService`` takes in what FHIR servers notify; nil if it doesn't, the default. `TRIAGE_WEBHOOKS`.
    public var webhooks: Webhooks?
    /// Where and how ``HTTPDelivery`` delivers events; nil for nowhere, the default. `TRIAGE_DELIVER_TO` and its like.
    public var delivery: Delivery?
    /// Where traces are kept, for links to them and for tools that show them. `TRIAGE_JAEGER_URL` and its like.
    public var traces = Traces()

    /// The defaults, for the brokers of `kafka`.
    public init(kafka: KafkaConfiguration) { self.kafka = kafka }

    /// A host and a port to listen on.
    public struct HTTPAddress: Sendable, Hashable, CustomStringConvertible {
        /// The address or name to bind to.
        public var host: String
        /// The port; 0 lets the system choose.
        public var port: Int

        /// `host:port`.
        public init(host: String, port: Int) {
            self.host = host
            self.port = port
        }

        /// Parses `host:port`, `[v6]:port` or `:port` (127.0.0.1); nil for anything else.
        public init?(_ text: String) {
            guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
                (0...65535).contains(port)
            else { return nil }
            var host = String(text[..<colon])
            if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
            self.init(host: host.isEmpty ? "127.0.0.1" : host, port: port)
        }

        /// `host:port`.
        public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
    }
}

/// A value that can't be used: which key, which value, and what was expected instead.
public struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The key as the user wrote it: a flag, a variable or a path in the file.
    public let key: String
    /// The value that was found; secrets redacted.
    public let value: String
    /// What would have been accepted.
    public let expected: String

    /// `value` of `key` can't be used.
    public init(key: String, value: String, expected: String) {
        self.key = key
        self.value = value
        self.expected = expected
    }

    /// Key, value and expectation in one line.
    public var description: String { "\(key)=\(value): expected \(expected)" }
}

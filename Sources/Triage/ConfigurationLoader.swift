internal import Configuration
internal import TriageEvents
internal import TriageKafka
internal import TriageProcessing
public import TriageTelemetry

/// Reads a ``Configuration`` from flags over `TRIAGE_*` environment variables over a YAML file over the defaults.
///
/// A key is written `group` in the file, `TRIAGE_GROUP` in the environment; `attempt-timeout` is `TRIAGE_ATTEMPT_TIMEOUT`.
public struct ConfigurationLoader: Sendable {
    /// The keys, each with what it means; the README's table is made of them.
    public static let keys: [(key: String, meaning: String)] =
        coreKeys + deadLetterKeys + fhirKeys + commandKeys + deliveryKeys + listenKeys + acceptedCommandKeys + webhookKeys
        + captureKeys + traceKeys + consoleKeys

    private static let coreKeys: [(key: String, meaning: String)] = [
        ("brokers", "brokers to ask first, host:port separated by commas"),
        ("group", "consumer group"),
        (
            "instance-id",
            "name of this instance in the group, so that its restart moves no partition; different for each instance"
        ),
        ("topics", "topics to work on, separated by commas"),
        (
            "retry",
            "none, immediate:N, or exponential:N,immediate=0,base=1s,cap=60s,jitter=0.2; ,limit=1h bounds the time altogether"
        ),
        ("retry-by-class", "CLASS=POLICY for transient or system failures, separated by semicolons"),
        ("retry-by-topic", "TOPIC=POLICY or TOPIC/CLASS=POLICY, separated by semicolons; goes before retry-by-class"),
        ("new-trace-after", "waits for a retry that are longer begin a new trace, such as 1h; 0 for never"),
        ("ordering", "perKey or none"),
        (
            "dead-letters",
            "release, or sequence: a patient's later events wait until its dead letter is replayed or discarded"
        ),
        ("outage-gate", "off, or row=20,ratio=0.5,attempts=100,window=60s,probe=1s,probe-cap=30s; what is left out is as here"),
        ("storm-breaker", "off, or share=0.5,events=200,window=60s,pause=10s,pause-cap=5m; what is left out is as here"),
        ("dedupe-window", "completed events remembered to skip duplicates, 0 to 10000000; 0 for none"),
        ("concurrency", "handlers that may be suspended at the same time, 1 to 10000"),
        ("attempt-timeout", "time for one attempt, such as 60s; 0 for no limit"),
        ("grace-period", "time for a stop to finish what is in flight, such as 30s"),
        ("commit-interval", "time between commits, such as 1s; at least 10ms"),
        ("http", "where /metrics and /health are served, host:port, or off"),
        ("log-format", "how log lines are written on stderr: text or json"),
        ("log-level", "the least level that is logged: trace, debug, info, notice, warning, error or critical"),
        ("log-export-labels", "loggers whose texts are exported as they are, separated by commas"),
        ("log-export-metadata", "keys of log metadata that are exported as they are, separated by commas"),
        ("identifiers", "how resource ids show in telemetry: hashed, plain or omitted"),
        ("identifier-key-file", "file with at least 32 bytes that ids are hashed with"),
        ("failure-trace-limit", "unsampled traces a second exported after all for a failure, 0 to 1000000; 0 for no limit"),
    ]

    private let reader: ConfigReader
    /// Where OpenTelemetry's variables say that metrics are scraped; every layer of ours goes before it.
    private let prometheusAddress: Configuration.HTTPAddress?

    /// A loader over these layers.
    ///
    /// - Parameters:
    ///   - flags: what the command line said, by key; goes before everything else.
    ///   - environment: variables, such as the process's.
    ///   - file: the path of a YAML file, or nil.
    /// - Throws: ``ConfigurationError`` if the file can't be read or is no YAML mapping, or has a key that isn't known.
    public init(flags: [String: String] = [:], environment: [String: String], file: String? = nil) async throws {
        // What is empty counts as not set, so that the next layer is asked.
        let flags = flags.filter { !$0.value.isEmpty }
        var layers: [any ConfigProvider] = [
            InMemoryProvider(
                name: "flags",
                values: Dictionary(
                    uniqueKeysWithValues: flags.map {
                        (AbsoluteConfigKey(["triage", $0.key]), ConfigValue(.string($0.value), isSecret: false))
                    }
                )
            ),
            EnvironmentVariablesProvider(environmentVariables: environment.filter { !$0.value.isEmpty }),
        ]
        if let file { layers.append(InMemoryProvider(name: "file", values: try await ConfigurationFile.values(of: file))) }
        reader = ConfigReader(providers: layers)
        prometheusAddress = TelemetryConfiguration(environment: environment, exportsByDefault: false).prometheusAddress
    }

    /// The text of a key in the first layer that has it; an empty one counts as not set.
    public func text(_ key: String) -> String? {
        let found =
            reader.string(forKey: ConfigKey(["triage", key]))
            ?? reader.stringArray(forKey: ConfigKey(["triage", key]))?.joined(separator: ",")
        return found?.isEmpty == true ? nil : found
    }

    /// The configuration, each value checked.
    ///
    /// - Throws: ``ConfigurationError`` naming the first key that can't be used.
    public func configuration() throws(ConfigurationError) -> Configuration {
        let brokers = text("brokers") ?? "localhost:9092"
        guard !brokers.split(separator: ",").isEmpty, brokers.split(separator: ",").allSatisfy(ConfigurationLoader.isBroker)
        else {
            throw ConfigurationError(key: "brokers", value: brokers, expected: "host:port, several separated by commas")
        }
        var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: brokers))
        if let group = text("group") { configuration.group = group }
        if let id = text("instance-id") {
            guard ConfigurationLoader.isLegalName(id, maximum: 249) else {
                throw ConfigurationError(
                    key: "instance-id", value: id, expected: "up to 249 letters, digits, dots, dashes or underscores")
            }
            configuration.kafka.groupInstanceID = id
        }
        if let topics = text("topics") {
            configuration.topics = ConfigurationLoader.topics(topics)
            try ConfigurationLoader.check(topics: configuration.topics)
        }
        let commandTopics = try truth("commands") ?? false ? [TopicName.commands] : []
        configuration.retries = try retryPolicies(topics: configuration.topics + commandTopics)
        if let limit = try duration("new-trace-after") { configuration.newTraceAfter = limit == .zero ? nil : limit }
        if let breaker = text("storm-breaker") { configuration.storm = try ConfigurationLoader.stormPolicy(breaker) }
        if let window = text("dedupe-window") {
            guard let number = Int(window), (0...DuplicateWindow.maximumCapacity).contains(number) else {
                throw ConfigurationError(
                    key: "dedupe-window", value: window,
                    expected: "a number of events from 0 to \(DuplicateWindow.maximumCapacity), 0 for none")
            }
            configuration.dedupeWindow = number
        }
        if let gate = text("outage-gate") { configuration.outage = try ConfigurationLoader.outagePolicy(gate) }
        if let ordering = text("ordering") {
            guard let known = EventOrdering(rawValue: ordering) else {
                throw ConfigurationError(key: "ordering", value: ordering, expected: "perKey or none")
            }
            configuration.ordering = known
        }
        if let order = text("dead-letters") {
            guard let known = DeadLetterOrder(rawValue: order), known == .release || configuration.ordering == .perKey else {
                throw ConfigurationError(
                    key: "dead-letters", value: order,
                    expected: configuration.ordering == .perKey
                        ? "release or sequence" : "release, since without an order (ordering=none) nobody waits")
            }
            configuration.deadLetters = known
        }
        if let concurrency = text("concurrency") {
            guard let number = Int(concurrency), (1...10_000).contains(number) else {
                throw ConfigurationError(key: "concurrency", value: concurrency, expected: "a number from 1 to 10000")
            }
            configuration.concurrency = number
        }
        if let timeout = try duration("attempt-timeout") { configuration.attemptTimeout = timeout == .zero ? nil : timeout }
        if let grace = try duration("grace-period") { configuration.gracePeriod = grace }
        if let interval = try duration("commit-interval") {
            guard interval >= .milliseconds(10) else {
                throw ConfigurationError(key: "commit-interval", value: text("commit-interval") ?? "", expected: "at least 10ms")
            }
            configuration.commitInterval = interval
        }
        if let http = text("http") {
            if http == "off" {
                configuration.http = nil
            } else if let address = Configuration.HTTPAddress(http) {
                configuration.http = address
            } else {
                throw ConfigurationError(key: "http", value: http, expected: "host:port with a port from 0 to 65535, or off")
            }
        } else if let prometheusAddress {
            configuration.http = prometheusAddress
        }
        configuration.deadLetterCipher = try deadLetterCipher()
        configuration.console = try consoleSettings()
        try checkConsole(configuration)
        configuration.fhir = try fhirServer()
        configuration.commands = try commands(on: configuration.fhir)
        configuration.webhooks = try webhooks(from: configuration.fhir)
        configuration.delivery = try delivery(attemptTimeout: configuration.attemptTimeout)
        configuration.listen = try listen()
        configuration.acceptedCommands = try acceptedCommands()
        try readCapture(into: &configuration)
        configuration.traces = try traces()
        return configuration
    }

    func duration(_ key: String) throws(ConfigurationError) -> Duration? {
        guard let text = text(key) else { return nil }
        guard let duration = Duration(triage: text) else {
            throw ConfigurationError(key: key, value: text, expected: "a duration such as 500ms, 30s, 5m or 2h, at most a year")
        }
        return duration
    }

    /// The names in a list, each once.
    static func topics(_ list: String) -> [String] {
        var seen: Set<String> = []
        return list.split(separator: ",").map { $0.trimmingSpaces() }.filter { !$0.isEmpty && seen.insert($0).inserted }
    }

    /// Refuses topics that can't be worked on: empty, with characters Kafka doesn't allow, or retry and dead letter topics.
    public static func check(topics: [String], key: String = "topics") throws(ConfigurationError) {
        guard !topics.isEmpty else { throw ConfigurationError(key: key, value: "", expected: "at least one topic") }
        for topic in topics {
            guard isLegalName(topic, maximum: 243) else {
                throw ConfigurationError(
                    key: key, value: topic, expected: "up to 243 letters, digits, dots, dashes or underscores")
            }
            guard !TopicName.isRetry(topic), !TopicName.isDeadLetter(topic) else {
                throw ConfigurationError(
                    key: key, value: topic, expected: "the main topic's name: its .retry topic comes along by itself"
                )
            }
        }
    }

    /// What brokers take as the name of a topic or of a static member (Kafka's `Topic.validate`).
    private static func isLegalName(_ text: String, maximum: Int) -> Bool {
        !text.isEmpty && text.utf8.count <= maximum && text != "." && text != ".."
            && text.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                    || ".-_".utf8.contains($0)
            }
    }

    private static func isBroker(_ text: Substring) -> Bool {
        let text = text.trimmingSpaces()
        guard !text.isEmpty, !text.contains(" "), !text.contains("/") else { return false }
        guard let colon = text.lastIndex(of: ":"), !text.hasSuffix("]") else { return true }
        guard let port = Int(text[text.index(after: colon)...]) else { return false }
        return (1...65535).contains(port)
    }
}

extension Substring {
    fileprivate func trimmingSpaces() -> String {
        var text = self
        while text.first == " " { text = text.dropFirst() }
        while text.last == " " { text = text.dropLast() }
        return String(text)
    }
}

extension Duration {
    /// Parses `250ms`, `30s`, `5m`, `2h` or `0`; nil for anything else, negative ones and those over 366 days included.
    public init?(triage text: String) {
        if text == "0" {
            self = .zero
            return
        }
        let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        let nanosecondsOfUnit: Double
        switch text.dropFirst(digits.count) {
        case "ms": nanosecondsOfUnit = 1e6
        case "s": nanosecondsOfUnit = 1e9
        case "m": nanosecondsOfUnit = 60e9
        case "h": nanosecondsOfUnit = 3600e9
        default: return nil
        }
        guard let number = Double(digits), number * nanosecondsOfUnit <= 366 * 86_400e9 else { return nil }
        self = .nanoseconds(Int64((number * nanosecondsOfUnit).rounded()))
    }
}

extension ConfigurationLoader {
    /// How resource ids show in telemetry (design §6): as `identifiers` says, with the key of `identifier-key-file`.
    ///
    /// - Parameter warn: told if hashing is asked for without a key.
    /// - Returns: nil if nothing was said, or there is no key: the caller's default holds.
    /// - Throws: ``ConfigurationError`` for an unknown word; the key's own error if its file can't be used.
    public func identifierPolicy(_ warn: (String) -> Void) throws -> IdentifierPolicy? {
        let keyFile = text("identifier-key-file")
        switch text("identifiers") {
        case "plain": return .plain
        case "omitted": return .omitted
        case "hashed", nil:
            if let keyFile { return .hashed(try IdentifierKey(contentsOfFile: keyFile)) }
            if text("identifiers") == nil { return nil }
            warn("identifiers=hashed without identifier-key-file")
            return nil
        case let other?:
            throw ConfigurationError(key: "identifiers", value: other, expected: "hashed, plain or omitted")
        }
    }

    /// How many unsampled traces a second are exported since a step of theirs failed, as `failure-trace-limit` says.
    ///
    /// - Returns: nil if nothing was said: the default holds.
    /// - Throws: ``ConfigurationError`` if it isn't a number from 0 to 1,000,000.
    public func failureTraceLimit() throws(ConfigurationError) -> Int? {
        guard let limit = text("failure-trace-limit") else { return nil }
        guard let number = Int(limit), (0...1_000_000).contains(number) else {
            throw ConfigurationError(
                key: "failure-trace-limit", value: limit, expected: "a number from 0 to 1000000, 0 for no limit")
        }
        return number
    }
}

import ArgumentParser
import Foundation
import Logging
import Triage
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry
import UnixSignals

/// The handlers that the command has built in; others are written against the library.
enum BuiltInHandler: String, ExpressibleByArgument, CaseIterable {
    case log
    case none
    case http
}

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "The service: consumes events, retries with backoff, dead-letters, traces.",
        discussion: """
            Each flag can be set in the environment as TRIAGE_… or in the file that --config names; flags win. SIGTERM and
            Ctrl-C finish what is in flight, commit, and end with 0; a second signal ends at once. SIGUSR1 exports what
            telemetry there is at once and goes on.

            EXAMPLES
              triage run -b localhost:9092 --group clinic
              triage run -b localhost:9092 --group once -e -o json          work off what is there, then end
              triage run -b broker:9093 -X security.protocol=SSL -X ssl.ca.location=ca.pem
              triage run -b localhost:9092 --handler http --deliver-to https://index.example.org/patients
              triage run -b localhost:9092 --commands --fhir-server https://fhir.example.org/r4
              OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 triage run -b localhost:9092
            """
    )

    @OptionGroup var broker: BrokerOptions
    @OptionGroup(title: "Delivery") var delivery: DeliveryOptions
    @OptionGroup(title: "FHIR server") var fhir: FHIRServerOptions
    @OptionGroup(title: "Webhooks") var webhooks: WebhookOptions
    @OptionGroup(title: "Commands") var commands: CommandOptions
    @Option(
        name: [.customShort("g"), .long], help: "Consumer group; instances with the same one share the work (default: triage).")
    var group: String?
    @Option(
        help: ArgumentHelp(
            "Name of this instance in the group: a restart within the session time-out then moves no partition.",
            valueName: "name"))
    var instanceID: String?
    @Option(
        name: [.customShort("t"), .customLong("topic")],
        help: "Topic to work on; may be repeated (default: the hybrid pattern's three).")
    var topics: [String] = []
    @Option(
        help: """
            What is done with each event: log writes one line on stderr, http posts it to --deliver-to, none does nothing \
            (default: log).
            """)
    var handler: BuiltInHandler?
    @Option(
        help: ArgumentHelp(
            "none, immediate:N, or exponential:N,immediate=0,base=1s,cap=60s,jitter=0.2; ,limit=1h bounds the time altogether.",
            valueName: "policy"))
    var retry: String?
    @Option(help: ArgumentHelp("Policies for a class: transient=POLICY;system=POLICY.", valueName: "policies"))
    var retryByClass: String?
    @Option(
        help: ArgumentHelp(
            "Policies for a topic: TOPIC=POLICY;TOPIC/system=POLICY; they go before those for a class.", valueName: "policies"))
    var retryByTopic: String?
    @Option(
        help: ArgumentHelp(
            "Waits for a retry that are longer begin a new trace; 0 for never (default: 1h).", valueName: "duration"))
    var newTraceAfter: String?
    @Option(
        help: ArgumentHelp(
            """
            When an outage of what the handler calls stops all but probes: off, or \
            row=20,ratio=0.5,attempts=100,window=60s,probe=1s,probe-cap=30s.
            """,
            valueName: "policy"))
    var outageGate: String?
    @Option(
        help: ArgumentHelp(
            "Whether a patient's later events wait for an earlier one's retry: perKey or none (default: perKey).",
            valueName: "how"))
    var ordering: String?
    @Option(
        help: ArgumentHelp(
            "What a patient's later events do after a dead letter: release, or sequence, and wait for it (default: release).",
            valueName: "how"))
    var deadLetters: String?
    @Option(
        help: ArgumentHelp(
            "When dead letters stop intake: off, or share=0.5,events=200,window=60s,pause=10s,pause-cap=5m.", valueName: "policy")
    )
    var stormBreaker: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Completed events that are remembered to skip duplicates, 0 to 10000000 (default: 0, none).", valueName: "events"))
    var dedupeWindow: String?
    @Option(parsing: .unconditional, help: "Handlers that may be suspended at the same time (default: 64).")
    var concurrency: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time for one attempt, such as 60s; 0 for no limit (default: 60s).", valueName: "duration"))
    var attemptTimeout: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time for a stop to finish what is in flight (default: 30s).", valueName: "duration"))
    var gracePeriod: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time between commits (default: 1s).", valueName: "duration"))
    var commitInterval: String?
    @Option(
        help: ArgumentHelp("Where /metrics and /health are served, or off (default: 127.0.0.1:9464).", valueName: "host:port"))
    var http: String?
    @Option(help: ArgumentHelp("How resource ids show in telemetry: hashed, plain or omitted.", valueName: "how"))
    var identifiers: String?
    @Option(help: ArgumentHelp("File with at least 32 bytes that resource ids are hashed with.", valueName: "file"))
    var identifierKeyFile: String?
    @Option(
        help: ArgumentHelp(
            "File with at least 32 bytes that dead letters are sealed with; behind a comma, those of before.", valueName: "file"))
    var deadLetterKeyFile: String?
    @OptionGroup(title: "Console") var console: ConsoleOptions
    @OptionGroup(title: "Listening") var listening: ListenOptions
    @OptionGroup(title: "Taking events in") var capture: ChangeDataOptions
    @Flag(
        name: [.customShort("e"), .customLong("exit-at-end")],
        help: "End when every partition, retries included, has been worked to its end.")
    var exitAtEnd = false
    @Option(name: [.customShort("o"), .long], help: "The summary at the end: text or json.")
    var output: OutputFormat = .text

    func run() async throws {
        try await reported {
            if !topics.isEmpty { try ConfigurationLoader.check(topics: topics.flatMap(ListedTopics.parts)) }
            var flags: [String: String?] = [
                "group": group, "instance-id": instanceID, "topics": topics.isEmpty ? nil : topics.joined(separator: ","),
                "retry": retry,
                "retry-by-class": retryByClass, "retry-by-topic": retryByTopic, "new-trace-after": newTraceAfter,
                "storm-breaker": stormBreaker, "dedupe-window": dedupeWindow,
                "outage-gate": outageGate, "ordering": ordering, "dead-letters": deadLetters, "concurrency": concurrency,
                "attempt-timeout": attemptTimeout,
                "grace-period": gracePeriod,
                "commit-interval": commitInterval, "http": http, "identifiers": identifiers,
                "identifier-key-file": identifierKeyFile, "dead-letter-key-file": deadLetterKeyFile,
            ]
            for group in [
                console.flags, delivery.flags, fhir.flags, commands.flags, listening.flags, webhooks.flags, capture.flags,
            ] {
                flags.merge(group) { _, flag in flag }
            }
            var (configuration, loader) = try await broker.load(flags)
            configuration.endsWhenIdle = exitAtEnd
            try loader.checkParts()
            try checkHandler(&configuration)
            let logger = broker.logger
            configuration.console.makeToken(if: Narration.isTerminal && Narration.output.format == .text)
            let telemetry = try makeTelemetry(
                loader, logger: logger, exportsByDefault: true, keeping: configuration.servesConsole ? SpanStore.Limits() : nil)
            let summary = try await serve(configuration, telemetry: telemetry, logger: logger)
            if output == .json { try Output.json(summary) } else { try Output.line(summary.table) }
        }
    }

    private func serve(_ configuration: Configuration, telemetry: Telemetry, logger: Logger) async throws -> RunSummary {
        let started = telemetry.tracer.clock.now()
        let service = try TriageService(
            configuration, telemetry: telemetry, logger: logger,
            onListening: { Self.tell($0, at: $1, of: configuration, logger: logger) },
            handler: Self.handler(handler ?? .log, configuration, telemetry: telemetry, logger: logger)
        )
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        for group in configuration.consumerGroups {
            let topics = group.topics.joined(separator: ", ")
            logger.log(
                level: .notice, safe: SafeText(vetted: "group \(group.name): \(topics)"),
                shown: "group \(group.name) at \(configuration.kafka.bootstrapServers): \(topics)"
            )
        }
        let watcher = Task {
            var isSecond = false
            for await signal in signals {
                if isSecond { _exit(130) }
                isSecond = true
                logger.log(
                    level: .notice, safe: "finishing what is in flight",
                    shown: "\(signal): finishing what is in flight, at most \(configuration.gracePeriod); once more ends at once"
                )
                service.stop()
            }
        }
        defer { watcher.cancel() }
        let flusher = await FlushSignal.watch(telemetry) { isComplete, text in
            logger.log(level: isComplete ? .notice : .warning, "\(text)")
        }
        defer { flusher.cancel() }
        var failure: (any Error)?
        do { try await service.run() } catch { failure = error }
        await telemetry.shutdown(timeout: configuration.gracePeriod)
        if let failure { throw failure }
        return RunSummary(service.summary, telemetry: telemetry, started: started)
    }

    private static func tell(
        _ listener: TriageService.Listener, at port: Int, of configuration: Configuration, logger: Logger
    ) {
        switch listener {
        case .admin:
            let address = Configuration.HTTPAddress(host: configuration.http?.host ?? "", port: port)
            logger.log(
                level: .notice, safe: "serving metrics and health", shown: "metrics and health: http://\(address)/metrics")
            if configuration.servesConsole { ConsoleOptions.announce(configuration.console, at: address, logger: logger) }
        case .ingress:
            let address = Configuration.HTTPAddress(host: configuration.listen.address.host, port: port)
            let scheme = configuration.listen.certificateFile == nil ? "http" : "https"
            logger.log(level: .notice, safe: "taking in what is sent", shown: "webhooks and commands: \(scheme)://\(address)")
        }
    }

    /// The handler `http` needs to know where to, and works on no more at a time than it may deliver. What is said about events must
    /// be of use: a service of this file that handles none, or in another way, says so by --no-events or --handler.
    private func checkHandler(_ configuration: inout Configuration) throws {
        if handler == .http, configuration.delivery == nil {
            throw ConfigurationError(key: "--handler", value: "http", expected: "--deliver-to beside it")
        }
        if !configuration.handlesEvents {
            let flags = [
                ("--handler", handler != nil), ("--deliver-to", delivery.deliverTo != nil), ("--topic", !topics.isEmpty),
            ]
            for (flag, isGiven) in flags where isGiven {
                throw ConfigurationError(key: flag, value: "…", expected: "events to be handled: no --no-events beside it")
            }
        } else if handler != .http, delivery.deliverTo != nil {
            throw ConfigurationError(key: "--deliver-to", value: "…", expected: "--handler http beside it")
        } else if handler == nil, configuration.delivery != nil {
            throw ConfigurationError(
                key: "deliver-to", value: "…", expected: "--handler http beside it, or --handler log to deliver nothing")
        }
        if handler == .http { configuration.limitToDelivery() }
    }

    private static func handler(
        _ handler: BuiltInHandler, _ configuration: Configuration, telemetry: Telemetry, logger: Logger
    ) -> EventHandler {
        switch handler {
        case .none: { _, _ in }
        case .http:
            if let delivery = configuration.delivery {
                HTTPDelivery(delivery, telemetry: telemetry).handler
            } else {
                { _, _ in throw RejectedError("no_receiver") }
            }
        case .log:
            { event, context in
                // The line is in the attempt's span, so its ids come by themselves.
                let text = "\(event.type) \(context.record.position) attempt \(context.attempt)"
                logger.log(level: .notice, safe: SafeText(vetted: text))
            }
        }
    }
}

/// Telemetry by the `OTEL_*` variables; what can't be used is named once.
func makeTelemetry(
    _ loader: ConfigurationLoader, logger: Logger, exportsByDefault: Bool, processors: [any SpanProcessor] = [],
    identifiersByDefault: IdentifierPolicy? = nil, keeping: SpanStore.Limits? = nil
) throws -> Telemetry {
    var settings = TelemetryConfiguration(environment: ProcessInfo.processInfo.environment, exportsByDefault: exportsByDefault)
    if let limit = try loader.failureTraceLimit() { settings.failureTraces.tracesPerSecond = limit }
    for rejected in settings.rejected {
        logger.log(
            level: .warning, safe: SafeText(vetted: "\(rejected.key) is ignored"), shown: "\(rejected); the default is used")
    }
    let policy = try loader.identifierPolicy() { text in
        logger.log(level: .warning, safe: "no key for identifiers", shown: text)
    }
    if policy == nil, identifiersByDefault == nil, !settings.isDisabled, settings.traces != nil {
        logger.log(
            level: .warning,
            safe: """
                resource ids and keys are omitted from telemetry: name a key by --identifier-key-file of run, or by \
                TRIAGE_IDENTIFIER_KEY_FILE, to have them hashed
                """)
    }
    let telemetry = Telemetry(
        settings, identifiers: policy ?? identifiersByDefault ?? .omitted, processors: processors, keeping: keeping
    ) { text in
        logger.log(level: .warning, safe: "telemetry can't be exported as it should", shown: "telemetry: \(text)")
    }
    Narration.output.export(to: telemetry)
    return telemetry
}

/// What `triage run` prints when it ends.
struct RunSummary: Encodable {
    let consumed: Int
    let completed: Int
    let retries: Int
    let deadLettered: Int
    let parked: Int
    let skipped: Int
    let deduplicated: Int
    let duplicates: Int
    /// From the first record to the end, export of the last span included.
    let durationSeconds: Double
    /// CPU time of the process in that time, user and system.
    let cpuSeconds: Double
    let maxRssBytes: Int64
    let spansExported: Int
    let spansDropped: Int

    init(_ summary: EngineSummary, telemetry: Telemetry, started: Timestamp) {
        let usage = ResourceUsage.now()
        let counts = telemetry.spanCounts
        consumed = summary.consumed
        completed = summary.completed
        retries = summary.retries
        deadLettered = summary.deadLettered
        parked = summary.parked
        skipped = summary.skipped
        deduplicated = summary.deduplicated
        duplicates = summary.duplicates
        durationSeconds = (telemetry.tracer.clock.now() - (summary.firstRecord ?? started)).inSeconds
        cpuSeconds = usage.cpuSeconds - summary.cpuSecondsAtFirstRecord
        maxRssBytes = usage.maximumResidentBytes
        spansExported = counts.exported
        spansDropped = counts.dropped + counts.failed + counts.rejected
    }

    var table: String {
        Table.rows([
            ("consumed", "\(consumed)"), ("completed", "\(completed)"), ("retries", "\(retries)"),
            ("dead-lettered", "\(deadLettered)"), ("parked", "\(parked)"), ("skipped", "\(skipped)"),
            ("deduplicated", "\(deduplicated)"), ("duplicates", "\(duplicates)"),
            ("duration", Table.seconds(durationSeconds)), ("CPU time", Table.seconds(cpuSeconds)),
            ("peak memory", "\(maxRssBytes / 1_048_576) MiB"), ("spans exported", "\(spansExported)"),
            ("spans dropped", "\(spansDropped)"),
        ])
    }
}

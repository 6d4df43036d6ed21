internal import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
internal import TriageTelemetry

/// Takes commands in over HTTP, and follows what becomes of them.
final class AcceptedCommandPart: ServicePart {
    /// Records back that are read at the start in each partition of the topics, so that a restart still knows what was done lately.
    private static let recordsBack: Int64 = 2000

    let routes: [any IngressRoute]
    private let memory = CommandMemory()
    private let kafka: KafkaConfiguration
    private let logger: Logger
    private let stops: AsyncStream<Void>
    private let stopping: AsyncStream<Void>.Continuation

    var endsService: Bool { false }

    /// - Throws: ``ConfigurationError`` if the tokens' file can't be used, or everyone could send.
    init(
        _ accepted: Configuration.AcceptedCommands, _ configuration: Configuration, capture: CaptureSink, telemetry: Telemetry,
        logger: Logger
    ) throws(ConfigurationError) {
        let key = "command-token-file"
        let authenticator = try accepted.tokenFile.map { path throws(ConfigurationError) in
            Authenticator(bearerTokens: try SecretFile.secrets(of: path, key: key))
        }
        try IngressPart.check(authenticator ?? Authenticator(), configuration.listen, key: key, logger: logger)
        routes = CommandDesk(
            capture, memory: memory, authenticator: authenticator ?? Authenticator(), source: "triage", tracer: telemetry.tracer,
            isSecure: configuration.listen.certificateFile != nil
        ).routes()
        kafka = configuration.kafka
        self.logger = logger
        (stops, stopping) = AsyncStream.makeStream()
    }

    func run() async throws {
        let decoder = Mutex(EventDecoder())
        let tail = try KafkaTail(kafka, topics: CommandNews.topics, last: AcceptedCommandPart.recordsBack, log: logger.kafkaLog) {
            [memory] record, _ in
            if let news = decoder.withLock({ CommandNews(record, decoder: $0) }) { memory.observe(news) }
        }
        for await _ in stops {}
        tail.close()
    }

    func stop() { stopping.finish() }
    func health(since start: Timestamp) -> (any HealthReading)? { nil }
}

internal import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
internal import TriageTelemetry

/// Follows what the topics tell of commands, by one client for all parts of a service that want to know.
final class CommandFollower: ServicePart {
    /// Who is told: the news, and when they were written if that was before the service began.
    typealias Observer = @Sendable (_ news: CommandNews, _ writtenAt: Timestamp?) -> Void

    /// Records back that are read at the start in each partition of the topics, so that a restart still knows what was done lately.
    private static let recordsBack: Int64 = 2000

    /// What is known of commands.
    let memory = CommandMemory()
    private let kafka: KafkaConfiguration
    private let topics: [String]
    private let cipher: DeadLetterCipher?
    private let logger: Logger
    private let observers = Mutex<[Observer]>([])
    private let stops: AsyncStream<Void>
    private let stopping: AsyncStream<Void>.Continuation

    var endsService: Bool { false }

    /// A follower that hasn't connected to anything yet.
    ///
    /// - Parameter cipher: opens commands' dead letters, which are sealed like others.
    init(_ kafka: KafkaConfiguration, topics: [String], cipher: DeadLetterCipher? = nil, logger: Logger) {
        self.kafka = kafka
        self.cipher = cipher
        self.topics = topics
        self.logger = logger
        (stops, stopping) = AsyncStream.makeStream()
    }

    /// The follower that a configuration needs; nil if nobody wants to know.
    convenience init?(_ configuration: Configuration, logger: Logger) {
        guard configuration.followsCommands else { return nil }
        // Who only carries commands out asks whether one is done already, and needn't read what others ask for.
        let isHandlerAlone = configuration.acceptedCommands == nil && !configuration.attributesToCommands
        self.init(
            configuration.kafka, topics: isHandlerAlone ? [TopicName.commandResults] : CommandNews.topics,
            cipher: configuration.deadLetterCipher, logger: logger)
    }

    /// Tells `observer` all that comes; on the follower's thread, or on the thread of who tells.
    func add(_ observer: @escaping Observer) { observers.withLock { $0.append(observer) } }

    /// What this process knows of a command before the topics tell it.
    func tell(_ news: CommandNews) { tell(news, writtenAt: nil) }

    private func tell(_ news: CommandNews, writtenAt: Timestamp?) {
        memory.observe(news)
        for observer in observers.withLock({ $0 }) { observer(news, writtenAt) }
    }

    func run() async throws {
        let decoder = Mutex(EventDecoder())
        let tail = try KafkaTail(kafka, topics: topics, last: CommandFollower.recordsBack, log: logger.kafkaLog) {
            [weak self] record, isOld in
            guard let self, let record = CommandFollower.opened(record, by: cipher),
                let news = decoder.withLock({ CommandNews(record, decoder: $0) })
            else { return }
            tell(news, writtenAt: isOld ? record.timestamp : nil)
        }
        for await _ in stops {}
        tail.close()
    }

    /// A record as it can be read; nil for a sealed one that can't be.
    static func opened(_ record: Record, by cipher: DeadLetterCipher?) -> Record? {
        guard let cipher else { return record }
        return try? cipher.opened(record)
    }

    func stop() { stopping.finish() }
    func health(since start: Timestamp) -> (any HealthReading)? { nil }
}

extension Configuration {
    /// Whether notifications are told by which commands changes were made: as ``Webhooks/followsCommands`` says, else where this
    /// service has to do with commands.
    var attributesToCommands: Bool {
        guard let webhooks else { return false }
        return webhooks.followsCommands ?? (commands != nil || acceptedCommands != nil)
    }

    /// Whether anything of the service wants to know what becomes of commands.
    var followsCommands: Bool { commands != nil || acceptedCommands != nil || attributesToCommands }
}

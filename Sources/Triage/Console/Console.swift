internal import Logging
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
internal import TriageTelemetry

/// A console and the site that it is served as.
struct Console: Sendable {
    let site: ConsoleSite
    private let source: ServiceConsole

    /// A console of a service that isn't served yet.
    ///
    /// - Parameters:
    ///   - token: what has to be shown before anything is changed; nil if nobody may.
    init(
        _ parts: ServiceConsole.Parts, token: String?, hosts: [ConsoleHostName] = [], telemetry: Telemetry, logger: Logger
    ) {
        source = ServiceConsole(parts, telemetry: telemetry, logger: logger)
        site = ConsoleSite(
            ConsoleRouter(source: source), token: token, hosts: hosts, clock: telemetry.tracer.clock,
            notice: { logger.log(level: .notice, safe: $0) })
    }

    /// The console of a configuration's brokers, which are asked nothing before somebody looks; nil if it isn't to be served.
    init?(_ configuration: Configuration, telemetry: Telemetry, logger: Logger) {
        guard configuration.servesConsole else { return nil }
        let scanner = LazyScanner { try DeadLetterAccess(configuration, logger: logger) }
        let mains = configuration.topics + [TopicName.commands]
        let access = DeadLetterAccess(
            topics: mains.map { TopicName.deadLetter(of: $0) }, group: configuration.group,
            cipher: configuration.deadLetterCipher,
            scanner: scanner, transactions: { try scanner.access().transactions() },
            createStateTopic: { try await scanner.access().createStateTopic() }, clientID: configuration.kafka.clientID,
            logger: logger)
        self.init(
            ServiceConsole.Parts(
                access: access, reveals: DeadLetterReveal(access, kafka: configuration.kafka), roles: configuration.roles,
                links: configuration.traces.links),
            token: configuration.console.token, hosts: configuration.console.hosts.compactMap { ConsoleHostName($0) },
            telemetry: telemetry, logger: logger)
    }

    /// Keeps it up to date until it is cancelled.
    func run() async { await source.run() }
}

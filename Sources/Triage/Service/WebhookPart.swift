internal import HTTPTypes
internal import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageTelemetry

/// Takes in what FHIR servers notify: the routes, and what has to be done in between.
final class WebhookPart: ServicePart {
    private let intake: WebhookIntake
    private let connection: FHIRConnection?
    private let isStopping = Atomic(false)

    /// What the ingress server is to serve.
    var routes: [any IngressRoute] { intake.routes }
    var endsService: Bool { false }

    /// A part that hasn't connected to anything yet.
    ///
    /// - Parameters:
    ///   - fhir: the server that notifies, to fetch from; nil if it tells everything.
    ///   - capture: where the events go.
    ///   - source: what event ids are made under.
    /// - Throws: ``ConfigurationError`` if a file with a secret can't be used, or if everyone could send from anywhere.
    init(
        _ webhooks: Configuration.Webhooks, from fhir: Configuration.FHIR?, _ listen: Configuration.Listen, capture: CaptureSink,
        source: String, telemetry: Telemetry, logger: Logger
    ) throws(ConfigurationError) {
        var settings = WebhookSettings()
        settings.authenticator = try WebhookPart.authenticator(webhooks)
        try IngressPart.check(settings.authenticator, listen, key: "webhook-token-file", or: "webhook-header", logger: logger)
        settings.trust = webhooks.trust
        settings.maximumBodyBytes = webhooks.maximumBodyBytes
        settings.timeout = webhooks.timeout
        settings.namespace = source
        settings.isSecure = listen.certificateFile != nil
        settings.historyInterval = webhooks.historyInterval
        var connection: FHIRConnection?
        if let fhir { connection = try FHIRConnection(fhir, telemetry: telemetry) }
        self.connection = connection
        intake = WebhookIntake(
            settings, sink: capture, tracer: telemetry.tracer, meter: telemetry.meter,
            source: connection.map { FHIRClientSource($0.client, clock: telemetry.tracer.clock) },
            notify: { WebhookPart.tell($0, logger) })
    }

    /// Takes in what is told of a command, so that the event which it causes gets its request id.
    func observe(_ news: CommandNews, writtenAt time: Timestamp?) { intake.observe(news, at: time) }

    private static func authenticator(_ webhooks: Configuration.Webhooks) throws(ConfigurationError) -> Authenticator {
        var tokens: [String] = []
        if let file = webhooks.tokenFile { tokens = try SecretFile.secrets(of: file, key: "webhook-token-file") }
        guard let name = webhooks.headerName, let file = webhooks.headerFile, let field = HTTPField.Name(name) else {
            return Authenticator(bearerTokens: tokens)
        }
        return Authenticator(
            bearerTokens: tokens, fields: try SecretFile.secrets(of: file, key: "webhook-header").map { (name: field, value: $0) }
        )
    }

    private static func tell(_ notice: WebhookNotice, _ logger: Logger) {
        switch notice {
        case .gap(let numbers):
            logger.log(level: .warning, safe: "\(numbers) events of a subscription never came")
        case .unlikelyNumber:
            logger.log(
                level: .warning,
                safe: "an event of a subscription has a number far ahead of those before it: it counts as one that never came")
        case .entriesRefused(let count):
            logger.log(level: .warning, safe: "\(count) entries of the FHIR server's history are malformed and are left out")
        case .historyReadable(false):
            logger.log(level: .warning, safe: "the FHIR server's history can't be read")
        case .historyReadable(true):
            logger.log(level: .notice, safe: "the FHIR server's history can be read again")
        case .patientMissing:
            logger.log(
                level: .warning,
                safe:
                    "the FHIR server doesn't have a Patient that a notification names: answered 503; is fhir-server its base URL?"
            )
        }
    }

    func run() async throws {
        while await pause() { await intake.tick() }
    }

    /// Answers requests whose time is up. To be called a few times a second for as long as there are requests.
    func expire() { intake.expire() }

    /// Waits a little; false once it is to end.
    private func pause() async -> Bool {
        guard !isStopping.load(ordering: .acquiring) else { return false }
        do { try await Task.sleep(for: .milliseconds(100)) } catch { return false }
        return !isStopping.load(ordering: .acquiring)
    }

    func stop() { isStopping.store(true, ordering: .releasing) }
    func health(since start: Timestamp) -> (any HealthReading)? { nil }
}

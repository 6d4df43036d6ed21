internal import Logging
internal import TriageEvents
internal import TriageIngress
internal import TriageTelemetry

/// The server that webhooks and commands share.
struct IngressPart: ServicePart {
    private let server: IngressServer

    var endsService: Bool { false }
    func run() async throws { try await server.run() }
    func stop() { server.stop() }
    func health(since start: Timestamp) -> Health? { nil }

    /// A server for these routes that doesn't listen yet.
    ///
    /// - Parameter onListening: told the port.
    /// - Throws: ``ConfigurationError`` if the certificate or its key can't be used.
    init(
        _ routes: [any IngressRoute], _ listen: Configuration.Listen, gracePeriod: Duration, telemetry: Telemetry, logger: Logger,
        onListening: @escaping @Sendable (Int) -> Void
    ) throws(ConfigurationError) {
        var configuration = IngressServer.Configuration()
        configuration.host = listen.address.host
        configuration.port = listen.address.port
        configuration.maximumConnections = listen.maximumConnections
        configuration.headTimeout = listen.headerTimeout
        configuration.bodyTimeout = listen.bodyTimeout
        configuration.gracePeriod = gracePeriod
        configuration.tls = try IngressPart.tls(listen)
        // What can fail about the server is thrown; the library's own lines would name what is none of the log's business.
        var quiet = logger
        quiet.logLevel = .critical
        var log: (@Sendable (AccessEntry) -> Void)?
        if listen.accessLog, logger.logLevel <= .info {
            log = { entry in logger.log(level: .info, safe: entry.text, in: entry.context) }
        }
        server = IngressServer(
            routes, configuration: configuration, logger: quiet, meter: telemetry.meter, clock: telemetry.tracer.clock,
            accessLog: log, onListening: onListening)
    }

    private static func tls(_ listen: Configuration.Listen) throws(ConfigurationError) -> IngressTLS? {
        guard let certificate = listen.certificateFile, let key = listen.keyFile else { return nil }
        do throws(IngressTLSError) {
            return try IngressTLS(certificateFile: certificate, keyFile: key)
        } catch {
            switch error {
            case .certificate:
                throw ConfigurationError(key: "listen-certificate", value: certificate, expected: "a readable PEM certificate")
            case .key:
                throw ConfigurationError(
                    key: "listen-key", value: key, expected: "a readable PEM key without a passphrase")
            case .mismatch:
                throw ConfigurationError(key: "listen-key", value: key, expected: "the key of the certificate")
            }
        }
    }

    /// Refuses a route that everyone can reach and use; one that only this machine can reach is warned of.
    ///
    /// - Parameters:
    ///   - authenticator: who is admitted.
    ///   - key: the setting that would name a token.
    static func check(
        _ authenticator: Authenticator, _ listen: Configuration.Listen, key: String, logger: Logger
    ) throws(ConfigurationError) {
        guard authenticator.isOpen else { return }
        guard listen.isLoopback else {
            throw ConfigurationError(
                key: key, value: "", expected: "a file with a token, since \(listen.address) can be reached from elsewhere")
        }
        let text = SafeText(vetted: "\(key) is not set: whoever is on this machine may send")
        logger.log(level: .warning, safe: text)
    }
}

internal import Logging
internal import TriageEvents
internal import TriageIngress
internal import TriageTelemetry

/// Takes commands in over HTTP; what becomes of them the ``CommandFollower`` knows.
struct AcceptedCommandPart {
    let routes: [any IngressRoute]

    /// - Throws: ``ConfigurationError`` if the tokens' file can't be used, or everyone could send.
    init(
        _ accepted: Configuration.AcceptedCommands, _ configuration: Configuration, memory: CommandMemory, capture: CaptureSink,
        telemetry: Telemetry, logger: Logger
    ) throws(ConfigurationError) {
        let key = "command-token-file"
        let authenticator = try accepted.tokenFile.map { path throws(ConfigurationError) in
            Authenticator(bearerTokens: try SecretFile.secrets(of: path, key: key))
        }
        try IngressPart.check(authenticator ?? Authenticator(), configuration.listen, key: key, logger: logger)
        routes = CommandDesk(
            capture, memory: memory, authenticator: authenticator ?? Authenticator(), source: "triage", trust: accepted.trust,
            tracer: telemetry.tracer, isSecure: configuration.listen.certificateFile != nil
        ).routes()
    }
}

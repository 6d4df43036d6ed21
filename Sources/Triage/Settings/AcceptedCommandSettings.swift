public import TriageTelemetry

extension Configuration {
    /// Taking commands in over HTTP: `POST /commands` and `GET /commands/{requestId}`.
    public struct AcceptedCommands: Sendable, Hashable {
        /// File with the bearer tokens that are admitted, one a line; nil admits everyone. `TRIAGE_COMMAND_TOKEN_FILE`.
        public var tokenFile: String?
        /// Whether a caller's trace is continued, or the endpoint is a trust boundary that links to it. Default continue;
        /// `TRIAGE_COMMAND_TRUST`.
        public var trust = CallerTrust.continue

        /// Commands of whoever has a token of this file.
        public init(tokenFile: String? = nil) { self.tokenFile = tokenFile }
    }
}

extension ConfigurationLoader {
    static let acceptedCommandKeys: [(key: String, meaning: String)] = [
        ("accept-commands", "true or false: whether POST /commands is served"),
        ("command-token-file", "file with the bearer tokens that POST /commands admits, one a line"),
        ("command-trust", "continue the trace of a caller of POST /commands, or link to it"),
    ]

    func acceptedCommands() throws(ConfigurationError) -> Configuration.AcceptedCommands? {
        var accepted = Configuration.AcceptedCommands(tokenFile: text("command-token-file"))
        if let trust = text("command-trust") {
            guard let known = CallerTrust(rawValue: trust) else {
                throw ConfigurationError(key: "command-trust", value: trust, expected: "continue or link")
            }
            accepted.trust = known
        }
        return try truth("accept-commands") == true ? accepted : nil
    }
}

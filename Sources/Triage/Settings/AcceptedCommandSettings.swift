extension Configuration {
    /// Taking commands in over HTTP: `POST /commands` and `GET /commands/{requestId}`.
    public struct AcceptedCommands: Sendable, Hashable {
        /// File with the bearer tokens that are admitted, one a line; nil admits everyone. `TRIAGE_COMMAND_TOKEN_FILE`.
        public var tokenFile: String?

        /// Commands of whoever has a token of this file.
        public init(tokenFile: String? = nil) { self.tokenFile = tokenFile }
    }
}

extension ConfigurationLoader {
    static let acceptedCommandKeys: [(key: String, meaning: String)] = [
        ("accept-commands", "true or false: whether POST /commands is served"),
        ("command-token-file", "file with the bearer tokens that POST /commands admits, one a line"),
    ]

    func acceptedCommands() throws(ConfigurationError) -> Configuration.AcceptedCommands? {
        try truth("accept-commands") == true ? Configuration.AcceptedCommands(tokenFile: text("command-token-file")) : nil
    }
}

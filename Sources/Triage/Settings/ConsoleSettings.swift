internal import TriageIngress
public import TriageTelemetry

extension Configuration {
    /// The pages under `/console` beside `/metrics`.
    public struct Console: Sendable, Hashable {
        /// Whether there are any; nil, the default, if only this machine can reach ``Configuration/http``. `TRIAGE_CONSOLE`.
        public var isOn: Bool?
        /// Names that they are reached by beside that address, `name`, `name:port` or `https://name:port`. Default none;
        /// `TRIAGE_CONSOLE_HOSTS`.
        public var hosts: [String] = []
        /// What has to be shown before anything is replayed, discarded or revealed; nil if nobody may: then the pages only show.
        /// The content of the file that `TRIAGE_CONSOLE_TOKEN_FILE` names.
        public var token: String?
        /// Whether the token was made for this run, so that it has to be told to whoever shall use it.
        public private(set) var isTokenMade = false

        /// The defaults.
        public init() {}

        /// Makes a token if there is none and somebody is there to be told it.
        public mutating func makeToken(if isWanted: Bool) {
            guard isWanted, token == nil else { return }
            token = ConsoleSite.randomToken()
            isTokenMade = true
        }
    }

    /// Whether the console is served: as ``Console/isOn`` says, else where only this machine can reach it.
    public var servesConsole: Bool {
        guard let http else { return false }
        return console.isOn ?? http.isLoopback
    }
}

extension ConfigurationLoader {
    /// Links to traces as `jaeger-url` and its like say.
    ///
    /// - Throws: ``ConfigurationError`` for what can't be used.
    public func traceLinks() throws(ConfigurationError) -> TraceLinks { try traces().links }

    /// Refuses settings of a console that isn't served, since the address can be reached from elsewhere and nobody said `on`.
    func checkConsole(_ configuration: Configuration) throws(ConfigurationError) {
        guard configuration.console.isOn == nil, !configuration.servesConsole else { return }
        for key in ["console-hosts", "console-token-file"] where text(key) != nil {
            throw ConfigurationError(
                key: key, value: "…",
                expected: "console=on beside it: without it \(configuration.http?.description ?? "nothing") has none")
        }
    }

    static let consoleKeys: [(key: String, meaning: String)] = [
        ("console", "on or off: whether /console is served beside /metrics; by default where only this machine can reach it"),
        ("console-hosts", "names that the console is reached by, such as https://triage.example.org, separated by commas"),
        (
            "console-token-file",
            "file with the token that replays, discards and reveals on the console need, 16 characters or more"
        ),
    ]

    /// The console as `console` and its like say.
    ///
    /// - Throws: ``ConfigurationError`` for what can't be used.
    public func consoleSettings() throws(ConfigurationError) -> Configuration.Console {
        var console = Configuration.Console()
        console.isOn = try truth("console")
        for name in text("console-hosts").map(ConfigurationLoader.topics) ?? [] {
            guard ConsoleHostName(name) != nil else {
                throw ConfigurationError(
                    key: "console-hosts", value: name, expected: "name, name:port or https://name:port, separated by commas")
            }
            console.hosts.append(name)
        }
        if let path = text("console-token-file") {
            let tokens = try SecretFile.secrets(of: path, key: "console-token-file")
            guard tokens.count == 1 else {
                throw ConfigurationError(key: "console-token-file", value: path, expected: "a file with one token, in one line")
            }
            console.token = tokens[0]
        }
        return console
    }
}

import ArgumentParser

/// How webhooks and commands are taken in, and commands at all.
struct ListenOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("Where webhooks and commands are taken in (default: 127.0.0.1:8088).", valueName: "host:port"))
    var listen: String?
    @Option(help: ArgumentHelp("PEM certificate to show there, for TLS.", valueName: "file"))
    var listenCertificate: String?
    @Option(help: ArgumentHelp("PEM key of that certificate.", valueName: "file"))
    var listenKey: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Connections at a time; further ones wait (default: 1024).", valueName: "number"))
    var listenMaxConnections: String?
    @Option(
        parsing: .unconditional, help: ArgumentHelp("Time for a request's head (default: 10s).", valueName: "duration"))
    var listenHeaderTimeout: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time for a request's body as a whole (default: 30s).", valueName: "duration"))
    var listenBodyTimeout: String?
    @Option(help: ArgumentHelp("Whether each request is logged at the level info: on or off (default: on).", valueName: "on|off"))
    var accessLog: String?
    @Flag(help: "Take commands in: POST /commands, GET /commands/{requestId}.")
    var acceptCommands = false
    @Option(help: ArgumentHelp("File with the bearer tokens that POST /commands admits, one a line.", valueName: "file"))
    var commandTokenFile: String?
    @Option(
        help: ArgumentHelp(
            "Whether the trace of a caller of POST /commands goes on or is linked to: continue or link (default: continue).",
            valueName: "how"))
    var commandTrust: String?

    /// The flags by key; nil where none was given.
    var flags: [String: String?] {
        [
            "listen": listen, "listen-certificate": listenCertificate, "listen-key": listenKey,
            "listen-max-connections": listenMaxConnections, "listen-header-timeout": listenHeaderTimeout,
            "listen-body-timeout": listenBodyTimeout, "access-log": accessLog,
            "accept-commands": acceptCommands ? "true" : nil, "command-token-file": commandTokenFile,
            "command-trust": commandTrust,
        ]
    }
}

extension Configuration {
    /// Carrying out commands on a FHIR server.
    public struct Commands: Sendable, Hashable {
        /// Who tells of the change that a command makes.
        public enum Events: String, Sendable, CaseIterable {
            /// The server, by a subscription: its event has the request id by the tag that the command writes.
            case server
            /// The command handler publishes the event itself, for servers without subscriptions.
            case publish
        }

        /// Who tells of the change. Default the server; `TRIAGE_COMMAND_EVENTS`.
        public var events = Events.server

        /// The defaults.
        public init() {}
    }
}

extension ConfigurationLoader {
    /// The keys of ``Configuration/Commands``.
    static let commandKeys: [(key: String, meaning: String)] = [
        ("commands", "true to carry out the commands of fhir.commands on fhir-server"),
        (
            "command-events",
            "server: the FHIR server's subscription tells of what a command changed; publish: the command handler publishes it"
        ),
    ]

    /// How commands are carried out; nil if they aren't.
    func commands(on server: Configuration.FHIR?) throws(ConfigurationError) -> Configuration.Commands? {
        var commands = Configuration.Commands()
        if let events = text("command-events") {
            guard let known = Configuration.Commands.Events(rawValue: events) else {
                throw ConfigurationError(key: "command-events", value: events, expected: "server or publish")
            }
            commands.events = known
        }
        guard try truth("commands") ?? false else { return nil }
        guard server != nil else {
            throw ConfigurationError(key: "commands", value: "true", expected: "fhir-server beside it")
        }
        return commands
    }
}

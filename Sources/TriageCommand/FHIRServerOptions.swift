import ArgumentParser

/// The FHIR server that commands are carried out on and webhooks fetch from; each can be set by TRIAGE_FHIR_… and in the file as well.
struct FHIRServerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Base URL of the FHIR server that commands are carried out on and webhooks fetch from.", valueName: "url"))
    var fhirServer: String?
    @Option(help: ArgumentHelp("File with the bearer token for that server.", valueName: "file"))
    var fhirTokenFile: String?
    @Option(help: ArgumentHelp("User for that server, by HTTP Basic.", valueName: "name"))
    var fhirUser: String?
    @Option(help: ArgumentHelp("File with that user's password.", valueName: "file"))
    var fhirPasswordFile: String?
    @Option(
        help: ArgumentHelp("PEM file with the authorities trusted for that server, instead of the system's.", valueName: "file"))
    var fhirCaFile: String?
    @Option(
        parsing: .unconditional, help: ArgumentHelp("Time for one call of that server (default: 30s).", valueName: "duration"))
    var fhirTimeout: String?

    var flags: [String: String?] {
        [
            "fhir-server": fhirServer, "fhir-token-file": fhirTokenFile, "fhir-user": fhirUser,
            "fhir-password-file": fhirPasswordFile, "fhir-ca-file": fhirCaFile, "fhir-timeout": fhirTimeout,
        ]
    }
}

/// Carrying out commands.
struct CommandOptions: ParsableArguments {
    @Flag(help: "Carry out the commands of fhir.commands on --fhir-server.")
    var commands = false
    @Option(
        help: ArgumentHelp(
            "Who tells of what a command changed: server, by its subscription, or publish, the command handler (default: server).",
            valueName: "who"))
    var commandEvents: String?

    var flags: [String: String?] { ["commands": commands ? "true" : nil, "command-events": commandEvents] }
}

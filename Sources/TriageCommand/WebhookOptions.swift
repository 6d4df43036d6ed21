import ArgumentParser

/// Taking in what FHIR servers notify; each can be set by TRIAGE_WEBHOOK… and in the file as well.
struct WebhookOptions: ParsableArguments {
    @Flag(help: "Take notifications of FHIR servers in: POST /webhooks/fhir.")
    var webhooks = false
    @Option(help: ArgumentHelp("File with the bearer tokens that webhooks admit, one a line.", valueName: "file"))
    var webhookTokenFile: String?
    @Option(
        help: ArgumentHelp(
            "Header that admits a webhook as well, and the file with its value, such as X-Webhook-Key=@key.txt.",
            valueName: "name=@file"))
    var webhookHeader: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Bytes that a notification may have (default: 2097152).", valueName: "bytes"))
    var webhookMaxBody: String?
    @Option(
        help: ArgumentHelp(
            "Whether a caller's trace goes on or is linked to: continue or link (default: continue).", valueName: "how"))
    var webhookTrust: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time to have a notification in Kafka before it is answered 503 (default: 25s).", valueName: "duration"))
    var webhookTimeout: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time between two looks at Patient/_history of --fhir-server, or off (default: off).", valueName: "duration"))
    var webhookHistory: String?
    @Option(
        help: ArgumentHelp(
            "Whether the topics of commands are followed, for the request ids of deletions (default: with commands).",
            valueName: "true|false"))
    var webhookCommands: String?

    var flags: [String: String?] {
        [
            "webhooks": webhooks ? "true" : nil, "webhook-token-file": webhookTokenFile, "webhook-header": webhookHeader,
            "webhook-max-body": webhookMaxBody, "webhook-trust": webhookTrust, "webhook-timeout": webhookTimeout,
            "webhook-history": webhookHistory, "webhook-commands": webhookCommands,
        ]
    }
}

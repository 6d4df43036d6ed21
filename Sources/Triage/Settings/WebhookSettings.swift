internal import HTTPTypes
internal import TriageIngress
public import TriageTelemetry

extension Configuration {
    /// Taking in what FHIR servers notify: `/webhooks/fhir`.
    public struct Webhooks: Sendable, Hashable {
        /// File with the bearer tokens that are admitted, one a line; nil admits everyone, unless there is a header.
        /// `TRIAGE_WEBHOOK_TOKEN_FILE`.
        public var tokenFile: String?
        /// The name of a header field that admits as well. `TRIAGE_WEBHOOK_HEADER`.
        public var headerName: String?
        /// File with the values of that field that are admitted, one a line.
        public var headerFile: String?
        /// Bytes that a notification may have, 1,024 to 67,108,864. Default 2,097,152; `TRIAGE_WEBHOOK_MAX_BODY`.
        public var maximumBodyBytes = 2 << 20
        /// Whether a caller's trace is continued, or the endpoint is a trust boundary that links to it. Default continue;
        /// `TRIAGE_WEBHOOK_TRUST`.
        public var trust = CallerTrust.continue
        /// How long a notification may take to be in Kafka, 1 s to 10 min. Default 25 s; `TRIAGE_WEBHOOK_TIMEOUT`.
        public var timeout: Duration = .seconds(25)
        /// Time between two looks at the FHIR server's history, at least 100 ms; nil, the default, looks only when a notification
        /// doesn't say what happened. `TRIAGE_WEBHOOK_HISTORY`.
        public var historyInterval: Duration?
        /// Whether the topics of commands are followed, so that a deletion gets the request id of its command and a tag is told from what
        /// others wrote later. Nil, the default, follows them where the service carries commands out or takes them in;
        /// `TRIAGE_WEBHOOK_COMMANDS`.
        public var followsCommands: Bool?

        /// The defaults, which admit everyone.
        public init() {}

        /// How long the brokers may take to acknowledge: less than whoever waits does, so that an answer still says what became of it.
        var acknowledgementTimeout: Duration { max(.seconds(1), timeout * 4 / 5) }
    }
}

extension ConfigurationLoader {
    /// The keys of ``Configuration/Webhooks``.
    static let webhookKeys: [(key: String, meaning: String)] = [
        ("webhooks", "true to take in what FHIR servers notify: /webhooks/fhir"),
        ("webhook-token-file", "file with the bearer tokens that webhooks admit, one a line"),
        ("webhook-header", "NAME=@FILE: header that admits as well, and the file with its values, one a line"),
        ("webhook-max-body", "bytes that a notification may have, 1024 to 67108864"),
        ("webhook-trust", "continue a caller's trace, or link to it"),
        ("webhook-timeout", "time to have a notification in Kafka, 1s to 10m; then it is answered 503"),
        (
            "webhook-commands",
            "whether the topics of commands are followed, so that deletions get the request id of their command"
        ),
        ("webhook-history", "time between two looks at Patient/_history of fhir-server, such as 30s, or off"),
    ]

    /// How webhooks are taken in; nil if they aren't.
    func webhooks(from server: Configuration.FHIR?) throws(ConfigurationError) -> Configuration.Webhooks? {
        var webhooks = Configuration.Webhooks()
        webhooks.tokenFile = text("webhook-token-file")
        if let header = text("webhook-header") {
            let parts = header.split(separator: "=", maxSplits: 1).map(String.init)
            // What stands behind the name may be the secret itself.
            guard parts.count == 2, HTTPField.Name(parts[0]) != nil, parts[1].hasPrefix("@"), parts[1].count > 1 else {
                throw ConfigurationError(
                    key: "webhook-header", value: "…", expected: "NAME=@FILE, such as X-Webhook-Key=@key.txt")
            }
            webhooks.headerName = parts[0]
            webhooks.headerFile = String(parts[1].dropFirst())
        }
        if let bytes = text("webhook-max-body") {
            guard let number = Int(bytes), (1024...64 << 20).contains(number) else {
                throw ConfigurationError(key: "webhook-max-body", value: bytes, expected: "a number from 1024 to 67108864")
            }
            webhooks.maximumBodyBytes = number
        }
        if let trust = text("webhook-trust") {
            guard let known = CallerTrust(rawValue: trust) else {
                throw ConfigurationError(key: "webhook-trust", value: trust, expected: "continue or link")
            }
            webhooks.trust = known
        }
        if let timeout = try duration("webhook-timeout") {
            guard (.seconds(1) ... .seconds(600)).contains(timeout) else {
                throw ConfigurationError(
                    key: "webhook-timeout", value: text("webhook-timeout") ?? "", expected: "a duration from 1s to 10m")
            }
            webhooks.timeout = timeout
        }
        webhooks.followsCommands = try truth("webhook-commands")
        if let interval = text("webhook-history"), interval != "off" {
            guard let duration = try duration("webhook-history"), duration >= .milliseconds(100) else {
                throw ConfigurationError(
                    key: "webhook-history", value: interval, expected: "a duration of at least 100ms, such as 30s, or off")
            }
            guard server != nil else {
                throw ConfigurationError(key: "webhook-history", value: interval, expected: "fhir-server beside it, or off")
            }
            webhooks.historyInterval = duration
        }
        return try truth("webhooks") ?? false ? webhooks : nil
    }
}

import ArgumentParser

/// Where and how `--handler http` delivers; each can be set by TRIAGE_DELIVER_… and in the file as well.
struct DeliveryOptions: ParsableArguments {
    @Option(help: ArgumentHelp("URL that --handler http posts each event to.", valueName: "url"))
    var deliverTo: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Time for one delivery, less than --attempt-timeout (default: 30s).", valueName: "duration"))
    var deliverTimeout: String?
    @Option(parsing: .unconditional, help: "Deliveries under way at the same time (default: 64).")
    var deliverConcurrency: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Deliveries begun a second (default: no limit).", valueName: "number"))
    var deliverRate: String?
    @Option(help: ArgumentHelp("File with at least 32 bytes that deliveries are signed with.", valueName: "file"))
    var deliverSignatureKeyFile: String?
    @Option(
        help: ArgumentHelp("PEM file with the authorities trusted for the receiver, instead of the system's.", valueName: "file"))
    var deliverCaFile: String?
    @Option(help: ArgumentHelp("File with the bearer token for the receiver.", valueName: "file"))
    var deliverTokenFile: String?

    @Option(
        help: ArgumentHelp(
            "How events are posted: off, as they stand in Kafka, or as CloudEvents binary or structured (default: off).",
            valueName: "mode"))
    var deliverCloudEvents: String?

    var flags: [String: String?] {
        [
            "deliver-to": deliverTo, "deliver-timeout": deliverTimeout, "deliver-concurrency": deliverConcurrency,
            "deliver-rate": deliverRate, "deliver-signature-key-file": deliverSignatureKeyFile, "deliver-ca-file": deliverCaFile,
            "deliver-token-file": deliverTokenFile, "deliver-cloud-events": deliverCloudEvents,
        ]
    }
}

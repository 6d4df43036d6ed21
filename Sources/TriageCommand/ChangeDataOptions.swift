import ArgumentParser

/// The options of `run` about what is taken in, and how it is written.
struct ChangeDataOptions: ParsableArguments {
    @Flag(
        name: .customLong("no-events"), help: "Handle no events: only take them in, such as from --change-data-topic.")
    var noEvents = false
    @Option(
        name: .customLong("change-data-topic"),
        help: ArgumentHelp(
            "Topic of Debezium or of an outbox whose records are published as events; may be repeated.", valueName: "topic"))
    var changeDataTopics: [String] = []
    @Option(
        help: ArgumentHelp(
            "How the topics of events that are taken in are named: hybrid, resource or action (default: hybrid).",
            valueName: "pattern"))
    var pattern: String?
    @Option(help: "metadata.source of events that are taken in (default: triage).")
    var source: String?
    @Option(
        help: ArgumentHelp(
            "How events that are taken in are written: off, or as CloudEvents binary or structured (default: off).",
            valueName: "mode"))
    var cloudEvents: String?

    /// What was said, by key.
    var flags: [String: String?] {
        [
            "events": noEvents ? "false" : nil,
            "change-data-topics": changeDataTopics.isEmpty ? nil : changeDataTopics.joined(separator: ","),
            "pattern": pattern, "source": source, "cloud-events": cloudEvents,
        ]
    }
}

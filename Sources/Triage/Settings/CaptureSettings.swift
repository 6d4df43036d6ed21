public import TriageEvents
public import TriageIngress

extension Configuration {
    /// How events are written that are taken in from webhooks, change data and commands.
    public struct Capture: Sendable, Hashable {
        /// How topics are named. Default hybrid; `TRIAGE_PATTERN`.
        public var pattern = TopicPattern.hybrid
        /// `metadata.source` of the events. Default `triage`; `TRIAGE_SOURCE`.
        public var source = "triage"
        /// Whether they are CloudEvents. Default off; `TRIAGE_CLOUD_EVENTS`.
        public var cloudEvents = CloudEventMode.off

        /// The defaults.
        public init() {}

        /// The format of values.
        var format: EventFormat { EventFormat(source: source, cloudEvents: cloudEvents) }
    }
}

extension ConfigurationLoader {
    /// The keys of ``Configuration/Capture`` and of change data capture.
    static let captureKeys: [(key: String, meaning: String)] = [
        ("events", "false to handle no events, only to take them in"),
        ("change-data-topics", "topics of Debezium or an outbox to publish events from, separated by commas"),
        ("pattern", "how the topics of events that are taken in are named: hybrid, resource or action"),
        ("source", "metadata.source of events that are taken in"),
        ("cloud-events", "how events that are taken in are written: off (envelopes), or as CloudEvents binary or structured"),
    ]

    /// Reads them into `configuration`.
    func readCapture(into configuration: inout Configuration) throws(ConfigurationError) {
        if let handles = try truth("events") { configuration.handlesEvents = handles }
        if let pattern = text("pattern") {
            guard let known = TopicPattern(rawValue: pattern) else {
                throw ConfigurationError(key: "pattern", value: pattern, expected: "hybrid, resource or action")
            }
            configuration.capture.pattern = known
        }
        if let source = text("source") { configuration.capture.source = source }
        if let mode = text("cloud-events") {
            guard let known = CloudEventMode(rawValue: mode) else {
                throw ConfigurationError(key: "cloud-events", value: mode, expected: "off, binary or structured")
            }
            configuration.capture.cloudEvents = known
        }
        guard let topics = text("change-data-topics") else { return }
        configuration.changeDataTopics = ConfigurationLoader.topics(topics)
        try ConfigurationLoader.check(topics: configuration.changeDataTopics, key: "change-data-topics")
        let written = configuration.capture.pattern.patientTopics
        for topic in configuration.changeDataTopics where configuration.topics.contains(topic) || written.contains(topic) {
            throw ConfigurationError(
                key: "change-data-topics", value: topic,
                expected: "topics that no events are in: this one is written or worked on")
        }
    }
}

import ArgumentParser
import Triage

/// What `status` and `patient` have in common: which group's work on which topics.
struct InspectionOptions: ParsableArguments {
    @OptionGroup var broker: BrokerOptions
    @Option(name: [.customShort("g"), .long], help: "Consumer group that is looked at (default: triage).")
    var group: String?
    @Option(
        name: [.customShort("t"), .customLong("topic"), .customLong("topics")],
        help: "Main topic that it works on; may be repeated (default: TRIAGE_TOPICS, else the hybrid pattern's three).")
    var topics: [String] = []
    @Option(name: [.customShort("o"), .long], help: "text or json.")
    var output: OutputFormat = .text

    /// An inspector, and the configuration that it follows; the brokers were reached.
    func inspector() async throws -> (GroupInspector, Configuration) {
        if !topics.isEmpty { try ConfigurationLoader.check(topics: topics.flatMap(ListedTopics.parts)) }
        let flags = ["group": group, "topics": topics.isEmpty ? nil : topics.joined(separator: ",")]
        let (configuration, _) = try await broker.load(flags)
        try await TopicAdministrator(configuration.kafka, logger: broker.logger).reach()
        let inspector = GroupInspector(configuration, logger: broker.logger) { topic, read, total in
            Narration.progress("\(topic): \(read) of at most \(total) records")
        }
        return (inspector, configuration)
    }
}

/// `--topic a,b` is taken as `--topic a --topic b`.
enum ListedTopics {
    static func parts(_ topic: String) -> [String] {
        topic.split(separator: ",", omittingEmptySubsequences: false).map { part in
            String(part.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
    }
}

import ArgumentParser
import Foundation
import Triage
import TriageKafka

struct TopicsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topics", abstract: "Creates the topics that Triage needs, or tells what differs.",
        discussion: """
            EXAMPLES
              triage topics create -b localhost:9092
              triage topics create -b localhost:9092 --pattern resource --partitions 12
              triage topics check -b localhost:9092
            """,
        subcommands: [Create.self, Check.self]
    )

    struct PlanOptions: ParsableArguments {
        @OptionGroup var broker: BrokerOptions
        @Option(help: "How topics are named: hybrid (fhir.Patient.created), resource (fhir.Patient) or action (fhir.created).")
        var pattern: Pattern = .hybrid
        @Option(name: [.customShort("t"), .customLong("topic")], help: "Main topic instead of the pattern's; may be repeated.")
        var topics: [String] = []
        @Option(help: "Partitions of each topic.")
        var partitions = 6
        @Option(name: [.customShort("o"), .long], help: "text or json.")
        var output: OutputFormat = .text

        func validate() throws {
            guard (1...10_000).contains(partitions) else { throw ValidationError("--partitions \(partitions): expected 1 to 10000") }
        }

        func plan() throws -> TopicPlan {
            if !topics.isEmpty { try ConfigurationLoader.check(topics: topics) }
            let main = topics.isEmpty ? pattern.value.patientTopics : topics
            return TopicPlan(mainTopics: main, partitions: partitions)
        }
    }

    enum Pattern: String, ExpressibleByArgument, CaseIterable {
        case hybrid, resource, action
        var value: TopicPattern { TopicPattern(rawValue: rawValue) ?? .hybrid }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Creates what is missing; what exists is left as it is.")
        @OptionGroup var options: PlanOptions
        @Option(help: "Copies of each partition (default: the broker's).")
        var replicationFactor: Int?

        func run() async throws {
            try await reported {
                let (configuration, _) = try await options.broker.load([:])
                let results = try await TopicAdministrator(configuration.kafka)
                    .create(try options.plan(), replicationFactor: replicationFactor ?? -1)
                var failed = false
                var rows: [(String, String)] = []
                for (topic, result) in results {
                    switch result {
                    case .created: rows.append((topic.name, "created"))
                    case .exists: rows.append((topic.name, "exists"))
                    case .failed(let error):
                        failed = true
                        rows.append((topic.name, "failed: \(error.name)"))
                    }
                }
                if options.output == .json {
                    try printJSON(rows.map { ["topic": $0.0, "result": $0.1] })
                } else {
                    for (name, result) in rows { print("\(name)  \(result)") }
                }
                if failed { throw ExitCode.failure }
            }
        }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Tells what differs from what `create` makes; exit 1 if anything does.")
        @OptionGroup var options: PlanOptions

        func run() async throws {
            try await reported {
                let (configuration, _) = try await options.broker.load([:])
                let plan = try options.plan()
                let differences = try await TopicAdministrator(configuration.kafka).check(plan)
                if options.output == .json {
                    try printJSON(differences.map(\.description))
                } else if differences.isEmpty {
                    print("\(plan.topics.count) topics are as they should be")
                } else {
                    for difference in differences { print(difference) }
                }
                if !differences.isEmpty { throw ExitCode.failure }
            }
        }
    }
}

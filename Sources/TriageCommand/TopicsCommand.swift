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
        var pattern: Pattern?
        @Option(
            name: [.customShort("t"), .customLong("topic")],
            help:
                "Main topic instead of the pattern's; may be repeated (default: TRIAGE_TOPICS, else the hybrid pattern's three)."
        )
        var topics: [String] = []
        @Option(name: [.customShort("o"), .long], help: "text or json.")
        var output: OutputFormat = .text

        /// What the flags ask for; without them the topics that `triage run` would work on.
        func plan(for configuration: Configuration, partitions: Int = 6) throws -> TopicPlan {
            if !topics.isEmpty { try ConfigurationLoader.check(topics: topics) }
            let main = topics.isEmpty ? pattern?.value.patientTopics ?? configuration.topics : topics
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
        @Option(parsing: .unconditional, help: "Partitions of each topic.")
        var partitions = 6
        @Option(parsing: .unconditional, help: "Copies of each partition (default: the broker's).")
        var replicationFactor: Int?

        func validate() throws {
            guard (1...10_000).contains(partitions) else {
                throw ValidationError("--partitions \(partitions): expected 1 to 10000")
            }
            guard replicationFactor.map((1...1000).contains) ?? true else {
                throw ValidationError("--replication-factor \(replicationFactor ?? 0): expected 1 to 1000")
            }
        }

        func run() async throws {
            try await reported {
                let (configuration, _) = try await options.broker.load([:])
                let plan = try options.plan(for: configuration, partitions: partitions)
                let administrator = TopicAdministrator(configuration.kafka, logger: options.broker.logger)
                try await administrator.reach()
                let results = try await administrator.create(plan, replicationFactor: replicationFactor ?? -1)
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
                    try Output.json(rows.map { ["topic": $0.0, "result": $0.1] })
                } else {
                    for (name, result) in rows { try Output.line("\(name)  \(result)") }
                }
                if failed { throw ExitCode.failure }
            }
        }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Tells what differs from what `create` makes; exit 1 if anything does.")
        @OptionGroup var options: PlanOptions

        func run() async throws {
            try await reported {
                let (configuration, _) = try await options.broker.load([:])
                let plan = try options.plan(for: configuration)
                let administrator = TopicAdministrator(configuration.kafka, logger: options.broker.logger)
                try await administrator.reach()
                let differences = try await administrator.check(plan)
                if options.output == .json {
                    try Output.json(differences.map(\.description))
                } else if differences.isEmpty {
                    try Output.line("\(plan.topics.count) topics are as they should be")
                } else {
                    for difference in differences { try Output.line("\(difference)") }
                }
                if !differences.isEmpty { throw ExitCode.failure }
            }
        }
    }
}

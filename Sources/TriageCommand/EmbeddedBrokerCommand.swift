import ArgumentParser
import Foundation
import TriageEvents
import TriageKafka
import UnixSignals

/// Serves the embedded cluster to other processes: for tests that end `triage run` in mid-work, and, by ``BrokerControl``,
/// for those that bring about faults. Hidden from the help.
struct EmbeddedBrokerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "embedded-broker", abstract: "Serves librdkafka's mock cluster until Ctrl-C; for tests.",
        shouldDisplay: false
    )

    @Option(parsing: .unconditional, help: "Partitions of each topic.")
    var partitions = 6
    @Option(parsing: .unconditional, help: "Brokers.")
    var brokers = 1

    func validate() throws {
        guard (1...10_000).contains(partitions) else {
            throw ValidationError("--partitions \(partitions): expected 1 to 10000")
        }
        guard (1...100).contains(brokers) else { throw ValidationError("--brokers \(brokers): expected 1 to 100") }
    }

    func run() async throws {
        try await reported {
            let cluster = try EmbeddedCluster(brokers: brokers)
            for main in TopicPattern.hybrid.patientTopics {
                for topic in [main, TopicName.retry(of: main), TopicName.deadLetter(of: main)] {
                    try cluster.createTopic(topic, partitions: partitions)
                }
            }
            try Output.line(cluster.bootstrapServers)
            Thread.detachNewThread { try? BrokerControl.serve(cluster) }
            for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint) { break }
            cluster.close()
        }
    }
}

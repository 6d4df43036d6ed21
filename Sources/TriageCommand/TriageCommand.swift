import ArgumentParser
import Foundation
import Triage

/// The command `triage`: parsing and printing; what it does is in the library.
@main
struct TriageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "triage",
        abstract: "Processes FHIR Patient events on Kafka, and explains every step as a trace.",
        discussion: """
            EXAMPLES
              triage demo                                   everything on one machine: broker, patients, failures, a trace
              triage topics create -b localhost:9092        the topics for created, updated and deleted Patients
              triage publish -b localhost:9092 --action created patients.ndjson
              triage run -b localhost:9092 --group clinic   the service; Ctrl-C finishes what is in flight and ends
              triage status -b localhost:9092 -g clinic     lag, owners, gate, retries, dead letters; what is wrong comes first
              triage patient -b localhost:9092 -g clinic ID why a patient's events wait, and until when
              triage hash-id --identifier-key-file key ID   what to search traces for, given a resource id

            Spans and metrics go to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names. Completion for your
            shell: triage --generate-completion-script bash|zsh|fish
            """,
        version: TriageVersion.current,
        subcommands: [
            DemoCommand.self, RunCommand.self, PublishCommand.self, TopicsCommand.self, StatusCommand.self, PatientCommand.self,
            HashIDCommand.self,
            EmbeddedBrokerCommand.self,
        ]
    )

    /// Runs the command that was typed.
    static func main() async {
        // A reader that goes away shall fail a write, not end a service that is in the middle of its work.
        signal(SIGPIPE, SIG_IGN)
        // Asks for an export once there is something to export; until then it shall not end the process.
        signal(SIGUSR1, SIG_IGN)
        await main(nil)
    }
}

import ArgumentParser
import CMalloc
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
              triage dead-letters groups -b localhost:9092  which failures there are; show, repair and replay them
              triage explain -b localhost:9092 RECORD       one event on a page: attempts, waits, fate, trace; also by trace or event id
              triage hash-id --identifier-key-file key ID   what to search traces for, given a resource id

            Spans and metrics go to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names. Completion for your
            shell: triage --generate-completion-script bash|zsh|fish
            """,
        version: TriageVersion.current,
        subcommands: [
            DemoCommand.self, RunCommand.self, PublishCommand.self, CommandCommand.self, TopicsCommand.self, StatusCommand.self,
            PatientCommand.self, DeadLettersCommand.self, ExplainCommand.self,
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
        keepMemory()
        allowDescriptors()
        await main(nil)
    }

    /// Allows as many descriptors as the system lets a process have, up to 65,536: the usual soft limit of 1,024 is there for programs that
    /// call select(2), and the connections of a server under attack alone would take all of it, those to Kafka included.
    private static func allowDescriptors() {
        var limit = rlimit()
        let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(files, &limit) == 0, limit.rlim_cur < 65_536 else { return }
        limit.rlim_cur = min(limit.rlim_max, 65_536)
        setrlimit(files, &limit)
    }

    /// Keeps freed memory for the next fetch, up to 128 MiB of an arena: the client's fetch buffers come and go by the megabyte, and
    /// what is given back to the system each time has to be cleared page by page when it is asked for again, half of the page faults
    /// of a run (mallopt(3), `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`; the former is at most 32 MiB).
    private static func keepMemory() {
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 128 << 20)
    }
}

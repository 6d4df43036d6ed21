import ArgumentParser
import Foundation
import Triage
import TriageEvents

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "How a group's work stands: lag, owners, gate, retries, dead letters; what is wrong comes first.",
        discussion: """
            Read from Kafka alone, so it works while the service runs and while it doesn't; it joins no group and changes
            nothing. Of the retry topics every record that isn't done is read.

            LAG is the number of offsets that aren't committed, BEHIND the age of the first of them that isn't done. OWNER is
            the member's instance-id if it has one, else its client.id. DEAD LETTERS are the group's own that are open. Where records have
            waited for more than 10 s, commits are watched for 3 s. Exit 0 if the brokers answered, whatever they said: also of a
            group that they don't know. --watch goes on when brokers don't answer.

            EXAMPLES
              triage status -b localhost:9092 --group clinic
              triage status -b localhost:9092 -o json | jq .problems
              triage status -b localhost:9092 --watch 5s
            """
    )

    @OptionGroup var options: InspectionOptions
    @Option(help: ArgumentHelp("Look again after this time, such as 5s, until Ctrl-C.", valueName: "duration"))
    var watch: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Offsets of a dead letter partition to count the group's dead letters in, newest first; 0 for none.",
            valueName: "number"))
    var deadLetters: Int64 = 10_000

    func validate() throws {
        guard deadLetters >= 0 else { throw ValidationError("--dead-letters \(deadLetters): expected 0 or more") }
    }

    func run() async throws {
        try await reported {
            let interval = try watch.map { text in
                guard let interval = Duration(triage: text), interval >= .milliseconds(100) else {
                    throw ConfigurationError(key: "--watch", value: text, expected: "a duration of at least 100ms, such as 5s")
                }
                return interval
            }
            guard let interval else { return try await look(try await options.inspector().0, clears: false) }
            // What can't be used ends it at once; brokers that don't answer only end this look.
            var inspector: GroupInspector?
            while true {
                do {
                    if inspector == nil { inspector = try await options.inspector().0 }
                    if let inspector { try await look(inspector, clears: isatty(STDOUT_FILENO) == 1) }
                } catch let error as BrokerError {
                    Narration.endProgress()
                    let what = error.isUnreachable ? "no broker answers (\(error))" : "\(error)"
                    Narration.say("\(what); looking again in \(PlainText.span(interval)), Ctrl-C ends")
                }
                try await Task.sleep(for: interval)
            }
        }
    }

    private func look(_ inspector: GroupInspector, clears: Bool) async throws {
        let report = try await inspector.status(deadLetters: deadLetters)
        Narration.endProgress()
        if options.output == .json {
            try Output.json(StatusOutput(report))
        } else {
            if clears { try Output.line("\u{1B}[H\u{1B}[2J") }
            try Output.line(StatusOutput.text(report))
        }
    }
}

import ArgumentParser
import Foundation
import Triage

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "How a group's work stands: lag, owners, gate, retries, dead letters; what is wrong comes first.",
        discussion: """
            Read from Kafka alone, so it works while the service runs and while it doesn't; it joins no group and changes
            nothing. Of the retry topics every record that isn't done is read.

            LAG is the number of offsets that aren't committed, BEHIND the age of the first of them that isn't done. Exit 0 if
            the brokers answered, whatever they said.

            EXAMPLES
              triage status -b localhost:9092 --group clinic
              triage status -b localhost:9092 -o json | jq .problems
              triage status -b localhost:9092 --watch 5s
            """
    )

    @OptionGroup var options: InspectionOptions
    @Option(help: ArgumentHelp("Look again after this time, such as 5s, until Ctrl-C.", valueName: "duration"))
    var watch: String?

    func run() async throws {
        try await reported {
            let interval = try watch.map { text in
                guard let interval = Duration(triage: text), interval >= .milliseconds(100) else {
                    throw ConfigurationError(key: "--watch", value: text, expected: "a duration of at least 100ms, such as 5s")
                }
                return interval
            }
            let (inspector, _) = try await options.inspector()
            while true {
                let report = try await inspector.status()
                Narration.endProgress()
                if options.output == .json {
                    try Output.json(StatusOutput(report))
                } else {
                    if interval != nil, isatty(STDOUT_FILENO) == 1 { try Output.line("\u{1B}[H\u{1B}[2J") }
                    try Output.line(StatusOutput.text(report))
                }
                guard let interval else { break }
                try await Task.sleep(for: interval)
            }
        }
    }
}

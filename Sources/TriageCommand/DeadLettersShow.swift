import ArgumentParser
import Foundation
import Logging
import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

extension DeadLettersCommand {
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Everything about one dead letter: the error, each attempt, its traces, headers, the payload's shape.",
            discussion: """
                The payload's shape is the paths and types of its values, names other than FHIR's left out. The values of
                headers are shown where they are numbers, times, ids or names of a known header.

                --reveal shows the payload, the key, all headers' values and the error's own text. That is logged, and put on
                record in \(TopicName.deadLetterState) first: who, which, when. If that can't be written, nothing is shown.
                --original shows what the event said before replays with --edit or --patch changed it, of this dead letter and of
                those that it was before; it is put on record likewise. What is encrypted needs its key.

                EXAMPLES
                  triage dlq show -b localhost:9092 fhir.Patient.created.dlq/0/17
                  triage dlq show fhir.Patient.created.dlq/0/17 --original -o json | jq -r '.originals[0].value.text'
                  triage dlq show fhir.Patient.created.dlq/0/17 --reveal --reason INC-4711 -o json | jq .revealed
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @Argument(help: ArgumentHelp("The dead letter: TOPIC/PARTITION/OFFSET.", valueName: "ID"))
        var id: String
        @Flag(help: "Show the payload and whatever else may be the patient's; this is put on record.")
        var reveal = false
        @Flag(help: "Show what the event said before it was edited; this is put on record.")
        var original = false
        @Option(help: ArgumentHelp("Why it is revealed; goes on record.", valueName: "text"))
        var reason: String?
        @OptionGroup var person: OperatorOptions

        func run() async throws {
            try await reported {
                let position = try DeadLetterOptions.ids([id])[0]
                if reason != nil, !reveal, !original {
                    throw ConfigurationError(key: "--reason", value: "…", expected: "--reveal or --original beside it")
                }
                let desk = try await options.connect([position])
                defer { desk.access.close() }
                let (entry, record) = try await desk.browser.find(position)
                var details = DeadLetterDetails(entry, record, desk: desk)
                // What can't be opened isn't put on record as seen.
                if reveal { details.revealed = try DeadLetterRevealed(record, access: desk.access) }
                if original {
                    details.originals = try await desk.browser.edits(of: entry.letter).map {
                        try DeadLetterOriginal($0, cipher: desk.access.cipher)
                    }
                }
                Narration.endProgress()
                let name = person.name
                if reveal {
                    try await desk.putOnRecord(.reveal, of: position, by: name, reason: reason, what: "revealed \(position)")
                }
                if details.originals?.isEmpty == false {
                    try await desk.putOnRecord(
                        .original, of: position, by: name, reason: reason, what: "revealed the original of \(position)")
                }
                if options.output == .json {
                    try Output.json(details)
                } else {
                    try Output.line(details.text(width: FittedTable.terminalWidth))
                }
            }
        }
    }
}

/// Who does it, as others will read it.
struct OperatorOptions: ParsableArguments {
    @Option(
        name: .customLong("as"),
        help: ArgumentHelp("Who does this, as it goes on record (default: the user at this host).", valueName: "name"))
    var asName: String?

    func validate() throws {
        if let asName, asName.isEmpty || asName.utf8.count > 200 || asName.unicodeScalars.contains(where: { $0.value < 0x20 }) {
            throw ValidationError("--as: expected a name of 1 to 200 bytes")
        }
    }

    /// The name that goes on record.
    var name: String {
        if let asName { return asName }
        let user = NSUserName()
        return "\(user.isEmpty ? "uid \(getuid())" : user)@\(ProcessInfo.processInfo.hostName)"
    }
}

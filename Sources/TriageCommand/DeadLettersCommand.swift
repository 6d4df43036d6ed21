import ArgumentParser
import Logging
import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

struct DeadLettersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letters",
        abstract: "Failed events: find, explain, repair, replay.",
        discussion: """
            A dead letter's id is TOPIC/PARTITION/OFFSET. What became of each (open, replayed, completed, failed_again,
            discarded), by whom and why, stands in the topic \(TopicName.deadLetterState).

            No payload, key or foreign text is shown but by show --reveal, which is put on record; export writes payloads.

            EXAMPLES
              triage dlq groups -b localhost:9092                       which bugs there are, the largest first
              triage dlq list --fingerprint 5c01 --since 2h             the dead letters of one of them
              triage dlq show fhir.Patient.created.dlq/0/17             what failed, when, in which traces
              triage dlq replay --fingerprint 5c01 --canary 3           what would be done; --execute does it
              triage dlq discard --fingerprint 5c01 --reason duplicates --execute
            """,
        subcommands: [
            List.self, Groups.self, Show.self, Replay.self, Discard.self, Reopen.self, Export.self, Import.self,
        ],
        aliases: ["dlq"]
    )

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Dead letters one by one, the newest first.",
            discussion: """
                JSON is one array. On a terminal the table keeps within its width: columns go from it before it wraps.

                EXAMPLES
                  triage dlq list -b localhost:9092 --status open --limit 20
                  triage dlq list -b localhost:9092 --class persistent --since 2026-11-23 -o json | jq '.[].trace_id'
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup(title: "Which") var selection: DeadLetterChoice
        @Option(parsing: .unconditional, help: "As many of the newest at most, 1 to 100000.")
        var limit = 100

        func validate() throws {
            guard (1...100_000).contains(limit) else { throw ValidationError("--limit \(limit): expected 1 to 100000") }
        }

        func run() async throws {
            try await reported {
                let now = SystemClock().now()
                let filter = try selection.filter(group: options.group, now: now)
                let desk = try await options.connect()
                defer { desk.access.close() }
                let listing = try await desk.browser.list(filter, limit: limit, everywhere: selection.allPartitions)
                Narration.endProgress()
                if options.output == .json {
                    try Output.json(listing.entries.map { DeadLetterOutput($0, identifiers: desk.identifiers) })
                } else if !listing.entries.isEmpty {
                    try Output.line(DeadLetterOutput.table(listing.entries, now: now, width: FittedTable.terminalWidth))
                }
                for note in listing.notes { Narration.say("note: \(note)") }
                if listing.entries.isEmpty {
                    Narration.say("no such dead letters; \(PlainText.count(listing.read, "record")) read")
                }
                if listing.isCut { Narration.say("only the newest \(limit) are shown: --limit shows more, export all") }
            }
        }
    }

    struct Groups: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Dead letters by fingerprint, the largest group first: one row for each bug.",
            discussion: """
                Counts the open ones; with --all or --status others. SHARE is of all that were counted. PATIENTS are distinct
                keys: exact up to 4096, then an estimate within some per cent, marked ~.

                EXAMPLES
                  triage dlq groups -b localhost:9092 --group clinic
                  triage dlq groups -b localhost:9092 --all -o json | jq '.[] | select(.patients > 10)'
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup(title: "Which") var selection: DeadLetterChoice
        @Flag(help: "Count those that are replayed, completed, failed again or discarded as well.")
        var all = false

        func validate() throws {
            guard !all || selection.status.isEmpty else { throw ValidationError("--all: expected no --status beside it") }
        }

        func run() async throws {
            try await reported {
                let now = SystemClock().now()
                var filter = try selection.filter(group: options.group, now: now)
                if !all, filter.statuses == nil { filter.statuses = [.open] }
                let desk = try await options.connect()
                defer { desk.access.close() }
                let groups = try await desk.browser.groups(filter, everywhere: selection.allPartitions)
                Narration.endProgress()
                if options.output == .json {
                    try Output.json(groups.groups.map { DeadLetterGroupOutput($0, of: groups.total) })
                } else if groups.total > 0 {
                    try Output.line(DeadLetterGroupOutput.table(groups, now: now, width: FittedTable.terminalWidth))
                }
                let kind = all ? "" : filter.statuses == [.open] ? "open " : "such "
                Narration.say(
                    "\(PlainText.count(groups.total, kind + "dead letter")) in \(PlainText.count(groups.groups.count, "group"))"
                )
                if groups.others > 0 {
                    Narration.say(
                        "note: \(groups.others) more have other fingerprints: \(DeadLetterGroups.maximumGroups) are told apart"
                    )
                }
            }
        }
    }
}

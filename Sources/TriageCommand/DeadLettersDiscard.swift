import ArgumentParser
import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

extension DeadLettersCommand {
    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Says that failed events aren't needed any more; a dry run until --execute.",
            discussion: """
                The dead letters stay where they are: only their state changes, and reopen takes that back. Those that aren't
                open are left alone.

                EXAMPLES
                  triage dlq discard fhir.Patient.created.dlq/0/17 --reason 'test data' --execute
                  triage dlq discard --fingerprint 5c01 --until 2026-11-01 --reason INC-4711 --execute
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup var which: DeadLetterWhich
        @OptionGroup var person: OperatorOptions
        @Flag(help: "Do it.")
        var execute = false
        @Option(help: ArgumentHelp("Why; goes on record.", valueName: "text"))
        var reason: String

        func validate() throws {
            guard reason.contains(where: { !$0.isWhitespace }) else {
                throw ValidationError("--reason: expected why they aren't needed any more")
            }
        }

        func run() async throws {
            try await StateChange(
                verb: "discard", done: "discarded", from: .open, options: options, which: which, person: person, execute: execute
            ).run { desk, selection, note in try await desk.discard(selection, reason: reason, progress: note) }
        }
    }

    struct Reopen: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes discards back: the dead letters are open again; a dry run until --execute.",
            discussion: """
                EXAMPLE
                  triage dlq reopen --fingerprint 5c01 --reason 'needed after all' --execute
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup var which: DeadLetterWhich
        @OptionGroup var person: OperatorOptions
        @Flag(help: "Do it.")
        var execute = false
        @Option(help: ArgumentHelp("Why; goes on record.", valueName: "text"))
        var reason: String?

        func run() async throws {
            try await StateChange(
                verb: "reopen", done: "reopened", from: .discarded, options: options, which: which, person: person,
                execute: execute
            ).run { desk, selection, note in try await desk.reopen(selection, reason: reason, progress: note) }
        }
    }

    /// What discarding and taking that back have in common.
    struct StateChange {
        let verb: String
        let done: String
        let from: DeadLetterState.Status
        let options: DeadLetterOptions
        let which: DeadLetterWhich
        let person: OperatorOptions
        let execute: Bool

        func run(_ work: @escaping DeadLetterDesk.Work<StateChangeReport>) async throws {
            try await reported {
                let now = SystemClock().now()
                let resolved = try which.resolved(group: options.group, now: now, statuses: [from])
                let desk = try await options.connect(resolved.ids)
                defer { desk.access.close() }
                let from = from
                guard execute else {
                    return try await desk.preview(resolved, verb: verb, as: options.output, now: now) { entry, _ in
                        entry.status == from ? .goes(to: nil) : .nothingToDo
                    }
                }
                let report = try await desk.operate(resolved, by: person.name, done: done, work)
                let result = StateChangeOutput(report, done: done)
                if options.output == .json { try Output.json(result) } else { try Output.line(result.text) }
                result.refusals.narrate(of: result.refused)
                if report.refused > 0 { throw ExitCode.failure }
            }
        }
    }
}

/// What discarding and taking that back print at their end.
struct StateChangeOutput: Encodable {
    let result: String
    let changed: Int
    let unchanged: [String: Int]
    let refused: Int
    let refusals: [DeadLetterPreview.Output.Problem]

    init(_ report: StateChangeReport, done: String) {
        result = done
        changed = report.changed
        unchanged = Dictionary(uniqueKeysWithValues: report.unchanged.map { ($0.key.rawValue, $0.value) })
        refused = report.refused
        refusals = DeadLetterPreview.Output.Problem.sorted(report.refusals)
    }

    var text: String {
        var rows = [(result, "\(changed)")]
        rows += unchanged.sorted { $0.key < $1.key }.map { ("left alone, \($0.key)", "\($0.value)") }
        if refused > 0 { rows.append(("refused", "\(refused)")) }
        return Table.rows(rows)
    }
}

extension [DeadLetterPreview.Output.Problem] {
    /// Says the first of them, and how many there are.
    func narrate(of count: Int) {
        for refusal in prefix(10) { Narration.say("\(refusal.id): \(refusal.reason)") }
        if count > 10 { Narration.say("and \(count - 10) more") }
    }
}

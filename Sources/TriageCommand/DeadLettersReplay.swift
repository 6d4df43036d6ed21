public import ArgumentParser
import Foundation
import Logging
import Triage
import TriageEvents
public import TriageProcessing
import TriageTelemetry

extension DeadLetterReplay.Target: ExpressibleByArgument {}

extension DeadLettersCommand {
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes failed events anew, to be handled again; a dry run until --execute.",
            discussion: """
                Named ones, or those of a filter that are open. They go to the .retry topic, where only the group that failed
                takes them, in their place among their patient's events. What was replayed before is left alone, unless
                forced. The service writes what becomes of them: completed, or failed_again with the dead letter that stands
                for the event now.

                One operator replays at a time: whoever comes later stops the one before, who ends with 1 and is told.

                --edit opens the payload in $VISUAL or $EDITOR, which is put on record as show --reveal is; --patch changes it
                by a JSON patch (RFC 6902). What the event said before is kept in \(TopicName.deadLetterState).

                Exit 0 if all was done or there was nothing to do, 1 if not: some were refused, a canary failed, another
                operator came. A dry run ends with 1 if none of those that are meant can be replayed.

                EXAMPLES
                  triage dlq replay -b localhost:9092 fhir.Patient.created.dlq/0/17 --execute
                  triage dlq replay --fingerprint 5c01 --canary 3 --reason 'fixed in 2.4.1' --execute
                  triage dlq replay --fingerprint 5c01 --patch '[{"op":"remove","path":"/data/gender"}]' --execute
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup var which: DeadLetterWhich
        @OptionGroup var person: OperatorOptions
        @Flag(help: "Do it.")
        var execute = false
        @Option(
            help: ArgumentHelp("retry: only the group that failed; origin: the main topic, for every group.", valueName: "where"))
        var to: DeadLetterReplay.Target = .retry
        @Option(
            help: ArgumentHelp(
                "Main topic that they go to, or beside; for those of other systems that don't say theirs.", valueName: "topic"))
        var toTopic: String?
        @Option(
            parsing: .unconditional,
            help: ArgumentHelp("Replay so many first, and the others only if all of these are completed.", valueName: "number"))
        var canary: Int?
        @Option(help: ArgumentHelp("How long the canaries may take (default: 120s).", valueName: "duration"))
        var canaryTimeout: String?
        @Option(parsing: .unconditional, help: ArgumentHelp("No more than so many in a second.", valueName: "number"))
        var rate: Double?
        @Flag(help: "Also what isn't open: replayed before, completed or discarded. With a filter name those by --status.")
        var force = false
        @Option(help: ArgumentHelp("Why; goes on record.", valueName: "text"))
        var reason: String?
        @Flag(help: "Change the payload in the editor first: of one named dead letter.")
        var edit = false
        @Option(
            help: ArgumentHelp(
                "Change the payload first: a JSON patch (RFC 6902), or the file that holds it.", valueName: "patch|file"))
        var patch: String?

        func validate() throws {
            guard canary.map({ (1...10_000).contains($0) }) ?? true else {
                throw ValidationError("--canary \(canary ?? 0): expected 1 to 10000")
            }
            let rates = ReplayOptions.rates
            guard rate.map({ rates.contains($0) }) ?? true else {
                throw ValidationError(
                    "--rate \(rate ?? 0): expected a number from \(rates.lowerBound) to \(Int(rates.upperBound))")
            }
            guard canaryTimeout == nil || canary != nil else {
                throw ValidationError("--canary-timeout: expected --canary beside it")
            }
            guard !edit || patch == nil else { throw ValidationError("--edit: expected no --patch beside it") }
            guard !edit || which.ids.count == 1 else { throw ValidationError("--edit: expected one ID") }
            guard !edit || execute else {
                throw ValidationError("--edit: expected --execute beside it, since what is edited in a dry run would be lost")
            }
        }

        func run() async throws {
            try await reported {
                let now = SystemClock().now()
                var replay = ReplayOptions()
                replay.target = to
                replay.topic = toTopic
                replay.canary = canary ?? 0
                replay.rate = rate
                replay.force = force
                replay.reason = reason
                if let canaryTimeout {
                    guard let timeout = Duration(triage: canaryTimeout), timeout > .zero else {
                        throw ConfigurationError(key: "--canary-timeout", value: canaryTimeout, expected: "a duration such as 2m")
                    }
                    replay.canaryTimeout = timeout
                }
                let repair = try patch.map { try Repair.patch($0) }
                let resolved = try which.resolved(group: options.group, now: now, statuses: [.open])
                let desk = try await options.connect(resolved.ids)
                defer { desk.access.close() }
                let checker = EventChecker(roles: desk.configuration.roles)
                if let repair { replay.edit = { _, record, value in try checker.checked(repair.applied(to: value), of: record) } }
                if let repair, repair.compares {
                    try await desk.putOnRecord(comparisonOf: resolved.ids, by: person.name, reason: reason)
                }
                if to == .origin {
                    Narration.say(
                        "warning: --to origin writes to the main topic: every group that reads it sees these events again; "
                            + "--to retry reaches the group that failed alone")
                }
                guard execute else {
                    return try await desk.preview(
                        resolved, verb: "replay", to: targets(desk.access), as: options.output, now: now,
                        Self.plan(desk.access, replay))
                }
                if edit {
                    guard let edited = try await editing(resolved.ids[0], desk, checker) else {
                        Narration.say("nothing was changed, and nothing is done")
                        return
                    }
                    replay.edit = ReplayOptions.edit([resolved.ids[0]: edited])
                }
                let chosen = replay
                let report = try await desk.operate(resolved, by: person.name, done: "replayed") { desk, selection, note in
                    try await desk.replay(selection, options: chosen, progress: note)
                }
                let result = ReplayOutput(report)
                if options.output == .json { try Output.json(result) } else { try Output.line(result.text) }
                result.narrate()
                if result.hasFailed { throw ExitCode.failure }
            }
        }

        /// The topics that dead letters of this access are likely to be replayed to.
        private func targets(_ access: DeadLetterAccess) -> [String] {
            let mains = toTopic.map { [$0] } ?? access.topics.filter { TopicName.isDeadLetter($0) }.map { TopicName.main(of: $0) }
            return to == .retry ? mains.map { TopicName.retry(of: $0) } : mains
        }

        /// What a replay would do with a dead letter.
        static func plan(_ access: DeadLetterAccess, _ options: ReplayOptions) -> DeadLetterPreview.Plan {
            let replay = DeadLetterReplay(to: options.target, id: "", group: access.group, topic: options.topic)
            return { entry, record in
                guard options.force || entry.status.isOpen else { return .nothingToDo }
                do {
                    let record = try access.opened(record)
                    var value = record.value
                    if let edit = options.edit, !entry.letter.isPointer { value = try edit(entry, record, value) ?? value }
                    // The bytes of one that only points to its origin are looked for when it is done.
                    let outbound = try replay.outbound(
                        record, value: value ?? (entry.letter.isPointer ? ByteSlice("") : nil), at: Timestamp(nanoseconds: 0))
                    return .goes(
                        to: .init(
                            topic: outbound.topic, partition: outbound.partition,
                            group: options.target == .retry ? outbound.headers.text(HeaderName.group) : nil))
                } catch let refusal as DeadLetterReplay.Refusal {
                    switch refusal {
                    case .noGroup: return .cannot("\(OperatorRefusal.noGroup)")
                    case .noTopic: return .cannot("\(OperatorRefusal.noTopic)")
                    case .sealed: return .cannot("\(OperatorRefusal.encrypted)")
                    case .valueElsewhere(let origin): return .cannot("\(OperatorRefusal.valueGone(origin))")
                    }
                } catch {
                    return .cannot("\(error)")
                }
            }
        }

        /// Lets the operator change a payload, which he thereby sees.
        private func editing(_ id: RecordPosition, _ desk: DeadLetterDesk, _ checker: EventChecker) async throws -> ByteSlice? {
            let (entry, record) = try await desk.browser.find(id)
            guard force || entry.status.isOpen else {
                throw ConfigurationError(
                    key: "--edit", value: "\(id)", expected: "an open dead letter, or --force: it is \(entry.status.rawValue)")
            }
            guard let value = try desk.access.opened(record).value else {
                throw EditorError("\(id) has no payload to be edited")
            }
            try await desk.putOnRecord(.reveal, of: id, by: person.name, reason: reason, what: "revealed \(id) for editing")
            let session = EditorSession(environment: ProcessInfo.processInfo.environment)
            var text = value
            while true {
                guard let edited = try await session.edit(text, suffix: ".json") else { return text == value ? nil : text }
                do {
                    return try checker.checked(edited, of: record)
                } catch {
                    guard isatty(STDIN_FILENO) == 1 else { throw error }
                    Narration.say("\(error)\nEdit it again? [Y/n]")
                    guard let answer = readLine(), !answer.lowercased().hasPrefix("n") else {
                        throw EditorError("nothing was done")
                    }
                    text = edited
                }
            }
        }
    }
}

/// What a replay prints at its end.
struct ReplayOutput: Encodable {
    struct Canary: Encodable {
        let result: String
        let ids: [String]
    }
    let replay: String
    let replayed: Int
    let unchanged: [String: Int]
    let refused: Int
    let refusals: [DeadLetterPreview.Output.Problem]
    let canary: Canary?
    let left: Int

    init(_ report: ReplayReport) {
        replay = report.id
        replayed = report.replayed
        unchanged = Dictionary(uniqueKeysWithValues: report.unchanged.map { ($0.key.rawValue, $0.value) })
        refused = report.refused
        refusals = DeadLetterPreview.Output.Problem.sorted(report.refusals)
        left = report.left
        canary =
            switch report.canary {
            case nil: nil
            case .completed: Canary(result: "completed", ids: [])
            case .failedAgain(let ids): Canary(result: "failed_again", ids: ids.map { "\($0)" })
            case .timedOut(let ids): Canary(result: "timed_out", ids: ids.map { "\($0)" })
            }
    }

    var hasFailed: Bool { refused > 0 || canary.map { $0.result != "completed" } ?? false }

    var text: String {
        var rows = [("replayed", "\(replayed)")]
        rows += unchanged.sorted { $0.key < $1.key }.map { ("left alone, \($0.key)", "\($0.value)") }
        if refused > 0 { rows.append(("refused", "\(refused)")) }
        if let canary { rows.append(("canaries", canary.result)) }
        if left > 0 { rows.append(("not begun", "\(left)")) }
        if replayed > 0 { rows.append(("replay", replay)) }
        return Table.rows(rows)
    }

    func narrate() {
        refusals.narrate(of: refused)
        guard let canary, canary.result != "completed" else { return }
        let what = canary.result == "failed_again" ? "failed again" : "had not ended in time"
        for id in canary.ids.prefix(10) { Narration.say("canary \(id) \(what); look at it: triage explain \(id)") }
        if left > 0 { Narration.say("the other \(left) were not begun") }
    }
}

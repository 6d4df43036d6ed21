import ArgumentParser
import Foundation
import Synchronization
import Triage
import TriageEvents
import TriageProcessing
import UnixSignals

/// Which dead letters something is done to: some that are named, or those that a filter lets through.
struct DeadLetterWhich: ParsableArguments {
    @Argument(help: ArgumentHelp("Dead letters: TOPIC/PARTITION/OFFSET.", valueName: "ID"))
    var ids: [String] = []
    @OptionGroup(title: "Which") var choice: DeadLetterChoice
    @Flag(help: "All of them, without a filter.")
    var all = false
    @Option(parsing: .unconditional, help: ArgumentHelp("No more than so many, the oldest.", valueName: "number"))
    var limit: Int?

    func validate() throws {
        let given = [!ids.isEmpty, !choice.isEmpty, all].count { $0 }
        guard given == 1 else {
            throw ValidationError(
                "ID: expected ids, or a filter such as --fingerprint, or --all\(given == 0 ? "" : "; one of these")")
        }
        guard limit == nil || ids.isEmpty else {
            throw ValidationError("--limit: expected a filter or --all beside it, and no ids")
        }
        guard limit.map({ $0 > 0 }) ?? true else { throw ValidationError("--limit \(limit ?? 0): expected 1 or more") }
    }

    /// What is meant, once for all: durations are counted from `now`, and nothing that comes later is meant.
    func resolved(group: String?, now: Timestamp, statuses: Set<DeadLetterState.Status>) throws -> Resolved {
        guard ids.isEmpty else { return .ids(try DeadLetterOptions.ids(ids)) }
        var filter = try choice.filter(group: group, now: now)
        if filter.statuses == nil { filter.statuses = statuses }
        if filter.until == nil { filter.until = now }
        return .filter(filter, limit: limit, everywhere: choice.allPartitions)
    }

    enum Resolved: Sendable {
        case ids([RecordPosition])
        case filter(DeadLetterFilter, limit: Int?, everywhere: Bool)

        var ids: [RecordPosition] {
            guard case .ids(let ids) = self else { return [] }
            return ids
        }

        /// The dead letters, the oldest first or in the order in which they were named.
        func selection(_ browser: DeadLetterBrowser) async throws -> DeadLetterSelection {
            switch self {
            case .ids(let ids): return DeadLetterSelection(ids)
            case .filter(let filter, let limit, let everywhere):
                let selection = try await browser.select(filter, limit: limit, everywhere: everywhere)
                Narration.endProgress()
                return selection
            }
        }

        /// What would be done, found out without doing it.
        func preview(_ browser: DeadLetterBrowser, _ plan: @escaping DeadLetterPreview.Plan) async throws -> DeadLetterPreview {
            var preview: DeadLetterPreview
            switch self {
            case .ids(let ids) where ids.count <= 20:
                preview = DeadLetterPreview()
                for id in ids {
                    let (entry, record) = try await browser.find(id)
                    preview.add(entry, record, plan)
                }
            case .ids(let ids):
                let wanted = Set(ids)
                preview = try await browser.fold(DeadLetterFilter(), everywhere: true, into: DeadLetterPreview()) {
                    preview, entry, record in
                    if wanted.contains(record.position) { preview.add(entry, record, plan) }
                    return true
                }
            case .filter(let filter, let limit, let everywhere):
                preview = try await browser.fold(filter, everywhere: everywhere, into: DeadLetterPreview()) {
                    preview, entry, record in
                    preview.add(entry, record, plan)
                    return true
                }
                preview.limit = limit
            }
            Narration.endProgress()
            return preview
        }
    }

    /// The command that was typed, as it does what was shown: with --execute, and times that stay what they are. A patient's
    /// id is replaced by `-`, so that it isn't copied about.
    static func command(_ arguments: [String], now: Timestamp, isFiltered: Bool) -> String {
        var words = ["triage"]
        var rest = arguments.dropFirst()
        var hasUntil = false
        while let word = rest.popFirst() {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard ["--since", "--until", "--patient"].contains(parts[0]), let value = parts.count > 1 ? parts[1] : rest.popFirst()
            else {
                words.append(word)
                continue
            }
            hasUntil = hasUntil || parts[0] == "--until"
            let shown =
                parts[0] == "--patient" ? "-" : (try? DeadLetterChoice.time(value, of: parts[0], now: now))?.iso8601 ?? value
            words += [parts[0], shown]
        }
        if isFiltered, !hasUntil { words += ["--until", now.iso8601] }
        return (words + ["--execute"]).map(quoted).joined(separator: " ")
    }

    /// A word as a shell takes it.
    static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: "-_./:=,@%+".utf8.contains(byte)
                }
            }
        return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }
}

/// What would be done to dead letters: how many of which groups, where they would go, and which of them can't.
struct DeadLetterPreview: Sendable {
    /// What is planned for one; where it would go, and for which group.
    typealias Plan = @Sendable (DeadLetterEntry, Record) -> Verdict
    enum Verdict: Sendable {
        case goes(to: String)
        case nothingToDo
        case cannot(String)
    }
    static let toldProblems = 10

    var groups = DeadLetterGroups()
    var targets: [String: Int] = [:]
    var unchanged: [DeadLetterState.Status: Int] = [:]
    var problems: [(id: RecordPosition, reason: String)] = []
    var problemCount = 0
    /// Only so many of them.
    var limit: Int?

    var count: Int { min(groups.total, limit ?? .max) }

    mutating func add(_ entry: DeadLetterEntry, _ record: Record, _ plan: Plan) {
        switch plan(entry, record) {
        case .goes(let target):
            groups.add(entry.letter)
            targets[target, default: 0] += 1
        case .nothingToDo: unchanged[entry.status, default: 0] += 1
        case .cannot(let reason):
            problemCount += 1
            if problems.count < Self.toldProblems { problems.append((record.position, reason)) }
        }
    }

    /// What a dry run prints.
    struct Output: Encodable {
        struct Problem: Encodable {
            let id: String
            let reason: String
        }
        let dryRun = true
        let verb: String
        let count: Int
        let groups: [DeadLetterGroupOutput]
        let targets: [String: Int]
        let unchanged: [String: Int]
        let refused: Int
        let refusals: [Problem]
        let command: String

        init(_ preview: DeadLetterPreview, verb: String, command: String) {
            self.verb = verb
            self.command = command
            count = preview.count
            groups = preview.groups.groups.map { DeadLetterGroupOutput($0, of: preview.groups.total) }
            targets = preview.targets
            unchanged = Dictionary(uniqueKeysWithValues: preview.unchanged.map { ($0.key.rawValue, $0.value) })
            refused = preview.problemCount
            refusals = preview.problems.map { Problem(id: "\($0.id)", reason: $0.reason) }
        }
    }

    func text(verb: String, command: String, now: Timestamp, width: Int?) -> String {
        var lines: [String] = []
        if groups.total > 0 {
            lines = [
                "Would \(verb) \(PlainText.count(count, "dead letter"))"
                    + (count < groups.total ? ", the oldest of \(groups.total):" : ":"),
                "",
            ]
            lines.append(DeadLetterGroupOutput.table(groups, now: now, width: width))
            if !targets.isEmpty, targets.keys.first?.isEmpty == false {
                lines.append("")
                lines += targets.sorted { $0.key < $1.key }.map { "to \($0.key): \($0.value)" }
            }
        }
        let closed = unchanged.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.rawValue)" }
        if !closed.isEmpty { lines += ["", "Left alone: \(closed.joined(separator: ", "))."] }
        if problemCount > 0 {
            lines += ["", "Can't \(verb) \(problemCount):"] + problems.map { "  \($0.id): \($0.reason)" }
            if problemCount > problems.count { lines.append("  and \(problemCount - problems.count) more") }
        }
        if groups.total == 0 {
            lines += (lines.isEmpty ? [] : [""]) + ["Nothing to \(verb)."]
        } else {
            lines += ["", "Nothing was done yet. This does it:", "  \(command)"]
        }
        return lines.joined(separator: "\n")
    }
}

/// Runs what writes, so that a first Ctrl-C ends it between two transactions; a second one ends at once.
enum InterruptibleWork {
    static func run<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
        let work = Task { try await body() }
        let count = Atomic(0)
        let watcher = Task {
            for await signal in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                if count.add(1, ordering: .relaxed).oldValue > 0 { _exit(130) }
                Narration.endProgress()
                Narration.say("\(signal): ending after what is being written; once more ends at once")
                work.cancel()
            }
        }
        defer { watcher.cancel() }
        return try await work.value
    }
}

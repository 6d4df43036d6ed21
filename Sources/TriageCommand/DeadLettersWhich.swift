import ArgumentParser
import Triage
import TriageEvents
import TriageProcessing

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
        ///
        /// - Parameter targets: topics that are likely to be written to.
        func preview(
            _ browser: DeadLetterBrowser, targets: [String] = [], _ plan: @escaping DeadLetterPreview.Plan
        ) async throws -> DeadLetterPreview {
            defer { Narration.endProgress() }
            var empty = DeadLetterPreview()
            empty.partitions = try await browser.access.partitions(of: targets)
            if case .filter(let filter, let limit?, let everywhere) = self {
                let all = try await browser.select(filter, everywhere: everywhere)
                empty.limit = (limit, of: all.count)
                empty.chosen = Set(all.prefix(limit).positions)
            }
            while true {
                let preview = try await self.preview(browser, from: empty, plan)
                if preview.unknownTopics.isEmpty { return preview }
                // What wasn't likely is asked for, and then it is known where everything can be written to.
                empty.partitions.merge(try await browser.access.partitions(of: preview.unknownTopics.sorted())) { $1 }
            }
        }

        private func preview(
            _ browser: DeadLetterBrowser, from empty: DeadLetterPreview, _ plan: @escaping DeadLetterPreview.Plan
        ) async throws -> DeadLetterPreview {
            switch self {
            case .ids(let ids) where ids.count <= 20:
                var preview = empty
                for id in ids {
                    let (entry, record) = try await browser.find(id)
                    preview.add(entry, record, plan)
                }
                return preview
            case .ids(let ids):
                let wanted = Set(ids)
                return try await browser.fold(DeadLetterFilter(), everywhere: true, into: empty) { preview, entry, record in
                    if wanted.contains(record.position) { preview.add(entry, record, plan) }
                    return true
                }
            case .filter(let filter, _, let everywhere):
                return try await browser.fold(filter, everywhere: everywhere, into: empty) { preview, entry, record in
                    if preview.chosen?.contains(record.position) ?? true { preview.add(entry, record, plan) }
                    return true
                }
            }
        }
    }

    /// The command that was typed, as it does what was shown: with --execute, and times that stay what they are. A patient's
    /// id is replaced by `-`, a patch that was typed by the name of a file, so that what they say of patients isn't copied about.
    static func command(_ arguments: [String], now: Timestamp, isFiltered: Bool) -> String {
        var words = ["triage"]
        var rest = arguments.dropFirst()
        var hasUntil = false
        while let word = rest.popFirst() {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard ["--since", "--until", "--patient", "--patch"].contains(parts[0]),
                let value = parts.count > 1 ? parts[1] : rest.popFirst()
            else {
                words.append(word)
                continue
            }
            hasUntil = hasUntil || parts[0] == "--until"
            let shown =
                switch parts[0] {
                case "--patient": "-"
                case "--patch": Repair.isTyped(value) ? "PATCH.json" : value
                default: (try? DeadLetterChoice.time(value, of: parts[0], now: now))?.iso8601 ?? value
                }
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

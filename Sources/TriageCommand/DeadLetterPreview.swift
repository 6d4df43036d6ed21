import Triage
import TriageEvents
import TriageProcessing

/// What would be done to dead letters: how many of which groups, where they would go, and which of them can't.
struct DeadLetterPreview: Sendable {
    /// Where one would be written, and for which group; nil for every group.
    struct Destination: Hashable, Sendable {
        let topic: String
        /// Nil for what the partitioner chooses.
        let partition: Int32?
        let group: String?

        var text: String { topic + (group.map { ", for the group \($0)" } ?? ", for every group") }
    }
    /// What is planned for one.
    typealias Plan = @Sendable (DeadLetterEntry, Record) -> Verdict
    enum Verdict: Sendable {
        /// It would be written there; nil if only its state would change.
        case goes(to: Destination?)
        case nothingToDo
        case cannot(String)
    }
    static let toldProblems = 10

    /// The numbers of the partitions of topics that were asked for; none of one that doesn't exist.
    var partitions: [String: Set<Int32>] = [:]
    /// Topics that would be written to, and weren't asked for yet.
    var unknownTopics: Set<String> = []
    /// These alone are meant, of those that the filter lets through; nil for all.
    var chosen: Set<RecordPosition>?
    /// Only so many of them are meant, of so many.
    var limit: (count: Int, of: Int)?
    var groups = DeadLetterGroups()
    var targets: [String: Int] = [:]
    var unchanged: [DeadLetterState.Status: Int] = [:]
    var problems: [(id: RecordPosition, reason: String)] = []
    var problemCount = 0

    /// Whether some were meant, and none of them can be taken.
    var isRefused: Bool { problemCount > 0 && groups.total == 0 }

    mutating func add(_ entry: DeadLetterEntry, _ record: Record, _ plan: Plan) {
        switch plan(entry, record) {
        case .goes(let destination):
            if let destination {
                if let known = partitions[destination.topic] {
                    guard destination.partition.map({ known.contains($0) }) ?? !known.isEmpty else {
                        return refuse(
                            record.position, "\(OperatorRefusal.noPartition(destination.topic, destination.partition))")
                    }
                } else {
                    unknownTopics.insert(destination.topic)
                }
                targets[destination.text, default: 0] += 1
            }
            groups.add(entry.letter)
        case .nothingToDo: unchanged[entry.status, default: 0] += 1
        case .cannot(let reason): refuse(record.position, reason)
        }
    }

    private mutating func refuse(_ id: RecordPosition, _ reason: String) {
        problemCount += 1
        problems.append((id, reason))
        guard problems.count > DeadLetterPreview.toldProblems else { return }
        problems.sort { $0.id < $1.id }
        problems.removeLast()
    }

    /// What a dry run prints.
    struct Output: Encodable {
        struct Problem: Encodable {
            let id: String
            let reason: String

            /// Refusals in the order of their places, whatever order they came in.
            static func sorted(_ refusals: [(position: RecordPosition, refusal: OperatorRefusal)]) -> [Problem] {
                refusals.sorted { $0.position < $1.position }.map {
                    Problem(id: PlainText.printable("\($0.position)"), reason: PlainText.printable("\($0.refusal)"))
                }
            }
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
            count = preview.groups.total
            groups = preview.groups.groups.map { DeadLetterGroupOutput($0, of: preview.groups.total) }
            targets = preview.targets
            unchanged = Dictionary(uniqueKeysWithValues: preview.unchanged.map { ($0.key.rawValue, $0.value) })
            refused = preview.problemCount
            refusals = preview.told.map { Problem(id: $0.id, reason: $0.reason) }
        }
    }

    /// Those that can't be taken, the first ones by their places.
    private var told: [(id: String, reason: String)] {
        problems.sorted { $0.id < $1.id }.map { (PlainText.printable("\($0.id)"), PlainText.printable($0.reason)) }
    }

    func text(verb: String, command: String, now: Timestamp, width: Int?) -> String {
        var lines: [String] = []
        if groups.total > 0 {
            var cut = ""
            if let limit, limit.count < limit.of {
                cut = groups.total == limit.count ? ", the oldest of \(limit.of)" : " of the oldest \(limit.count) of \(limit.of)"
            }
            lines = ["Would \(verb) \(PlainText.count(groups.total, "dead letter"))\(cut):", ""]
            lines.append(DeadLetterGroupOutput.table(groups, now: now, width: width))
            if !targets.isEmpty {
                lines.append("")
                lines += targets.sorted { $0.key < $1.key }.map { "to \($0.key): \($0.value)" }
            }
        }
        let closed = unchanged.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.rawValue)" }
        if !closed.isEmpty { lines += (lines.isEmpty ? [] : [""]) + ["Left alone: \(closed.joined(separator: ", "))."] }
        if problemCount > 0 {
            lines += (lines.isEmpty ? [] : [""]) + ["Can't \(verb) \(problemCount):"]
            lines += told.map { "  \($0.id): \($0.reason)" }
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

internal import Synchronization
public import TriageEvents
public import TriageProcessing

/// Reads dead letters and what became of them, in bounded memory however many there are.
///
/// It joins no group, commits nothing and produces nothing. Copies of one dead letter, which a crash can leave, are told as
/// one: of each partition the last 50,000 identities are remembered (fewer where more than ten partitions are read), so copies that
/// stand farther apart are told as two, and whatever is done about one is found for the other by its state.
public struct DeadLetterBrowser: Sendable {
    /// Told how far a long look has come: a topic's name, records read so far, and how many there are at most.
    public typealias Progress = @Sendable (_ topic: String, _ read: Int, _ total: Int64) -> Void

    /// How it reaches the topics.
    public let access: DeadLetterAccess
    private let progress: Progress

    /// A browser.
    ///
    /// - Parameters:
    ///   - access: how the topics are reached.
    ///   - progress: called every 5,000 records, from a thread of the browser's own.
    public init(_ access: DeadLetterAccess, progress: @escaping Progress = { _, _, _ in }) {
        self.access = access
        self.progress = progress
    }

    /// What became of dead letters: `triage.dead-letters` read to its end. Nothing if there is no such topic yet.
    public func states() async throws -> DeadLetterStates {
        var read = ReadStates()
        try await read.read(access.scanner)
        return read.states
    }

    /// The newest dead letters, newest first; partitions are read backwards only as far as is needed.
    ///
    /// - Parameters:
    ///   - filter: which of them.
    ///   - limit: how many at most.
    ///   - everywhere: look for a patient in every partition, for producers that don't choose it as Java does.
    public func list(
        _ filter: DeadLetterFilter = DeadLetterFilter(), limit: Int = 20, everywhere: Bool = false
    ) async throws -> DeadLetterListing {
        let states = try await states()
        let survey = try await survey(filter, everywhere: everywhere)
        var pass = ListingPass(filter, limit: limit, states: states, group: access.group, ranges: survey.ranges)
        while true {
            let ranges = pass.next()
            if ranges.isEmpty { break }
            let before = pass.read
            let total = survey.total
            pass = try await scan(ranges, into: pass, total: total, before: before) { pass, record in
                pass.add(record)
                return true
            }
        }
        return DeadLetterListing(
            entries: pass.entries, read: pass.read, isCut: pass.isCut, notes: survey.notes + DeadLetterBrowser.notes(of: states))
    }

    /// All dead letters by fingerprint.
    ///
    /// - Parameters:
    ///   - filter: which of them.
    ///   - everywhere: as for ``list(_:limit:everywhere:)``.
    public func groups(
        _ filter: DeadLetterFilter = DeadLetterFilter(), everywhere: Bool = false
    ) async throws -> DeadLetterGroups {
        try await fold(filter, everywhere: everywhere, into: DeadLetterGroups()) { groups, entry, _ in
            groups.add(entry.letter)
            return true
        }
    }

    /// Hands over every dead letter, the oldest of each partition first, partition by partition.
    ///
    /// - Parameters:
    ///   - filter: which of them.
    ///   - everywhere: as for ``list(_:limit:everywhere:)``.
    ///   - body: takes a dead letter and its record, and says whether more are wanted; called on one thread at a time. Copies
    ///     that come later aren't known to it yet; they are passed over when they come.
    public func each(
        _ filter: DeadLetterFilter = DeadLetterFilter(), everywhere: Bool = false,
        _ body: @escaping @Sendable (DeadLetterEntry, Record) -> Bool
    ) async throws {
        try await fold(filter, everywhere: everywhere, into: ()) { _, entry, record in body(entry, record) }
    }

    /// The same, folding what `body` makes of them.
    public func fold<Result: Sendable>(
        _ filter: DeadLetterFilter, everywhere: Bool = false, into initial: Result,
        _ body: @escaping @Sendable (inout Result, DeadLetterEntry, Record) -> Bool
    ) async throws -> Result {
        try await pass(filter, everywhere: everywhere, into: initial, body) { _, _, _ in }
    }

    /// The dead letters that an operator may act on, the oldest first, with the copies of each.
    ///
    /// - Parameters:
    ///   - filter: which of them.
    ///   - limit: how many of the oldest at most; nil for all.
    ///   - everywhere: as for ``list(_:limit:everywhere:)``.
    public func select(
        _ filter: DeadLetterFilter, limit: Int? = nil, everywhere: Bool = false
    ) async throws -> DeadLetterSelection {
        var selection = try await pass(filter, everywhere: everywhere, into: DeadLetterSelection()) { selection, entry, _ in
            selection.append(entry.letter.position, time: entry.letter.written?.milliseconds ?? .min)
            return true
        } copy: { selection, copy, first in
            selection.append(copy: copy, of: first)
        }
        selection.sort()
        return limit.map { selection.prefix($0) } ?? selection
    }

    private struct Pass<Result: Sendable>: Sendable {
        var result: Result
        var copies: DeadLetterCopies
        var isEnough = false
        var count = 0
    }

    private func pass<Result: Sendable>(
        _ filter: DeadLetterFilter, everywhere: Bool, into initial: Result,
        _ body: @escaping @Sendable (inout Result, DeadLetterEntry, Record) -> Bool,
        copy: @escaping @Sendable (inout Result, _ copy: RecordPosition, _ first: RecordPosition) -> Void
    ) async throws -> Result {
        let states = try await states()
        let survey = try await survey(filter, everywhere: everywhere)
        let group = access.group
        var pass = Pass(result: initial, copies: DeadLetterCopies(partitions: survey.ranges.count))
        for (partition, range) in survey.ranges.sorted(by: { $0.key < $1.key }) where !pass.isEnough {
            pass = try await scan([partition: range], into: pass, total: survey.total, before: pass.count) { pass, record in
                pass.count += 1
                let letter = DeadLetter(record)
                guard filter.matches(letter) else { return true }
                if let first = pass.copies.first(of: letter) {
                    let position = letter.position
                    copy(
                        &pass.result, position,
                        RecordPosition(topic: position.topic, partition: position.partition, offset: first))
                    return true
                }
                let state = states.state(of: letter, group: group)
                guard filter.matches(state) else { return true }
                pass.isEnough = !body(&pass.result, DeadLetterEntry(letter: letter, state: state), record)
                return !pass.isEnough
            }
        }
        return pass.result
    }

    /// How many offsets around a dead letter are looked through for its copies.
    static let copyWindow: Int64 = 500

    /// One dead letter with its record.
    ///
    /// - Throws: ``NoSuchDeadLetter`` if there is none at `id`.
    public func find(_ id: RecordPosition) async throws -> (entry: DeadLetterEntry, record: Record) {
        let range = try range(of: id, in: try await access.scanner.watermarks(of: [id.topic]))
        let window = DeadLetterBrowser.copyWindow
        let before = min(window, id.offset - range.lowerBound)
        let near = id.offset - before..<id.offset + min(window, range.upperBound - id.offset)
        let found = try await access.scanner.scan([id.topicPartition: id.offset..<id.offset + 1], into: Record?.none) {
            $0 = $1
            return false
        }
        guard let record = found, record.offset == id.offset else { throw NoSuchDeadLetter(id, .noRecord) }
        let letter = DeadLetter(record)
        let identity = letter.identity
        var copies: [RecordPosition] = []
        if letter.origin != nil {
            copies = try await access.scanner.scan([id.topicPartition: near], into: copies) { copies, other in
                if other.offset != id.offset, DeadLetter(other).identity == identity { copies.append(other.position) }
                return true
            }
        }
        let state = try await states().state(of: letter, group: access.group)
        return (DeadLetterEntry(letter: letter, state: state, copies: copies), record)
    }

    /// Makes sure that dead letters may stand at these places, without reading them: their topics are some, and reach as far.
    ///
    /// - Throws: ``NoSuchDeadLetter`` for the first one for which that isn't so.
    func check(_ ids: [RecordPosition]) async throws {
        let partitions = try await access.scanner.watermarks(of: Set(ids.map(\.topic)).sorted())
        for id in ids { _ = try range(of: id, in: partitions) }
    }

    /// What there is of a dead letter's partition, if the dead letter may be in it.
    private func range(
        of id: RecordPosition, in all: [TopicPartition: Range<Int64>]
    ) throws(NoSuchDeadLetter) -> Range<Int64> {
        let count = all.keys.count { $0.topic == id.topic }
        guard count > 0 else { throw NoSuchDeadLetter(id, .noTopic) }
        guard TopicName.isDeadLetter(id.topic) || access.topics.contains(id.topic) else {
            throw NoSuchDeadLetter(id, .notDeadLetters)
        }
        guard let range = all[id.topicPartition] else { throw NoSuchDeadLetter(id, .noPartition(count: count)) }
        if id.offset < range.lowerBound { throw NoSuchDeadLetter(id, .beforeStart(range.lowerBound)) }
        if id.offset >= range.upperBound { throw NoSuchDeadLetter(id, .behindEnd(range.upperBound)) }
        return range
    }

    // MARK: Reading

    struct Survey: Sendable {
        var ranges: [TopicPartition: Range<Int64>] = [:]
        var notes: [String] = []
        var total: Int64 { ranges.values.reduce(0) { $0 + Int64($1.count) } }
    }

    /// Which partitions are to be read.
    func survey(_ filter: DeadLetterFilter, everywhere: Bool) async throws -> Survey {
        let all = try await access.scanner.watermarks(of: access.topics)
        let counts = Dictionary(grouping: all.keys, by: \.topic).mapValues { Int32(clamping: $0.count) }
        var survey = Survey()
        for (partition, range) in all where !range.isEmpty {
            // Others put a dead letter where they like.
            if let patient = filter.patient, !everywhere, TopicName.isDeadLetter(partition.topic),
                JavaPartitioner.partition(of: patient, count: counts[partition.topic] ?? 1) != partition.partition
            {
                continue
            }
            survey.ranges[partition] = range
        }
        let missing = access.topics.filter { counts[$0] == nil }
        if access.isNamed {
            survey.notes += missing.map { "\($0): no such topic" }
        } else if missing.count == access.topics.count {
            survey.notes.append("none of the dead letter topics exists (\(missing.joined(separator: ", ")))")
        }
        return survey
    }

    private static func notes(of states: DeadLetterStates) -> [String] {
        guard states.malformed > 0 else { return [] }
        return ["\(PlainText.count(states.malformed, "record")) of \(TopicName.deadLetterState) can't be read"]
    }

    private func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result, total: Int64, before: Int,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result {
        let progress = progress
        return try await access.scanner.scan(ranges, into: (value: initial, count: before)) { state, record in
            state.count += 1
            if state.count % 5000 == 0 { progress(record.topic, state.count, total) }
            return body(&state.value, record)
        }.value
    }
}

internal import TriageEvents
internal import TriageProcessing

/// The newest dead letters in short, some 300 bytes for each: records and states in, lists and groups out. A value.
///
/// A console shows what is open now, so it needs to know all of them; it doesn't need what each one says. Names are kept once.
struct LetterIndex: Sendable {
    /// Dead letters that are known at most, the newest ones.
    static let capacity = 100_000
    /// Fingerprints that are told apart; what comes beyond is one cause.
    static let maximumCauses = 10_000
    private static let maximumNames = 1000

    /// Why an event failed, as far as dead letters share it.
    struct Cause: Sendable, Hashable {
        let fingerprint: String
        let dialect: DeadLetterDialect
        let errorClass: ErrorClass?
        let error: String?
    }

    /// One dead letter in short.
    struct Row: Sendable {
        let topic: UInt16
        let group: UInt16
        let partition: Int32
        let offset: Int64
        /// Milliseconds since the epoch; `Int64.min` if it doesn't say.
        let written: Int64
        let cause: UInt16
        let retries: UInt16
        /// Copies of it that a crash left.
        var copies: UInt16 = 0
        var status = DeadLetterState.Status.open
        /// What stands for the patient; 0 for none.
        let patient: UInt64
        let traceHigh: UInt64
        let traceLow: UInt64
        /// Whether others wrote it, whose states may be kept under any group.
        let isForeign: Bool
        /// What it shares with its copies: what was done about one was done about it.
        let identity: DeadLetter.Identity
    }

    private(set) var rows: [Row] = []
    private(set) var causes: [Cause] = []
    private var causeNumbers: [String: UInt16] = [:]
    private var topics: [String] = []
    private var topicNumbers: [String: UInt16] = [:]
    private var groups: [String] = ["-"]
    private var groupNumbers: [String: UInt16] = ["-": 0]
    /// Where reading goes on.
    private var next: [TopicPartition: Int64] = [:]
    /// The first offset of each partition from which on all are known.
    private var known: [TopicPartition: Int64] = [:]
    /// Where each partition begins.
    private var beginnings: [TopicPartition: Int64] = [:]
    private var copies = DeadLetterCopies(partitions: 1)
    private var isSorted = true
    /// Offsets in the topics, known or not: about as many as there are records, since markers of transactions have one, too.
    private(set) var total: Int64 = 0

    /// The operator's group, for dead letters that name none.
    let group: String?
    private let capacity: Int

    /// Nothing known.
    init(group: String?, capacity: Int = LetterIndex.capacity) {
        self.group = group
        self.capacity = capacity
    }

    /// Whether there are, or may be, more than are known.
    var isCut: Bool { beginnings.contains { partition, first in (known[partition] ?? first) > first } }

    /// What is to be read to be up to date, of topics that reach from here to there; what retention took is forgotten.
    mutating func survey(_ ends: [TopicPartition: Range<Int64>]) -> [TopicPartition: Range<Int64>] {
        total = ends.values.reduce(0) { $0 + Int64($1.count) }
        if next.isEmpty { copies = DeadLetterCopies(partitions: ends.count) }
        let places = Dictionary(
            uniqueKeysWithValues: topics.enumerated().map { (UInt16($0.offset), $0.element) })
        rows.removeAll { row in
            guard let topic = places[row.topic], let range = ends[TopicPartition(topic, row.partition)] else { return true }
            // A topic that was deleted and made anew begins at 0 again.
            return row.offset < range.lowerBound || row.offset >= range.upperBound
        }
        for (partition, range) in ends where next[partition].map({ $0 > range.upperBound }) ?? false { next[partition] = nil }
        let shares = LetterIndex.shares(of: capacity, ends.filter { next[$0.key] == nil }.mapValues { Int($0.count) })
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for (partition, range) in ends {
            let share = Int64(shares[partition] ?? capacity)
            let start = max(next[partition] ?? range.lowerBound, range.lowerBound, range.upperBound - share)
            if start < range.upperBound { ranges[partition] = start..<range.upperBound }
            if start != next[partition] { known[partition] = start }
            next[partition] = range.upperBound
        }
        beginnings = ends.mapValues(\.lowerBound)
        return ranges
    }

    /// How many may be read of each partition: as many for each, and what the small ones leave goes to the others.
    static func shares(of capacity: Int, _ counts: [TopicPartition: Int]) -> [TopicPartition: Int] {
        var left = capacity
        var shares: [TopicPartition: Int] = [:]
        for (index, item) in counts.sorted(by: { ($0.value, $0.key) < ($1.value, $1.key) }).enumerated() {
            let share = min(item.value, left / (counts.count - index))
            shares[item.key] = share
            left -= share
        }
        return shares
    }

    /// Takes a dead letter in.
    mutating func add(_ record: Record) {
        let letter = DeadLetter(record)
        guard let topic = number(record.topic, \.topics, \.topicNumbers) else { return }
        if let first = copies.first(of: letter) {
            if let index = rows.lastIndex(where: {
                $0.offset == first && $0.partition == record.partition && $0.topic == topic
            }) {
                rows[index].copies = min(rows[index].copies, .max - 1) + 1
                return
            }
        }
        let trace = letter.context?.traceID
        let key = DeadLetterKey(letter, group: group)
        rows.append(
            Row(
                topic: topic, group: number(key.group, \.groups, \.groupNumbers) ?? 0,
                partition: record.partition, offset: record.offset, written: letter.written?.milliseconds ?? .min,
                cause: cause(of: letter), retries: UInt16(clamping: letter.retries),
                patient: letter.key.map { LetterIndex.patient($0) } ?? 0, traceHigh: trace?.high ?? 0,
                traceLow: trace?.low ?? 0, isForeign: letter.dialect != .triage,
                identity: letter.identity(keptUnder: key)))
        isSorted = false
    }

    /// What stands for a patient: a hash of the record's key, so that no id is kept.
    static func patient(_ key: ByteSlice) -> UInt64 { max(1, key.hash64(seed: 0x9E37_79B9_7F4A_7C15)) }

    /// Puts the newest first, forgets what is beyond the bound, and looks up what became of each.
    mutating func settle(_ states: DeadLetterStates) {
        if !isSorted {
            rows.sort { left, right in
                if left.written != right.written { return left.written > right.written }
                return (left.topic, left.partition, left.offset) > (right.topic, right.partition, right.offset)
            }
            for row in rows.dropFirst(capacity) {
                let place = position(row)
                known[place.topicPartition] = max(known[place.topicPartition] ?? 0, place.offset + 1)
            }
            rows.removeLast(max(0, rows.count - capacity))
            isSorted = true
        }
        var foreign: [RecordPosition: Int] = [:]
        for index in rows.indices {
            let row = rows[index]
            let place = position(row)
            let state = states.state(DeadLetterKey(group: groups[Int(row.group)], position: place), copies: row.identity)
            if state == nil, row.isForeign { foreign[place] = index }
            rows[index].status = state?.status ?? .open
        }
        for (place, state) in states.states(at: Set(foreign.keys)) {
            if let index = foreign[place] { rows[index].status = state.status }
        }
    }

    /// Where a dead letter stands.
    func position(_ row: Row) -> RecordPosition {
        RecordPosition(topic: topics[Int(row.topic)], partition: row.partition, offset: row.offset)
    }

    /// The group that gave it up.
    func group(_ row: Row) -> String { groups[Int(row.group)] }

    /// Why it failed.
    func cause(_ row: Row) -> Cause { causes[Int(row.cause)] }

    private mutating func cause(of letter: DeadLetter) -> UInt16 {
        let isNew = causeNumbers[letter.fingerprint] == nil
        let fingerprint = isNew && causes.count >= LetterIndex.maximumCauses ? "other" : letter.fingerprint
        if let known = causeNumbers[fingerprint] { return known }
        let isOther = fingerprint == "other"
        causes.append(
            Cause(
                fingerprint: fingerprint, dialect: isOther ? .unknown : letter.dialect,
                errorClass: isOther ? nil : letter.errorClass, error: isOther ? nil : letter.error))
        let number = UInt16(causes.count - 1)
        causeNumbers[fingerprint] = number
        return number
    }

    /// A name's number; a header names groups, so that more than some are made up and count as none.
    private mutating func number(
        _ name: String, _ names: WritableKeyPath<LetterIndex, [String]>, _ numbers: WritableKeyPath<LetterIndex, [String: UInt16]>
    ) -> UInt16? {
        if let known = self[keyPath: numbers][name] { return known }
        guard self[keyPath: names].count < LetterIndex.maximumNames else { return nil }
        self[keyPath: names].append(name)
        let number = UInt16(self[keyPath: names].count - 1)
        self[keyPath: numbers][name] = number
        return number
    }
}

/// Which dead letters a page shows.
struct LetterQuery: Sendable, Hashable {
    var fingerprint: String?
    var errorClass: ErrorClass?
    var topic: String?
    /// Nil for any.
    var status: DeadLetterState.Status? = .open
    var since: Timestamp?
    /// What stands for a patient: ``LetterIndex/patient(_:)``. No address and no order has it.
    var patient: UInt64?

    func matches(_ row: LetterIndex.Row, in index: LetterIndex) -> Bool {
        if let status, row.status != status { return false }
        if let since, row.written < since.milliseconds { return false }
        if let patient, row.patient != patient { return false }
        if fingerprint != nil || errorClass != nil {
            let cause = index.cause(row)
            if let fingerprint, !cause.fingerprint.hasPrefix(fingerprint) { return false }
            if let errorClass, cause.errorClass != errorClass { return false }
        }
        if let topic, index.position(row).topic != topic { return false }
        return true
    }

    /// What an operator's tools take; nil of what they can't.
    var filter: DeadLetterFilter {
        var filter = DeadLetterFilter()
        filter.fingerprint = fingerprint
        filter.errorClass = errorClass
        filter.since = since
        filter.statuses = status.map { [$0] }
        return filter
    }
}

/// Dead letters of one cause.
struct LetterGroup: Sendable {
    let cause: LetterIndex.Cause
    var count = 0
    var first: Int64 = .max
    var last: Int64 = .min
    var example: RecordPosition
    var patients: Set<UInt64> = []
    var topics: [String: Int] = [:]
}

extension LetterIndex {
    /// The dead letters of a query from one place on, newest first, and how many there are in all.
    func list(_ query: LetterQuery, from: Int, limit: Int) -> (rows: [Row], count: Int) {
        var found: [Row] = []
        var count = 0
        for row in rows where query.matches(row, in: self) {
            if count >= from, found.count < limit { found.append(row) }
            count += 1
        }
        return (found, count)
    }

    /// The dead letters of a query by cause, the largest group first.
    func groups(_ query: LetterQuery) -> [LetterGroup] {
        var groups: [UInt16: LetterGroup] = [:]
        for row in rows where query.matches(row, in: self) {
            // The first one is the newest.
            var group = groups.removeValue(forKey: row.cause) ?? LetterGroup(cause: cause(row), example: position(row))
            group.count += 1
            if row.written != .min {
                group.first = min(group.first, row.written)
                group.last = max(group.last, row.written)
            }
            if row.patient != 0 { group.patients.insert(row.patient) }
            group.topics[TopicName.main(of: topics[Int(row.topic)]), default: 0] += 1
            groups[row.cause] = group
        }
        return groups.values.sorted { ($0.count, $0.last, $1.cause.fingerprint) > ($1.count, $1.last, $0.cause.fingerprint) }
    }
}

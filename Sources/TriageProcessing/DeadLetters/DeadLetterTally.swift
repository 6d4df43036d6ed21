internal import TriageEvents

/// How many dead letters of a group stand open in one partition, and since when: a value, offsets in, numbers out.
///
/// Open is every offset between the bounds but those that were closed (replayed, completed or discarded), and those that hold
/// no dead letter of the group: the markers that end transactions, such as an import's, what was aborted or compacted away, and
/// dead letters that name another group. Only the records tell the latter, so they are read, each once, those first that come
/// first: ``next`` says which. What wasn't read yet counts as open.
struct DeadLetterTally: Sendable, Equatable {
    /// Records that are read at a look, and open ones that are known before no more are read.
    ///
    /// Of 2 KiB each that is 20 MB, a moment's reading once in a partition's life here. Where more are open, whether some of the
    /// others are markers changes nothing of what an operator does about it.
    static let maximumRead = 10_000
    /// Offsets that a look goes through at most, should there be no records: a bit of memory for each.
    static let maximumOffsets: Int64 = 1 << 20

    /// Records to be read.
    struct Page: Sendable, Equatable {
        /// Where they stand.
        let range: Range<Int64>
        /// How many at most.
        let limit: Int
    }

    /// A dead letter of the group, or one that names none.
    struct Letter: Sendable, Equatable {
        /// Where it stands.
        let offset: Int64
        /// When it was written.
        let written: Timestamp?
    }

    /// Between which offsets dead letters stand; nil as long as nobody looked.
    private(set) var bounds: Range<Int64>?
    /// How many are open.
    private(set) var open = 0
    /// When the first that is open was written; nil if none is, or it doesn't say. While ``next`` isn't nil it may be that of one
    /// that was open before.
    private(set) var oldest: Timestamp?
    private var first: Int64?
    /// Whether ``oldest`` is the time of ``first``.
    private var isDated = false
    /// What isn't open any more.
    private var closed = OffsetSet()
    /// What is known to be a dead letter of the group, or to be none.
    private var known = OffsetSet()
    /// What is known to be none.
    private var foreign = OffsetSet()
    /// Behind the last offset that was read.
    private var readEnd: Int64 = .min
    /// Up to where everything is committed, as the last look found.
    private var stableEnd: Int64 = .min
    /// Behind what was written since the last look began: it may not have seen that.
    private var writtenEnd: Int64?

    // MARK: What becomes of dead letters

    /// The dead letter at an offset isn't open any more.
    mutating func close(_ offset: Int64) { closed.insert(offset) }

    /// The dead letter at an offset is open again.
    mutating func reopen(_ offset: Int64) { closed.remove(offset) }

    /// Nothing is known of what was closed.
    mutating func reopenAll() { closed = OffsetSet() }

    /// Counts anew what is open; after one or more of the above.
    mutating func recount() {
        guard let bounds else { return }
        open = bounds.count - closed.count(in: bounds) - foreign.count(in: bounds, outside: closed)
        let found = open == 0 ? nil : closed.firstMissing(in: bounds, or: foreign)
        if found != first { isDated = false }
        first = found
        if found == nil { oldest = nil }
    }

    /// A dead letter of the group was acknowledged at `offset`.
    mutating func wrote(_ offset: Int64, at now: Timestamp) {
        guard offset >= 0, offset < .max else { return }
        writtenEnd = max(writtenEnd ?? .min, offset + 1)
        guard let former = bounds else { return }
        known.insert(offset)
        let bounds = former.isEmpty ? offset..<offset + 1 : former.lowerBound..<max(former.upperBound, offset + 1)
        let isFirst = open == 0
        // Of what has just been written nothing is closed.
        open += bounds.count - former.count
        self.bounds = bounds
        if isFirst {
            first = offset
            oldest = now
            isDated = true
        }
    }

    // MARK: Looks

    /// A look begins.
    mutating func begin() { writtenEnd = nil }

    /// These offsets exist, and are committed.
    mutating func found(_ range: Range<Int64>) {
        if range.upperBound < readEnd {
            // Another topic of the same name: nothing of what was read is there.
            known = OffsetSet()
            foreign = OffsetSet()
            readEnd = .min
            isDated = false
        }
        known.removeAll(before: range.lowerBound)
        foreign.removeAll(before: range.lowerBound)
        stableEnd = range.upperBound
        bounds = range.lowerBound..<max(range.upperBound, writtenEnd ?? range.upperBound)
        recount()
    }

    /// What is to be read next; nil if everything is known that is to be.
    var next: Page? {
        guard let bounds, open > 0 else { return nil }
        let stable = bounds.lowerBound..<max(bounds.lowerBound, min(bounds.upperBound, stableEnd))
        let isEnough =
            known.count(in: stable, outside: closed) - foreign.count(in: stable, outside: closed) >= DeadLetterTally.maximumRead
        if !isEnough, let start = closed.firstMissing(in: stable, or: known) {
            let count = min(stable.upperBound - start, DeadLetterTally.maximumOffsets)
            return Page(range: start..<start + count, limit: DeadLetterTally.maximumRead)
        }
        guard !isDated, let first, stable.contains(first) else { return nil }
        return Page(range: first..<stable.upperBound, limit: 1)
    }

    /// The records of a range were read.
    ///
    /// - Parameters:
    ///   - range: what was gone through.
    ///   - letters: the dead letters of the group in it, and those that name none.
    mutating func read(_ range: Range<Int64>, _ letters: [Letter]) {
        guard !range.isEmpty else { return }
        readEnd = max(readEnd, range.upperBound)
        known.insert(range)
        foreign.insert(range)
        for letter in letters { foreign.remove(letter.offset) }
        recount()
        guard let first, range.contains(first), let letter = letters.first(where: { $0.offset == first }) else { return }
        oldest = letter.written
        isDated = true
    }

    /// Somebody else counts this partition now; what was closed is remembered, in case that it comes back.
    mutating func release() {
        let closed = closed
        self = DeadLetterTally()
        self.closed = closed
    }
}

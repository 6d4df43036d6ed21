import TriageEvents

/// Reads chosen offsets of one partition, forwards: what is still wanted, what was found, and where to read on.
///
/// A value without I/O. Offsets that reading has passed without a record were compacted, or belong to control records or
/// aborted transactions: they are missing from the result. Offsets at or behind the end are another matter: whoever asks has
/// seen a record there, so the end is one that lags, as that of a leader just elected may (KIP-207). They fail.
struct ReadPlan {
    enum Step: Equatable {
        /// More is to come from where it is being read.
        case carryOn
        /// What is wanted next lies far behind: read from there.
        case read(from: Int64)
        /// Nothing more can be found.
        case finish
    }

    /// Skipping costs about a round trip and a fetch, which is what reading this many bytes costs; over more it pays.
    static let skippedBytes = 256.0 * 1024

    private let wanted: [Int64]
    /// The first of ``wanted`` that was not passed.
    private var next = 0
    /// What reading brings next, unless there are gaps.
    private(set) var position: Int64
    private var found: [Record] = []
    private var end: Int64?
    private var seenBytes = 0.0
    private var seenRecords = 0.0

    /// - Parameter offsets: those of all requests, at least one, in any order.
    init(_ offsets: [Int64]) {
        wanted = Set(offsets).sorted()
        position = wanted.first ?? 0
    }

    /// A record came. One before ``position`` was fetched before reading skipped, and isn't taken.
    mutating func brought(_ record: Record) {
        guard record.offset >= position else { return }
        position = record.offset + 1
        seenRecords += 1
        seenBytes += Double((record.value?.count ?? 0) + (record.key?.count ?? 0))
        pass(record.offset)
        guard next < wanted.count, wanted[next] == record.offset else { return }
        found.append(record)
        next += 1
    }

    /// The end of the partition was reached: `end` is the next offset there.
    mutating func reached(end: Int64) {
        pass(end)
        if next < wanted.count { self.end = end }
    }

    /// The offset to read from doesn't exist; those in `existing` do.
    mutating func isOutside(_ existing: Range<Int64>) {
        pass(existing.lowerBound)
        if next < wanted.count, wanted[next] >= existing.upperBound { end = existing.upperBound }
        position = max(position, existing.lowerBound)
    }

    /// Whether nothing more can be found.
    var isFinished: Bool { next == wanted.count || end != nil }

    /// What to do now.
    mutating func step() -> Step {
        guard !isFinished else { return .finish }
        let size = max(64, seenRecords == 0 ? 1024 : seenBytes / seenRecords)
        guard Double(wanted[next] - position) * size > ReadPlan.skippedBytes else { return .carryOn }
        position = wanted[next]
        return .read(from: position)
    }

    /// What one request gets that wanted `offsets`.
    func result(for offsets: [Int64], of partition: TopicPartition) -> Result<[Record], BrokerError> {
        if let end, let last = offsets.max(), last >= end {
            return .failure(BrokerError("OFFSET_NOT_AVAILABLE", operation: "read \(partition)", isRetriable: true))
        }
        return .success(
            offsets.sorted().compactMap { offset in
                let index = found.firstIndex(at: offset)
                return index < found.count && found[index].offset == offset ? found[index] : nil
            }
        )
    }

    private mutating func pass(_ offset: Int64) {
        while next < wanted.count, wanted[next] < offset { next += 1 }
    }
}

extension [Record] {
    /// The index of the first record at or behind `offset`, by halving: offsets ascend.
    fileprivate func firstIndex(at offset: Int64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Offsets of one partition: where they lie close together, as those of closed dead letters do, a bit each.
struct OffsetSet: Sendable, Equatable {
    private var words: [Int64: UInt64] = [:]
    /// How many there are.
    private(set) var count = 0

    /// Whether an offset is in it.
    func contains(_ offset: Int64) -> Bool { (words[offset >> 6] ?? 0) & OffsetSet.bit(offset) != 0 }

    /// Puts an offset in.
    mutating func insert(_ offset: Int64) {
        let word = words[offset >> 6] ?? 0
        guard word & OffsetSet.bit(offset) == 0 else { return }
        words[offset >> 6] = word | OffsetSet.bit(offset)
        count += 1
    }

    /// Takes an offset out.
    mutating func remove(_ offset: Int64) {
        guard let word = words[offset >> 6], word & OffsetSet.bit(offset) != 0 else { return }
        let left = word & ~OffsetSet.bit(offset)
        words[offset >> 6] = left == 0 ? nil : left
        count -= 1
    }

    /// How many lie in a range.
    func count(in range: Range<Int64>) -> Int {
        guard !range.isEmpty else { return 0 }
        return words.reduce(0) { $0 + OffsetSet.clip($1.value, at: $1.key, to: range).nonzeroBitCount }
    }

    /// The first offset of a range that isn't in it.
    func firstMissing(in range: Range<Int64>) -> Int64? {
        var at = range.lowerBound
        while at < range.upperBound {
            // Those of its word from it on.
            let missing = ~(words[at >> 6] ?? 0) >> UInt64(at & 63)
            let step = Int64(missing.trailingZeroBitCount)
            let end = (at >> 6 + 1) << 6
            if missing != 0, at + step < end { return at + step < range.upperBound ? at + step : nil }
            at = end
        }
        return nil
    }

    private static func bit(_ offset: Int64) -> UInt64 { 1 << UInt64(offset & 63) }

    private static func clip(_ word: UInt64, at index: Int64, to range: Range<Int64>) -> UInt64 {
        let start = index << 6
        let low = min(64, max(0, range.lowerBound - start))
        let high = min(64, max(0, range.upperBound - start))
        guard low < high else { return 0 }
        let mask: UInt64 = high - low == 64 ? .max : ((1 << UInt64(high - low)) - 1) << UInt64(low)
        return word & mask
    }
}

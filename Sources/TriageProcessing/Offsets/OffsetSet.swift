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

    /// Puts all offsets of a range in.
    mutating func insert(_ range: Range<Int64>) {
        guard !range.isEmpty else { return }
        for index in (range.lowerBound >> 6)...((range.upperBound - 1) >> 6) {
            let word = words[index] ?? 0
            let new = OffsetSet.clip(.max, at: index, to: range) & ~word
            guard new != 0 else { continue }
            words[index] = word | new
            count += new.nonzeroBitCount
        }
    }

    /// Takes out what lies before an offset.
    mutating func removeAll(before offset: Int64) {
        guard count > 0 else { return }
        for (index, word) in words where index <= offset >> 6 {
            let left = index == offset >> 6 ? word & ~(OffsetSet.bit(offset) - 1) : 0
            words[index] = left == 0 ? nil : left
            count -= word.nonzeroBitCount - left.nonzeroBitCount
        }
    }

    /// How many lie in a range.
    func count(in range: Range<Int64>) -> Int {
        guard !range.isEmpty else { return 0 }
        return words.reduce(0) { $0 + OffsetSet.clip($1.value, at: $1.key, to: range).nonzeroBitCount }
    }

    /// How many lie in a range and not in another set.
    func count(in range: Range<Int64>, outside other: OffsetSet) -> Int {
        guard !range.isEmpty else { return 0 }
        return words.reduce(0) { count, entry in
            let word = entry.value & ~(other.words[entry.key] ?? 0)
            return count + OffsetSet.clip(word, at: entry.key, to: range).nonzeroBitCount
        }
    }

    /// The first offset of a range that is neither in it nor in another set.
    func firstMissing(in range: Range<Int64>, or other: OffsetSet = OffsetSet()) -> Int64? {
        guard !range.isEmpty else { return nil }
        for index in (range.lowerBound >> 6)...((range.upperBound - 1) >> 6) {
            let missing = OffsetSet.clip(~((words[index] ?? 0) | (other.words[index] ?? 0)), at: index, to: range)
            if missing != 0 { return index << 6 + Int64(missing.trailingZeroBitCount) }
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

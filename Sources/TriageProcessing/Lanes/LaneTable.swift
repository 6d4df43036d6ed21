/// A table from lane keys to small numbers: open addressing with linear probing, at most half full.
///
/// The standard library's dictionary costs three allocations an event where a value is changed in place, and hashes what is a
/// hash already. Only the loop's thread uses it, and a slot is looked up, filled and emptied once for each event.
struct LaneTable {
    /// A slot without an entry.
    private static let empty: Int32 = -1

    private struct Slot {
        var key: UInt64
        var value: Int32
    }
    private var slots: [Slot]
    private var mask: Int
    /// How many keys it has.
    private(set) var count = 0

    init() {
        slots = Array(repeating: Slot(key: 0, value: LaneTable.empty), count: 64)
        mask = 63
    }

    /// The value of a key; nil if it has none.
    @inline(__always)
    subscript(key: LaneKey) -> Int32? { value(at: slot(of: key)) }

    /// The value at a slot that ``slot(of:)`` found; nil if it is empty.
    @inline(__always)
    func value(at slot: Int) -> Int32? {
        let value = slots[slot].value
        return value < 0 ? nil : value
    }

    /// Gives a key a value, at the empty slot that ``slot(of:)`` found for it.
    @inline(__always)
    mutating func fill(_ slot: Int, key: LaneKey, value: Int32) {
        slots[slot] = Slot(key: key.value, value: value)
        count += 1
        if count * 2 > slots.count { grow() }
    }

    /// Takes a key out, which must be there, and closes the gap: entries behind it that were pushed on move up.
    mutating func remove(_ key: LaneKey) {
        var gap = slot(of: key)
        guard slots[gap].value >= 0 else { return }
        count -= 1
        var next = (gap + 1) & mask
        while slots[next].value >= 0 {
            // How far an entry is from where it belongs: it may move into the gap if that lies on its way.
            let home = self.home(slots[next].key)
            if (next &- home) & mask >= (next &- gap) & mask {
                slots[gap] = slots[next]
                gap = next
            }
            next = (next + 1) & mask
        }
        slots[gap].value = LaneTable.empty
    }

    /// All values, in no order of meaning.
    var values: [Int32] { slots.lazy.map(\.value).filter { $0 >= 0 } }

    /// Where a key is, or would be put.
    @inline(__always)
    func slot(of key: LaneKey) -> Int {
        var index = home(key.value)
        while slots[index].value >= 0, slots[index].key != key.value { index = (index + 1) & mask }
        return index
    }

    /// Fibonacci hashing (Knuth, The Art of Computer Programming 3, §6.4): keys that are counted up spread as well.
    @inline(__always)
    private func home(_ key: UInt64) -> Int { Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 20) & mask }

    private mutating func grow() {
        let old = slots
        slots = Array(repeating: Slot(key: 0, value: LaneTable.empty), count: old.count * 2)
        mask = slots.count - 1
        for entry in old where entry.value >= 0 { slots[slot(of: LaneKey(entry.key))] = entry }
    }
}

/// The highest version that was handled of each patient, as far as it is remembered: a pure machine of fixed size.
///
/// A direct-mapped table: a patient whose place another one takes is forgotten. So it never says of a version that is the
/// newest that it is stale, and may overlook one that is: best effort, in 1 MiB and a few nanoseconds an event.
public struct VersionTable {
    private struct Entry {
        var key: UInt64 = 0
        var version: UInt64 = 0
    }

    private var entries: ContiguousArray<Entry>
    private let mask: Int

    /// A table of 2^`bits` places of 16 bytes; 65,536 by default.
    public init(bits: Int = 16) {
        let count = 1 << min(max(0, bits), 24)
        entries = ContiguousArray(repeating: Entry(), count: count)
        mask = count - 1
    }

    /// Bytes that it takes.
    public var bytes: Int { entries.capacity * MemoryLayout<Entry>.stride }

    /// Whether a version higher than `version` of this patient was handled.
    @inline(__always)
    public func isStale(_ version: UInt64, of key: LaneKey) -> Bool {
        let entry = entries[Int(truncatingIfNeeded: key.value) & mask]
        return entry.key == key.value && entry.version > version
    }

    /// Notes that a version was handled.
    @inline(__always)
    public mutating func handled(_ version: UInt64, of key: LaneKey) {
        let place = Int(truncatingIfNeeded: key.value) & mask
        if entries[place].key != key.value || entries[place].version < version {
            entries[place] = Entry(key: key.value, version: version)
        }
    }
}

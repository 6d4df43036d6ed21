internal import DequeModule
public import TriageEvents

/// The offsets of one partition that were delivered, and which of them are complete: out of order in, a contiguous watermark out.
///
/// Contiguous means over *delivered* records: control records and compaction leave gaps in the offsets, which nobody
/// will ever complete.
public struct OffsetLedger {
    private struct Entry {
        let offset: Int64
        /// Nanoseconds since the epoch; the least value there is for none.
        let timestamp: Int64
        var isComplete: Bool
    }
    private var entries = Deque<Entry>()
    private var firstSequence = 0
    private var committed: Int64?
    /// The end that was seen: the client reports it once, often while records before it are still being handled.
    private var end: Int64?
    /// The next offset that may be committed: every delivered record before it is complete; nil before the first delivery.
    public private(set) var watermark: Int64?
    /// Delivered offsets that are not complete.
    public private(set) var incomplete = 0

    /// A ledger of a partition that nothing was delivered from.
    public init() {}

    /// Delivered offsets at or behind the watermark that still wait for an earlier one or for themselves.
    public var span: Int { entries.count }

    /// When the first delivered record that isn't complete was written; nil if there is none, or it doesn't say.
    public var oldest: Timestamp? {
        guard let first = entries.first, first.timestamp != .min else { return nil }
        return Timestamp(nanoseconds: first.timestamp)
    }

    /// Reading starts at `offset`: what lies before it is complete. It counts as not yet committed, so that a resolved
    /// start offset is committed at once (design §3).
    public mutating func started(at offset: Int64) {
        if entries.isEmpty { watermark = offset }
    }

    /// Notes a delivery; `timestamp` is when the record was written.
    ///
    /// The very first one may lie before the start: the client resets a committed offset that no longer exists (the topic
    /// was truncated or made anew), and what it brings then was never handled.
    ///
    /// - Returns: the ticket to complete it with; nil if the offset doesn't lie behind the last one, which a consumer
    ///   that was rewound by mistake would show.
    public mutating func delivered(_ offset: Int64, at timestamp: Timestamp? = nil) -> Int? {
        if entries.isEmpty, firstSequence == 0, end == nil, let start = watermark, offset < start {
            watermark = offset
            committed = nil
        }
        if let last = entries.last?.offset ?? watermark.map({ $0 - 1 }), offset <= last { return nil }
        if watermark == nil { watermark = offset }
        entries.append(Entry(offset: offset, timestamp: timestamp?.nanoseconds ?? .min, isComplete: false))
        incomplete += 1
        return firstSequence + entries.count - 1
    }

    /// Completes a delivery. A second completion of the same one is ignored.
    public mutating func complete(_ ticket: Int) {
        let index = ticket - firstSequence
        guard entries.indices.contains(index), !entries[index].isComplete else { return }
        entries[index].isComplete = true
        incomplete -= 1
        while let first = entries.first, first.isComplete {
            watermark = first.offset + 1
            entries.removeFirst()
            firstSequence += 1
        }
        passEnd()
    }

    /// The end of the partition was reached at `position`: the gap before it is passed as well, as soon as nothing is incomplete.
    public mutating func reachedEnd(_ position: Int64) {
        end = max(position, end ?? position)
        passEnd()
    }

    private mutating func passEnd() {
        if entries.isEmpty, let end, end > watermark ?? -1 { watermark = end }
    }

    /// The offset to commit if it differs from the last one committed.
    public func toCommit() -> Int64? { watermark == committed ? nil : watermark }

    /// Notes that `offset` was committed.
    public mutating func didCommit(_ offset: Int64) { committed = max(offset, committed ?? offset) }
}

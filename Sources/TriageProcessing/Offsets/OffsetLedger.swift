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
    /// What a predecessor completed and hasn't been delivered here yet: ascending, disjoint.
    private var known = Deque<Range<Int64>>()
    private var committed: Int64?
    private var committedVersion = 0
    /// Counts what changes the picture beyond the watermark: completions behind an incomplete record.
    public private(set) var version = 0
    /// The end that was seen: the client reports it once, often while records before it are still being handled.
    private var end: Int64?
    /// The next offset that may be committed: every delivered record before it is complete; nil before the first delivery.
    public private(set) var watermark: Int64?
    /// Delivered offsets that are not complete.
    public private(set) var incomplete = 0

    /// A ledger of a partition that nothing was delivered from.
    public init() {}

    /// The offset behind the last one that was delivered, or passed as a gap; nil before reading started.
    public private(set) var position: Int64?

    /// Delivered offsets at or behind the watermark that still wait for an earlier one or for themselves.
    public var span: Int { entries.count }
    /// Offsets between the first incomplete record and the last delivered one, gaps included.
    public var offsetSpan: Int64 {
        guard let first = entries.first, let last = entries.last else { return 0 }
        return last.offset - first.offset + 1
    }
    /// The first offset that was delivered and isn't complete.
    public var firstIncomplete: Int64? { entries.first?.offset }

    /// When the first delivered record that isn't complete was written; nil if there is none, or it doesn't say.
    public var oldest: Timestamp? {
        guard let first = entries.first, first.timestamp != .min else { return nil }
        return Timestamp(nanoseconds: first.timestamp)
    }

    /// Reading starts at `offset`: what lies before it is complete. It counts as not yet committed, so that a resolved
    /// start offset is committed at once (design §3).
    ///
    /// - Parameter completed: what a predecessor completed beyond it: ascending, disjoint. Deliveries of it are complete at once.
    public mutating func started(at offset: Int64, completed: [Range<Int64>] = []) {
        guard entries.isEmpty else { return }
        watermark = offset
        position = offset
        known = Deque(completed.filter { $0.upperBound > offset })
    }

    /// Whether the next delivery may be one that a predecessor completed.
    @inline(__always)
    public var expectsCompleted: Bool { !known.isEmpty }

    /// Whether a predecessor completed `offset`, which wasn't delivered here yet.
    public func isKnownComplete(_ offset: Int64) -> Bool {
        for range in known where range.upperBound > offset { return range.contains(offset) }
        return false
    }

    /// Whether `offset` is complete as far as this ledger knows: before the watermark, or completed beyond it.
    public func isComplete(_ offset: Int64) -> Bool {
        guard let watermark else { return false }
        if offset < watermark || isKnownComplete(offset) { return true }
        return entries.contains { $0.offset == offset && $0.isComplete }
    }

    /// The first delivered offsets that aren't complete, up to `limit`.
    public func incompleteOffsets(before limit: Int64, atMost count: Int) -> [Int64] {
        var offsets: [Int64] = []
        for entry in entries {
            if entry.offset >= limit || offsets.count >= count { break }
            if !entry.isComplete { offsets.append(entry.offset) }
        }
        return offsets
    }

    /// Notes the delivery of an offset that a predecessor completed.
    ///
    /// - Returns: whether it is one: then there is nothing to do about it.
    public mutating func deliveredComplete(_ offset: Int64) -> Bool {
        while let first = known.first, first.upperBound <= offset { known.removeFirst() }
        guard let first = known.first, first.contains(offset), offset >= position ?? offset else { return false }
        position = offset + 1
        if offset + 1 == first.upperBound { known.removeFirst() }
        entries.append(Entry(offset: offset, timestamp: .min, isComplete: true))
        trim()
        return true
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
            position = offset
            committed = nil
            known.removeAll()
        }
        if let last = entries.last?.offset ?? watermark.map({ $0 - 1 }), offset <= last { return nil }
        if watermark == nil { watermark = offset }
        entries.append(Entry(offset: offset, timestamp: timestamp?.nanoseconds ?? .min, isComplete: false))
        incomplete += 1
        position = offset + 1
        return firstSequence + entries.count - 1
    }

    /// Completes a delivery. A second completion of the same one is ignored.
    public mutating func complete(_ ticket: Int) {
        let index = ticket - firstSequence
        guard entries.indices.contains(index), !entries[index].isComplete else { return }
        entries[index].isComplete = true
        incomplete -= 1
        if index > 0 { version &+= 1 }
        trim()
    }

    private mutating func trim() {
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
        self.position = max(position, self.position ?? position)
        while let first = known.first, first.upperBound <= position { known.removeFirst() }
        passEnd()
    }

    private mutating func passEnd() {
        if entries.isEmpty, let end, end > watermark ?? -1 { watermark = end }
    }

    /// What is complete beyond the watermark: ascending, disjoint. Gaps between two complete records are in it.
    public func completedBeyond() -> [Range<Int64>] {
        var ranges: [Range<Int64>] = []
        var start: Int64?
        var end: Int64 = 0
        for entry in entries {
            if entry.isComplete {
                start = start ?? entry.offset
                end = entry.offset + 1
            } else if let from = start {
                ranges.append(from..<end)
                start = nil
            }
        }
        for range in known {
            if let from = start {
                // What lies between the last delivered record and this range may yet be delivered.
                if range.lowerBound <= end {
                    end = max(end, range.upperBound)
                    continue
                }
                ranges.append(from..<end)
            }
            start = range.lowerBound
            end = range.upperBound
        }
        if let from = start { ranges.append(from..<end) }
        return ranges
    }

    /// Whether there is something to commit: another watermark, or another picture beyond it.
    public var needsCommit: Bool { watermark != nil && (watermark != committed || version != committedVersion) }

    /// The offset to commit if there is something to commit.
    public func toCommit() -> Int64? { needsCommit ? watermark : nil }

    /// Notes that a commit succeeded; `version` is what ``version`` was when it was made.
    public mutating func didCommit(_ offset: Int64, version: Int? = nil) {
        committed = max(offset, committed ?? offset)
        committedVersion = version ?? self.version
    }
}

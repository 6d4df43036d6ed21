internal import TriageEvents
internal import TriageProcessing

/// Reads the records of a selection in its order, some at a time and at most some 16 MiB of them.
struct SelectionReader {
    /// A record that was selected, and its copies as far as they are known.
    struct Found {
        let record: Record
        let copies: [RecordPosition]
    }
    /// Positions that are looked up at a time.
    static let chunk = 1000
    /// Bytes that are kept at a time, but for a single larger record.
    static let maximumBytes = 16 << 20
    /// Positions that lie farther apart are read on their own instead of what is between them.
    static let maximumGap: Int64 = 2000

    private let scanner: any RecordScanner
    private let selection: DeadLetterSelection
    private var index = 0
    /// What was read of the selection from ``index`` on; nil for what is gone.
    private var ready: [RecordPosition: Found?] = [:]

    init(_ scanner: any RecordScanner, _ selection: DeadLetterSelection) {
        self.scanner = scanner
        self.selection = selection
    }

    /// The next one; its record is nil if nothing stands there any more. Nil at the end.
    mutating func next() async throws(BrokerError) -> (position: RecordPosition, found: Found?)? {
        guard index < selection.count else { return nil }
        let position = selection[index]
        if ready[position] == nil {
            ready = [:]
            try await read(Array((index..<min(selection.count, index + SelectionReader.chunk)).map { selection[$0] }))
            // What came first filled the memory: then it alone.
            if ready[position] == nil { try await read([position]) }
        }
        index += 1
        return (position, ready.removeValue(forKey: position) ?? nil)
    }

    private struct Reading: Sendable {
        var records: [RecordPosition: Record] = [:]
        var copies: [DeadLetter.Identity: [RecordPosition]] = [:]
        var bytes = 0
        /// Partitions that weren't read to the end of what was asked for.
        var stopped: Set<TopicPartition> = []
    }

    private mutating func read(_ positions: [RecordPosition]) async throws(BrokerError) {
        let marks = try await scanner.watermarks(of: Array(Set(positions.map(\.topic))))
        let wanted = Set(positions)
        let looksForCopies = !selection.knowsCopies
        var reading = Reading()
        for ranges in SelectionReader.rounds(positions, marks, margin: looksForCopies ? DeadLetterBrowser.copyWindow : 0) {
            reading = try await scanner.scan(ranges, into: reading) { reading, record in
                let position = record.position
                if looksForCopies {
                    let letter = DeadLetter(record)
                    if letter.origin != nil { reading.copies[letter.identity, default: []].append(position) }
                }
                guard wanted.contains(position) else { return true }
                guard reading.bytes == 0 || reading.bytes + record.size <= SelectionReader.maximumBytes else {
                    reading.stopped.insert(record.topicPartition)
                    return false
                }
                reading.bytes += record.size
                reading.records[position] = record
                return true
            }
        }
        for position in positions {
            guard let record = reading.records[position] else {
                if !reading.stopped.contains(position.topicPartition) { ready[position] = .some(nil) }
                continue
            }
            var copies = selection.copies(of: position)
            if looksForCopies {
                copies = (reading.copies[DeadLetter(record).identity] ?? []).filter { $0 != position }
            }
            ready[position] = Found(record: record, copies: copies)
        }
    }

    /// The stretches to read, one of each partition at a time.
    static func rounds(
        _ positions: [RecordPosition], _ marks: [TopicPartition: Range<Int64>], margin: Int64
    ) -> [[TopicPartition: Range<Int64>]] {
        var rounds: [[TopicPartition: Range<Int64>]] = []
        for (partition, some) in Dictionary(grouping: positions, by: \.topicPartition) {
            guard let mark = marks[partition] else { continue }
            var stretches: [Range<Int64>] = []
            for offset in some.map(\.offset).sorted() where mark.contains(offset) {
                let before = min(margin, offset - mark.lowerBound)
                let near = offset - before..<offset + min(margin + 1, mark.upperBound - offset)
                if let last = stretches.last, near.lowerBound - last.upperBound <= maximumGap {
                    stretches[stretches.count - 1] = last.lowerBound..<max(last.upperBound, near.upperBound)
                } else {
                    stretches.append(near)
                }
            }
            for (round, stretch) in stretches.enumerated() {
                if round == rounds.count { rounds.append([:]) }
                rounds[round][partition] = stretch
            }
        }
        return rounds
    }
}

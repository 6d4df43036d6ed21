internal import Synchronization
internal import TriageEvents
internal import TriageProcessing

/// Follows `triage.dead-letters` for one engine, which asks about once a second.
///
/// Thread-safe, though one read is under way at a time. In parts of so many offsets, so that a topic of a million states is never in
/// memory as a whole.
package final class DeadLetterStateFollower: DeadLetterFeed {
    private struct State {
        /// The next offset to be read; nil before the first read.
        var next: Int64?
        /// Where the topic ended when it was last read to its end.
        var end: Int64?
        var reading: Task<Void, Never>?
    }
    private static let partition = TopicPartition(TopicName.deadLetterState, 0)

    private let scanner: any RecordScanner
    private let part: Int64
    private let state = Mutex(State())
    private let reader = DeadLetterChangeReader()

    /// A follower that hasn't read anything.
    ///
    /// - Parameter part: how many offsets one read takes at most.
    package init(_ scanner: any RecordScanner, part: Int64 = 10_000) {
        self.scanner = scanner
        self.part = max(1, part)
    }

    /// As the port says.
    package func read(_ completion: @escaping @Sendable (Result<DeadLetterChanges, BrokerError>) -> Void) {
        let task = Task {
            do throws(BrokerError) {
                completion(.success(try await readOn()))
            } catch {
                completion(.failure(error))
            }
        }
        state.withLock { $0.reading = task }
    }

    /// Ends the client that reads, when what is under way has ended.
    package func close() async {
        await state.withLock(\.reading)?.value
        scanner.close()
    }

    private func readOn() async throws(BrokerError) -> DeadLetterChanges {
        let found = try await scanner.watermarks(of: [TopicName.deadLetterState])
        let (known, knownEnd) = state.withLock { ($0.next, $0.end) }
        guard let range = found[DeadLetterStateFollower.partition] else {
            state.withLock { $0 = State(reading: $0.reading) }
            return DeadLetterChanges(startsOver: known != nil, exists: false)
        }
        let isAnother = known.map { $0 > range.upperBound } ?? false
        let start = isAnother ? range.lowerBound : max(known ?? 0, range.lowerBound)
        let end = min(range.upperBound, start + part)
        let isAtEnd = end == range.upperBound
        // Markers of transactions may lie at the end: what brings nothing is read once.
        guard start < end, isAnother || !isAtEnd || knownEnd != end else {
            return DeadLetterChanges(position: start, isAtEnd: isAtEnd, startsOver: isAnother)
        }
        struct Found: Sendable {
            var changes: [DeadLetterChanges.Change] = []
            var last: Int64?
        }
        let result = try await scanner.scan([DeadLetterStateFollower.partition: start..<end], into: Found()) {
            [reader] found, record in
            if let change = reader.change(record) { found.changes.append(change) }
            found.last = record.offset
            return true
        }
        // A transaction that is open hides what is behind its first record, so what brought nothing isn't behind us yet.
        let position = isAtEnd ? result.last.map { $0 + 1 } ?? start : end
        state.withLock { state in
            state.next = position
            state.end = isAtEnd ? end : nil
        }
        return DeadLetterChanges(result.changes, position: position, isAtEnd: isAtEnd, startsOver: isAnother)
    }
}

/// Reads the records of `triage.dead-letters` one by one; its parser is of one thread at a time.
final class DeadLetterChangeReader: Sendable {
    private let decoder = Mutex(EventDecoder())

    /// What a record says of a dead letter; nil for the operators' leases and audits, and for what nobody of ours wrote.
    func change(_ record: Record) -> DeadLetterChanges.Change? {
        guard let text = record.key?.utf8Text, text != DeadLetterLease.key, DeadLetterAuditKey(text) == nil,
            let key = DeadLetterKey(text)
        else { return nil }
        guard let value = record.value else {
            return DeadLetterChanges.Change(offset: record.offset, key: key, state: nil)
        }
        let json = decoder.withLock { decoder in (try? decoder.checkObject(value)).flatMap { JSONValue(value) } }
        guard let state = json.flatMap({ DeadLetterState($0) }) else { return nil }
        return DeadLetterChanges.Change(offset: record.offset, key: key, state: state)
    }
}

internal import Synchronization
public import TriageEvents
internal import TriageProcessing

/// Writes dead letters back into their topics, each once: what is there already is passed over.
///
/// Key, value and headers are written byte for byte, the trace context that they came with among them, so there is no span of
/// it: it is nothing that happened to the event. It writes in an operator's transactions, so that two imports at once don't
/// write anything twice.
public final class DeadLetterImporter: Sendable {
    /// What became of the lines.
    public struct Report: Sendable, Encodable {
        /// Whether it was done, or only looked at.
        public var execute = false
        /// How many were written, or would be.
        public internal(set) var written = 0
        /// How many were there already.
        public internal(set) var present = 0
        /// How many couldn't be read or written.
        public internal(set) var refused = 0
    }
    /// There is no such partition to write to.
    public struct NoSuchPartition: Error, Sendable, CustomStringConvertible {
        /// The partition.
        public let partition: TopicPartition
        /// What to do.
        public var description: String {
            "there is no partition \(partition): the topic must have as many partitions as where it was exported"
        }
    }
    private struct State {
        var report = Report()
        var presence = DeadLetterPresence()
        var known: Set<String> = []
        var partitions: Set<TopicPartition> = []
        var batch: [Record] = []
        var bytes = 0
        /// What transactions have written.
        var committed = 0
    }
    private let state = Mutex(State())
    private let access: DeadLetterAccess
    private let desk: DeadLetterOperator
    private let execute: Bool
    private let progress = Mutex<DeadLetterBrowser.Progress>({ _, _, _ in })

    /// Records and bytes in one transaction.
    static let batchRecords = 500
    static let batchBytes = 4 << 20

    /// An import that hasn't begun.
    ///
    /// - Parameters:
    ///   - access: how the topics are reached.
    ///   - name: who does it.
    ///   - execute: false to only find out what there is to do.
    public init(_ access: DeadLetterAccess, by name: String, telemetry: Telemetry, execute: Bool) {
        self.access = access
        self.execute = execute
        desk = DeadLetterOperator(access, by: name, telemetry: telemetry)
    }

    package init(_ access: DeadLetterAccess, desk: DeadLetterOperator, execute: Bool) {
        self.access = access
        self.execute = execute
        self.desk = desk
    }

    /// What became of the lines so far.
    public var report: Report { state.withLock(\.report) }
    /// How many were written, and count.
    public var written: Int { state.withLock(\.committed) }

    /// Becomes the one operator, unless nothing is to be written.
    ///
    /// - Parameter progress: told how far reading what is there has come.
    public func begin(progress: @escaping DeadLetterBrowser.Progress = { _, _, _ in }) async throws {
        self.progress.withLock { $0 = progress }
        if execute { try await desk.begin() }
    }

    /// Ends the clients that write.
    public func end() async { await desk.end() }

    /// Counts a line that holds none.
    public func refuse() { state.withLock { $0.report.refused += 1 } }

    /// Takes a dead letter to be written, unless it is there.
    ///
    /// - Throws: ``NoSuchPartition``; ``OperatorError``; a `BrokerError` if the brokers don't answer.
    public func add(_ record: Record) async throws {
        try await look(at: record.topic)
        let isFull = try state.withLock { state throws(NoSuchPartition) in
            guard state.partitions.contains(record.topicPartition) else {
                throw NoSuchPartition(partition: record.topicPartition)
            }
            guard state.presence.insert(record) else {
                state.report.present += 1
                return false
            }
            state.report.written += 1
            guard execute else { return false }
            state.batch.append(record)
            state.bytes += record.size
            return state.batch.count >= Self.batchRecords || state.bytes >= Self.batchBytes
        }
        if isFull { try await write() }
    }

    /// Writes what is left.
    ///
    /// - Returns: what became of all lines.
    public func finish() async throws -> Report {
        try await write()
        return report
    }

    /// Reads what a topic holds, once.
    private func look(at topic: String) async throws {
        guard state.withLock({ $0.known.insert(topic).inserted }) else { return }
        let marks = try await access.scanner.watermarks(of: [topic])
        let ranges = marks.filter { !$0.value.isEmpty }
        let total = ranges.values.reduce(0) { $0 + Int64($1.count) }
        let progress = progress.withLock { $0 }
        let presence = state.withLock { state in
            state.partitions.formUnion(marks.keys)
            return state.presence
        }
        let read = try await access.scanner.scan(ranges, into: (presence: presence, count: 0)) { reading, record in
            _ = reading.presence.insert(record)
            reading.count += 1
            if reading.count % 5000 == 0 { progress(topic, reading.count, total) }
            return true
        }
        state.withLock { $0.presence = read.presence }
    }

    private func write() async throws {
        let batch = state.withLock { state in
            defer {
                state.batch = []
                state.bytes = 0
            }
            return state.batch
        }
        guard !batch.isEmpty else { return }
        try await desk.writeUnchanged(batch)
        state.withLock { $0.committed += batch.count }
    }
}

extension DeadLetterOperator {
    /// Writes records as they are, all or none, to the partitions that they stood in.
    func writeUnchanged(_ records: [Record]) async throws {
        try await operate { session in
            let producer = session.producer
            try await self.transact(&session) { _ in
                let answers = SendAnswers()
                // One after the other, since each keeps its place among those of its partition.
                for record in records {
                    let number = answers.expect()
                    do throws(BrokerError) {
                        try producer.produce(
                            OutboundRecord(
                                topic: record.topic, partition: record.partition, key: record.key, value: record.value,
                                headers: record.headers)
                        ) { answers.answer(number, $0) }
                    } catch {
                        answers.answer(number, .failure(error))
                        throw error
                    }
                }
                _ = try await answers.all()
            }
        }
    }
}

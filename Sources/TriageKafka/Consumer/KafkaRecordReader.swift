import Synchronization
public import TriageEvents

/// Reads single records again through librdkafka, by a client of its own that is in no group and commits nothing.
///
/// May be used on any thread. A thread of its own reads: several partitions at once, each forwards over what is wanted,
/// skipping large gaps; requests for a partition that is being read wait and are then read together. While nothing is
/// asked, nothing is fetched.
///
/// A record that doesn't exist any more (behind it a later one came, or the partition begins behind it) is missing
/// from the answer. An offset at or behind the end of its partition fails with `OFFSET_NOT_AVAILABLE`, which is retriable: a
/// leader that was just elected may not have caught up, and a record must not be taken for deleted because of that.
///
/// Memory: the records asked for, and about 1 MiB fetched ahead. A warm reader answers for a single record within a few
/// milliseconds of the broker's own time; the first read of a topic also asks for its leader.
public final class KafkaRecordReader: RecordReader {
    private let loop: ReaderLoop

    /// Makes a reader; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - timeout: how long a partition may bring nothing until its requests fail with `_TIMED_OUT`, which is retriable.
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(
        _ configuration: KafkaConfiguration, timeout: Duration = .seconds(10), log: KafkaLog? = nil
    ) throws(KafkaConfigurationError) {
        loop = ReaderLoop(
            try ReaderHandle(properties: configuration.properties(for: .reader), log: log), timeout: timeout
        )
        guard loop.start() else {
            throw KafkaConfigurationError(key: "client", value: "", expected: "a thread of the system's")
        }
    }

    deinit { loop.close() }

    /// Reads the records at these offsets; `completion` is called once, on the reader's thread, or on any if it is closed.
    public func read(
        _ offsets: [Int64], of partition: TopicPartition,
        completion: @escaping @Sendable (Result<[Record], BrokerError>) -> Void
    ) {
        loop.read(ReadRequest(offsets: offsets, partition: partition, completion: completion))
    }

    /// Ends the reader; what is under way fails with `_DESTROY`, and every completion has been called when this returns.
    ///
    /// A second call does nothing. In a completion it returns at once instead.
    public func close() { loop.close() }
}

private struct ReadRequest: Sendable {
    let offsets: [Int64]
    let partition: TopicPartition
    let completion: @Sendable (Result<[Record], BrokerError>) -> Void

    func fail(_ error: BrokerError) { completion(.failure(error)) }
    func refuse() { fail(BrokerError.closed("read \(partition)")) }
}

/// The reader's thread.
private final class ReaderLoop: Sendable {
    private struct State {
        var arrived: [ReadRequest] = []
        var isClosing = false
        var hasEnded = false
        var thread: NativeThread?
    }

    /// A partition that is being read.
    private struct Reading {
        var plan: ReadPlan
        let requests: [ReadRequest]
        /// When it fails unless something comes.
        var deadline: ContinuousClock.Instant
        /// When it is begun again unless something comes.
        var restart: ContinuousClock.Instant
    }

    private let handle: ReaderHandle
    private let timeout: Duration
    private let state = Mutex(State())

    init(_ handle: ReaderHandle, timeout: Duration) {
        self.handle = handle
        self.timeout = timeout
    }

    func start() -> Bool {
        state.withLock { state in
            state.thread = NativeThread { self.run() }
            return state.thread != nil
        }
    }

    func read(_ request: ReadRequest) {
        let isLate = state.withLock { state in
            if !state.hasEnded { state.arrived.append(request) }
            return state.hasEnded
        }
        // Never within the call, and there is no thread any more.
        if isLate { Task.detached { request.refuse() } } else { handle.wake() }
    }

    func close() {
        let thread = state.withLock { state in
            defer {
                state.isClosing = true
                state.thread = nil
            }
            return state.thread
        }
        handle.wake()
        thread?.end()
    }

    private func run() {
        var readings: [TopicPartition: Reading] = [:]
        var waiting: [TopicPartition: [ReadRequest]] = [:]
        var batch = PolledBatch()
        while true {
            let (arrived, isClosing) = state.withLock { state in
                defer { state.arrived = [] }
                return (state.arrived, state.isClosing)
            }
            for request in arrived { waiting[request.partition, default: []].append(request) }
            if isClosing { break }
            begin(&waiting, &readings)
            // Whatever needs the thread wakes it; while something is read the time-out bounds how late silence is noticed.
            handle.take(into: &batch, maximum: 500, milliseconds: readings.isEmpty ? 1000 : 15)
            note(batch, &readings)
            advance(&readings)
        }
        for (partition, reading) in readings {
            handle.stop(partition)
            for request in reading.requests { request.refuse() }
        }
        for request in waiting.values.joined() { request.refuse() }
        let late = state.withLock { state in
            defer { state.arrived = [] }
            state.hasEnded = true
            return state.arrived
        }
        for request in late { request.refuse() }
    }

    /// Begins to read the partitions that are asked for and not being read: all their requests together.
    private func begin(_ waiting: inout [TopicPartition: [ReadRequest]], _ readings: inout [TopicPartition: Reading]) {
        for (partition, requests) in waiting where readings[partition] == nil {
            waiting[partition] = nil
            let wanted = requests.flatMap(\.offsets)
            guard let lowest = wanted.min() else {
                for request in requests { request.completion(.success([])) }
                continue
            }
            guard lowest >= 0 else {
                for request in requests { request.fail(BrokerError("_INVALID_ARG", operation: "read \(partition)")) }
                continue
            }
            let plan = ReadPlan(wanted)
            if readings.isEmpty { handle.discard() }
            do throws(BrokerError) {
                try handle.start(partition, from: plan.position)
                let now = ContinuousClock.now
                readings[partition] = Reading(
                    plan: plan, requests: requests, deadline: now + timeout, restart: now + timeout / 4
                )
            } catch {
                for request in requests { request.fail(error) }
            }
        }
    }

    private func note(_ batch: PolledBatch, _ readings: inout [TopicPartition: Reading]) {
        let now = ContinuousClock.now
        func reading(_ partition: TopicPartition, _ body: (inout Reading) -> Void) {
            // What was in the same batch behind the last record wanted of a partition finds no reading any more.
            guard var reading = readings.removeValue(forKey: partition) else { return }
            body(&reading)
            reading.deadline = now + timeout
            reading.restart = now + timeout / 4
            readings[partition] = reading
        }
        var first = 0
        while first < batch.records.count {
            let partition = batch.records[first].topicPartition
            var last = first
            while last < batch.records.count, batch.records[last].topicPartition == partition { last += 1 }
            reading(partition) { for record in batch.records[first..<last] { $0.plan.brought(record) } }
            first = last
        }
        for end in batch.ends { reading(end.partition) { $0.plan.reached(end: end.offset) } }
        for failure in handle.failures { failed(failure.partition, failure.error, &readings) }
    }

    private func failed(_ partition: TopicPartition, _ error: BrokerError?, _ readings: inout [TopicPartition: Reading]) {
        guard var reading = readings[partition] else { return }
        if let error {
            end(partition, reading, .failure(error), &readings)
            return
        }
        do throws(BrokerError) {
            let milliseconds = min(timeout, .seconds(2)).wholeMilliseconds
            reading.plan.isOutside(try handle.watermarks(partition, milliseconds: milliseconds))
            if !reading.plan.isFinished { try restart(partition, from: reading.plan.position) }
            readings[partition] = reading
        } catch {
            end(partition, reading, .failure(error), &readings)
        }
    }

    /// Skips what lies far from what is wanted next, ends what is finished, and notices silence.
    private func advance(_ readings: inout [TopicPartition: Reading]) {
        let now = ContinuousClock.now
        for (partition, known) in readings {
            var reading = known
            do throws(BrokerError) {
                switch reading.plan.step() {
                case .finish: end(partition, reading, nil, &readings)
                case .read(let offset):
                    try restart(partition, from: offset)
                    readings[partition] = reading
                case .carryOn where now >= reading.deadline:
                    if handle.takeRefusal() { throw .answerTooLarge("read \(partition)", isRetriable: true) }
                    throw BrokerError("_TIMED_OUT", operation: "read \(partition)", isRetriable: true)
                case .carryOn where now >= reading.restart:
                    // A start that librdkafka has dropped is never made up for by itself (see ``PauseLedger``).
                    try restart(partition, from: reading.plan.position)
                    reading.restart = now + timeout / 4
                    readings[partition] = reading
                case .carryOn: break
                }
            } catch {
                end(partition, reading, .failure(error), &readings)
            }
        }
    }

    private func restart(_ partition: TopicPartition, from offset: Int64) throws(BrokerError) {
        handle.stop(partition)
        try handle.start(partition, from: offset)
    }

    private func end(
        _ partition: TopicPartition, _ reading: Reading, _ failure: Result<[Record], BrokerError>?,
        _ readings: inout [TopicPartition: Reading]
    ) {
        handle.stop(partition)
        readings[partition] = nil
        for request in reading.requests {
            request.completion(failure ?? reading.plan.result(for: request.offsets, of: partition))
        }
    }
}

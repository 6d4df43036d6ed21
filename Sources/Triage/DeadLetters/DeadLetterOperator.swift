internal import Synchronization
public import TriageEvents
public import TriageProcessing
public import TriageTelemetry

/// Replays and discards dead letters, one operator of a cluster at a time.
///
/// What it writes goes in Kafka's transactions under one transactional id: a replay's record and the state that says so count
/// together or not at all. Beginning *fences* whoever operated before, whose next transaction fails; states are then
/// read to their end, so that nothing is done twice. One whose process is killed leaves nothing half done either: what its last
/// transaction wrote was never there.
///
/// Calls may be made at once; they are carried out one after the other.
public final class DeadLetterOperator: Sendable {
    let access: DeadLetterAccess
    let name: String
    let tracer: Tracer
    let meter: Meter
    let clock: any EventClock
    let sleep: @Sendable (Duration) async throws -> Void
    let templates: Mutex<[String: ReplayStep.Templates]> = Mutex([:])
    private let turns = Turns()
    private let session = Mutex<OperatorSession?>(nil)

    /// How long an operator looks for who fenced it: the other one reads all states before it says so.
    static let searchTimeout: Duration = .seconds(10)
    /// How often the state topic is looked at while something is waited for.
    static let pollInterval: Duration = .milliseconds(500)

    /// An operator that hasn't begun.
    ///
    /// - Parameters:
    ///   - access: how the topics are reached.
    ///   - operatorName: who it is, for the states and for whoever is fenced; it is in no span, log line or metric.
    ///   - telemetry: where its spans and metrics go.
    ///   - clock: stamps what it writes.
    public convenience init(
        _ access: DeadLetterAccess, by operatorName: String, telemetry: Telemetry, clock: any EventClock = SystemClock()
    ) {
        self.init(access, by: operatorName, tracer: telemetry.tracer, meter: telemetry.meter, clock: clock) {
            try await Task.sleep(for: $0)
        }
    }

    /// The same with its pauses in the caller's hands.
    package init(
        _ access: DeadLetterAccess, by operatorName: String, tracer: Tracer, meter: Meter, clock: any EventClock,
        sleep: @escaping @Sendable (Duration) async throws -> Void
    ) {
        self.access = access
        name = operatorName
        self.tracer = tracer
        self.meter = meter
        self.clock = clock
        self.sleep = sleep
    }

    /// Becomes the one operator: fences whoever was it before, reads the states to their end, and writes down who it is.
    ///
    /// - Throws: ``OperatorError``, a `BrokerError` if the brokers don't answer.
    public func begin() async throws {
        try await turns.take {
            close()
            try await makeStateTopic()
            let producer = try access.transactions()
            let new: OperatorSession
            do {
                try await retrying { () throws(BrokerError) in try await producer.initialise() }
                var read = ReadStates()
                try await read.read(access.scanner)
                new = OperatorSession(
                    producer: producer,
                    sink: TracedSink(producer: producer, tracer: tracer, meter: meter, clientID: access.clientID), read: read,
                    lease: DeadLetterLease(by: name, time: clock.now(), id: randomUUID()),
                    former: read.states.lease?.id)
            } catch {
                producer.close()
                throw error
            }
            session.withLock { $0 = new }
            let lease = new.lease
            try await withSession { session in
                try await self.transact(&session) { batch in
                    try batch.send(
                        OutboundRecord(
                            topic: TopicName.deadLetterState, partition: 0, key: ByteSlice(DeadLetterLease.key), value: lease.json
                        ), parent: nil
                    )
                }
            }
        }
    }

    /// Ends it: its clients are closed. Whoever operates next is known by what it writes, so nothing is written.
    public func end() async {
        _ = try? await turns.take { close() }
    }

    /// What is known of the states: those that were read when it began or since, with what it did.
    public var states: DeadLetterStates { session.withLock { $0?.read.states ?? DeadLetterStates() } }

    private func close() {
        let old = session.withLock { session in
            defer { session = nil }
            return session
        }
        old?.producer.close()
    }

    /// The topic is made if it is missing, and waited for.
    private func makeStateTopic() async throws {
        func exists() async throws -> Bool { try await !access.scanner.watermarks(of: [TopicName.deadLetterState]).isEmpty }
        if try await exists() { return }
        try await access.createStateTopic()
        for attempt in 0..<20 {
            if try await exists() { return }
            if attempt < 19 { try await sleep(DeadLetterOperator.pollInterval) }
        }
        throw OperatorError.noStateTopic
    }

    /// One call after the other, with what was begun; a call that fails ends that.
    func operate<Result: Sendable>(
        _ body: (inout OperatorSession) async throws -> Result
    ) async throws -> Result {
        try await turns.take { try await withSession(body) }
    }

    @discardableResult
    private func withSession<Result: Sendable>(
        _ body: (inout OperatorSession) async throws -> Result
    ) async throws -> Result {
        guard var current = session.withLock({ $0 }) else { throw OperatorError.notBegun }
        do {
            let result = try await body(&current)
            session.withLock { $0 = current }
            return result
        } catch {
            close()
            throw error
        }
    }

    // MARK: Transactions

    /// What one transaction writes.
    struct Batch {
        fileprivate let sink: TracedSink
        fileprivate let answers = SendAnswers()

        /// Hands a record over; the number by which ``answers()`` tells where it stands.
        @discardableResult
        func send(_ record: OutboundRecord, parent: TraceContext?) throws(BrokerError) -> Int {
            let number = answers.expect()
            do throws(BrokerError) {
                try sink.send(record, parent: parent) { [answers] in answers.answer(number, $0) }
            } catch {
                answers.answer(number, .failure(error))
                throw error
            }
            return number
        }

        /// Waits until everything that was handed over is acknowledged.
        func acknowledged() async throws(BrokerError) -> [Acknowledgement] { try await answers.all() }

        /// The number of the first record that failed; nil if none has.
        var failed: Int? { answers.failed }
    }

    /// Writes what `body` hands over, all or nothing.
    ///
    /// - Throws: ``OperatorError``, and what `body` throws that is no `BrokerError`.
    func transact<Result>(
        _ session: inout OperatorSession, _ body: (Batch) async throws -> Result
    ) async throws -> Result {
        let producer = session.producer
        let batch = Batch(sink: session.sink)
        let result: Result
        do {
            try await producer.begin()
            result = try await body(batch)
            _ = try await batch.acknowledged()
        } catch {
            let broker = error as? BrokerError
            if broker?.isFenced == true { throw await fenced(session) }
            do throws(BrokerError) {
                try await producer.abort()
            } catch {
                if error.isFenced { throw await fenced(session) }
            }
            // A fenced producer's records fail with what it noticed first.
            if broker != nil, await isFenced(&session) { throw await fenced(session) }
            throw broker.map { OperatorError.aborted($0) } ?? error
        }
        do throws(BrokerError) {
            try await retrying { () throws(BrokerError) in try await producer.commit() }
        } catch {
            if error.isFenced { throw await fenced(session) }
            if error.isRetriable || error.isFatal { throw OperatorError.uncertain(error) }
            guard (try? await producer.abort()) != nil else { throw OperatorError.uncertain(error) }
            throw OperatorError.aborted(error)
        }
        return result
    }

    /// Calls again what may succeed later, four times at most.
    private func retrying(_ body: () async throws(BrokerError) -> Void) async throws(BrokerError) {
        for _ in 0..<3 {
            do throws(BrokerError) {
                return try await body()
            } catch {
                if error.isFenced || error.isFatal || !error.isRetriable { throw error }
            }
            try? await sleep(DeadLetterOperator.pollInterval)
        }
        try await body()
    }

    /// Whether somebody else has written a lease since.
    private func isFenced(_ session: inout OperatorSession) async -> Bool {
        try? await session.read.read(access.scanner)
        return session.successor(in: session.read.states) != nil
    }

    /// Who operates now: looked for until the other one has said so.
    func fenced(_ session: OperatorSession) async -> OperatorError {
        var waited: Duration = .zero
        while true {
            var read = ReadStates()
            try? await read.read(access.scanner)
            if let lease = session.successor(in: read.states) { return .fenced(by: lease.by, since: lease.time) }
            guard waited < DeadLetterOperator.searchTimeout, (try? await sleep(DeadLetterOperator.pollInterval)) != nil else {
                return .fenced(by: nil, since: nil)
            }
            waited += DeadLetterOperator.pollInterval
        }
    }
}

/// What an operator has begun.
struct OperatorSession: Sendable {
    let producer: any TransactionalProducer
    let sink: TracedSink
    var read: ReadStates
    let lease: DeadLetterLease
    /// The lease that stood there when this one began.
    let former: String?

    /// The lease of somebody who has begun since; nil if nobody has.
    func successor(in states: DeadLetterStates) -> DeadLetterLease? {
        states.lease.flatMap { $0.id == lease.id || $0.id == former ? nil : $0 }
    }
}

/// Gathers the answers to what was handed over, and waits for them.
final class SendAnswers: Sendable {
    private struct State {
        var results: [Result<Acknowledgement, BrokerError>?] = []
        var open = 0
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    func expect() -> Int {
        state.withLock { state in
            state.results.append(nil)
            state.open += 1
            return state.results.count - 1
        }
    }

    func answer(_ number: Int, _ result: Result<Acknowledgement, BrokerError>) {
        let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard state.results[number] == nil else { return nil }
            state.results[number] = result
            state.open -= 1
            guard state.open == 0 else { return nil }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    var failed: Int? {
        state.withLock { state in
            state.results.firstIndex { if case .failure = $0 { true } else { false } }
        }
    }

    /// Where everything stands, in order; the first error if there is one.
    func all() async throws(BrokerError) -> [Acknowledgement] {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if state.open > 0 { state.waiter = continuation }
                return state.open == 0
            }
            if isDone { continuation.resume() }
        }
        var acknowledgements: [Acknowledgement] = []
        for result in state.withLock({ $0.results }) {
            if let result { acknowledgements.append(try result.get()) }
        }
        return acknowledgements
    }
}

/// Lets one call go on at a time, in the order in which they came.
private final class Turns: Sendable {
    private struct State {
        var isTaken = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func take<Result: Sendable>(_ body: () async throws -> Result) async throws -> Result {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.isTaken { state.waiting.append(continuation) }
                defer { state.isTaken = true }
                return !state.isTaken
            }
            if isFree { continuation.resume() }
        }
        defer {
            let next: CheckedContinuation<Void, Never>? = state.withLock { state in
                guard !state.waiting.isEmpty else {
                    state.isTaken = false
                    return nil
                }
                return state.waiting.removeFirst()
            }
            next?.resume()
        }
        return try await body()
    }
}

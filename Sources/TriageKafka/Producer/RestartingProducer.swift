import Glibc
import Synchronization
public import TriageEvents

/// A ``KafkaProducer`` that outlives its client: after a fatal error (fenced, idempotence can't be kept) a new client takes
/// its place.
///
/// What the failed client hadn't answered fails with the error's name, but neither fatal nor final: it is retriable, and may
/// have been written all the same. Whoever tries again writes a copy then; the engine voids those by origin and retry count.
/// Between two clients produces find the queue full, and ``whenWritable(_:)`` tells when the new one is there: at once after
/// the first failure, later at least 1 s, doubling to 30 s, after the one before, so a producer that is fenced for ever
/// doesn't spin. Each replacement is a warning in the log.
///
/// May be used on any thread.
public final class RestartingProducer: RecordProducer {
    /// Makes a client, which tells `failed` about errors of the whole client.
    package typealias Maker =
        @Sendable (_ failed: @escaping @Sendable (BrokerError) -> Void) throws(KafkaConfigurationError) -> any RecordProducer

    private let core: Core

    /// Makes a producer; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - splitsBatches: sends records whose batch was refused as too large again, each alone, so that only those fail that
    ///     are too large themselves. They may be overtaken by later ones of their partition.
    ///   - log: receives librdkafka's log lines, and one of facility `RESTART` for each new client; nil drops them.
    ///   - restarted: told why a client was replaced, on a thread of the producer's.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public convenience init(
        _ configuration: KafkaConfiguration, splitsBatches: Bool = false, log: KafkaLog? = nil,
        restarted: (@Sendable (BrokerError) -> Void)? = nil
    ) throws(KafkaConfigurationError) {
        try self.init(log: log, restarted: restarted) { failed throws(KafkaConfigurationError) in
            if splitsBatches { return try SplittingProducer(configuration, log: log, failed: failed) }
            return try KafkaProducer(configuration, log: log, failed: failed)
        }
    }

    /// The same over any clients, with other pauses between them.
    package init(
        log: KafkaLog? = nil, firstPause: Duration = .seconds(1), longestPause: Duration = .seconds(30),
        restarted: (@Sendable (BrokerError) -> Void)? = nil, make: @escaping Maker
    ) throws(KafkaConfigurationError) {
        core = Core(
            backoff: RestartBackoff(base: firstPause, cap: longestPause), log: log, restarted: restarted, make: make
        )
        try core.begin()
    }

    deinit { core.close() }

    /// How many clients have been replaced.
    public var restarts: Int { core.restarts }

    /// The client that takes records now; nil between two.
    package var client: (any RecordProducer)? { core.client }

    /// Hands a record over to the present client; `completion` is called once, on a thread of its.
    ///
    /// - Throws: what ``KafkaProducer/produce(_:completion:)`` throws, but nothing fatal; ``BrokerError/isQueueFull`` while
    ///   there is no client.
    public func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        try core.produce(record, completion)
    }

    /// Calls `body` once, on any thread, when there is a client whose queue has room.
    public func whenWritable(_ body: @escaping @Sendable () -> Void) { core.whenWritable(body) }

    /// Waits until nothing is unanswered, by the present client or one that failed, at most `timeout`.
    public func flush(timeout: Duration) async -> Bool { await core.flush(timeout: timeout) }

    /// Whether a broker answers the present client within `timeout`; blocks the calling thread.
    public func isReachable(within timeout: Duration) -> Bool { core.client?.isReachable(within: timeout) ?? false }

    /// Ends the producer; what is not flushed fails, and nothing is restarted any more.
    public func close() { core.close() }
}

private final class Core: Sendable {
    private struct State {
        /// Nil between two clients.
        var client: (any RecordProducer)?
        /// How many clients have failed: the number of the present one.
        var generation = 0
        var unanswered = 0
        var waiters: [@Sendable () -> Void] = []
        var backoff: RestartBackoff
        var restarts = 0
        var isClosed = false
    }
    private let state: Mutex<State>
    private let log: KafkaLog?
    private let restarted: (@Sendable (BrokerError) -> Void)?
    private let make: RestartingProducer.Maker

    init(
        backoff: RestartBackoff, log: KafkaLog?, restarted: (@Sendable (BrokerError) -> Void)?,
        make: @escaping RestartingProducer.Maker
    ) {
        state = Mutex(State(backoff: backoff))
        self.log = log
        self.restarted = restarted
        self.make = make
    }

    func begin() throws(KafkaConfigurationError) {
        let first = try makeClient(0)
        state.withLock { $0.client = first }
    }

    private func makeClient(_ generation: Int) throws(KafkaConfigurationError) -> any RecordProducer {
        try make { [weak self] error in
            if error.isFatal { self?.replace(generation, error) }
        }
    }

    var restarts: Int { state.withLock { $0.restarts } }
    var client: (any RecordProducer)? { state.withLock { $0.client } }

    func produce(
        _ record: OutboundRecord, _ completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        let (client, generation, isClosed) = state.withLock { state in
            if state.client != nil { state.unanswered += 1 }
            return (state.client, state.generation, state.isClosed)
        }
        if isClosed { throw BrokerError.closed("produce") }
        guard let client else { throw Core.noRoom(record) }
        do throws(BrokerError) {
            try client.produce(record) { [self] in
                completion(answered($0, generation))
                state.withLock { $0.unanswered -= 1 }
            }
        } catch {
            state.withLock { $0.unanswered -= 1 }
            if error.isFatal { replace(generation, error) }
            // Not taken by a client that has failed, so the next may take it.
            throw wasReplaced(generation) ? Core.noRoom(record) : error
        }
    }

    private static func noRoom(_ record: OutboundRecord) -> BrokerError {
        BrokerError(BrokerError.queueFullName, operation: "produce \(record.topic)", isRetriable: true)
    }

    private func wasReplaced(_ generation: Int) -> Bool {
        state.withLock { $0.generation != generation && !$0.isClosed }
    }

    /// What a client said of a record, in the words of one that goes on.
    private func answered(
        _ result: Result<Acknowledgement, BrokerError>, _ generation: Int
    ) -> Result<Acknowledgement, BrokerError> {
        guard case .failure(let error) = result else { return result }
        if error.isFatal { replace(generation, error) }
        let isPurged = error.name == "_PURGE_QUEUE" || error.name == "_PURGE_INFLIGHT"
        guard error.isFatal || (isPurged && wasReplaced(generation)) else { return result }
        return .failure(BrokerError(error.name, operation: error.operation, isRetriable: true))
    }

    /// The client of this generation has failed: it is ended, and another takes its place.
    private func replace(_ generation: Int, _ error: BrokerError) {
        let failed: (any RecordProducer)? = state.withLock { state in
            guard state.generation == generation, !state.isClosed, let client = state.client else { return nil }
            state.generation += 1
            state.client = nil
            return client
        }
        guard let failed else { return }
        // Ending a client waits for its threads, and the next may have to wait: not on the thread that noticed.
        let body: @Sendable () -> Void = { self.succeed(failed, generation + 1, error) }
        if let thread = NativeThread(body) { thread.detach() } else { Task.detached(operation: body) }
    }

    private func succeed(_ failed: any RecordProducer, _ generation: Int, _ error: BrokerError) {
        failed.close()
        log?(
            4, "RESTART",
            "the producer failed for good (\(error.name)) and is replaced; what it has not answered is to be tried again"
        )
        while pause() {
            let new: any RecordProducer
            do throws(KafkaConfigurationError) { new = try makeClient(generation) } catch {
                log?(3, "RESTART", "no new producer can be made: \(error)")
                continue
            }
            let waiters: [@Sendable () -> Void]? = state.withLock { state in
                if state.isClosed { return nil }
                state.client = new
                state.restarts += 1
                defer { state.waiters = [] }
                return state.waiters
            }
            guard let waiters else {
                new.close()
                return
            }
            restarted?(error)
            for waiter in waiters { waiter() }
            return
        }
    }

    /// Waits as long as the next client must wait; false if none shall come any more.
    private func pause() -> Bool {
        let now = ContinuousClock.now
        let end = now + state.withLock { $0.backoff.pause(at: now) }
        while !state.withLock({ $0.isClosed }) {
            let rest = end - ContinuousClock.now
            if rest <= .zero { return true }
            // In pieces, so that closing isn't noticed late.
            usleep(UInt32(clamping: min(rest, .milliseconds(50)).wholeNanoseconds / 1000))
        }
        return false
    }

    func whenWritable(_ body: @escaping @Sendable () -> Void) {
        let (client, isClosed) = state.withLock { state in
            if state.client == nil, !state.isClosed { state.waiters.append(body) }
            return (state.client, state.isClosed)
        }
        if let client { client.whenWritable(body) } else if isClosed { body() }
    }

    func flush(timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while true {
            let (client, unanswered) = state.withLock { ($0.client, $0.unanswered) }
            if unanswered == 0 { return true }
            let rest = deadline - ContinuousClock.now
            if rest <= .zero { return false }
            if let client, await !client.flush(timeout: min(rest, .milliseconds(200))) { continue }
            // What a failed client has not answered yet is being failed on another thread.
            guard (try? await Task.sleep(for: .milliseconds(5))) != nil else { break }
        }
        return state.withLock { $0.unanswered == 0 }
    }

    func close() {
        let (client, waiters) = state.withLock { state in
            defer {
                state.isClosed = true
                state.client = nil
                state.waiters = []
            }
            return (state.client, state.waiters)
        }
        client?.close()
        for waiter in waiters { waiter() }
    }
}

import Synchronization
public import TriageEvents

/// Produces records through librdkafka: idempotent, acknowledged by all in-sync replicas, in order in each partition.
///
/// May be used on any thread. A thread of its own serves delivery reports; completions and
/// ``whenWritable(_:)`` closures run there, so they must be quick.
///
/// The queue holds 100,000 records or 1 GiB unless `queue.buffering.max.messages` or `queue.buffering.max.kbytes` say
/// otherwise. After a fatal error (``BrokerError/isFatal``) the producer takes nothing more; records that it then fails
/// may have been written all the same. ``RestartingProducer`` goes on with a new one.
public final class KafkaProducer: RecordProducer {
    private let loop: ProducerLoop

    /// Makes a producer; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - log: receives librdkafka's log lines; nil drops them.
    ///   - failed: receives errors of the whole client, on its thread, such as brokers that are down; a fatal one has
    ///     ``BrokerError/isFatal``.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public convenience init(
        _ configuration: KafkaConfiguration, log: KafkaLog? = nil,
        failed: (@Sendable (BrokerError) -> Void)? = nil
    ) throws(KafkaConfigurationError) {
        try self.init(configuration, extra: [], log: log, failed: failed)
    }

    /// Makes a producer with further properties of its role.
    init(
        _ configuration: KafkaConfiguration, extra: [Property], log: KafkaLog?, failed: (@Sendable (BrokerError) -> Void)?
    ) throws(KafkaConfigurationError) {
        let properties = try configuration.properties(for: .producer) + extra
        let limit = properties.last { $0.key == "queue.buffering.max.messages" }.flatMap { Int($0.value) } ?? 100_000
        let handle = try ProducerHandle(properties: properties, log: log) { failed?($0) }
        loop = ProducerLoop(handle, limit: limit)
        guard loop.start() else {
            throw KafkaConfigurationError(key: "client", value: "", expected: "a thread of the system's")
        }
    }

    deinit { loop.close() }

    /// The error after which nothing can be produced any more, if there is one.
    public var fatalError: BrokerError? { loop.handle.fatalError }

    /// Copies the record into the queue; `completion` is called once, on the producer's thread, when it is acknowledged
    /// by all in-sync replicas or failed for good.
    ///
    /// - Throws: a ``BrokerError``, and `completion` is not called: ``BrokerError/isQueueFull``,
    ///   ``BrokerError/isTooLarge``, `_UNKNOWN_PARTITION` for a partition that the topic doesn't have (if the topic is
    ///   not known yet, through `completion`), `_DESTROY` after ``close()``, or a fatal one.
    public func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        try loop.handle.produce(record, DeliveryBox(completion))
    }

    /// Calls `body` once, on the producer's thread, when records have left the queue, or when the producer is closed.
    ///
    /// Room may be gone again when it runs; then produce throws again and one waits again.
    public func whenWritable(_ body: @escaping @Sendable () -> Void) { loop.whenWritable(body) }

    /// Sends what is queued without lingering and waits until nothing is left, at most `timeout`; blocks no thread of
    /// the cooperative pool.
    ///
    /// - Returns: whether every record handed over is acknowledged or failed.
    public func flush(timeout: Duration) async -> Bool { await loop.flush(timeout: timeout) }

    /// Whether a broker answers within `timeout`; blocks the calling thread.
    public func isReachable(within timeout: Duration) -> Bool {
        fatalError == nil && loop.handle.isReachable(milliseconds: timeout.wholeMilliseconds)
    }

    /// Makes a call of the client that blocks, on a thread of its own.
    func blocking(
        _ operation: String, _ call: @escaping @Sendable (ProducerHandle) throws(BrokerError) -> Void
    ) async throws(BrokerError) {
        let handle = loop.handle
        try await onThread(operation) { () throws(BrokerError) in try call(handle) }
    }

    /// Makes the client fail for good with Kafka's error `code`, as tests need it.
    package func failForGood(code: Int32) { loop.handle.failForGood(code: code) }

    /// Ends the producer: what is queued or in flight fails with `_PURGE_QUEUE` or `_PURGE_INFLIGHT`, and every
    /// completion has been called when this returns.
    ///
    /// A second call does nothing. On the producer's own thread, in a completion, it returns at once instead.
    public func close() { loop.close() }
}

/// The producer's thread: serves reports, tells who waits for room, ends flushes.
private final class ProducerLoop: Sendable {
    private struct Flush {
        let deadline: ContinuousClock.Instant
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var waiters: [@Sendable () -> Void] = []
        var flushes: [Flush] = []
        var isClosing = false
        var hasEnded = false
        var thread: NativeThread?
    }

    let handle: ProducerHandle
    /// Waiters are told below three quarters of the queue's limit, so that they don't come for one free place each.
    private let comfortable: Int
    private let state = Mutex(State())

    init(_ handle: ProducerHandle, limit: Int) {
        self.handle = handle
        comfortable = max(0, limit - max(1, limit / 4))
    }

    func start() -> Bool {
        state.withLock { state in
            state.thread = NativeThread { self.run() }
            return state.thread != nil
        }
    }

    func whenWritable(_ body: @escaping @Sendable () -> Void) {
        let isLate = state.withLock { state in
            if !state.hasEnded { state.waiters.append(body) }
            return state.hasEnded
        }
        // With an empty queue no report will come that could wake the thread.
        if isLate { body() } else { handle.wake() }
    }

    func flush(timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        return await withCheckedContinuation { continuation in
            let isLate = state.withLock { state in
                if !state.hasEnded { state.flushes.append(Flush(deadline: deadline, continuation: continuation)) }
                return state.hasEnded
            }
            if isLate { continuation.resume(returning: true) } else { handle.wake() }
        }
    }

    func close() {
        handle.stopTaking()
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
        var seen = 0
        while true {
            let (isClosing, isFlushing) = state.withLock { ($0.isClosing, !$0.flushes.isEmpty) }
            if isClosing { break }
            // Everything that needs the thread wakes it, so the time-outs only bound how late a missed wake is noticed.
            if isFlushing { handle.serveFlushing(milliseconds: 20) } else { handle.serve(milliseconds: 1000) }
            let outstanding = handle.outstanding
            let deliveries = handle.deliveries
            if outstanding == 0 || (deliveries != seen && outstanding <= comfortable) { tellWaiters() }
            seen = deliveries
            if isFlushing { endFlushes(isEmpty: outstanding == 0) }
        }
        while handle.outstanding > 0 {
            handle.purge()
            handle.serveFlushing(milliseconds: 200)
        }
        let (waiters, flushes) = state.withLock { state in
            defer {
                state.hasEnded = true
                state.waiters = []
                state.flushes = []
            }
            return (state.waiters, state.flushes)
        }
        for waiter in waiters { waiter() }
        for flush in flushes { flush.continuation.resume(returning: true) }
    }

    private func tellWaiters() {
        let waiters = state.withLock { state in
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter() }
    }

    private func endFlushes(isEmpty: Bool) {
        let now = ContinuousClock.now
        let ended = state.withLock { state in
            let ended = isEmpty ? state.flushes : state.flushes.filter { $0.deadline <= now }
            if isEmpty { state.flushes = [] } else { state.flushes.removeAll { $0.deadline <= now } }
            return ended
        }
        for flush in ended { flush.continuation.resume(returning: isEmpty) }
    }
}

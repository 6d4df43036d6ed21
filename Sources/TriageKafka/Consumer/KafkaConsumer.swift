public import TriageEvents

/// Consumes topics as a member of a group, through librdkafka.
///
/// Every method but ``waker`` must be called on one thread: librdkafka loses messages when a pause or a rebalance
/// happens while another thread takes a batch. The observer is called on that thread too, inside
/// ``poll(into:maximum:timeout:)`` and ``close()``.
///
/// Partitions are shared by the range assignor, so partitions of the same number of topics with equal partition counts
/// come to the same member; a rebalance takes all partitions away first. Nothing is committed but by ``commit(_:)`` and
/// ``commitAndWait(_:)``.
public final class KafkaConsumer: RecordConsumer {
    /// Nil once closed.
    private var handle: ConsumerHandle?
    private var observer: (any AssignmentObserver)?
    private var assigned: Set<TopicPartition> = []
    /// What this object paused and has not resumed: resuming anything else would rewind it (librdkafka#4637).
    private var paused: Set<TopicPartition> = []
    private var isAssigning = false
    private var isClosing = false
    /// Ends a waiting ``poll(into:maximum:timeout:)`` early; may be called on any thread, also after ``close()``.
    public let waker: @Sendable () -> Void

    /// Makes a consumer; it connects in the background and joins its group with ``subscribe(to:observer:)``.
    ///
    /// - Parameters:
    ///   - configuration: needs ``KafkaConfiguration/groupID``.
    ///   - log: receives librdkafka's log lines; nil drops them.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(_ configuration: KafkaConfiguration, log: KafkaLog? = nil) throws(KafkaConfigurationError) {
        let handle = try ConsumerHandle(properties: configuration.properties(for: .consumer), log: log)
        self.handle = handle
        waker = handle.waker
    }

    deinit {
        // No observer may be told about an object that is going away.
        handle?.callbacks = nil
        handle?.close()
    }

    /// The error after which this consumer can't go on, such as being fenced by another member of the same instance id.
    public var fatalError: BrokerError? { handle?.fatalError }

    /// Joins the group for these topics; `observer` is retained until ``close()``.
    ///
    /// - Throws: a ``BrokerError`` if the consumer is closed or a name is none. A topic that doesn't exist is no error
    ///   here; it is reported by a poll, and consumed once it exists.
    public func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("subscribe") }
        self.observer = observer
        handle.callbacks = ConsumerHandle.Callbacks(
            assigning: { [unowned self] in assigning($0) },
            assigned: { [unowned self] in pauseDeferred() },
            revoking: { [unowned self] in revoking($0, isLost: $1) }
        )
        try handle.subscribe(to: topics)
    }

    /// Empties `batch`, then fills it: with what is there, else with what comes first within `timeout`.
    ///
    /// - Parameters:
    ///   - batch: what came. Records of partitions that were taken away during this call are left out.
    ///   - maximum: the most records to take, at least 1.
    ///   - timeout: how long to wait for a first record or event; zero doesn't wait.
    public func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        batch.removeAll()
        handle?.poll(into: &batch, maximum: maximum, milliseconds: timeout.wholeMilliseconds)
    }

    /// Stops fetching from these partitions; those paused already are left alone.
    ///
    /// Within ``AssignmentObserver/assigned(_:by:)`` it takes effect before the first record could come.
    ///
    /// - Throws: `_UNKNOWN_PARTITION` if one is not assigned.
    public func pause(_ partitions: [TopicPartition]) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("pause") }
        let new = Set(partitions).subtracting(paused)
        guard !new.isEmpty else { return }
        guard new.isSubset(of: assigned) else { throw BrokerError("_UNKNOWN_PARTITION", operation: "pause") }
        if !isAssigning { try handle.pause(Array(new)) }
        paused.formUnion(new)
    }

    /// Fetches again from those of these partitions that are paused, from the record behind the last one delivered.
    public func resume(_ partitions: [TopicPartition]) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("resume") }
        let known = paused.intersection(partitions)
        guard !known.isEmpty else { return }
        if !isAssigning { try handle.resume(Array(known)) }
        paused.subtract(known)
    }

    /// Commits exactly these offsets without waiting; the result comes with a later poll.
    ///
    /// - Throws: a ``BrokerError`` if the commit could not even be queued.
    public func commit(_ offsets: [OffsetCommit]) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("commit") }
        guard !offsets.isEmpty else { return }
        try handle.commit(offsets)
    }

    /// Commits exactly these offsets and waits for the broker's answer, or for librdkafka to give up.
    public func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("commit") }
        guard !offsets.isEmpty else { return }
        try handle.commitAndWait(offsets)
    }

    /// The group's committed offsets of these partitions with their metadata; those without a commit are missing.
    ///
    /// Empty metadata is reported as nil, for brokers don't tell the two apart.
    public func committed(
        _ partitions: [TopicPartition], timeout: Duration
    ) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        guard let handle else { throw BrokerError.closed("committed") }
        return try handle.committed(partitions, milliseconds: timeout.wholeMilliseconds)
    }

    /// The first offset that exists and the one behind the last, asked of the broker.
    public func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        guard let handle else { throw BrokerError.closed("watermarks") }
        return try handle.watermarks(partition, milliseconds: timeout.wholeMilliseconds)
    }

    /// Reports the revocation to the observer, leaves the group and ends the consumer; a second call does nothing.
    ///
    /// Not to be called by an observer while it is being told.
    public func close() {
        guard let handle, !isClosing else { return }
        isClosing = true
        handle.close()
        self.handle = nil
        observer = nil
        assigned = []
        paused = []
    }

    private func assigning(_ partitions: [TopicPartition]) -> [TopicPartition: StartOffset] {
        assigned = Set(partitions)
        paused = []
        isAssigning = true
        defer { isAssigning = false }
        return observer?.assigned(partitions, by: self) ?? [:]
    }

    /// What the observer paused while it was told: librdkafka knows the partitions only now.
    private func pauseDeferred() {
        guard let handle, !paused.isEmpty else { return }
        do throws(BrokerError) {
            try handle.pause(Array(paused))
        } catch {
            handle.report(error)
        }
    }

    private func revoking(_ partitions: [TopicPartition], isLost: Bool) -> [TopicPartition] {
        if isLost { observer?.lost(partitions, by: self) } else { observer?.revoked(partitions, by: self) }
        defer {
            assigned = []
            paused = []
        }
        return Array(paused)
    }
}

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
    private var ledger = PauseLedger()
    /// What librdkafka was ever told to pause: its mark outlives the assignment, and a resume may have been dropped.
    private var marked: Set<TopicPartition> = []
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
        guard let handle, !ledger.takeReleased(into: &batch, maximum: maximum) else { return }
        handle.poll(into: &batch, maximum: maximum, milliseconds: timeout.wholeMilliseconds)
        let leaking = ledger.filter(&batch)
        if !leaking.isEmpty { note { () throws(BrokerError) in try tell(handle, leaking) } }
    }

    /// Stops fetching from these partitions; those paused already are left alone.
    ///
    /// From then on no record of theirs is delivered, also within ``AssignmentObserver/assigned(_:by:)``.
    ///
    /// - Throws: `_UNKNOWN_PARTITION` if one is not assigned.
    public func pause(_ partitions: [TopicPartition]) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("pause") }
        guard assigned.isSuperset(of: partitions) else { throw BrokerError("_UNKNOWN_PARTITION", operation: "pause") }
        try tell(handle, ledger.pause(Set(partitions)))
    }

    /// Fetches again from those of these partitions that are paused, from the record behind the last one delivered.
    public func resume(_ partitions: [TopicPartition]) throws(BrokerError) {
        guard let handle else { throw BrokerError.closed("resume") }
        let known = ledger.sent.intersection(partitions)
        var positions: [TopicPartition: Int64] = [:]
        if !known.isEmpty {
            positions = try handle.positions(known)
            try handle.resume(known)
        }
        ledger.resume(Set(partitions), positions: positions)
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

    /// The offset behind the last record as the last fetch response told it (the high watermark); asks nobody.
    ///
    /// Nil before the first response. A paused partition isn't fetched, so its end stays what it was.
    public func knownEnd(of partition: TopicPartition) -> Int64? { handle?.knownEnd(of: partition) }

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
        ledger.assign([])
    }

    private func assigning(_ partitions: [TopicPartition]) -> [TopicPartition: StartOffset] {
        assigned = Set(partitions)
        ledger.assign(assigned)
        let returned = marked.intersection(assigned)
        if let handle, !returned.isEmpty {
            // Nothing is fetched yet, so this only takes the marks away.
            note { () throws(BrokerError) in try handle.resume(returned) }
            marked.subtract(returned)
        }
        return observer?.assigned(partitions, by: self) ?? [:]
    }

    private func revoking(_ partitions: [TopicPartition], isLost: Bool) {
        if isLost { observer?.lost(partitions, by: self) } else { observer?.revoked(partitions, by: self) }
        assigned = []
        ledger.assign([])
    }

    private func tell(_ handle: ConsumerHandle, _ paused: Set<TopicPartition>) throws(BrokerError) {
        guard !paused.isEmpty else { return }
        marked.formUnion(paused)
        try handle.pause(paused)
    }

    /// Does what can't throw to anyone; its error comes with the next batch.
    private func note(_ body: () throws(BrokerError) -> Void) {
        do throws(BrokerError) { try body() } catch { handle?.report(error) }
    }
}

internal import Synchronization
public import TriageEvents

/// What real brokers do to their clients.
extension InMemoryBroker {
    /// A produce that was accepted and neither stored nor answered.
    struct HeldProduce: Sendable {
        let record: OutboundRecord
        let answer: @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    }

    // MARK: What lies in a partition

    /// Stores records as a transaction that is then aborted does: they take offsets, one more for the control record that ends it
    /// in each partition, and are never delivered to consumers, all of which are read-committed.
    ///
    /// - Returns: where they stand.
    @discardableResult
    public func appendAborted(_ records: [OutboundRecord]) -> [Result<Acknowledgement, BrokerError>] {
        let results = state.withLock { state in
            var touched: Set<TopicPartition> = []
            let results = records.map { record in
                let result = store(record, in: &state, as: .aborted)
                if case .success(let stored) = result { touched.insert(TopicPartition(record.topic, stored.partition)) }
                return result
            }
            for partition in touched { state.topics[partition.topic]?[Int(partition.partition)].next += 1 }
            return results
        }
        wakeAll()
        return results
    }

    /// The records that aborted transactions have left in a topic.
    public func abortedRecords(in topic: String) -> [Record] {
        state.withLock { ($0.topics[topic] ?? []).flatMap(\.aborted) }
    }

    /// Removes everything before `offset`, as retention and DeleteRecords do: the partition begins there, at most at its end.
    ///
    /// A consumer that stood before it starts anew, as one without a commit does.
    public func trim(_ partition: TopicPartition, before offset: Int64) {
        state.withLock { state in
            guard var trimmed = state.partition(partition) else { return }
            trimmed.start = max(trimmed.start, min(offset, trimmed.next))
            trimmed.records.removeAll { $0.offset < trimmed.start }
            trimmed.aborted.removeAll { $0.offset < trimmed.start }
            trimmed.open = trimmed.open.filter { $0.key >= trimmed.start }
            state.topics[partition.topic]?[Int(partition.partition)] = trimmed
        }
        wakeAll()
    }

    /// The first offset that wasn't trimmed and the one behind the last record; both 0 of a partition that doesn't exist.
    public func range(of partition: TopicPartition) -> Range<Int64> {
        state.withLock { state in state.partition(partition).map { $0.start..<max($0.start, $0.stable) } ?? 0..<0 }
    }

    // MARK: Produces

    /// Lets the next `count` records that are stored be answered with `error` all the same: the acknowledgement was lost.
    ///
    /// - Parameter error: nil for a retriable `_MSG_TIMED_OUT`.
    public func loseNextAcknowledgements(_ count: Int, with error: BrokerError? = nil) {
        let error = error ?? BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true)
        state.withLock { $0.lostAcknowledgements += Array(repeating: error, count: count) }
    }

    /// From now on produces are accepted, but neither stored nor answered until ``landHeld(_:)``, ``dropHeld(_:with:)`` or
    /// ``releaseProduces()``: a record may land long after its producer has closed.
    public func holdProduces() { state.withLock { $0.holdsProduces = true } }

    /// How many produces are held.
    public var heldProduces: Int { state.withLock { $0.heldProduces.count } }

    /// Stores the oldest `count` of what is held and answers it, unless its producer has closed; holding goes on.
    public func landHeld(_ count: Int = .max) {
        for held in takeHeld(count) {
            let result = append(held.record)
            acknowledge { held.answer(result) }
        }
    }

    /// Forgets the oldest `count` of what is held and answers `error`; holding goes on.
    ///
    /// - Parameter error: nil for a retriable `_MSG_TIMED_OUT`.
    public func dropHeld(_ count: Int = .max, with error: BrokerError? = nil) {
        let error = error ?? BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true)
        for held in takeHeld(count) { held.answer(.failure(error)) }
    }

    /// Stores and answers what was held and stops holding.
    public func releaseProduces() {
        state.withLock { $0.holdsProduces = false }
        landHeld()
    }

    private func takeHeld(_ count: Int) -> [HeldProduce] {
        state.withLock { state in
            let taken = Array(state.heldProduces.prefix(max(0, count)))
            state.heldProduces.removeFirst(taken.count)
            return taken
        }
    }

    /// Takes a record from a producer.
    func accept(_ record: OutboundRecord, answer: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void) {
        let isHeld = state.withLock { state in
            if state.holdsProduces { state.heldProduces.append(HeldProduce(record: record, answer: answer)) }
            return state.holdsProduces
        }
        if isHeld { return }
        let result = append(record)
        acknowledge { answer(result) }
    }

    // MARK: Commits

    /// Lets the next `count` commits that are stored be answered with `error` all the same: the answer was lost.
    ///
    /// - Parameter error: nil for a retriable `REQUEST_TIMED_OUT`.
    public func loseNextCommitAnswers(_ count: Int, with error: BrokerError? = nil) {
        let error = error ?? BrokerError("REQUEST_TIMED_OUT", operation: "commit", isRetriable: true)
        state.withLock { $0.lostCommitAnswers += Array(repeating: error, count: count) }
    }

    /// The largest metadata of a commit, in bytes (the broker's `offset.metadata.max.bytes`). Default 4,096. A commit of a partition
    /// with more fails with `OFFSET_METADATA_TOO_LARGE`; others of the same request are stored.
    public func setMaximumMetadataSize(_ bytes: Int) { state.withLock { $0.maximumMetadataSize = bytes } }

    /// Removes a member from its group as if it had been silent for too long: it is told at its next poll that its partitions
    /// are lost, and joins again; until then its commits fail with `UNKNOWN_MEMBER_ID`.
    ///
    /// - Parameter consumer: one of this broker's; another one is left alone.
    public func expel(_ consumer: any RecordConsumer) {
        guard let consumer = consumer as? InMemoryConsumer, consumer.isOf(self), let member = consumer.member else { return }
        leave(group: consumer.group, member: member)
    }

    /// Stores what can be stored, and tells how each offset ended.
    func commit(
        _ offsets: [OffsetCommit], group: String, member: Int?
    ) -> [(offsets: [OffsetCommit], error: BrokerError?)] {
        state.withLock { state in
            if !state.commitFaults.isEmpty { return [(offsets, state.commitFaults.removeFirst())] }
            if let member, state.groups[group]?.contains(where: { $0.id == member }) != true {
                return [(offsets, BrokerError("UNKNOWN_MEMBER_ID", operation: "commit"))]
            }
            let limit = state.maximumMetadataSize
            let tooLarge = offsets.filter { ($0.metadata?.utf8.count ?? 0) > limit }
            let stored = offsets.filter { ($0.metadata?.utf8.count ?? 0) <= limit }
            for offset in stored { state.commits[group, default: [:]][offset.topicPartition] = offset }
            if !stored.isEmpty, !state.lostCommitAnswers.isEmpty { return [(offsets, state.lostCommitAnswers.removeFirst())] }
            guard !tooLarge.isEmpty else { return [(stored, nil)] }
            let failed = (tooLarge, BrokerError("OFFSET_METADATA_TOO_LARGE", operation: "commit") as BrokerError?)
            return stored.isEmpty ? [failed] : [(stored, nil), failed]
        }
    }
}

internal import Synchronization
internal import TriageEvents

/// Looks at the partitions of an ``InMemoryBroker``.
struct InMemoryInspector: PartitionInspector {
    let broker: InMemoryBroker

    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        let found = try look(at: partition)
        return found.start..<max(found.start, found.stable)
    }

    func timestamp(in partition: TopicPartition, from offset: Int64, timeout: Duration) throws(BrokerError) -> Timestamp? {
        let found = try look(at: partition)
        return found.readable.first { $0.offset >= offset }?.timestamp
    }

    private func look(at id: TopicPartition) throws(BrokerError) -> InMemoryBroker.Partition {
        let (fault, found) = broker.state.withLock { state in
            (state.inspectionFault, state.partition(id))
        }
        if let fault { throw fault }
        guard let found else { throw BrokerError("_UNKNOWN_PARTITION", operation: "watermarks of \(id)") }
        return found
    }
}

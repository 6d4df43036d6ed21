internal import Synchronization
internal import TriageEvents

/// Looks at the partitions of an ``InMemoryBroker``.
struct InMemoryInspector: PartitionInspector {
    let broker: InMemoryBroker

    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        let found = try look(at: partition)
        return found.start..<max(found.start, found.stable)
    }

    func scan(
        _ partition: TopicPartition, _ range: Range<Int64>, timeout: Duration, _ body: (Record) -> Bool
    ) throws(BrokerError) {
        let found = try look(at: partition)
        guard range.lowerBound >= found.start, range.lowerBound <= found.next else {
            throw BrokerError("_AUTO_OFFSET_RESET", operation: "read \(partition)")
        }
        let end = min(range.upperBound, found.stable)
        var index = found.firstIndex(from: range.lowerBound)
        while index < found.records.count, found.records[index].offset < end, body(found.records[index]) { index += 1 }
    }

    private func look(at id: TopicPartition) throws(BrokerError) -> InMemoryBroker.Partition {
        let (fault, found) = broker.state.withLock { state in
            (state.inspectionFaults[id] ?? state.inspectionFault, state.partition(id))
        }
        if let fault { throw fault }
        guard let found else { throw BrokerError("_UNKNOWN_PARTITION", operation: "watermarks of \(id)") }
        return found
    }
}

internal import Synchronization
internal import TriageEvents

/// Reads stretches of an ``InMemoryBroker``'s partitions: what was there when the scan began.
struct InMemoryScanner: RecordScanner {
    let broker: InMemoryBroker

    func watermarks(of topics: [String]) async throws(BrokerError) -> [TopicPartition: Range<Int64>] {
        let (fault, found) = broker.state.withLock { state in
            var found: [TopicPartition: Range<Int64>] = [:]
            for topic in topics {
                for (number, partition) in (state.topics[topic] ?? []).enumerated() {
                    found[TopicPartition(topic, Int32(number))] =
                        partition.start..<max(partition.start, partition.stable)
                }
            }
            return (state.inspectionFault, found)
        }
        if let fault { throw fault }
        return found
    }

    func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result {
        var result = initial
        for (id, range) in ranges.sorted(by: { $0.key < $1.key }) where !range.isEmpty {
            let (fault, partition) = broker.state.withLock { ($0.inspectionFault, $0.partition(id)) }
            if let fault { throw fault }
            guard let partition else { throw BrokerError("_UNKNOWN_PARTITION", operation: "read \(id)") }
            guard range.lowerBound >= partition.start, range.lowerBound <= partition.next else {
                throw BrokerError("_AUTO_OFFSET_RESET", operation: "read \(id)")
            }
            let end = min(range.upperBound, partition.stable)
            var index = partition.firstIndex(from: range.lowerBound)
            while index < partition.records.count, partition.records[index].offset < end {
                guard body(&result, partition.records[index]) else { break }
                index += 1
            }
        }
        return result
    }

    func close() {}
}

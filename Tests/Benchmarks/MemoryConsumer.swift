import TriageEvents

/// Hands the same prepared records out again and again under new offsets, as fast as they are taken.
final class MemoryConsumer: IdleConsumer {
    private static let topic = "fhir.Patient.created"
    private let keys = (0..<1024).map { ByteSlice("0d9a4c0e-5a37-4f06-a5b2-\(100_000_000_000 + $0 * 7919)") }
    private let headers = Headers([
        Header("traceparent", text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Header("content-type", text: "application/fhir+json"),
    ])
    private var remaining: Int
    private var offset: Int64 = 0
    private var isAssigned = false
    private var endsReported = false
    private weak var observer: (any AssignmentObserver)?
    private var commits: [[OffsetCommit]] = []

    init(count: Int) { remaining = count }

    var waker: @Sendable () -> Void { {} }

    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) { self.observer = observer }

    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        let partitions = [TopicPartition(Self.topic, 0), TopicPartition(Self.topic + ".retry", 0)]
        if !isAssigned {
            isAssigned = true
            _ = observer?.assigned(partitions, by: self)
            return
        }
        for offsets in commits { batch.commits.append((offsets, nil)) }
        commits.removeAll()
        let count = min(maximum, remaining)
        for _ in 0..<count {
            batch.records.append(
                Record(
                    topic: Self.topic, partition: 0, offset: offset, timestamp: Timestamp(milliseconds: 1_700_000_000_000),
                    key: keys[Int(offset) & 1023], value: Benchmarks.event, headers: headers
                )
            )
            offset += 1
        }
        remaining -= count
        if remaining == 0, !endsReported {
            endsReported = true
            batch.ends = [(partitions[0], offset), (partitions[1], 0)]
        }
    }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) { commits.append(offsets) }
}

/// What a consumer without a broker behind it has nothing to do for.
protocol IdleConsumer: RecordConsumer {}

extension IdleConsumer {
    func pause(_ partitions: [TopicPartition]) throws(BrokerError) {}
    func resume(_ partitions: [TopicPartition]) throws(BrokerError) {}
    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {}
    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        [:]
    }
    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> { 0..<0 }
    func close() {}
}

/// Nothing is produced here: nothing fails.
final class NoProducer: RecordProducer {
    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        throw BrokerError("_INVALID_ARG", operation: "produce to \(record.topic)")
    }
    func whenWritable(_ body: @escaping @Sendable () -> Void) { body() }
    func flush(timeout: Duration) async -> Bool { true }
    func close() {}
}

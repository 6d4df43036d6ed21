internal import Synchronization
internal import TriageEvents

extension InMemoryBroker {
    /// What is known of a transactional id.
    struct Transaction {
        /// The producer that was initialised last; others are fenced.
        var epoch = 0
        /// What it has written since it began.
        var written: [TopicPartition: Set<Int64>] = [:]
        var isOpen = false
    }

    /// Makes a new producer the one of this id; what the last one left open is aborted.
    fileprivate func initialise(_ id: String) -> Int {
        defer { wakeAll() }
        return state.withLock { state in
            InMemoryBroker.end(id, commits: false, in: &state)
            state.transactions[id, default: Transaction()].epoch += 1
            return state.transactions[id]?.epoch ?? 0
        }
    }

    /// The error if the producer isn't the one of its id any more.
    private static func fence(_ id: String, _ epoch: Int, _ operation: StaticString, in state: State) -> BrokerError? {
        state.transactions[id]?.epoch == epoch ? nil : BrokerError("_FENCED", operation: operation, isFatal: true)
    }

    fileprivate func begin(_ id: String, epoch: Int) throws(BrokerError) {
        let error: BrokerError? = state.withLock { state in
            if let error = InMemoryBroker.fence(id, epoch, "begin transaction", in: state) { return error }
            guard state.transactions[id]?.isOpen == false else { return BrokerError("_STATE", operation: "begin transaction") }
            state.transactions[id]?.isOpen = true
            return nil
        }
        if let error { throw error }
    }

    fileprivate func end(_ id: String, epoch: Int, commits: Bool) throws(BrokerError) {
        let error: BrokerError? = state.withLock { state in
            if let error = InMemoryBroker.fence(id, epoch, "end transaction", in: state) { return error }
            guard state.transactions[id]?.isOpen == true else { return BrokerError("_STATE", operation: "end transaction") }
            InMemoryBroker.end(id, commits: commits, in: &state)
            return nil
        }
        if let error { throw error }
        wakeAll()
    }

    /// Decides what became of the records, and leaves a control record in each partition.
    private static func end(_ id: String, commits: Bool, in state: inout State) {
        for (partition, offsets) in state.transactions[id]?.written ?? [:] {
            guard var changed = state.partition(partition) else { continue }
            let ended = offsets.sorted().compactMap { changed.open.removeValue(forKey: $0) }
            if commits {
                changed.records = (changed.records + ended).sorted { $0.offset < $1.offset }
            } else {
                changed.aborted += ended
            }
            changed.next += 1
            state.topics[partition.topic]?[Int(partition.partition)] = changed
        }
        state.transactions[id]?.written = [:]
        state.transactions[id]?.isOpen = false
    }

    fileprivate func append(
        _ record: OutboundRecord, of id: String, epoch: Int
    ) throws(BrokerError) -> Result<Acknowledgement, BrokerError> {
        let error: BrokerError? = state.withLock { state in
            if let error = InMemoryBroker.fence(id, epoch, "produce", in: state) { return error }
            return state.transactions[id]?.isOpen == true ? nil : BrokerError("_STATE", operation: "produce")
        }
        if let error { throw error }
        let result = append(record, as: .open)
        guard case .success(let stored) = result else { return result }
        let partition = TopicPartition(record.topic, stored.partition)
        let fenced: BrokerError? = state.withLock { state in
            guard let error = InMemoryBroker.fence(id, epoch, "produce", in: state) else {
                state.transactions[id]?.written[partition, default: []].insert(stored.offset)
                return nil
            }
            // Fenced between the two: what was open then was aborted without this record, and it must not count with the next one's.
            if var changed = state.partition(partition), let record = changed.open.removeValue(forKey: stored.offset) {
                changed.aborted.append(record)
                state.topics[partition.topic]?[Int(partition.partition)] = changed
            }
            return error
        }
        if let fenced { throw fenced }
        return result
    }
}

/// A producer of transactions of an ``InMemoryBroker``; its records are acknowledged at once.
final class InMemoryTransactions: TransactionalProducer {
    private let broker: InMemoryBroker
    private let id: String
    private let epoch = Mutex(0)

    init(broker: InMemoryBroker, id: String) {
        self.broker = broker
        self.id = id
    }

    func initialise() async throws(BrokerError) {
        let new = broker.initialise(id)
        epoch.withLock { $0 = new }
    }
    func begin() async throws(BrokerError) { try broker.begin(id, epoch: epoch.withLock { $0 }) }
    func commit() async throws(BrokerError) { try broker.end(id, epoch: epoch.withLock { $0 }, commits: true) }
    func abort() async throws(BrokerError) { try broker.end(id, epoch: epoch.withLock { $0 }, commits: false) }

    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        let result = try broker.append(record, of: id, epoch: epoch.withLock { $0 })
        broker.acknowledge { completion(result) }
    }
    func whenWritable(_ body: @escaping @Sendable () -> Void) { body() }
    func flush(timeout: Duration) async -> Bool { true }
    func close() {}
}

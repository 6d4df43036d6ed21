import Glibc
import Synchronization
import Testing
import TriageEvents

/// What the conformance bodies need of a broker, so that they run over any implementation of the ports.
struct BrokerUnderTest {
    /// A producer; `limit` bounds the records in its queue, nil for its default.
    var makeProducer: (_ limit: Int?) throws -> any RecordProducer
    /// A member of this group; `fromEnd` starts partitions without a commit at their end instead of their beginning.
    var makeConsumer: (_ group: String, _ fromEnd: Bool) throws -> any RecordConsumer
    /// What looks at partitions.
    var makeInspector: () throws -> any PartitionInspector
    /// What reads single records.
    var makeReader: () throws -> any RecordReader
    /// A producer of transactions under this id.
    var makeTransactions: (_ id: String) throws -> any TransactionalProducer
    /// A new topic with this many partitions; the name.
    var createTopic: (_ partitions: Int) async throws -> String

    /// Whether a commit must be taken while the group prepares to rebalance. Apache Kafka takes it; the mock cluster
    /// and some brokers that speak its protocol answer `REBALANCE_IN_PROGRESS`.
    var takesCommitsWhileRebalancing = true
    /// Whether a reader that stands behind an aborted transaction sees what its producer commits later. Apache Kafka names only those
    /// aborted transactions that reach into what is fetched; a broker that names every one of the partition in every answer lets
    /// clients hide all that its producer, and whoever has its transactional id afterwards, writes until they begin anew before it.
    var forgetsAbortedTransactions = true
    /// What reads stretches of partitions; nil if there is none.
    var makeScanner: (() throws -> any RecordScanner)?
    /// Whether records wait in the producer's queue until they are acknowledged later, so that it can be full.
    var queues = true

    func producer() throws -> any RecordProducer { try makeProducer(nil) }
    func consumer(_ group: String) throws -> any RecordConsumer { try makeConsumer(group, false) }
}

/// A condition did not come true in time.
struct Overdue: Error {
    let what: String
}

/// The longest that a test waits for anything.
let patience: Duration = .seconds(40)

/// A name that no other test uses.
func unique(_ prefix: String) -> String { "\(prefix)-\(String(UInt64.random(in: .min ... .max), radix: 36))" }

/// Values that arrive on other threads, and a way to wait for them.
///
/// `@unchecked Sendable`: `values` is only reached with `mutex` held.
final class Gathered<Value: Sendable>: @unchecked Sendable {
    private var values: [Value] = []
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    func append(_ value: Value) {
        pthread_mutex_lock(mutex)
        values.append(value)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    var all: [Value] {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return values
    }

    /// Waits until there are `count` values and returns all there are.
    func wait(for count: Int, _ what: String = "values") throws -> [Value] {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += Int(patience.components.seconds)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while values.count < count {
            guard pthread_cond_timedwait(condition, mutex, &deadline) == 0 else {
                throw Overdue(what: "\(values.count) of \(count) \(what)")
            }
        }
        return values
    }
}

/// Writes down what it is told, and answers with what it was given.
final class Assignments: AssignmentObserver {
    var assigned: [[TopicPartition]] = []
    var revoked: [[TopicPartition]] = []
    var lost: [[TopicPartition]] = []
    var current: Set<TopicPartition> = []
    var onAssigned: (([TopicPartition], any RecordConsumer) -> [TopicPartition: StartOffset])?
    var onRevoked: (([TopicPartition], any RecordConsumer) -> Void)?

    func assigned(_ partitions: [TopicPartition], by consumer: any RecordConsumer) -> [TopicPartition: StartOffset] {
        assigned.append(partitions)
        current = Set(partitions)
        return onAssigned?(partitions, consumer) ?? [:]
    }

    func revoked(_ partitions: [TopicPartition], by consumer: any RecordConsumer) {
        revoked.append(partitions)
        current = []
        onRevoked?(partitions, consumer)
    }

    func lost(_ partitions: [TopicPartition], by consumer: any RecordConsumer) {
        lost.append(partitions)
        current = []
    }
}

/// A consumer with everything that its polls brought so far.
final class Reader {
    let consumer: any RecordConsumer
    let assignments = Assignments()
    var records: [Record] = []
    var ends: [TopicPartition: Int64] = [:]
    var commits: [(offsets: [OffsetCommit], error: BrokerError?)] = []
    var errors: [BrokerError] = []
    private var batch = PolledBatch()

    init(_ consumer: any RecordConsumer) { self.consumer = consumer }

    func poll(_ timeout: Duration = .milliseconds(50), maximum: Int = 500) {
        consumer.poll(into: &batch, maximum: maximum, timeout: timeout)
        for record in batch.records where !assignments.current.contains(record.topicPartition) {
            Issue.record("\(record.position) came although it is not assigned")
        }
        records += batch.records
        for end in batch.ends { ends[end.partition] = end.offset }
        commits += batch.commits
        errors += batch.errors
    }

    func subscribe(_ topics: String...) throws { try consumer.subscribe(to: topics, observer: assignments) }

    /// Polls until `condition` holds; others are polled in turn, so that a rebalance can complete.
    func poll(_ what: String, with others: Reader..., until condition: () -> Bool) throws {
        let deadline = ContinuousClock.now + patience
        while !condition() {
            guard ContinuousClock.now < deadline else { throw Overdue(what: "\(what); errors: \(errors)") }
            poll()
            for other in others { other.poll() }
        }
    }

    func offsets(_ partition: TopicPartition) -> [Int64] {
        records.filter { $0.topicPartition == partition }.map(\.offset)
    }
}

extension RecordProducer {
    /// Produces all, waits until all are acknowledged, and returns where they stand, in order.
    @discardableResult
    func produceAll(_ records: [OutboundRecord]) throws -> [Acknowledgement] {
        let results = Gathered<(Int, Result<Acknowledgement, BrokerError>)>()
        for (index, record) in records.enumerated() {
            try produce(record) { results.append((index, $0)) }
        }
        return try results.wait(for: records.count, "acknowledgements").sorted { $0.0 < $1.0 }.map { try $0.1.get() }
    }
}

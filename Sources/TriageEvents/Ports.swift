/// An error that a broker or its client reported.
public struct BrokerError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The error's name as Kafka has it, such as `MSG_SIZE_TOO_LARGE` or `_QUEUE_FULL`.
    public let name: String
    /// Whether the same call may succeed later.
    public let isRetriable: Bool
    /// Whether the client that reported it can't go on.
    public let isFatal: Bool
    /// What the call was about, in safe words: a topic, a property, an operation.
    public let operation: String

    /// An error named `name` of `operation`, literals both: they leave the process.
    public init(_ name: StaticString, operation: StaticString, isRetriable: Bool = false, isFatal: Bool = false) {
        self.init(name.description, operation: operation.description, isRetriable: isRetriable, isFatal: isFatal)
    }

    /// An error named `name`, a code of Kafka's, of `operation`, made of literals and names of the configuration.
    package init(_ name: String, operation: String, isRetriable: Bool = false, isFatal: Bool = false) {
        self.name = name
        self.operation = operation
        self.isRetriable = isRetriable
        self.isFatal = isFatal
    }

    /// The producer's queue is full; wait for ``RecordProducer/whenWritable(_:)``.
    public static let queueFullName = "_QUEUE_FULL"
    /// Whether the producer's queue was full.
    public var isQueueFull: Bool { name == BrokerError.queueFullName }
    /// Whether the record was larger than the broker or client accepts.
    public var isTooLarge: Bool { name == "MSG_SIZE_TOO_LARGE" || name == "RECORD_LIST_TOO_LARGE" }

    /// The operation and the error's name.
    public var description: String { "\(operation): \(name)" }
}

/// The port through which records leave. Implementations: librdkafka, the in-memory broker of the test kit.
///
/// Only the traced sink holds one; nothing else produces.
public protocol RecordProducer: AnyObject, Sendable {
    /// Hands a record over; `completion` is called exactly once, on a thread of the producer's own, when the broker has
    /// acknowledged it on all in-sync replicas or it failed for good.
    ///
    /// - Throws: a ``BrokerError`` if it was not taken, ``BrokerError/isQueueFull`` when the queue is full;
    ///   `completion` is not called then.
    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError)

    /// Calls `body` once, on any thread, as soon as the queue has room again.
    func whenWritable(_ body: @escaping @Sendable () -> Void)

    /// Waits until every record handed over is acknowledged or failed, at most `timeout`.
    ///
    /// - Returns: whether none is left.
    func flush(timeout: Duration) async -> Bool

    /// Whether a broker answers within `timeout`. Blocks the calling thread, which must not be one of the cooperative pool.
    func isReachable(within timeout: Duration) -> Bool

    /// Ends the producer; what is not flushed fails.
    func close()
}

extension RecordProducer {
    /// There is nobody who could be away.
    public func isReachable(within timeout: Duration) -> Bool { true }
}

/// A producer whose records are written all or none, and by one writer at a time (Kafka's transactions).
///
/// What it produced is seen by readers of committed records when ``commit()`` has succeeded. Of several producers with one
/// transactional id only the one that was initialised last goes on: the others are *fenced*.
public protocol TransactionalProducer: RecordProducer {
    /// Makes this the one producer of its transactional id: others are fenced, and what they left open is aborted. To be
    /// called once, before the first transaction.
    func initialise() async throws(BrokerError)
    /// Begins a transaction; what is produced from now on belongs to it.
    func begin() async throws(BrokerError)
    /// Ends the transaction: what was produced in it counts from now on.
    ///
    /// - Throws: a ``BrokerError``; if it ``BrokerError/isFenced``, another producer has taken over and nothing was written;
    ///   if it is retriable, calling it again may succeed; after any other one the transaction is to be aborted.
    func commit() async throws(BrokerError)
    /// Ends the transaction: nothing that was produced in it counts.
    func abort() async throws(BrokerError)
}

extension BrokerError {
    /// Whether another producer of the same transactional id has taken over.
    public var isFenced: Bool {
        name == "_FENCED" || name == "PRODUCER_FENCED" || name == "INVALID_PRODUCER_EPOCH"
    }
}

/// The offset to commit for a partition: the next one to be read.
public struct OffsetCommit: Sendable, Hashable {
    /// The partition.
    public let topicPartition: TopicPartition
    /// The next offset to be read.
    public let offset: Int64
    /// Text that rides with the commit, at most 4,096 bytes by the broker's default.
    public let metadata: String?

    /// Commits `offset` as the next to be read.
    public init(_ topicPartition: TopicPartition, offset: Int64, metadata: String? = nil) {
        self.topicPartition = topicPartition
        self.offset = offset
        self.metadata = metadata
    }
}

/// Where reading of an assigned partition starts.
public enum StartOffset: Sendable, Hashable {
    /// The committed offset, or what `auto.offset.reset` says if there is none.
    case committed
    /// The first record there is.
    case beginning
    /// This offset.
    case offset(Int64)
}

/// What one poll brought.
public struct PolledBatch {
    /// Records, in order within each partition.
    public var records: [Record] = []
    /// Partitions whose end was reached, with the next offset there; valid after the records of this batch.
    public var ends: [(partition: TopicPartition, offset: Int64)] = []
    /// The results of asynchronous commits; a nil error is success.
    public var commits: [(offsets: [OffsetCommit], error: BrokerError?)] = []
    /// Errors that the client reported and may recover from by itself.
    public var errors: [BrokerError] = []

    /// An empty batch, to be filled and reused.
    public init() {}

    /// Empties the batch, keeping its memory.
    public mutating func removeAll() {
        records.removeAll(keepingCapacity: true)
        ends.removeAll()
        commits.removeAll()
        errors.removeAll()
    }
}

/// Told about changes of the assignment, on the polling thread, within ``RecordConsumer/poll(into:maximum:timeout:)``.
public protocol AssignmentObserver: AnyObject {
    /// Partitions are about to be assigned.
    ///
    /// - Returns: where to start those that shall not start at the committed offset.
    func assigned(_ partitions: [TopicPartition], by consumer: any RecordConsumer) -> [TopicPartition: StartOffset]
    /// Partitions are about to be taken away; commits made here still count.
    func revoked(_ partitions: [TopicPartition], by consumer: any RecordConsumer)
    /// Partitions are already gone; nothing can be committed for them.
    func lost(_ partitions: [TopicPartition], by consumer: any RecordConsumer)
}

/// The port through which records come in. Implementations: librdkafka, the in-memory broker of the test kit.
///
/// Every method must be called on one thread, the one that polls; only the closure ``waker`` may be called anywhere.
public protocol RecordConsumer: AnyObject {
    /// Joins the group for these topics.
    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError)

    /// Waits up to `timeout` for a first record or event, then takes what is there without waiting, up to `maximum` records.
    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration)

    /// Ends a waiting ``poll(into:maximum:timeout:)`` early; may be called on any thread.
    var waker: @Sendable () -> Void { get }

    /// Stops fetching from these partitions, which must be assigned; pausing twice is harmless.
    func pause(_ partitions: [TopicPartition]) throws(BrokerError)
    /// Fetches again from those of these partitions that are paused; others are left alone.
    func resume(_ partitions: [TopicPartition]) throws(BrokerError)

    /// Commits exactly these offsets without waiting; the result comes with a later poll.
    func commit(_ offsets: [OffsetCommit]) throws(BrokerError)
    /// Commits exactly these offsets and waits for the answer.
    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError)

    /// The committed offsets of these partitions; those without one are missing.
    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit]
    /// The first offset that exists and the one behind the last.
    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64>
    /// The offset behind the last record of an assigned partition as the last fetch saw it, without asking anyone; nil if
    /// nothing was fetched yet. Of a partition that is paused it may be long out of date.
    func knownEnd(of partition: TopicPartition) -> Int64?

    /// Leaves the group (revocation is reported to the observer first) and ends the consumer.
    func close()
}

extension RecordConsumer {
    /// Nothing is known without asking.
    public func knownEnd(of partition: TopicPartition) -> Int64? { nil }
}

import CRdKafka
import Glibc
import Synchronization
import TriageEvents

/// What a produced record's opaque pointer leads to: whom to tell how it ended.
final class DeliveryBox: Sendable {
    typealias Completion = @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    let completion: Completion

    init(_ completion: @escaping Completion) { self.completion = completion }
}

/// The delivery report callback: the box that went in with the record comes out exactly once.
let deliveryReported: @convention(c) (OpaquePointer?, UnsafePointer<rd_kafka_message_t>?, UnsafeMutableRawPointer?) -> Void = {
    client, message, opaque in
    if let opaque { Unmanaged<ClientContext>.fromOpaque(opaque).takeUnretainedValue().deliveries += 1 }
    guard let message, let opaque = message.pointee._private else { return }
    let box = Unmanaged<DeliveryBox>.fromOpaque(opaque).takeRetainedValue()
    let code = message.pointee.err
    guard code != RD_KAFKA_RESP_ERR_NO_ERROR else {
        box.completion(.success(Acknowledgement(partition: message.pointee.partition, offset: message.pointee.offset)))
        return
    }
    let topic = message.pointee.rkt.flatMap { rd_kafka_topic_name($0) }.map { String(cString: $0) } ?? ""
    let operation = "produce \(topic)"
    box.completion(
        .failure(
            client.map { BrokerError(code: code, client: $0, operation: operation) }
                ?? BrokerError(code: code, operation: operation)
        )
    )
}

/// The producer's calls of librdkafka, typed.
///
/// `@unchecked Sendable`: the client and the main queue are librdkafka's, which allows these calls on any thread; the
/// topics lie behind a lock. ``serve(milliseconds:)`` and ``serveFlushing(milliseconds:)`` are called by one thread,
/// the only one that runs callbacks and touches ``deliveries``.
final class ProducerHandle: @unchecked Sendable {
    private struct Topics {
        var byName: [String: OpaquePointer] = [:]
        var isOpen = true
    }

    private let handle: ClientHandle
    private let queue: OpaquePointer
    private let topics = Mutex(Topics())
    /// Calls of ``produce(_:_:)`` that are under way.
    private let producing = Atomic(0)

    init(properties: [Property], log: KafkaLog?, failed: @escaping (BrokerError) -> Void) throws(KafkaConfigurationError) {
        handle = try ClientHandle(.producer, properties: properties, log: log)
        guard let queue = rd_kafka_queue_get_main(handle.client) else {
            throw KafkaConfigurationError(key: "client", value: "", expected: "memory for a queue")
        }
        self.queue = queue
        handle.context.failed = failed
    }

    deinit {
        topics.withLock { topics in
            for topic in topics.byName.values { rd_kafka_topic_destroy(topic) }
            topics.byName = [:]
        }
        rd_kafka_queue_destroy(queue)
    }

    /// Hands one record over; on success `box` is released by its delivery report, else here.
    func produce(_ record: OutboundRecord, _ box: DeliveryBox) throws(BrokerError) {
        let box = Unmanaged.passRetained(box)
        // Counted, so that closing can't come in between. The lock isn't held for the call: those who produce at the same time would wait
        // for each other's copies.
        producing.add(1, ordering: .sequentiallyConsistent)
        defer { producing.subtract(1, ordering: .sequentiallyConsistent) }
        let error: BrokerError?
        switch topic(record.topic) {
        case .success(let topic): error = produce(record, topic, box.toOpaque())
        case .failure(let refusal): error = refusal
        }
        guard let error else { return }
        box.release()
        throw error
    }

    private func topic(_ name: String) -> Result<OpaquePointer, BrokerError> {
        topics.withLock { topics in
            guard topics.isOpen else { return .failure(BrokerError.closed("produce")) }
            if let known = topics.byName[name] { return .success(known) }
            guard let made = rd_kafka_topic_new(handle.client, name, nil) else {
                return .failure(BrokerError(code: rd_kafka_last_error(), client: handle.client, operation: "produce \(name)"))
            }
            topics.byName[name] = made
            return .success(made)
        }
    }

    /// No record is taken from now on, and none is being taken when this returns.
    func stopTaking() {
        topics.withLock { $0.isOpen = false }
        // For the time of a copy.
        while producing.load(ordering: .sequentiallyConsistent) > 0 { sched_yield() }
    }

    /// Waits for delivery reports and runs their callbacks.
    func serve(milliseconds: Int32) { rd_kafka_poll(handle.client, milliseconds) }

    /// The same, while records are sent at once instead of after `linger.ms`; returns early when none is left.
    func serveFlushing(milliseconds: Int32) { rd_kafka_flush(handle.client, milliseconds) }

    /// Records that were handed over and whose report has not been served.
    var outstanding: Int { Int(rd_kafka_outq_len(handle.client)) }

    /// How many reports were served so far.
    var deliveries: Int { handle.context.deliveries }

    /// Whether a broker tells about the topics in use within this time.
    func isReachable(milliseconds: Int32) -> Bool {
        var metadata: UnsafePointer<rd_kafka_metadata>?
        let code = rd_kafka_metadata(handle.client, 0, nil, &metadata, milliseconds)
        if let metadata { rd_kafka_metadata_destroy(metadata) }
        return code == RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Fails everything that is queued or in flight.
    func purge() { rd_kafka_purge(handle.client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT) }

    /// Ends a waiting ``serve(milliseconds:)`` early.
    func wake() { rd_kafka_queue_yield(queue) }

    /// The error after which nothing can be produced any more, if there is one.
    var fatalError: BrokerError? { handle.fatalError }

    /// Raises a fatal error that no broker has caused.
    func failForGood(code: Int32) { rd_kafka_test_fatal_error(handle.client, rd_kafka_resp_err_t(code), "test") }

    // MARK: Transactions, each call of which blocks

    /// Longest time that a call waits for the brokers; librdkafka goes on with it when it is called again.
    private static let transactionTimeout: Int32 = 10_000

    func initialiseTransactions() throws(BrokerError) {
        try transact("begin transactions") { rd_kafka_init_transactions(handle.client, ProducerHandle.transactionTimeout) }
    }
    func beginTransaction() throws(BrokerError) {
        try transact("begin transaction") { rd_kafka_begin_transaction(handle.client) }
    }
    func commitTransaction() throws(BrokerError) {
        try transact("commit transaction") { rd_kafka_commit_transaction(handle.client, ProducerHandle.transactionTimeout) }
    }
    func abortTransaction() throws(BrokerError) {
        try transact("abort transaction") { rd_kafka_abort_transaction(handle.client, ProducerHandle.transactionTimeout) }
    }

    private func transact(_ operation: String, _ call: () -> OpaquePointer?) throws(BrokerError) {
        guard let failure = call() else { return }
        defer { rd_kafka_error_destroy(failure) }
        let error = BrokerError(borrowing: failure, operation: operation)
        // The client's fatal error says more than that there is one.
        throw error.isFenced ? error : fatalError.map { BrokerError($0.name, operation: operation, isFatal: true) } ?? error
    }

    private func produce(_ record: OutboundRecord, _ topic: OpaquePointer, _ opaque: UnsafeMutableRawPointer) -> BrokerError? {
        let headers = copyHeaders(record.headers)
        let failure: OpaquePointer? = withUnsafeTemporaryAllocation(of: rd_kafka_vu_t.self, capacity: 7) { values in
            func set(_ index: Int, _ type: rd_kafka_vtype_t, _ fill: (inout rd_kafka_vu_t) -> Void) {
                values.initializeElement(at: index, to: rd_kafka_vu_t())
                values[index].vtype = type
                fill(&values[index])
            }
            set(0, RD_KAFKA_VTYPE_RKT) { $0.u.rkt = topic }
            set(1, RD_KAFKA_VTYPE_PARTITION) { $0.u.i32 = record.partition ?? RD_KAFKA_PARTITION_UA }
            set(2, RD_KAFKA_VTYPE_MSGFLAGS) { $0.u.i = RD_KAFKA_MSG_F_COPY }
            set(3, RD_KAFKA_VTYPE_OPAQUE) { $0.u.ptr = opaque }
            return withMemory(record.key) { key in
                withMemory(record.value) { value in
                    set(4, RD_KAFKA_VTYPE_KEY) { $0.u.mem = key }
                    set(5, RD_KAFKA_VTYPE_VALUE) { $0.u.mem = value }
                    if let headers { set(6, RD_KAFKA_VTYPE_HEADERS) { $0.u.headers = headers } }
                    return rd_kafka_produceva(handle.client, values.baseAddress, headers == nil ? 6 : 7)
                }
            }
        }
        guard let failure else { return nil }
        if let headers { rd_kafka_headers_destroy(headers) }
        defer { rd_kafka_error_destroy(failure) }
        return BrokerError(
            code: rd_kafka_error_code(failure), client: handle.client, operation: "produce \(record.topic)"
        )
    }

    private typealias Memory = rd_kafka_vu_t.__Unnamed_union_u.__Unnamed_struct_mem

    /// The bytes as C takes them: no pointer for null, a pointer and no length for empty.
    private func withMemory<Result>(_ slice: ByteSlice?, _ body: (Memory) -> Result) -> Result {
        guard let slice else { return body(Memory(ptr: nil, size: 0)) }
        return slice.withUnsafeBytes { bytes in
            var nothing: UInt8 = 0
            return withUnsafeMutablePointer(to: &nothing) { empty in
                let pointer = bytes.baseAddress.map { UnsafeMutableRawPointer(mutating: $0) } ?? UnsafeMutableRawPointer(empty)
                return body(Memory(ptr: pointer, size: bytes.count))
            }
        }
    }

    private func copyHeaders(_ headers: Headers) -> OpaquePointer? {
        guard !headers.isEmpty, let list = rd_kafka_headers_new(headers.count) else { return nil }
        headers.forEachRaw { name, value in
            var nothing: UInt8 = 0
            let named = name.baseAddress?.assumingMemoryBound(to: CChar.self)
            if let value {
                withUnsafePointer(to: &nothing) { empty in
                    _ = rd_kafka_header_add(
                        list, named, name.count, value.baseAddress ?? UnsafeRawPointer(empty), value.count
                    )
                }
            } else {
                rd_kafka_header_add(list, named, name.count, nil, 0)
            }
        }
        return list
    }
}

internal import Glibc
internal import Synchronization
public import TriageEvents

extension InMemoryBroker {
    /// Lets the next `count` reads fail.
    public func failNextReads(_ count: Int, with error: BrokerError) {
        state.withLock { $0.readFaults += Array(repeating: error, count: count) }
    }

    /// From now on reads are answered by ``answerHeldReads(_:)`` or ``releaseReads()`` only, on the thread that calls it.
    ///
    /// Otherwise a thread of the reader's answers them.
    public func holdReads() { state.withLock { $0.holdsReads = true } }

    /// How many reads are held.
    public var heldReads: Int { state.withLock { $0.heldReads.count } }

    /// Answers the oldest `count` of what is held; holding goes on.
    public func answerHeldReads(_ count: Int = .max) {
        let taken = state.withLock { state in
            let taken = Array(state.heldReads.prefix(max(0, count)))
            state.heldReads.removeFirst(taken.count)
            return taken
        }
        for answer in taken { answer() }
    }

    /// Answers what was held and stops holding.
    public func releaseReads() {
        state.withLock { $0.holdsReads = false }
        answerHeldReads()
    }

    /// Whether the answer is held and will be given by who releases it.
    fileprivate func hold(_ answer: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            if state.holdsReads { state.heldReads.append(answer) }
            return state.holdsReads
        }
    }

    /// What is there now at these offsets.
    fileprivate func look(up offsets: [Int64], in id: TopicPartition) -> Result<[Record], BrokerError> {
        state.withLock { state in
            if !state.readFaults.isEmpty { return .failure(state.readFaults.removeFirst()) }
            guard let partition = state.partition(id) else {
                return .failure(BrokerError("_UNKNOWN_PARTITION", operation: "read \(id)"))
            }
            guard offsets.allSatisfy({ $0 < partition.stable }) else {
                return .failure(BrokerError("OFFSET_NOT_AVAILABLE", operation: "read \(id)", isRetriable: true))
            }
            return .success(
                Set(offsets).sorted().compactMap { offset in
                    let index = partition.firstIndex(from: offset)
                    guard index < partition.records.count, partition.records[index].offset == offset else { return nil }
                    return partition.records[index]
                }
            )
        }
    }
}

/// Reads single records of an ``InMemoryBroker``: what is there when the answer is given.
final class InMemoryReader: RecordReader {
    private struct Request {
        let offsets: [Int64]
        let partition: TopicPartition
        let completion: @Sendable (Result<[Record], BrokerError>) -> Void
    }
    private struct State {
        var requests: [Int: Request] = [:]
        var next = 0
        var isClosed = false
    }
    private let broker: InMemoryBroker
    private let state = Mutex(State())
    private let thread = AnswerThread()

    init(broker: InMemoryBroker) { self.broker = broker }

    deinit { thread.end() }

    func read(
        _ offsets: [Int64], of partition: TopicPartition,
        completion: @escaping @Sendable (Result<[Record], BrokerError>) -> Void
    ) {
        let request = Request(offsets: offsets, partition: partition, completion: completion)
        let id: Int? = state.withLock { state in
            if state.isClosed { return nil }
            state.next += 1
            state.requests[state.next] = request
            return state.next
        }
        guard let id else {
            // Its thread has ended, and the answer must not come within this call.
            Task.detached { completion(.failure(BrokerError("_DESTROY", operation: "read \(partition)"))) }
            return
        }
        // Held answers keep the reader alive, those of its own thread must not keep it from ending that.
        if !broker.hold({ self.answer(id) }) { thread.post { [weak self] in self?.answer(id) } }
    }

    private func answer(_ id: Int) {
        guard let request = state.withLock({ $0.requests.removeValue(forKey: id) }) else { return }
        request.completion(broker.look(up: request.offsets, in: request.partition))
    }

    func close() {
        let requests = state.withLock { state in
            defer {
                state.isClosed = true
                state.requests = [:]
            }
            return state.requests
        }
        for (_, request) in requests.sorted(by: { $0.key < $1.key }) {
            request.completion(.failure(BrokerError("_DESTROY", operation: "read \(request.partition)")))
        }
        thread.end()
    }
}

/// A thread that does one thing after the other; it begins with the first.
private final class AnswerThread: Sendable {
    private struct State {
        var tasks: [@Sendable () -> Void] = []
        var hasBegun = false
        var isEnding = false
    }
    private final class Shared: Sendable {
        let state = Mutex(State())
        let signal = WakeSignal()

        func run() {
            while true {
                let (tasks, isEnding) = state.withLock { state in
                    defer { state.tasks = [] }
                    return (state.tasks, state.isEnding)
                }
                for task in tasks { task() }
                if tasks.isEmpty {
                    if isEnding { return }
                    _ = signal.wait(atMost: .seconds(60))
                }
            }
        }
    }
    private let shared = Shared()

    func post(_ task: @escaping @Sendable () -> Void) {
        let begins = shared.state.withLock { state in
            state.tasks.append(task)
            defer { state.hasBegun = true }
            return !state.hasBegun
        }
        shared.signal.wake()
        guard begins else { return }
        var thread = pthread_t()
        let opaque = Unmanaged.passRetained(shared)
        let code = pthread_create(
            &thread, nil,
            { opaque in
                if let opaque { Unmanaged<Shared>.fromOpaque(opaque).takeRetainedValue().run() }
                return nil
            }, opaque.toOpaque()
        )
        guard code == 0 else {
            // No thread to be had: the next read tries again.
            opaque.release()
            shared.state.withLock { $0.hasBegun = false }
            return
        }
        pthread_detach(thread)
    }

    func end() {
        shared.state.withLock { $0.isEnding = true }
        shared.signal.wake()
    }
}

internal import Synchronization
internal import TriageEvents

/// Access to dead letters whose clients are made when somebody looks for the first time: most services are never looked at, and
/// clients keep connections.
final class LazyScanner: RecordScanner {
    private struct State {
        var access: DeadLetterAccess?
        var isClosed = false
    }
    private let make: @Sendable () throws -> DeadLetterAccess
    private let state = Mutex(State())

    init(_ make: @escaping @Sendable () throws -> DeadLetterAccess) { self.make = make }

    /// What was made, or is made now.
    func access() throws(BrokerError) -> DeadLetterAccess {
        let found: DeadLetterAccess? = state.withLock { state in
            if let access = state.access { return access }
            guard !state.isClosed, let made = try? make() else { return nil }
            state.access = made
            return made
        }
        // The same settings made the service's own clients before.
        guard let found else { throw BrokerError("_INVALID_ARG", operation: "make a client") }
        return found
    }

    func watermarks(of topics: [String]) async throws(BrokerError) -> [TopicPartition: Range<Int64>] {
        try await access().scanner.watermarks(of: topics)
    }

    func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result, _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result {
        try await access().scanner.scan(ranges, into: initial, body)
    }

    func close() {
        let made = state.withLock { state in
            defer { state = State(access: nil, isClosed: true) }
            return state.access
        }
        made?.close()
    }
}

internal import Synchronization
internal import TriageEvents

/// Requests that wait for their answer, each until its deadline; bounded.
final class Waiting<Value: Sendable>: Sendable {
    private struct Request {
        let deadline: Timestamp
        var continuation: CheckedContinuation<Value, Never>?
        var value: Value?
    }
    private struct State {
        var open = 0
        var next: UInt64 = 0
        var requests: [UInt64: Request] = [:]
    }
    private let state = Mutex(State())
    private let capacity: Int
    private let late: Value

    /// - Parameters:
    ///   - capacity: what may be under way at the same time, also of requests whose time was up.
    ///   - late: the answer to a request whose time is up.
    init(capacity: Int, late: Value) {
        self.capacity = capacity
        self.late = late
    }

    /// Does `work` and waits for its result until `deadline`; the work goes on after that. Nil if too much is under way.
    func answer(by deadline: Timestamp, _ work: @escaping @Sendable () async -> Value) async -> Value? {
        let id: UInt64? = state.withLock { state in
            guard state.open < capacity else { return nil }
            state.open += 1
            state.next += 1
            state.requests[state.next] = Request(deadline: deadline)
            return state.next
        }
        guard let id else { return nil }
        Task {
            let value = await work()
            state.withLock { $0.open -= 1 }
            finish(id, with: value)
        }
        return await withCheckedContinuation { continuation in
            let value: Value? = state.withLock { state in
                guard let value = state.requests[id]?.value else {
                    state.requests[id]?.continuation = continuation
                    return nil
                }
                state.requests[id] = nil
                return value
            }
            if let value { continuation.resume(returning: value) }
        }
    }

    /// Answers those whose time is up.
    func expire(at now: Timestamp) {
        let due = state.withLock { state in state.requests.filter { $0.value.deadline <= now }.map(\.key) }
        for id in due { finish(id, with: late) }
    }

    private func finish(_ id: UInt64, with value: Value) {
        let continuation: CheckedContinuation<Value, Never>? = state.withLock { state in
            guard let request = state.requests[id], request.value == nil else { return nil }
            if let continuation = request.continuation {
                state.requests[id] = nil
                return continuation
            }
            state.requests[id]?.value = value
            return nil
        }
        continuation?.resume(returning: value)
    }
}

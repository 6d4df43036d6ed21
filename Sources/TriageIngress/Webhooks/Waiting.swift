internal import Synchronization
internal import TriageEvents

/// Requests that wait for their answer, each until its deadline; bounded.
final class Waiting<Value: Sendable>: Sendable {
    private struct Request {
        let deadline: Timestamp
        let continuation: CheckedContinuation<Value?, Never>
        /// What is cancelled when the request's time is up; nil where nothing needs to be.
        var work: Task<Void, Never>?
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

    /// Begins work and waits for its result until `deadline`; then the task of the work is cancelled, if it has one. Nil if too much
    /// is under way.
    ///
    /// - Parameter begin: called at once, unless too much is under way; it has `end` called once with the result, on any thread.
    func answer(
        by deadline: Timestamp, _ begin: (_ end: @escaping @Sendable (Value) -> Void) -> Task<Void, Never>?
    ) async -> Value? {
        await withCheckedContinuation { continuation in
            let id: UInt64? = state.withLock { state in
                guard state.open < capacity else { return nil }
                state.open += 1
                state.next += 1
                state.requests[state.next] = Request(deadline: deadline, continuation: continuation)
                return state.next
            }
            guard let id else { return continuation.resume(returning: nil) }
            let work = begin { [self] value in
                let request = state.withLock { state in
                    state.open -= 1
                    return state.requests.removeValue(forKey: id)
                }
                request?.continuation.resume(returning: value)
            }
            guard let work else { return }
            // Its time may have been up before the task was known: nobody waits for what it does.
            let isWanted = state.withLock { state in
                state.requests[id]?.work = work
                return state.requests[id] != nil
            }
            if !isWanted { work.cancel() }
        }
    }

    /// Answers those whose time is up.
    func expire(at now: Timestamp) {
        let due = state.withLock { state in
            let due = state.requests.filter { $0.value.deadline <= now }
            for id in due.keys { state.requests[id] = nil }
            return due
        }
        for request in due.values {
            request.work?.cancel()
            request.continuation.resume(returning: late)
        }
    }
}

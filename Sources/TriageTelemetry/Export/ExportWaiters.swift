internal import Synchronization

/// Callers that wait for a worker thread to have done something, each with a time-out of its own.
final class ExportWaiters: Sendable {
    private struct State {
        var next = 0
        var waiting: [Int: CheckedContinuation<Bool, Never>] = [:]
    }

    private let state = Mutex(State())

    /// Waits until ``resume(_:with:)`` is called with the id that `begin` is given, or for at most `timeout`.
    ///
    /// - Parameters:
    ///   - timeout: a time-out resumes the caller with false, after `expired` has run.
    ///   - expired: what else a time-out does.
    ///   - begin: starts what is waited for; it may resume the id at once.
    func wait(
        timeout: Duration, expired: @escaping @Sendable (Int) -> Void, begin: (Int) -> Void
    ) async -> Bool {
        var timer: Task<Void, Never>?
        let result = await withCheckedContinuation { continuation in
            let id = state.withLock { state in
                state.next += 1
                state.waiting[state.next] = continuation
                return state.next
            }
            begin(id)
            timer = Task {
                do { try await Task.sleep(for: timeout) } catch { return }
                expired(id)
                self.resume(id, with: false)
            }
        }
        timer?.cancel()
        return result
    }

    /// Resumes a caller; nothing happens if it has been resumed before.
    func resume(_ id: Int, with result: Bool) {
        let continuation = state.withLock { $0.waiting.removeValue(forKey: id) }
        continuation?.resume(returning: result)
    }
}

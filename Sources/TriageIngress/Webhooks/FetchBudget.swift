internal import Synchronization

/// Bounds what all requests together have fetched from the FHIR server: calls at the same time, and bytes that are held until they are
/// published.
final class FetchBudget: Sendable {
    /// Calls at the same time: 32, of up to 4 MiB each.
    static let maximumCalls = 32
    /// Calls of one bundle at the same time, so that a large one leaves others room: 8.
    static let maximumCallsPerBundle = 8
    /// Bytes that are held at the same time: 128 MiB.
    static let maximumBytes = 128 << 20
    /// Bytes that one bundle may have fetched: 32 MiB.
    static let maximumBytesPerBundle = 32 << 20

    private struct State {
        var free = FetchBudget.maximumCalls
        var held = 0
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    /// Calls as soon as there is room for another one; whoever came first goes first.
    func call<Result: Sendable>(_ body: @Sendable () async -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            let goesOn = state.withLock { state in
                guard state.free > 0 else {
                    state.waiting.append(continuation)
                    return false
                }
                state.free -= 1
                return true
            }
            if goesOn { continuation.resume() }
        }
        let result = await body()
        let next: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
        return result
    }

    /// Holds so many bytes; false if there is no room for them.
    func hold(_ bytes: Int) -> Bool {
        state.withLock { state in
            guard bytes <= FetchBudget.maximumBytes - state.held else { return false }
            state.held += bytes
            return true
        }
    }

    /// Gives back what was held.
    func letGo(_ bytes: Int) { state.withLock { $0.held -= bytes } }
}

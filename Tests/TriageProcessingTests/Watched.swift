import Synchronization

/// A value that tests wait on, without sleeping: whoever changes it wakes those whose condition holds then.
final class Watched<Value: Sendable>: Sendable {
    private struct Waiter {
        let id: Int
        let condition: @Sendable (Value) -> Bool
        let continuation: CheckedContinuation<Value, Never>
    }
    private struct State {
        var value: Value
        var waiters: [Waiter] = []
        var nextID = 0
    }
    private let state: Mutex<State>

    init(_ value: Value) { state = Mutex(State(value: value)) }

    var value: Value { state.withLock { $0.value } }

    func change(_ body: (inout Value) -> Void) {
        let (value, woken) = state.withLock { state in
            body(&state.value)
            let value = state.value
            let woken = state.waiters.filter { $0.condition(value) }
            state.waiters.removeAll { $0.condition(value) }
            return (value, woken)
        }
        for waiter in woken { waiter.continuation.resume(returning: value) }
    }

    /// Waits until `condition` holds, which may be at once; a test whose time is up goes on with what there is.
    @discardableResult
    func until(_ condition: @escaping @Sendable (Value) -> Bool) async -> Value {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now: Value? = state.withLock { state in
                    if condition(state.value) || Task.isCancelled { return state.value }
                    state.waiters.append(Waiter(id: id, condition: condition, continuation: continuation))
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            let (value, waiter) = state.withLock { state in
                (state.value, state.waiters.firstIndex { $0.id == id }.map { state.waiters.remove(at: $0) })
            }
            waiter?.continuation.resume(returning: value)
        }
    }
}

/// Where handlers stop until the test lets them go on.
final class Turnstile: Sendable {
    struct State: Sendable {
        /// In the order of their coming.
        var arrivals: [String] = []
        var inside: [String] = []
        var most = 0
        var isOpen = false
    }
    let state = Watched(State())
    private let held = Mutex<[(name: String, continuation: CheckedContinuation<Void, Never>)]>([])

    /// Comes in and waits to be released.
    func enter(_ name: String) async {
        await withCheckedContinuation { continuation in
            held.withLock { $0.append((name, continuation)) }
            state.change { state in
                state.arrivals.append(name)
                state.inside.append(name)
                state.most = max(state.most, state.inside.count)
            }
            if state.value.isOpen { release(name) }
        }
    }

    /// Lets the one named `name` go that has been inside longest.
    func release(_ name: String) {
        let continuation = held.withLock { held in
            held.firstIndex { $0.name == name }.map { held.remove(at: $0).continuation }
        }
        guard let continuation else { return }
        state.change { state in
            if let index = state.inside.firstIndex(of: name) { state.inside.remove(at: index) }
        }
        continuation.resume()
    }

    /// Lets everyone go, now and later.
    func open() {
        state.change { $0.isOpen = true }
        for name in held.withLock({ $0.map(\.name) }) { release(name) }
    }

    /// Waits until so many have come in all.
    func arrivals(_ count: Int) async -> [String] { await state.until { $0.arrivals.count >= count }.arrivals }
}

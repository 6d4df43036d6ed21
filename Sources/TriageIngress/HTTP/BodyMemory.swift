internal import Synchronization

/// Counts the bytes of bodies that are in memory, over all connections, against a bound.
final class BodyMemory: Sendable {
    private let used = Atomic(0)
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// Bytes that are taken.
    var bytes: Int { used.load(ordering: .relaxed) }

    fileprivate func take(_ bytes: Int) -> Bool {
        let (_, now) = used.add(bytes, ordering: .relaxed)
        guard now > limit else { return true }
        used.subtract(bytes, ordering: .relaxed)
        return false
    }

    fileprivate func give(_ bytes: Int) { used.subtract(bytes, ordering: .relaxed) }
}

/// One body's share of a ``BodyMemory``, given back when the last holder lets go: answered, or its connection gone.
final class BodyShare: Sendable {
    private let memory: BodyMemory
    private let taken = Atomic(0)

    init(_ memory: BodyMemory) { self.memory = memory }

    deinit { memory.give(taken.load(ordering: .relaxed)) }

    /// Takes more; tells whether there was room.
    func take(_ bytes: Int) -> Bool {
        guard memory.take(bytes) else { return false }
        taken.add(bytes, ordering: .relaxed)
        return true
    }
}

internal import Synchronization
internal import TriageEvents

/// Lends decoders, of which each has one user at a time.
final class DecoderPool: Sendable {
    /// A decoder on its way from one thread to another. Unchecked, since a decoder isn't `Sendable`: it is either in the pool,
    /// guarded by its lock, or with the one who took it out, and it is given back only when that one is through.
    private struct Lent: @unchecked Sendable {
        let decoder: EventDecoder
    }
    private let idle = Mutex<[Lent]>([])
    private let capacity: Int

    /// A pool that keeps this many idle decoders at most.
    init(capacity: Int = 8) { self.capacity = capacity }

    /// Calls `body` with a decoder of its own, on this thread.
    func with<Result, Failure: Error>(_ body: (EventDecoder) throws(Failure) -> Result) throws(Failure) -> Result {
        let lent = idle.withLock { $0.popLast() } ?? Lent(decoder: EventDecoder())
        defer { idle.withLock { if $0.count < capacity { $0.append(lent) } } }
        return try body(lent.decoder)
    }
}

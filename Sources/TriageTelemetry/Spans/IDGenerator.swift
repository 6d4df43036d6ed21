internal import Glibc
public import TriageEvents

/// Makes trace and span ids: a small generator for each thread, so that an id costs a few nanoseconds and no lock.
///
/// The step is wyrand's: add a constant, fold a 128-bit product (Wang Yi, wyhash). Each thread's state is seeded once
/// from the system's generator (300 ns a call: never per id). Ids need to be unique, not secret.
public struct IDGenerator: Sendable {
    /// A process has 1,024 thread-specific keys for everyone in it (`PTHREAD_KEYS_MAX`): all unseeded generators share one,
    /// a seeded one gives its own back.
    private final class Key: Sendable {
        let key: pthread_key_t?
        static let shared = Key()

        init() {
            var key = pthread_key_t()
            self.key = pthread_key_create(&key) { state in state?.deallocate() } == 0 ? key : nil
        }

        deinit {
            if let key { pthread_key_delete(key) }
        }
    }

    private let key: pthread_key_t
    /// False if the process had no key left: then every id comes from the system's generator.
    private let hasKey: Bool
    private let owner: Key

    /// A generator.
    ///
    /// - Parameter seed: makes the ids of the first thread that asks reproducible, for tests and demonstrations; nil
    ///   seeds every thread from the system.
    public init(seed: UInt64? = nil) {
        owner = seed == nil ? .shared : Key()
        key = owner.key ?? 0
        hasKey = owner.key != nil
        if let seed, hasKey { state.pointee = seed }
    }

    /// A new trace id, never invalid, uniformly random in all 16 bytes.
    public func traceID() -> TraceID {
        guard hasKey else { return TraceID(high: .random(in: 1 ... .max), low: .random(in: 1 ... .max)) }
        let state = state
        while true {
            let id = TraceID(high: IDGenerator.next(&state.pointee), low: IDGenerator.next(&state.pointee))
            if id.isValid { return id }
        }
    }

    /// A new span id, never invalid.
    public func spanID() -> SpanID {
        guard hasKey else { return SpanID(.random(in: 1 ... .max)) }
        let state = state
        while true {
            let id = SpanID(IDGenerator.next(&state.pointee))
            if id.isValid { return id }
        }
    }

    private var state: UnsafeMutablePointer<UInt64> {
        if let existing = pthread_getspecific(key) { return existing.assumingMemoryBound(to: UInt64.self) }
        let state = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
        state.initialize(to: UInt64.random(in: .min ... .max))
        pthread_setspecific(key, state)
        return state
    }

    @inline(__always)
    private static func next(_ state: inout UInt64) -> UInt64 {
        state &+= 0xA076_1D64_78BD_642F
        let product = state.multipliedFullWidth(by: state ^ 0xE703_7ED1_A0B4_28DB)
        return product.high ^ product.low
    }
}

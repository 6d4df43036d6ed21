internal import Synchronization
public import TriageEvents

/// From when to when nothing of what was sent was taken: what readiness asks. Thread-safe, and nothing but a load where all is well.
public final class SendTrouble: Sendable {
    private let first = Atomic<Int64>(0)
    private let last = Atomic<Int64>(0)

    /// No trouble.
    public init() {}

    /// What became of one record. One that is too large says nothing about others.
    public func note(_ result: Result<Acknowledgement, BrokerError>, at time: @autoclosure () -> Timestamp) {
        switch result {
        case .success:
            if first.load(ordering: .relaxed) != 0 { first.store(0, ordering: .relaxed) }
        case .failure(let error):
            guard !error.isTooLarge else { return }
            let now = time().nanoseconds
            last.store(now, ordering: .relaxed)
            _ = first.compareExchange(expected: 0, desired: now, ordering: .relaxed)
        }
    }

    /// The first and the last failure since something was taken; nil if what was sent last was taken.
    public var times: ClosedRange<Timestamp>? {
        let first = first.load(ordering: .relaxed)
        guard first != 0 else { return nil }
        // Written one after the other, and a clock may go back.
        let last = max(first, last.load(ordering: .relaxed))
        return Timestamp(nanoseconds: first)...Timestamp(nanoseconds: last)
    }
}

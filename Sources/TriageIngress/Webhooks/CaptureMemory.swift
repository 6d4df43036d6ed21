/// Remembers which changes were captured, by event id, so that what is told twice, by two ways or again, is published once.
///
/// A pure machine. Bounded: of more than ``capacity`` captured ones the oldest are forgotten; what is under way is bounded by whoever
/// bounds requests.
public struct CaptureMemory: Sendable {
    /// What is known of a change.
    public enum State: Sendable, Hashable {
        /// Nothing: it is the caller's to publish.
        case new
        /// Somebody publishes it right now.
        case underWay
        /// The brokers have it.
        case captured
    }

    /// Captured changes that are remembered.
    public let capacity: Int
    /// Whether a change is captured; else it is under way.
    private var known: [String: Bool] = [:]
    private var order: [String] = []
    private var oldest = 0

    /// A memory for this many captured changes, at least one.
    public init(capacity: Int = 10_000) { self.capacity = max(1, capacity) }

    /// What is known of a change.
    public func state(of id: String) -> State {
        switch known[id] {
        case true?: .captured
        case false?: .underWay
        case nil: .new
        }
    }

    /// The same, and if nothing is known of it, it is under way from now on.
    public mutating func claim(_ id: String) -> State {
        let state = state(of: id)
        if state == .new { known[id] = false }
        return state
    }

    /// How publishing a claimed change ended: what failed may be claimed again.
    public mutating func settle(_ id: String, isCaptured: Bool) {
        guard isCaptured else {
            if known[id] == false { known[id] = nil }
            return
        }
        guard known.updateValue(true, forKey: id) != true else { return }
        if order.count < capacity {
            order.append(id)
        } else {
            known[order[oldest]] = nil
            order[oldest] = id
            oldest = (oldest + 1) % capacity
        }
    }
}

public import TriageEvents

/// Decides which error fingerprints may stand on a metric: a bounded number, so that a flood of different errors can't flood
/// the metrics (design §5).
///
/// A fingerprint that has a slot keeps it while it is used. A new one gets a free slot, or that of the fingerprint that was
/// unused the longest if that is at least ``idle``; else it counts as `_other`. A slot is freed only when another needs it,
/// so that quiet errors stay visible as long as there is room.
public struct FingerprintSlots<Fingerprint: Hashable & Sendable>: Sendable, Equatable {
    /// What a fingerprint gets.
    public enum Answer: Hashable, Sendable {
        /// It had a slot already.
        case held
        /// It has one now; `freed` lost its own.
        case given(freed: Fingerprint?)
        /// There is none: count it as `_other`.
        case other
    }

    /// How many slots there are.
    public let capacity: Int
    /// After how long without use a slot can be given to another fingerprint.
    public let idle: Duration
    /// Those with a slot, the one unused the longest first.
    private var held: [(fingerprint: Fingerprint, lastUse: Timestamp)] = []

    /// Slots without a holder: 50 of them, and an hour, by default (design §5).
    public init(capacity: Int = 50, idle: Duration = .seconds(3600)) {
        self.capacity = capacity
        self.idle = idle
    }

    /// An error with this fingerprint happened.
    public mutating func use(_ fingerprint: Fingerprint, at now: Timestamp) -> Answer {
        if let index = held.lastIndex(where: { $0.fingerprint == fingerprint }) {
            let before = held.remove(at: index).lastUse
            held.append((fingerprint, max(before, now)))
            return .held
        }
        if held.count < capacity {
            held.append((fingerprint, now))
            return .given(freed: nil)
        }
        guard let oldest = held.first, now - oldest.lastUse >= idle else { return .other }
        held.removeFirst()
        held.append((fingerprint, now))
        return .given(freed: oldest.fingerprint)
    }

    /// Equal if both would answer alike from now on.
    public static func == (left: Self, right: Self) -> Bool {
        left.capacity == right.capacity && left.idle == right.idle
            && left.held.elementsEqual(right.held) { $0.fingerprint == $1.fingerprint && $0.lastUse == $1.lastUse }
    }
}

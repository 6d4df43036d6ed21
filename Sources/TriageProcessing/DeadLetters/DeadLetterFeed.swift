public import TriageEvents

/// States of dead letters as they were read from `triage.dead-letters`, in order.
public struct DeadLetterChanges: Sendable {
    /// A record of the topic.
    public struct Change: Sendable, Hashable {
        /// Where it stands.
        public let offset: Int64
        /// Which dead letter it is about.
        public let key: DeadLetterKey
        /// What became of it; nil if that is forgotten.
        public let state: DeadLetterState?

        /// A change of these parts.
        public init(offset: Int64, key: DeadLetterKey, state: DeadLetterState?) {
            self.offset = offset
            self.key = key
            self.state = state
        }
    }
    /// What was read.
    public var changes: [Change]
    /// Up to where the topic was read.
    public var position: Int64
    /// Whether that was its end when reading began.
    public var isAtEnd: Bool
    /// Whether reading began anew, since the topic isn't the one that it was: what was read before counts no more.
    public var startsOver: Bool
    /// Whether there is such a topic.
    public var exists: Bool

    /// What was read.
    public init(
        _ changes: [Change] = [], position: Int64 = 0, isAtEnd: Bool = true, startsOver: Bool = false, exists: Bool = true
    ) {
        self.changes = changes
        self.position = position
        self.isAtEnd = isAtEnd
        self.startsOver = startsOver
        self.exists = exists
    }
}

/// Follows the topic `triage.dead-letters` for one engine.
public protocol DeadLetterFeed: AnyObject, Sendable {
    /// Reads on to where the topic ends when this is called, or a part of the way there.
    ///
    /// Not called again before it has answered.
    ///
    /// - Parameter completion: called once, on any thread, not within this call.
    func read(_ completion: @escaping @Sendable (Result<DeadLetterChanges, BrokerError>) -> Void)
}

/// What becomes of a patient's later events when one is dead-lettered.
public enum DeadLetterOrder: String, Sendable, CaseIterable {
    /// They go on.
    case release
    /// They wait until an operator has replayed or discarded the dead letter, whatever restarts in between.
    case sequence
}

/// A state that a consumer writes.
struct StateWrite {
    let key: DeadLetterKey
    let state: DeadLetterState
}

internal import TriageEvents

/// What all records of one retry share: where its event was delivered first, and the replay that brought that again, if one did.
///
/// Two replays of one event, or a replay of one whose first retry is still open, are different retries at the same place of their
/// patient's order: each comes to an end of its own.
struct RetryIdentity: Sendable, Hashable {
    let origin: RecordPosition
    /// A hash of `triage-replay`, which names the run and the dead letter; 0 where there is none. Marks whose hashes collide
    /// would have to be of one origin to be taken for one another.
    let replay: UInt64

    init(origin: RecordPosition, replay: String? = nil) {
        self.origin = origin
        self.replay = replay.map { RetryIdentity.hash(of: $0) } ?? 0
    }

    private static func hash(of replay: String) -> UInt64 { max(1, ByteSlice(replay).hash64(seed: 0)) }
    /// What ``replay`` is of a record with this mark.
    static func hash(of mark: ReplayMark) -> UInt64 { hash(of: mark.description) }

    /// Whether an operator brought the event again.
    var isReplay: Bool { replay != 0 }
}

extension EventHistory {
    /// What the records of its retry share.
    var identity: RetryIdentity { RetryIdentity(origin: origin, replay: replay) }
}

extension RetryIdentity: Comparable {
    static func < (left: RetryIdentity, right: RetryIdentity) -> Bool {
        left.origin == right.origin ? left.replay < right.replay : left.origin < right.origin
    }
}

internal import Synchronization
public import TriageEvents

/// A clock that only moves when it is told to.
public final class ManualClock: EventClock {
    private let time: Mutex<Timestamp>

    /// A clock that shows `start`.
    public init(_ start: Timestamp = Timestamp(milliseconds: 1_700_000_000_000)) { time = Mutex(start) }

    /// What it shows.
    public func now() -> Timestamp { time.withLock { $0 } }

    /// Moves it on; negative durations move it back.
    public func advance(by duration: Duration) { time.withLock { $0 = $0 + duration } }
}

internal import Glibc
public import TriageEvents

/// The system's wall clock, `CLOCK_REALTIME`: about 20 ns a reading.
///
/// A correction of the wall clock can make a span look longer or shorter; ``Tracer/end(_:at:)`` keeps an end from lying
/// before its start.
public struct SystemClock: EventClock {
    /// A clock that starts now.
    public init() {}

    /// The wall clock's time.
    @inline(__always)
    public func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec))
    }
}

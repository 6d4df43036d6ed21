internal import Glibc

/// What a worker thread sleeps on: anyone may wake it, and a wake that comes before the sleep is not lost.
///
/// `@unchecked Sendable`: `isSet` is read and written only with `mutex` held; the mutex and the condition variable are
/// made for use by any thread, made before the object can be shared, and destroyed when the last reference is gone.
final class WakeSignal: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var isSet = false

    init() {
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        condition = .allocate(capacity: 1)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        condition.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Ends the sleep under way, or the next one.
    func wake() {
        pthread_mutex_lock(mutex)
        isSet = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Sleeps until woken or until `deadline`, a reading of ``MonotonicClock``; nil sleeps without end. For one thread.
    func wait(until deadline: Duration?) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var code: Int32 = 0
        if let deadline {
            let (seconds, attoseconds) = deadline.components
            var time = timespec(tv_sec: Int(max(0, seconds)), tv_nsec: max(0, Int(attoseconds / 1_000_000_000)))
            while !isSet, code == 0 { code = pthread_cond_timedwait(condition, mutex, &time) }
        } else {
            while !isSet { pthread_cond_wait(condition, mutex) }
        }
        isSet = false
    }
}

/// The clock that delays and deadlines are measured with: it never goes back, whatever happens to the wall clock.
public enum MonotonicClock {
    /// The time since some fixed moment before the process began.
    public static var now: Duration { read(CLOCK_MONOTONIC) }

    /// The same up to a kernel tick (4 ms) late, for a quarter of the cost.
    static var coarse: Duration { read(CLOCK_MONOTONIC_COARSE) }

    @inline(__always)
    private static func read(_ clock: clockid_t) -> Duration {
        var time = timespec()
        clock_gettime(clock, &time)
        return .nanoseconds(Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec))
    }
}

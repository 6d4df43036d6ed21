internal import Glibc

/// A thread of its own for work that blocks, such as an export; never one of the cooperative pool.
enum WorkerThread {
    /// Starts a detached thread that runs `body` once.
    ///
    /// All signals are blocked in it, so that the process's handlers run where the process expects them.
    ///
    /// - Parameter name: at most 15 bytes (proc(5), `comm`).
    /// - Returns: false if the system has no thread left; `body` has not run then.
    static func start(_ name: StaticString, _ body: @escaping @Sendable () -> Void) -> Bool {
        let start = Unmanaged.passRetained(Start(name: name, body: body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                var signals = sigset_t()
                sigfillset(&signals)
                pthread_sigmask(SIG_BLOCK, &signals, nil)
                WorkerThread.setName(start.name)
                start.body()
                return nil
            }, start.toOpaque())
        guard code == 0 else {
            start.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    /// Through the file, since `pthread_setname_np` is a GNU extension and `prctl` variadic: neither is imported.
    private static func setName(_ name: StaticString) {
        let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = write(descriptor, name.utf8Start, name.utf8CodeUnitCount)
        close(descriptor)
    }

    private final class Start: Sendable {
        let name: StaticString
        let body: @Sendable () -> Void

        init(name: StaticString, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
}

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

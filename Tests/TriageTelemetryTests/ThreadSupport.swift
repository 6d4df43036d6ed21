import Glibc

#if THREAD_SANITIZER
    @testable import TriageTelemetry
#endif

/// Blocks threads of tests until something is true, for a minute at most.
///
/// `@unchecked Sendable`: a POSIX mutex and condition variable, made for any thread.
final class TestCondition: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func signal() {
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    func wait(until isTrue: () -> Bool) {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        time.tv_sec += 60
        pthread_mutex_lock(mutex)
        while !isTrue(), pthread_cond_timedwait(condition, mutex, &time) == 0 {}
        pthread_mutex_unlock(mutex)
    }
}

/// Runs what blocks on a thread of its own, so that the cooperative pool stays free.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    await withCheckedContinuation { continuation in
        var thread = pthread_t()
        let box = ThreadBody { continuation.resume(returning: body()) }
        pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body() }
                return nil
            }, Unmanaged.passRetained(box).toOpaque())
        pthread_detach(thread)
    }
}

private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

#if THREAD_SANITIZER
    /// The one that the thread sanitizer understands.
    typealias Mutex = TriageTelemetry.Mutex
#endif

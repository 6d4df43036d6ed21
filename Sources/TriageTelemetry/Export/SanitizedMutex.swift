#if THREAD_SANITIZER
    internal import Glibc

    /// Stands in for the standard library's mutex where the thread sanitizer watches: it knows POSIX mutexes, whereas
    /// `Synchronization.Mutex` is a futex inside a library that isn't instrumented, so that all it guards would look like races.
    ///
    /// A module's own name goes before an imported one, so nothing else changes. Never part of a usual build: one allocation
    /// more for each mutex.
    ///
    /// `@unchecked Sendable`: `value` is touched only with `mutex` held; both live from `init` to `deinit`.
    struct Mutex<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let mutex: UnsafeMutablePointer<pthread_mutex_t>
        private let value: UnsafeMutablePointer<Value>

        init(_ value: consuming sending Value) {
            mutex = .allocate(capacity: 1)
            pthread_mutex_init(mutex, nil)
            self.value = .allocate(capacity: 1)
            self.value.initialize(to: value)
        }

        deinit {
            value.deinitialize(count: 1)
            value.deallocate()
            pthread_mutex_destroy(mutex)
            mutex.deallocate()
        }

        borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout Value) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return try body(&value.pointee)
        }
    }
#endif

internal import Glibc
internal import Synchronization

/// A task executor on the thread that polls: a handler that doesn't suspend runs without a hop.
///
/// It has no thread of its own; the engine's loop calls ``runPending()`` between polls. Jobs may be enqueued from any
/// thread; one that comes from elsewhere wakes the poll or the wait that the loop is in.
///
/// `@unchecked Sendable`: the queue is guarded by `lock`; `loopThread` and `waker` are written under it too.
public final class PollingExecutor: LoopExecutor, @unchecked Sendable {
    private enum Job {
        case task(UnownedJob)
        case call(@Sendable () -> Void)
    }

    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let arrived = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var queue: [Job] = []
    private var running: [Job] = []
    private var loopThread: pthread_t?
    private var waker: (@Sendable () -> Void)?
    private var isAsleep = false
    /// On the loop's thread only.
    private var isRunning = false

    /// An executor that nothing runs on yet.
    public init() {
        lock.initialize(to: pthread_mutex_t())
        arrived.initialize(to: pthread_cond_t())
        pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(arrived, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(arrived)
        pthread_mutex_destroy(lock)
        arrived.deallocate()
        lock.deallocate()
    }

    /// Makes the calling thread the loop's.
    ///
    /// - Parameter waker: ends the poll that the loop is in; called on other threads.
    public func bind(waker: @escaping @Sendable () -> Void) {
        withLock {
            loopThread = pthread_self()
            self.waker = waker
        }
    }

    /// Takes a job of a task; the runtime calls it.
    public func enqueue(_ job: consuming ExecutorJob) { append(.task(UnownedJob(job))) }

    /// Runs `body` on the loop's thread.
    public func post(_ body: @escaping @Sendable () -> Void) { append(.call(body)) }

    /// Runs jobs until none is left, those that come meanwhile included. On the loop's thread only; within a job it does
    /// nothing, since the jobs behind that one must wait for its end.
    public func runPending() {
        guard !isRunning else { return }
        isRunning = true
        defer { isRunning = false }
        while true {
            withLock { swap(&queue, &running) }
            if running.isEmpty { return }
            for job in running {
                switch job {
                case .task(let task): task.runSynchronously(on: asUnownedTaskExecutor())
                case .call(let body): body()
                }
            }
            running.removeAll(keepingCapacity: true)
        }
    }

    /// Whether the loop may sleep: nothing is queued. From then on a job from elsewhere calls the waker, until ``didWake()``.
    public func willSleep() -> Bool {
        withLock {
            isAsleep = queue.isEmpty
            return isAsleep
        }
    }

    /// The loop's poll has returned.
    public func didWake() { withLock { isAsleep = false } }

    /// Waits for a job without polling, at most `timeout`. On the loop's thread only.
    public func wait(atMost timeout: Duration) {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let (seconds, attoseconds) = timeout.components
        let nanoseconds = Int64(deadline.tv_nsec) + attoseconds / 1_000_000_000
        deadline.tv_sec += Int(seconds + nanoseconds / 1_000_000_000)
        deadline.tv_nsec = Int(nanoseconds % 1_000_000_000)
        withLock {
            while queue.isEmpty {
                if pthread_cond_timedwait(arrived, lock, &deadline) != 0 { return }
            }
        }
    }

    private func append(_ job: Job) {
        let wake: (@Sendable () -> Void)? = withLock {
            queue.append(job)
            guard let loopThread, pthread_equal(loopThread, pthread_self()) == 0 else { return nil }
            pthread_cond_signal(arrived)
            guard isAsleep else { return nil }
            isAsleep = false
            return waker
        }
        wake?()
    }

    private func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return body()
    }
}

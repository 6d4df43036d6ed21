/// The task executor of the loop's thread: the engine drives it between polls, handlers run on it.
///
/// ``PollingExecutor`` is the one for production; a simulation brings its own, to choose what happens when.
public protocol LoopExecutor: TaskExecutor {
    /// Makes the calling thread the loop's.
    ///
    /// - Parameter waker: ends the poll that the loop is in; called on other threads.
    func bind(waker: @escaping @Sendable () -> Void)

    /// Runs `body` on the loop's thread; may be called on any thread.
    func post(_ body: @escaping @Sendable () -> Void)

    /// Runs jobs until none is left, those that come meanwhile included. On the loop's thread only; within a job it does
    /// nothing, since the jobs behind that one must wait for its end.
    func runPending()

    /// Whether the loop may sleep: nothing is queued. From then on a job from elsewhere calls the waker, until ``didWake()``.
    func willSleep() -> Bool

    /// The loop's poll has returned.
    func didWake()

    /// Waits for a job without polling, at most `timeout`. On the loop's thread only.
    func wait(atMost timeout: Duration)
}

internal import NIOCore

/// Runs a task's jobs on an event loop: what resumes the task there goes on without another thread being woken, and what resumes it
/// elsewhere wakes the loop once for all that came meanwhile.
final class LoopExecutor: TaskExecutor {
    private let loop: any EventLoop

    init(_ loop: any EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

import Glibc
public import Testing

/// Runs tests on threads of their own: those that compute for seconds without ever suspending, and those that block a thread, waiting
/// for a socket or a client's callback. On the threads that all tasks share, of which there are as many as processors, two of them would
/// stop every other test, of which some have deadlines.
public struct ThreadTrait: SuiteTrait, TestTrait, TestScoping {
    let niceness: Int32

    /// The tests of a suite as well.
    public var isRecursive: Bool { true }

    /// Has the test run on an executor of its own.
    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        // A suite is only its tests.
        guard testCase != nil else { return try await function() }
        try await withTaskExecutorPreference(ThreadExecutor(niceness: niceness)) { try await function() }
    }
}

extension Trait where Self == ThreadTrait {
    /// On threads of its own, behind those of other tests: for tests that compute.
    public static var apart: ThreadTrait { ThreadTrait(niceness: 10) }
    /// On threads of its own: for tests that wait in a call that blocks.
    public static var blocking: ThreadTrait { ThreadTrait(niceness: 0) }
}

/// A thread for each job: of a test, what it does between two suspensions.
private final class ThreadExecutor: TaskExecutor {
    private final class Job: Sendable {
        let job: UnownedJob
        let executor: UnownedTaskExecutor
        let niceness: Int32

        init(_ job: UnownedJob, _ executor: UnownedTaskExecutor, _ niceness: Int32) {
            self.job = job
            self.executor = executor
            self.niceness = niceness
        }
    }
    private let niceness: Int32

    init(niceness: Int32) { self.niceness = niceness }

    func enqueue(_ job: consuming ExecutorJob) {
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let job = Unmanaged<Job>.fromOpaque(context).takeRetainedValue()
                // On Linux of the calling thread alone (setpriority(2), C library/kernel differences).
                if job.niceness != 0 { setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, job.niceness) }
                job.job.runSynchronously(on: job.executor)
                return nil
            }, Unmanaged.passRetained(Job(UnownedJob(job), asUnownedTaskExecutor(), niceness)).toOpaque())
        pthread_detach(thread)
    }
}

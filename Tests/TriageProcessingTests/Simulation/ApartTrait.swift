import Glibc
import Testing

/// Tests that compute for seconds without ever suspending run on threads of their own, behind others: on the threads that all tasks
/// share, two of them would stop every other test, of which some have deadlines.
struct ApartTrait: SuiteTrait, TestTrait, TestScoping {
    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        // A suite is only its tests.
        guard testCase != nil else { return try await function() }
        try await withTaskExecutorPreference(ThreadExecutor()) { try await function() }
    }
}

extension Trait where Self == ApartTrait {
    /// On a thread of its own.
    static var apart: ApartTrait { ApartTrait() }
}

/// A thread for each job: a synchronous test is one.
private final class ThreadExecutor: TaskExecutor {
    private final class Job: Sendable {
        let job: UnownedJob
        let executor: UnownedTaskExecutor
        init(_ job: UnownedJob, _ executor: UnownedTaskExecutor) {
            self.job = job
            self.executor = executor
        }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { context in
                // On Linux of the calling thread alone (setpriority(2), C library/kernel differences).
                setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
                if let context {
                    let job = Unmanaged<Job>.fromOpaque(context).takeRetainedValue()
                    job.job.runSynchronously(on: job.executor)
                }
                return nil
            }, Unmanaged.passRetained(Job(UnownedJob(job), asUnownedTaskExecutor())).toOpaque())
        pthread_detach(thread)
    }
}

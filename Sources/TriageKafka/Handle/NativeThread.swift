import Glibc
import Synchronization
import TriageEvents

/// A thread of our own, for calls that block: they must never hold up the cooperative pool.
final class NativeThread: Sendable {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private let thread: pthread_t

    /// Starts a thread that runs `body`; nil if the system has none left.
    init?(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Body(body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { opaque in
                if let opaque { Unmanaged<Body>.fromOpaque(opaque).takeRetainedValue().run() }
                return nil
            }, box.toOpaque()
        )
        guard code == 0 else {
            box.release()
            return nil
        }
        self.thread = thread
    }

    /// Waits until the thread has ended; called on the thread itself it lets it free itself. To be called once, and not after ``detach()``.
    func end() { if pthread_equal(pthread_self(), thread) != 0 { detach() } else { pthread_join(thread, nil) } }

    /// Gives up waiting: the thread frees itself when it ends. To be called once, unless ``end()`` was.
    func detach() { pthread_detach(thread) }
}

/// Makes a call that blocks on a thread of its own, and waits for its end without blocking.
func onThread<Answer: Sendable>(
    _ operation: String, _ body: @escaping @Sendable () throws(BrokerError) -> Answer
) async throws(BrokerError) -> Answer {
    let result: Result<Answer, BrokerError> = await withCheckedContinuation { continuation in
        let thread = NativeThread {
            let result: Result<Answer, BrokerError>
            do throws(BrokerError) {
                result = .success(try body())
            } catch {
                result = .failure(error)
            }
            continuation.resume(returning: result)
        }
        if let thread {
            thread.detach()
        } else {
            continuation.resume(returning: .failure(BrokerError("_CRIT_SYS_RESOURCE", operation: operation)))
        }
    }
    return try result.get()
}

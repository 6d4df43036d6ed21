internal import Glibc

/// Runs blocking work on a thread of its own, so that the cooperative pool never waits for Kafka.
enum LoopThread {
    /// Runs `body` on a new thread named `name` and waits for its end without blocking.
    static func run<Success: Sendable>(
        _ name: String, _ body: @escaping @Sendable () throws -> Success
    ) async throws -> Success {
        try await withCheckedThrowingContinuation { continuation in
            let work = Unmanaged.passRetained(
                Work {
                    setName(name)
                    continuation.resume(with: Result(catching: body))
                }
            )
            var thread: pthread_t = 0
            let status = pthread_create(
                &thread, nil,
                { pointer in
                    guard let pointer else { return nil }
                    Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body()
                    return nil
                }, work.toOpaque()
            )
            if status == 0 {
                pthread_detach(thread)
            } else {
                work.release()
                continuation.resume(throwing: ThreadUnavailable(status: status))
            }
        }
    }

    /// The name shows in `top -H` and in profiles; at most 15 bytes (proc(5), comm).
    private static func setName(_ name: String) {
        let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return }
        _ = name.withCString { write(file, $0, min(15, strlen($0))) }
        close(file)
    }

    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}

/// The system gave no thread.
struct ThreadUnavailable: Error, CustomStringConvertible {
    let status: Int32
    var description: String { "the system gave no thread (errno \(status)); raise the limit on processes" }
}

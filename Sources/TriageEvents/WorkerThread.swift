internal import Glibc

/// A thread of its own for work that blocks, such as an export or network calls; never one of the cooperative pool.
package enum WorkerThread {
    /// Starts a detached thread that runs `body` once.
    ///
    /// All signals are blocked in it, so that the process's handlers run where the process expects them, and a write by OpenSSL to a connection
    /// that its server closed raises no SIGPIPE.
    ///
    /// - Parameter name: at most 15 bytes (proc(5), `comm`).
    /// - Returns: false if the system has no thread left; `body` has not run then.
    package static func start(_ name: StaticString, _ body: @escaping @Sendable () -> Void) -> Bool {
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

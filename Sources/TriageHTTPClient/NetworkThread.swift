internal import Glibc

/// A thread for network calls, which must never hold up the cooperative pool.
enum NetworkThread {
    /// Starts a detached thread that runs `body` once.
    ///
    /// All signals are blocked in it: libcurl was told to leave them alone, so that a write by OpenSSL to a connection that the server
    /// closed would raise SIGPIPE.
    ///
    /// - Parameter name: at most 15 bytes (proc(5), `comm`).
    /// - Returns: false if the system has no thread left; `body` has not run then.
    static func start(_ name: StaticString, _ body: @escaping @Sendable () -> Void) -> Bool {
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
                let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
                if descriptor >= 0 {
                    _ = write(descriptor, start.name.utf8Start, start.name.utf8CodeUnitCount)
                    close(descriptor)
                }
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

    private final class Start: Sendable {
        let name: StaticString
        let body: @Sendable () -> Void

        init(name: StaticString, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
}

internal import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageTelemetry

/// The server that webhooks and commands share.
struct IngressPart: ServicePart {
    /// What several tasks tell of the server and the brokers.
    private final class Sight: Sendable {
        let health = Mutex(IntakeHealth())
    }

    private let server: IngressServer
    private let sight: Sight
    private let outlet: CaptureOutlet
    private let clock: any EventClock
    private let upkeep: @Sendable () -> Void

    var endsService: Bool { false }

    func run() async throws {
        defer { sight.health.withLock { $0.listens(false) } }
        // Cancelled, and waited for, when the server has ended: nobody may look at a producer that is being closed.
        async let _ = watchBrokers()
        // For as long as requests may be open, which is longer than other parts live.
        async let _ = keepUp()
        try await server.run()
    }

    private func keepUp() async {
        while !Task.isCancelled {
            upkeep()
            try? await Task.sleep(for: .milliseconds(100))
        }
    }

    func stop() {
        sight.health.withLock { $0.stopping() }
        server.stop()
    }

    func health(since start: Timestamp) -> (any HealthReading)? {
        var health = sight.health.withLock { $0 }
        health.sendsFail(outlet.capture.trouble.times)
        return health
    }

    /// Looks every 5 s whether a broker answers the producer, since an instance without requests would not notice.
    private func watchBrokers() async {
        while !Task.isCancelled {
            let isReached = await withCheckedContinuation { continuation in
                let starts = WorkerThread.start("triage-reach") { [sink = outlet.sink] in
                    continuation.resume(returning: sink.isReachable(within: .seconds(3)))
                }
                if !starts { continuation.resume(returning: false) }
            }
            if isReached { sight.health.withLock { $0.reached(at: clock.now()) } }
            guard (try? await Task.sleep(for: .seconds(5))) != nil else { return }
        }
    }

    /// A server for these routes that doesn't listen yet.
    ///
    /// - Parameters:
    ///   - outlet: where what is taken in goes.
    ///   - upkeep: called ten times a second until the last request is answered.
    ///   - onListening: told the port.
    /// - Throws: ``ConfigurationError`` if the certificate or its key can't be used.
    init(
        _ routes: [any IngressRoute], _ listen: Configuration.Listen, outlet: CaptureOutlet, gracePeriod: Duration,
        telemetry: Telemetry, logger: Logger,
        upkeep: @escaping @Sendable () -> Void = {}, onListening: @escaping @Sendable (Int) -> Void
    ) throws(ConfigurationError) {
        sight = Sight()
        self.outlet = outlet
        self.upkeep = upkeep
        clock = telemetry.tracer.clock
        var configuration = IngressServer.Configuration()
        configuration.host = listen.address.host
        configuration.port = listen.address.port
        configuration.maximumConnections = listen.maximumConnections
        configuration.headTimeout = listen.headerTimeout
        configuration.bodyTimeout = listen.bodyTimeout
        configuration.gracePeriod = gracePeriod
        configuration.tls = try IngressPart.tls(listen)
        // What can fail about the server is thrown; the library's own lines would name what is none of the log's business.
        var quiet = logger
        quiet.logLevel = .critical
        var log: (@Sendable (AccessEntry) -> Void)?
        if listen.accessLog, logger.logLevel <= .info {
            log = { entry in logger.log(level: .info, safe: entry.text, in: entry.context) }
        }
        server = IngressServer(
            routes, configuration: configuration, logger: quiet, meter: telemetry.meter, clock: telemetry.tracer.clock,
            accessLog: log,
            onListening: { [sight] port in
                sight.health.withLock { $0.listens(true) }
                onListening(port)
            })
    }

    private static func tls(_ listen: Configuration.Listen) throws(ConfigurationError) -> IngressTLS? {
        guard let certificate = listen.certificateFile, let key = listen.keyFile else { return nil }
        do throws(IngressTLSError) {
            return try IngressTLS(certificateFile: certificate, keyFile: key)
        } catch {
            switch error {
            case .certificate:
                throw ConfigurationError(key: "listen-certificate", value: certificate, expected: "a readable PEM certificate")
            case .key:
                throw ConfigurationError(
                    key: "listen-key", value: key, expected: "a readable PEM key without a passphrase")
            case .mismatch:
                throw ConfigurationError(key: "listen-key", value: key, expected: "the key of the certificate")
            }
        }
    }

    /// Refuses a route that everyone can reach and use; one that only this machine can reach is warned of.
    ///
    /// - Parameters:
    ///   - authenticator: who is admitted.
    ///   - key: the setting that would name a token.
    ///   - alternative: another setting that would do.
    static func check(
        _ authenticator: Authenticator, _ listen: Configuration.Listen, key: String, or alternative: String? = nil, logger: Logger
    ) throws(ConfigurationError) {
        guard authenticator.isOpen else { return }
        guard listen.isLoopback else {
            throw ConfigurationError(
                key: key, value: "",
                expected: """
                    a file with a token\(alternative.map { ", or \($0) beside it or instead" } ?? ""), since \(listen.address) can be \
                    reached from elsewhere
                    """)
        }
        let unset = alternative.map { "neither \(key) nor \($0) is set" } ?? "\(key) is not set"
        let text = SafeText(vetted: "\(unset): whoever is on this machine may send")
        logger.log(level: .warning, safe: text)
    }
}

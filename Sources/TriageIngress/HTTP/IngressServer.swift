internal import Hummingbird
internal import HummingbirdCore
internal import HummingbirdTLS
public import Logging
internal import NIOCore
internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// The server that others send to: webhooks, commands. Fit to be reached by whoever can.
///
/// It serves HTTP/1.1, with TLS or without, and refuses by itself, with an OperationOutcome and nothing of the request in it:
///
/// | what came | answer |
/// | --- | --- |
/// | no HTTP, a malformed target, both `Content-Length` and `Transfer-Encoding`, either twice, not exactly one `Host` | 400 |
/// | a path that no route has; a method that its route doesn't take | 404; 405 with `Allow` |
/// | a head or a body that isn't complete in time, however it trickles | 408 |
/// | a body longer than its route takes, as soon as that shows | 413 |
/// | a compressed body | 415: what isn't decompressed can't be a bomb |
/// | an expectation other than `100-continue`; a transfer coding other than `chunked` | 417; 501 |
/// | a head with too many bytes or fields | 431 |
/// | a body while ``Configuration/maximumBodyBytesInMemory`` are taken | 503 with `Retry-After` |
///
/// After each but 404 and 405 without a body the connection ends, since its rest isn't read. Pipelined requests are answered in
/// order. Every request is counted in `http.server.request.duration` and told to the access log.
public final class IngressServer: Sendable {
    /// Where the server listens and what it bears.
    public struct Configuration: Sendable {
        /// The address to listen on: `127.0.0.1` by default.
        public var host = "127.0.0.1"
        /// The port, 0 to 65,535; 0 lets the system choose. 8088 by default.
        public var port = 8088
        /// The certificate to show; nil, the default, serves without TLS.
        public var tls: IngressTLS?
        /// Connections at a time: 1,024 by default. Further ones wait to be accepted until one ends; those that do nothing end soon.
        public var maximumConnections = 1024
        /// How long a request's head may take, from its first byte, or from accepting the connection: 10 s by default.
        public var headTimeout: Duration = .seconds(10)
        /// How long a request's body may take from its head on, as a whole: 30 s by default.
        public var bodyTimeout: Duration = .seconds(30)
        /// How long a connection may be silent between requests, and how long a client may take over an answer: 60 s by default.
        public var idleTimeout: Duration = .seconds(60)
        /// Requests that one connection may bring: 1,000 by default. Then it ends, so that clients spread over instances anew.
        public var maximumRequestsPerConnection = 1000
        /// Bytes of a head: 16 KiB by default.
        public var maximumHeadBytes = 16 * 1024
        /// Header fields of a head: 100 by default.
        public var maximumHeaders = 100
        /// Bytes of bodies in memory over all connections: 64 MiB by default.
        public var maximumBodyBytesInMemory = 64 << 20
        /// How long open requests may take to end after ``IngressServer/stop()``: 30 s by default.
        public var gracePeriod: Duration = .seconds(30)

        /// The defaults.
        public init() {}
    }

    private struct Life {
        var isListening = false
        var isStopping = false
    }

    private let configuration: Configuration
    private let logger: Logger
    private let channel: IngressChannel
    private let onListening: @Sendable (Int) -> Void
    private let life = Mutex(Life())
    private let stops: AsyncStream<Void>
    private let stopping: AsyncStream<Void>.Continuation

    /// A server that doesn't listen yet.
    ///
    /// - Parameters:
    ///   - routes: what it serves; of several that match a path the first that takes the method answers.
    ///   - logger: for the server's start and end.
    ///   - meter: gets `http.server.request.duration`.
    ///   - clock: tells when a request came.
    ///   - accessLog: told of each request once it is answered; nil for no access log.
    ///   - onListening: called once with the port that is listened on.
    public init(
        _ routes: [any IngressRoute], configuration: Configuration = Configuration(), logger: Logger, meter: Meter,
        clock: any EventClock = SystemClock(), accessLog: (@Sendable (AccessEntry) -> Void)? = nil,
        onListening: @escaping @Sendable (_ port: Int) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.logger = logger
        self.onListening = onListening
        channel = IngressChannel(
            shared: IngressShared(routes, configuration, clock: clock), maximumHeadBytes: configuration.maximumHeadBytes,
            maximumHeaders: configuration.maximumHeaders, isTLS: configuration.tls != nil,
            durations: RequestDurations(meter, isTLS: configuration.tls != nil), accessLog: accessLog)
        (stops, stopping) = AsyncStream.makeStream()
    }

    /// Listens and answers until ``stop()`` or until the task is cancelled, which ends connections at once.
    ///
    /// To be called once.
    ///
    /// - Throws: a ``ListenError`` if the address can't be listened on.
    public func run() async throws {
        let (host, port) = (configuration.host, configuration.port)
        guard (0...65_535).contains(port) else { throw ListenError(code: .failed, host: host, port: port) }
        do {
            if let tls = configuration.tls {
                try await serve(TLSChannel(channel, tlsConfiguration: tls.configuration))
            } else {
                try await serve(channel)
            }
        } catch is CancellationError {
            return
        } catch  where !life.withLock({ $0.isListening }) {
            if life.withLock({ $0.isStopping }) { return }
            throw ListenError(error, host: host, port: port)
        }
    }

    /// Accepts nothing more, lets open requests end within the grace period, and ends ``run()``; returns at once.
    public func stop() {
        let isReady = life.withLock { life in
            life.isStopping = true
            return life.isListening
        }
        if isReady { stopping.finish() }
    }

    private func serve(_ child: some ServerChildChannel) async throws {
        guard !life.withLock({ $0.isStopping }) else { return }
        let server = Server(
            childChannelSetup: child,
            configuration: ServerConfiguration(
                address: .hostname(configuration.host, port: configuration.port), backlog: 1024,
                availableConnectionsDelegate: .maximum(configuration.maximumConnections, logger: logger)),
            onServerRunning: { [self] channel in
                let isStopping = life.withLock { life in
                    life.isListening = true
                    return life.isStopping
                }
                if isStopping { stopping.finish() }
                onListening(channel.localAddress?.port ?? configuration.port)
            },
            eventLoopGroup: EventLoopGroupProvider.singleton.eventLoopGroup, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            group.addTask { [self] in
                for await _ in stops {}
                guard !Task.isCancelled else { return }
                Task { try? await server.shutdownGracefully() }
                try await Task.sleep(for: configuration.gracePeriod)
            }
            // Either the server is through, or its grace period: then what is left is cut off.
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}

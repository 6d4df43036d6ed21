internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
public import Logging
internal import NIOCore
internal import Synchronization
internal import TriageEvents
public import TriageTelemetry

/// The server for Prometheus and for probes: `/metrics`, `/health/live`, `/health/ready`.
///
/// | request | answer |
/// | --- | --- |
/// | `GET /metrics` | 200, Prometheus text 0.0.4 or, if `Accept` prefers it, OpenMetrics 1.0; with gzip if `Accept-Encoding` names it |
/// | `GET /health/live` | 200 `{"status":"ok"}` or 503 `{"status":"unavailable","reasons":["not_polling"]}` |
/// | `GET /health/ready` | the same, with any ``HealthReason`` |
/// | `/console` and what is below it | ``ConsoleSite``'s pages, where there is one |
/// | another path | 404 |
/// | another method | 405 with `Allow: GET, HEAD` |
/// | a request with a body, but for the console's | 413, and the connection ends |
///
/// Scrapes and probes make neither spans nor metrics: there is one every few seconds, none belongs to an event, and they would
/// bury the traces that do. Nothing about a request is logged.
///
/// A request head has at most ``Configuration/maximumHeadBytes`` bytes, else the connection ends with 400; a connection that
/// is silent, or slow to send its head, for ``Configuration/idleTimeout`` is closed; beyond
/// ``Configuration/maximumConnections`` new ones wait to be accepted.
public struct AdminServer: Sendable {
    /// Where the server listens and what it bears.
    public struct Configuration: Sendable, Hashable {
        /// The address to listen on: `127.0.0.1` by default, since whoever reaches it can read the metrics.
        public var host: String
        /// The port, 0 to 65,535; 0 lets the system choose. OpenTelemetry's exporters for Prometheus use 9464.
        public var port: Int
        /// How long a connection may be silent: 30 s by default, longer than common scrape intervals, so that they reuse it.
        public var idleTimeout: Duration
        /// Bytes of a request's head: 16 KiB by default.
        public var maximumHeadBytes: Int
        /// Connections at a time: 64 by default.
        public var maximumConnections: Int

        /// Where to listen; see the properties.
        public init(
            host: String = "127.0.0.1", port: Int = 9464, idleTimeout: Duration = .seconds(30),
            maximumHeadBytes: Int = 16 * 1024, maximumConnections: Int = 64
        ) {
            self.host = host
            self.port = port
            self.idleTimeout = idleTimeout
            self.maximumHeadBytes = maximumHeadBytes
            self.maximumConnections = maximumConnections
        }
    }

    private let configuration: Configuration
    private let logger: Logger
    private let table: EndpointTable
    private let console: ConsoleSite?
    private let onListening: @Sendable (Int) -> Void

    /// A server that doesn't listen yet.
    ///
    /// - Parameters:
    ///   - logger: for the server's start and end.
    ///   - metrics: makes the body of `/metrics` in the format that the scraper asked for, called once for each scrape.
    ///   - gzip: compresses that body for scrapers that ask for it, on the thread of the request; nil if it can't, and then it
    ///     goes out as it is. By default nothing is compressed.
    ///   - liveness: answers `/health/live`.
    ///   - readiness: answers `/health/ready`.
    ///   - console: answers `/console`; nil, the default, for none.
    ///   - onListening: called once with the port that is listened on.
    public init(
        configuration: Configuration = Configuration(), logger: Logger,
        metrics: @escaping @Sendable (ExpositionFormat) -> [UInt8],
        gzip: @escaping @Sendable ([UInt8]) -> [UInt8]? = { _ in nil },
        liveness: @escaping @Sendable () -> HealthStatus,
        readiness: @escaping @Sendable () -> HealthStatus, console: ConsoleSite? = nil,
        onListening: @escaping @Sendable (_ port: Int) -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.logger = logger
        self.onListening = onListening
        self.console = console
        table = EndpointTable(endpoints: [
            Endpoint(path: "/metrics") { headers in
                let asked = ScrapeNegotiation(
                    accept: headers[.accept], acceptEncoding: headers[.acceptEncoding])
                var answer = Answer(status: .ok, contentType: asked.contentType, body: metrics(asked.format))
                answer.vary = "Accept, Accept-Encoding"
                if asked.usesGzip, let compressed = gzip(answer.body) {
                    answer.body = compressed
                    answer.contentEncoding = "gzip"
                }
                return answer
            },
            Endpoint(path: "/health/live") { _ in AdminServer.answer(liveness()) },
            Endpoint(path: "/health/ready") { _ in AdminServer.answer(readiness()) },
        ])
    }

    /// Listens and answers until graceful shutdown, which lets open requests end, or until the task is cancelled.
    ///
    /// - Throws: a ``ListenError`` if the address can't be listened on.
    public func run() async throws {
        let (host, port) = (configuration.host, configuration.port)
        guard (0...65_535).contains(port) else { throw ListenError(code: .failed, host: host, port: port) }
        let listening = Flag()
        let application = Application(
            responder: EndpointResponder(table: table, console: console),
            server: .http1(
                configuration: HTTP1Channel.Configuration(
                    idleTimeout: .nanoseconds(configuration.idleTimeout.wholeNanoseconds),
                    httpDecoderConfiguration: .init(
                        maxHeaderFieldSize: configuration.maximumHeadBytes,
                        maxHeaderListSize: configuration.maximumHeadBytes, maxHeaderFieldCount: 100))),
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: port),
                availableConnectionsDelegate: .maximum(configuration.maximumConnections, logger: logger)),
            onServerRunning: { [onListening, console] channel in
                listening.set()
                let port = channel.localAddress?.port ?? port
                console?.listens(host: host, port: port)
                onListening(port)
            },
            logger: logger)
        do {
            try await application.run()
        } catch is CancellationError {
            return
        } catch  where !listening.isSet {
            throw ListenError(error, host: host, port: port)
        }
    }

    private static func answer(_ status: HealthStatus) -> Answer {
        switch status {
        case .ok: .json(.ok, "ok")
        case .failing(let reasons): .json(.serviceUnavailable, "unavailable", reasons: reasons.map(\.rawValue))
        }
    }
}

/// A flag that one closure sets and another code reads.
private final class Flag: Sendable {
    private let state = Atomic(false)
    var isSet: Bool { state.load(ordering: .acquiring) }
    func set() { state.store(true, ordering: .releasing) }
}

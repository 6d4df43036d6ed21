import Logging
import ServiceLifecycle
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageIngress

/// Answers that a test can change.
private final class Switch: Sendable {
    let readiness = Mutex(HealthStatus.ok)
    let liveness = Mutex(HealthStatus.ok)
}

/// Keeps every line that is logged.
private final class Lines: Sendable {
    let all = Mutex<[String]>([])
}

private struct KeepingHandler: LogHandler {
    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }
    func log(event: LogEvent) {
        lines.all.withLock { $0.append("\(event.message) \(metadata) \(event.metadata ?? [:])") }
    }
}

private func quiet() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

/// Runs a server on a free port while `body` runs.
private func withServer(
    _ configuration: AdminServer.Configuration = .init(port: 0), answers: Switch = Switch(), logger: Logger = quiet(),
    _ body: @escaping @Sendable (_ port: Int) async throws -> Void
) async throws {
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let server = AdminServer(
        configuration: configuration, logger: logger, metrics: { Array(($0 == .text ? "up 1\n" : "up 1\n# EOF\n").utf8) },
        gzip: { $0.isEmpty ? nil : Array("zip:".utf8) + $0 },
        liveness: { answers.liveness.withLock { $0 } }, readiness: { answers.readiness.withLock { $0 } },
        onListening: {
            continuation.yield($0)
            continuation.finish()
        })
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await server.run() }
        for await port in ports { try await body(port) }
        group.cancelAll()
        try await group.waitForAll()
    }
}

@Suite(.serialized) struct AdminServerTests {
    @Test func metricsAndProbesOverOneConnection() async throws {
        let answers = Switch()
        try await withServer(answers: answers) { port in
            let connection = try #require(Connection(port: port))
            func get(_ target: String, method: String = "GET") async throws -> Reply {
                connection.send("\(method) \(target) HTTP/1.1\r\nHost: x\r\n\r\n")
                return try #require(await connection.receive(hasBody: method != "HEAD"))
            }
            let metrics = try await get("/metrics?name%5B%5D=up")
            #expect(metrics.status == 200 && metrics.body == "up 1\n")
            #expect(metrics.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8")

            let live = try await get("/health/live")
            #expect(live.status == 200 && live.body == "{\"status\":\"ok\"}\n")
            #expect(live.fields["content-type"] == "application/json")
            #expect(live.fields["cache-control"] == "no-store")

            #expect(try await get("/health/ready").status == 200)
            answers.readiness.withLock { $0 = .failing([.notAssigned, .notPolling]) }
            let unready = try await get("/health/ready")
            #expect(unready.status == 503)
            #expect(unready.body == "{\"status\":\"unavailable\",\"reasons\":[\"not_assigned\",\"not_polling\"]}\n")
            answers.liveness.withLock { $0 = .failing([.notPolling]) }
            #expect(try await get("/health/live").status == 503)

            let missing = try await get("/nowhere")
            #expect(missing.status == 404 && missing.body == "{\"status\":\"not_found\"}\n")
            let posted = try await get("/metrics", method: "DELETE")
            #expect(posted.status == 405 && posted.fields["allow"] == "GET, HEAD")
            let head = try await get("/metrics", method: "HEAD")
            #expect(head.status == 200 && head.fields["content-length"] == "5")
            #expect(try await get("/metrics").body == "up 1\n")
        }
    }

    @Test func theScraperChoosesFormatAndCoding() async throws {
        try await withServer { port in
            let connection = try #require(Connection(port: port))
            func get(_ fields: String, method: String = "GET", path: String = "/metrics") async throws -> Reply {
                connection.send("\(method) \(path) HTTP/1.1\r\nHost: x\r\n\(fields)\r\n")
                return try #require(await connection.receive(hasBody: method != "HEAD"))
            }
            let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5\r\n"
            let open = try await get(accept)
            #expect(open.body == "up 1\n# EOF\n" && open.fields["vary"] == "Accept, Accept-Encoding")
            #expect(
                open.fields["content-type"]
                    == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores")
            #expect(open.fields["content-encoding"] == nil)
            let split = try await get("Accept: text/plain;q=0.1\r\n" + accept)
            #expect(split.body == open.body, "several header lines count as one list")
            let zipped = try await get(accept + "Accept-Encoding: gzip\r\n")
            #expect(zipped.body == "zip:up 1\n# EOF\n" && zipped.fields["content-encoding"] == "gzip")
            let head = try await get(accept + "Accept-Encoding: gzip\r\n", method: "HEAD")
            #expect(head.fields["content-length"] == "15" && head.fields["content-encoding"] == "gzip")
            #expect(head.fields["content-type"] == open.fields["content-type"] && head.fields["vary"] == open.fields["vary"])
            let plain = try await get("Accept-Encoding: gzip;q=0\r\n")
            #expect(plain.body == "up 1\n" && plain.fields["content-encoding"] == nil)
            let probe = try await get("Accept-Encoding: gzip\r\n", path: "/health/live")
            #expect(probe.body == "{\"status\":\"ok\"}\n" && probe.fields["vary"] == nil)
        }
    }

    @Test func aRequestWithABodyEndsItsConnection() async throws {
        try await withServer { port in
            for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
                let connection = try #require(Connection(port: port))
                connection.send("POST /metrics HTTP/1.1\r\nHost: x\r\n\(body)")
                let reply = try #require(await connection.receive())
                #expect(reply.status == 413 && reply.fields["connection"] == "close")
                #expect(await connection.isClosed)
            }
        }
    }

    @Test func aHeadBeyondTheLimitIsRefused() async throws {
        try await withServer { port in
            let connection = try #require(Connection(port: port))
            connection.send("GET /metrics HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "a", count: 20_000))\r\n\r\n")
            #expect(await connection.receive()?.status == 400)
            #expect(await connection.isClosed)
        }
    }

    @Test func aSilentConnectionIsClosed() async throws {
        try await withServer(.init(port: 0, idleTimeout: .milliseconds(50))) { port in
            let connection = try #require(Connection(port: port))
            #expect(await connection.isClosed)
            let slow = try #require(Connection(port: port))
            slow.send("GET /metr")
            #expect(await slow.isClosed)
        }
    }

    @Test func anAddressInUseIsNamed() async throws {
        try await withServer { port in
            let second = AdminServer(
                configuration: .init(port: port), logger: quiet(), metrics: { _ in [] }, liveness: { .ok }, readiness: { .ok })
            let error = await #expect(throws: ListenError.self) { try await second.run() }
            #expect(error?.code == .addressInUse && error?.port == port && error?.host == "127.0.0.1")
            #expect(error?.description.contains("127.0.0.1:\(port)") == true)
        }
    }

    @Test func aHostOfAnotherMachineIsNamed() async throws {
        // TEST-NET-1 of RFC 5737: never an address of this machine.
        let elsewhere = AdminServer(
            configuration: .init(host: "192.0.2.1", port: 0), logger: quiet(), metrics: { _ in [] }, liveness: { .ok },
            readiness: { .ok })
        let error = await #expect(throws: ListenError.self) { try await elsewhere.run() }
        #expect(error?.code == .addressNotAvailable && error?.host == "192.0.2.1")
        let beyond = AdminServer(
            configuration: .init(port: 70_000), logger: quiet(), metrics: { _ in [] }, liveness: { .ok }, readiness: { .ok })
        await #expect(throws: ListenError.self) { try await beyond.run() }
    }

    @Test func gracefulShutdownEndsItAndItsIdleConnections() async throws {
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let server = AdminServer(
            configuration: .init(port: 0), logger: quiet(), metrics: { _ in [] }, liveness: { .ok }, readiness: { .ok },
            onListening: {
                continuation.yield($0)
                continuation.finish()
            })
        let group = ServiceGroup(
            configuration: .init(services: [.init(service: Service(server: server))], logger: quiet()))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            for await port in ports {
                let connection = try #require(Connection(port: port))
                connection.send("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                #expect(await connection.receive()?.status == 200)
                await group.triggerGracefulShutdown()
                #expect(await connection.isClosed)
            }
            try await tasks.waitForAll()
        }
    }

    @Test func nothingOfARequestIsLogged() async throws {
        let lines = Lines()
        let logger = Logger(label: "test") { _ in KeepingHandler(lines: lines) }
        try await withServer(logger: logger) { port in
            let connection = try #require(Connection(port: port))
            for path in ["/metrics?patient=secret", "/secret", "/health/live?secret"] {
                connection.send("GET \(path) HTTP/1.1\r\nHost: secret\r\nX-Secret: secret\r\n\r\n")
                #expect(await connection.receive() != nil)
            }
        }
        let logged = lines.all.withLock { $0 }
        #expect(!logged.isEmpty)
        #expect(logged.allSatisfy { !$0.contains("secret") })
    }
}

/// An ``AdminServer`` as a service, as the wiring runs it.
private struct Service: ServiceLifecycle.Service {
    let server: AdminServer
    func run() async throws { try await server.run() }
}

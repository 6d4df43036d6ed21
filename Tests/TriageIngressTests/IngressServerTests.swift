import HTTPTypes
import Logging
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageIngress

/// Tells what it was asked; answers when the test lets it.
private struct EchoRoute: IngressRoute {
    let template: String
    var methods: [HTTPRequest.Method] = [.post]
    var maximumBodyBytes = 1000
    let seen = Seen()

    final class Seen: Sendable {
        let bodies = Mutex<[String]>([])
        let gate = Mutex<(isShut: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))
        let answers = AsyncStream.makeStream(of: String.self)

        func open() {
            let waiting = gate.withLock { gate in
                gate.isShut = false
                defer { gate.waiting = [] }
                return gate.waiting
            }
            for one in waiting { one.resume() }
        }

        func pass() async {
            await withCheckedContinuation { continuation in
                let isShut = gate.withLock { gate in
                    if gate.isShut { gate.waiting.append(continuation) }
                    return gate.isShut
                }
                if !isShut { continuation.resume() }
            }
        }
    }

    func admits(_ headers: HTTPFields) -> Bool { headers[.authorization] != "Bearer stranger" }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        let text = String(decoding: request.body, as: UTF8.self)
        seen.bodies.withLock { $0.append(text) }
        seen.answers.continuation.yield(text)
        await seen.pass()
        return IngressAnswer(
            status: .ok, headers: [.contentType: "text/plain"],
            body: ByteSlice(text + (request.parameters["name"] ?? "") + (request.query("q") ?? "")))
    }
}

private func quiet() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

private struct Running: Sendable {
    let port: Int
    let server: IngressServer
    let echo: EchoRoute
    let meter: Meter
    let lines: Mutex<[AccessEntry]>.Box

    func connect() throws -> Connection { try #require(Connection(port: port)) }
}

extension Mutex where Value == [AccessEntry] {
    /// A mutex that closures can share.
    fileprivate final class Box: Sendable {
        let all = Mutex<[AccessEntry]>([])
    }
}

private func withServer(
    _ change: (inout IngressServer.Configuration) -> Void = { _ in }, maximumBodyBytes: Int = 1000,
    _ body: @escaping @Sendable (Running) async throws -> Void
) async throws {
    var configuration = IngressServer.Configuration()
    configuration.port = 0
    change(&configuration)
    let echo = EchoRoute(template: "/echo/{name}", maximumBodyBytes: maximumBodyBytes)
    let meter = Meter()
    let lines = Mutex<[AccessEntry]>.Box()
    try await withServer(
        [echo, EchoRoute(template: "/read", methods: [.get])], configuration, meter: meter,
        accessLog: { entry in lines.all.withLock { $0.append(entry) } }
    ) { server, port in
        try await body(Running(port: port, server: server, echo: echo, meter: meter, lines: lines))
    }
}

/// A server that listens on a port of its configuration's while `body` works with it.
func withServer(
    _ routes: [any IngressRoute], _ configuration: IngressServer.Configuration, meter: Meter = Meter(),
    accessLog: (@Sendable (AccessEntry) -> Void)? = nil, _ body: (IngressServer, Int) async throws -> Void
) async throws {
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let server = IngressServer(
        routes, configuration: configuration, logger: quiet(), meter: meter, accessLog: accessLog,
        onListening: {
            continuation.yield($0)
            continuation.finish()
        })
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await server.run() }
        for await port in ports { try await body(server, port) }
        group.cancelAll()
        try await group.waitForAll()
    }
}

private func post(_ body: String, _ fields: String = "", path: String = "/echo/n") -> String {
    "POST \(path) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\(fields)\r\n\(body)"
}

@Suite(.serialized) struct IngressServerTests {
    @Test func requestsAreAnsweredOnAConnectionThatStays() async throws {
        try await withServer { running in
            let connection = try running.connect()
            connection.send(post("hello", path: "/echo/%41?q=%20b"))
            let reply = try #require(await connection.receive())
            #expect(reply.status == 200 && reply.body == "helloA b")
            #expect(reply.fields["date"]?.hasSuffix("GMT") == true && reply.fields["cache-control"] == "no-store")
            connection.send(
                "POST /echo/n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
            #expect(await connection.receive()?.body == "abcden")
            connection.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
            let missing = try #require(await connection.receive())
            #expect(missing.status == 404 && missing.body.contains(#""resourceType":"OperationOutcome""#))
            connection.send("GET /echo/n HTTP/1.1\r\nHost: x\r\n\r\n")
            let other = try #require(await connection.receive())
            #expect(other.status == 405 && other.fields["allow"] == "OPTIONS, POST")
            connection.send("OPTIONS /read HTTP/1.1\r\nHost: x\r\n\r\n")
            let options = try #require(await connection.receive())
            #expect(options.status == 204 && options.fields["allow"] == "GET, HEAD, OPTIONS")
            connection.send("HEAD /read?q=four HTTP/1.1\r\nHost: x\r\n\r\n")
            let head = try #require(await connection.receive(hasBody: false))
            #expect(head.status == 200 && head.fields["content-length"] == "4")
            connection.send(post("x", "Connection: close\r\n"))
            #expect(await connection.receive()?.fields["connection"] == "close")
            #expect(await connection.isClosed)
            let text = running.lines.all.withLock { $0.map { "\($0.method) \($0.route?.text ?? "-") \($0.status)" } }
            #expect(
                text == [
                    "POST /echo/{name} 200", "POST /echo/{name} 200", "GET - 404", "GET /echo/{name} 405", "OPTIONS /read 204",
                    "HEAD /read 200", "POST /echo/{name} 200",
                ])
            let metrics = String(
                decoding: PrometheusText().write(running.meter.collect(at: Timestamp(milliseconds: 0))), as: UTF8.self)
            #expect(metrics.contains(#"http_route="/echo/{name}""#) && metrics.contains(#"http_response_status_code="405""#))
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        try await withServer { running in
            let connection = try running.connect()
            running.echo.seen.gate.withLock { $0.isShut = true }
            connection.send(post("1") + "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + post("2") + "no http\r\n\r\n")
            for await body in running.echo.seen.answers.stream where body == "1" { break }
            running.echo.seen.open()
            #expect(await connection.receive()?.body == "1n")
            #expect(await connection.receive()?.status == 404)
            #expect(await connection.receive()?.body == "2n")
            #expect(await connection.receive()?.status == 400)
            #expect(await connection.isClosed)
        }
    }

    @Test(
        "What could be smuggled is refused and nothing behind it is read",
        arguments: [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "Content-Length: 5 5\r\n",
            "Content-Length : 5\r\n", "X: a\r\n Content-Length: 5\r\n", "Content-Length: 0x5\r\n", "Host: y\r\n",
        ])
    func smuggling(_ fields: String) async throws {
        try await withServer { running in
            let connection = try running.connect()
            connection.send("POST /echo/n HTTP/1.1\r\nHost: x\r\n\(fields)\r\n0\r\n\r\n" + post("smuggled"))
            let reply = try #require(await connection.receive())
            #expect((400...501).contains(reply.status) && reply.status != 404)
            #expect(await connection.isClosed)
            #expect(running.echo.seen.bodies.withLock { !$0.contains("smuggled") })
        }
    }

    @Test func bodiesBeyondTheLimitAreNotReadToTheirEnd() async throws {
        try await withServer { running in
            let declared = try running.connect()
            declared.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
            let reply = try #require(await declared.receive())
            #expect(reply.status == 413 && reply.fields["connection"] == "close")
            #expect(await declared.isClosed)
            let chunked = try running.connect()
            chunked.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<3 { chunked.send("200\r\n" + String(repeating: "a", count: 512) + "\r\n") }
            #expect(await chunked.receive()?.status == 413)
            #expect(await chunked.isClosed)
            // A chunk that is announced as too long is refused before any of it comes.
            for announced in ["3e9\r\n", "40000000\r\n", "fffffffffffffff;x=y\r\n"] {
                let chunk = try running.connect()
                chunk.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + announced)
                #expect(await chunk.receive()?.status == 413)
                #expect(await chunk.isClosed)
            }
            let whole = try running.connect()
            let body = "3e8\r\n" + String(repeating: "a", count: 1000) + "\r\n0\r\n\r\n"
            whole.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            #expect(await whole.receive()?.status == 200)
            let exact = try running.connect()
            exact.send(post(String(repeating: "a", count: 1000)))
            #expect(await exact.receive()?.status == 200)
            #expect(running.echo.seen.bodies.withLock { $0.count } == 2)
        }
    }

    @Test func ofAStrangerNoBodyIsRead() async throws {
        try await withServer { running in
            let connection = try running.connect()
            // The body never comes: the head alone is answered, and not by the route.
            connection.send(
                "POST /echo/n HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer stranger\r\nContent-Length: 900\r\n"
                    + "Expect: 100-continue\r\n\r\n")
            #expect(try #require(await connection.receive()).status == 401)
            let chunked = try running.connect()
            chunked.send(
                "POST /echo/n HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer stranger\r\nTransfer-Encoding: chunked\r\n\r\n")
            #expect(try #require(await chunked.receive()).status == 401)
            #expect(running.echo.seen.bodies.withLock { $0 }.isEmpty)
        }
    }

    @Test func compressedBodiesAreNotTaken() async throws {
        try await withServer { running in
            let connection = try running.connect()
            connection.send(post("hello", "Content-Encoding: gzip\r\n"))
            let reply = try #require(await connection.receive())
            #expect(reply.status == 415 && reply.fields["accept-encoding"] == "identity")
            #expect(await connection.isClosed)
            // It says where to, like any other.
            let entry = try #require(running.lines.all.withLock { $0.last })
            #expect(entry.status == 415 && entry.route == "/echo/{name}" && entry.method == "POST")
        }
    }

    @Test func aClientIsToldToGoOnOnlyIfItsBodyIsWanted() async throws {
        try await withServer { running in
            let connection = try running.connect()
            connection.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            #expect(await connection.receive()?.status == 100)
            connection.send("ok")
            #expect(await connection.receive()?.body == "okn")
            connection.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n")
            #expect(await connection.receive()?.status == 413)
            #expect(await connection.isClosed)
        }
    }

    @Test func anUpgradeIsNotMade() async throws {
        try await withServer { running in
            let connection = try running.connect()
            connection.send(post("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"))
            let reply = try #require(await connection.receive())
            #expect(reply.status == 200 && reply.body == "h2cn" && reply.fields["connection"] == "close")
            #expect(await connection.isClosed)
        }
    }

    @Test func headsHaveALimit() async throws {
        try await withServer { running in
            let large = try running.connect()
            large.send("GET /read HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "a", count: 20_000))\r\n\r\n")
            #expect(await large.receive()?.status == 431)
            let many = try running.connect()
            many.send("GET /read HTTP/1.1\r\nHost: x\r\n\(String(repeating: "X: a\r\n", count: 101))\r\n")
            #expect(await many.receive()?.status == 431)
            let target = try running.connect()
            target.send("GET /\(String(repeating: "a", count: 20_000)) HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect((400...431).contains(try #require(await target.receive()).status))
        }
    }

    @Test func trickledHeadsAndBodiesEnd() async throws {
        try await withServer(
            {
                $0.headTimeout = .milliseconds(200)
                $0.bodyTimeout = .milliseconds(200)
                // So large that only the time ends them.
                $0.maximumHeadBytes = 1 << 28
            }, maximumBodyBytes: 1 << 28
        ) { running in
            let silent = try running.connect()
            let stuck = try running.connect()
            stuck.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nstuck")
            let head = try running.connect()
            let body = try running.connect()
            head.send("POST /echo/n HTTP/1.1\r\nX: ")
            body.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
            let trickling = Task {
                while !Task.isCancelled {
                    head.send("a")
                    body.send("a")
                    await Task.yield()
                }
            }
            defer { trickling.cancel() }
            #expect(await head.receive()?.status == 408)
            #expect(await body.receive()?.status == 408)
            trickling.cancel()
            #expect(await stuck.receive()?.status == 408)
            #expect(await silent.isClosed)
            #expect(running.echo.seen.bodies.withLock { $0.isEmpty })
        }
    }

    @Test func idleConnectionsEnd() async throws {
        try await withServer({ $0.idleTimeout = .milliseconds(50) }) { running in
            let connection = try running.connect()
            connection.send(post("a"))
            #expect(await connection.receive()?.status == 200)
            #expect(await connection.isClosed)
        }
    }

    @Test func aConnectionBringsOnlySoManyRequests() async throws {
        try await withServer({ $0.maximumRequestsPerConnection = 2 }) { running in
            let connection = try running.connect()
            connection.send(post("a") + post("b") + post("c"))
            #expect(await connection.receive()?.fields["connection"] == nil)
            #expect(await connection.receive()?.fields["connection"] == "close")
            #expect(await connection.isClosed)
            #expect(running.echo.seen.bodies.withLock { $0 } == ["a", "b"])
        }
    }

    @Test func furtherConnectionsWaitAndSlowOnesMakeRoom() async throws {
        try await withServer({
            $0.maximumConnections = 2
            $0.headTimeout = .milliseconds(100)
        }) { running in
            let slow = try (0..<6).map { _ in try running.connect() }
            for connection in slow { connection.send("POST") }
            let served = try running.connect()
            served.send(post("in turn"))
            #expect(await served.receive()?.body == "in turnn")
        }
    }

    @Test func bodiesInMemoryHaveALimit() async throws {
        try await withServer({ $0.maximumBodyBytesInMemory = 1500 }) { running in
            running.echo.seen.gate.withLock { $0.isShut = true }
            let first = try running.connect()
            first.send(post(String(repeating: "a", count: 1000)))
            for await _ in running.echo.seen.answers.stream { break }
            let second = try running.connect()
            second.send(post(String(repeating: "b", count: 1000)))
            let reply = try #require(await second.receive())
            #expect(reply.status == 503 && reply.fields["retry-after"] == "1")
            running.echo.seen.open()
            #expect(await first.receive()?.status == 200)
            let third = try running.connect()
            third.send(post(String(repeating: "c", count: 1000)))
            #expect(await third.receive()?.status == 200)
        }
    }

    @Test func aStopLetsOpenRequestsEnd() async throws {
        try await withServer { running in
            running.echo.seen.gate.withLock { $0.isShut = true }
            let idle = try running.connect()
            idle.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(await idle.receive()?.status == 404)
            let open = try running.connect()
            open.send(post("open"))
            for await _ in running.echo.seen.answers.stream { break }
            running.server.stop()
            #expect(await idle.isClosed)
            running.echo.seen.open()
            #expect(await open.receive()?.body == "openn")
            #expect(await open.isClosed)
        }
    }

    @Test func whatOutlivesTheGracePeriodIsCutOff() async throws {
        try await withServer({ $0.gracePeriod = .milliseconds(50) }) { running in
            let open = try running.connect()
            open.send("POST /echo/n HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12")
            open.send("")
            let other = try running.connect()
            other.send(post("a"))
            #expect(await other.receive()?.status == 200)
            running.server.stop()
            #expect(await open.isClosed)
        }
    }

    @Test func anAddressInUseIsNamed() async throws {
        try await withServer { running in
            var configuration = IngressServer.Configuration()
            configuration.port = running.port
            let second = IngressServer([], configuration: configuration, logger: quiet(), meter: Meter())
            let error = await #expect(throws: ListenError.self) { try await second.run() }
            #expect(error?.code == .addressInUse)
            let stopped = IngressServer([], configuration: configuration, logger: quiet(), meter: Meter())
            stopped.stop()
            try await stopped.run()
        }
    }
}

import Logging
import Synchronization
import Testing
import TriageTelemetry

@testable import TriageIngress

@Suite("The console on the admin server", .serialized)
struct ConsoleServerTests {
    private func withServer(_ body: @escaping @Sendable (_ port: Int, _ pages: @Sendable () -> Int) async throws -> Void)
        async throws
    {
        let pages = ConsolePagesProbe()
        let site = ConsoleSite(pages, token: ConsoleSiteWorld.token)
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let server = AdminServer(
            configuration: .init(port: 0), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            metrics: { _ in Array("up 1\n".utf8) },
            liveness: { .ok }, readiness: { .ok }, console: site,
            onListening: {
                continuation.yield($0)
                continuation.finish()
            })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            for await port in ports { try await body(port) { pages.asked.withLock { $0.count } } }
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    @Test func pagesAndFormsOverOneConnection() async throws {
        try await withServer { port, _ in
            let connection = try #require(Connection(port: port))
            func ask(_ text: String, hasBody: Bool = true) async throws -> Reply {
                connection.send(text)
                return try #require(await connection.receive(hasBody: hasBody))
            }
            let page = try await ask("GET /console HTTP/1.1\r\nHost: localhost:\(port)\r\n\r\n")
            #expect(page.status == 200 && page.body.hasPrefix("<!doctype html>"))
            let head = try await ask("HEAD /console HTTP/1.1\r\nHost: localhost:\(port)\r\n\r\n", hasBody: false)
            #expect(head.status == 200 && head.fields["content-length"] == page.fields["content-length"])
            #expect(try await ask("GET /console HTTP/1.1\r\nHost: evil.example.org\r\n\r\n").status == 421)
            #expect(try await ask("GET http://evil.example.org/console HTTP/1.1\r\nHost: evil.example.org\r\n\r\n").status == 421)
            #expect(
                try await ask("GET /console HTTP/1.1\r\nHost: localhost:\(port)\r\nHost: localhost:\(port)\r\n\r\n").status == 421
            )
            let form = "token=\(ConsoleSiteWorld.token)"
            let post = "POST /console/login HTTP/1.1\r\nHost: localhost:\(port)\r\nOrigin: http://localhost:\(port)\r\n"
            let signedIn = try await ask(
                post + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: \(form.utf8.count)\r\n\r\n\(form)")
            #expect(signedIn.status == 303 && signedIn.fields["set-cookie"]?.hasPrefix("triage_console_\(port)=") == true)
            let chunked = try await ask(
                post
                    + "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntoken\r\n0\r\n\r\n"
            )
            #expect(chunked.status == 403)
            // The other endpoints take no body as before.
            #expect(try await ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").status == 200)
            #expect(try await ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").status == 413)
            #expect(await connection.isClosed)
        }
    }

    @Test(
        "A body that is too long is refused without being read, and so is one that no form is",
        arguments: [
            "POST /console/act HTTP/1.1\r\nHost: HOST\r\nContent-Length: 65537\r\n\r\n",
            "POST /console/act HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "GET /console HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\n",
        ])
    func tooLong(head: String) async throws {
        try await withServer { port, asked in
            let connection = try #require(Connection(port: port))
            connection.send(head.replacing("HOST", with: "localhost:\(port)"))
            let reply = try #require(await connection.receive())
            #expect([400, 413].contains(reply.status))
            #expect(await connection.isClosed)
            #expect(asked() == 0)
        }
    }

    @Test func chunksThatAreTooLong() async throws {
        try await withServer { port, asked in
            let connection = try #require(Connection(port: port))
            connection.send("POST /console/act HTTP/1.1\r\nHost: localhost:\(port)\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<17 { connection.send("1000\r\n\(String(repeating: "a", count: 4096))\r\n") }
            let reply = try #require(await connection.receive())
            #expect(reply.status == 413)
            #expect(asked() == 0)
        }
    }
}

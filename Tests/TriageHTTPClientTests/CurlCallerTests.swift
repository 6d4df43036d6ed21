import Foundation
import Synchronization
import Testing
import TriageEvents

@testable import TriageHTTPClient

@Suite("Calls by libcurl", .enabled(if: ServerUnderTest.isAvailable, "needs python3"))
struct CurlCallerTests {
    let server: ServerUnderTest
    let caller = CurlCaller()

    init() throws { server = try ServerUnderTest() }

    /// What the server saw.
    struct Echo: Decodable {
        let method: String
        let path: String
        let headers: [[String]]
        let body: String

        init(_ answer: HTTPAnswer) throws { self = try JSONDecoder().decode(Echo.self, from: Data(answer.body)) }

        func values(_ name: String) -> [String] { headers.filter { $0[0].lowercased() == name }.map { $0[1] } }
    }

    func failure(_ call: HTTPCall, by other: CurlCaller? = nil) async -> HTTPCallError.Code? {
        do throws(HTTPCallError) {
            _ = try await (other ?? caller).send(call)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("Method, headers and body arrive as they are", arguments: HTTPCall.Method.allCases)
    func methods(method: HTTPCall.Method) async throws {
        let body = method == .get ? nil : ByteSlice([0x7B, 0x00, 0x7D])
        let call = HTTPCall(
            method, server.url("/echo?a=b"),
            headers: [("Content-Type", "application/fhir+json"), ("X-One", "1"), ("X-Nothing", ""), ("X-One", "2")], body: body)
        let answer = try await caller.send(call)
        let echo = try Echo(answer)
        #expect(answer.status == 200 && answer.header("etag") == "W/\"1\"" && answer.header("x-empty")?.isEmpty == true)
        #expect(echo.method == method.rawValue && echo.path == "/echo?a=b")
        #expect(echo.body == (body == nil ? "" : "{\u{0}}"))
        #expect(echo.values("x-one") == ["1", "2"] && echo.values("x-nothing") == [""])
        #expect(echo.values("content-type") == ["application/fhir+json"] && echo.values("expect").isEmpty)
        #expect(echo.values("user-agent") == ["triage"])
    }

    @Test("A body without a type isn't called a form, and none is one of no bytes")
    func noBody() async throws {
        let echo = try Echo(try await caller.send(HTTPCall(.post, server.url("/echo"))))
        #expect(echo.values("content-length") == ["0"] && echo.values("content-type").isEmpty)
        let deleted = try Echo(try await caller.send(HTTPCall(.delete, server.url("/echo"))))
        #expect(deleted.values("content-length").isEmpty)
    }

    @Test("Statuses are answers, redirects too", arguments: [204, 404, 429, 503])
    func statuses(status: Int) async throws {
        #expect(try await caller.send(HTTPCall(.get, server.url("/status/\(status)"))).status == status)
        let redirect = try await caller.send(HTTPCall(.post, server.url("/redirect"), body: ByteSlice("x")))
        #expect(redirect.status == 302 && redirect.header("location") == "/echo")
    }

    @Test("One call after the other goes over one connection")
    func keepAlive() async throws {
        for _ in 0..<20 { _ = try await caller.send(HTTPCall(.post, server.url("/echo"), body: ByteSlice("x"))) }
        let answer = try await caller.send(HTTPCall(.get, server.url("/count")))
        #expect(answer.body.utf8Text == "1")
    }

    @Test(
        "What is no answer has a name",
        arguments: [
            ("/reset", HTTPCallError.Code.connectionLost), ("/half", .connectionLost), ("/garbage", .invalidAnswer),
            ("/hang", .timeout), ("/trickle", .timeout), ("/headers/200000", .answerTooLarge),
        ])
    func failures(path: String, expected: HTTPCallError.Code) async {
        #expect(await failure(HTTPCall(.get, server.url(path), timeout: .milliseconds(400))) == expected)
    }

    @Test("Nobody there, and no such name")
    func nobody() async throws {
        #expect(await failure(HTTPCall(.get, "http://127.0.0.1:1/")) == .connectionFailed)
        #expect(await failure(HTTPCall(.get, "http://no-such-host.invalid/", timeout: .seconds(10))) == .nameNotResolved)
    }

    @Test("An answer beyond the limit fails, or is cut off where only the status counts")
    func huge() async throws {
        var options = CurlCaller.Options()
        options.maximumAnswerBytes = 100_000
        let strict = CurlCaller(options)
        #expect(await failure(HTTPCall(.get, server.url("/huge/10000000")), by: strict) == .answerTooLarge)
        var call = HTTPCall(.get, server.url("/huge/10000000"))
        call.maximumAnswerBytes = 100_000
        #expect(await failure(call) == .answerTooLarge, "a call has a limit of its own, below the caller's")
        options.cutsLongAnswers = true
        let answer = try await CurlCaller(options).send(HTTPCall(.get, server.url("/huge/10000000")))
        #expect(answer.status == 202 && answer.body.count == 100_000)
    }

    @Test(
        "What could be read as something else isn't sent",
        arguments: [
            ("http://127.0.0.1:PORT/echo", "X-A", "b\r\nX-C: d"), ("http://127.0.0.1:PORT/echo", "X-A", "b\nX"),
            ("http://127.0.0.1:PORT/echo", "X-A", "b\u{0}"), ("http://127.0.0.1:PORT/echo", "X A", "b"),
            ("http://127.0.0.1:PORT/echo", "X-A: b\r\nX-C", "d"), ("http://127.0.0.1:PORT/echo", "", "d"),
            ("http://127.0.0.1:PORT/echo", "Content-Length", "1"), ("http://127.0.0.1:PORT/echo", "transfer-encoding", "chunked"),
            ("http://user:pw@127.0.0.1:PORT/echo", "X-A", "b"), ("file:///etc/passwd", "X-A", "b"), ("/echo", "X-A", "b"),
            ("http://127.0.0.1:PORT/a b", "X-A", "b"), ("http://127.0.0.1:PORT/a\r\nX-C: d", "X-A", "b"), ("", "X-A", "b"),
            ("http://127.0.0.1:0/", "X-A", "b"), ("http:///echo", "X-A", "b"),
        ])
    func refused(url: String, name: String, value: String) async {
        let url = url.replacing("PORT", with: "\(server.port)")
        #expect(await failure(HTTPCall(.post, url, headers: [(name, value)])) == .invalidCall)
    }

    @Test("A cancelled call ends at once; one cancelled before it began isn't made")
    func cancellation() async throws {
        let task = Task { await failure(HTTPCall(.get, server.url("/hang"), timeout: .seconds(300))) }
        // Whether it has begun or not makes no difference to what comes out.
        task.cancel()
        #expect(await task.value == .cancelled)
        let begun = Task { await failure(HTTPCall(.get, server.url("/hang"), timeout: .seconds(300))) }
        while try await caller.send(HTTPCall(.get, server.url("/count"))).body.utf8Text == "0" {}
        begun.cancel()
        #expect(await begun.value == .cancelled)
        #expect(try await caller.send(HTTPCall(.get, server.url("/status/204"))).status == 204)
    }

    @Test("Closing ends what is under way and what comes after")
    func closing() async {
        let other = CurlCaller()
        let task = Task { await failure(HTTPCall(.get, server.url("/hang"), timeout: .seconds(300)), by: other) }
        other.close()
        #expect(await task.value == .closed)
        #expect(await failure(HTTPCall(.get, server.url("/echo")), by: other) == .closed)
        other.close()
    }

    @Test("1,000 calls at a time, over no more connections than allowed; a tenth of them cancelled")
    func many() async throws {
        var options = CurlCaller.Options()
        options.maximumConnections = 50
        let caller = CurlCaller(options)
        let cancelled = await withTaskGroup(of: (Int, Bool).self) { group in
            for number in 0..<1000 {
                group.addTask {
                    let task = Task {
                        let answer = try await caller.send(
                            HTTPCall(.post, server.url("/echo"), body: ByteSlice("\(number)"), timeout: .seconds(120)))
                        return try Echo(answer).body
                    }
                    if number % 10 == 0 { task.cancel() }
                    switch await task.result {
                    case .success(let body): return (0, body == "\(number)")
                    case .failure(let error): return (1, number % 10 == 0 && (error as? HTTPCallError)?.code == .cancelled)
                    }
                }
            }
            var count = 0
            for await (cancelled, isRight) in group {
                count += cancelled
                #expect(isRight)
            }
            return count
        }
        #expect(cancelled <= 100)
        let count = try await caller.send(HTTPCall(.get, server.url("/count"))).body.utf8Text.flatMap { Int($0) }
        #expect(try #require(count) <= 50 + cancelled)
    }

    @Test("Certificates must be trusted: by the system's authorities not, by the private one yes")
    func tls() async throws {
        let secure = try ServerUnderTest(isSecure: true)
        #expect(await failure(HTTPCall(.get, secure.url("/echo"))) == .tls)
        var options = CurlCaller.Options()
        options.caFile = secure.directory.appending(path: "ca.pem").path
        let trusting = CurlCaller(options)
        #expect(try await trusting.send(HTTPCall(.post, secure.url("/echo"), body: ByteSlice("x"))).status == 200)
        let name = secure.url("/echo").replacing("127.0.0.1", with: "localhost")
        #expect(await failure(HTTPCall(.get, name), by: trusting) == .tls)
        options.caFile = "/no/such/file"
        #expect(await failure(HTTPCall(.get, secure.url("/echo")), by: CurlCaller(options)) == .tls)
    }
}

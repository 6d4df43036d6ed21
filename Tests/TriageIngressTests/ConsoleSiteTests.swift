import HTTPTypes
import Logging
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageIngress

/// Pages that say what they were asked for, and count what they were asked to do.
private final class Pages: ConsolePages {
    let navigation = [(path: "/console", title: "Overview"), (path: "/console/list", title: "List")]
    let asked = Mutex<[ConsoleRequest]>([])

    func answer(_ request: ConsoleRequest) async -> ConsoleAnswer {
        asked.withLock { $0.append(request) }
        if request.isPost { return ConsoleAnswer(.redirect(to: "/console/done")) }
        if request.path == ["data"] { return ConsoleAnswer(.json("{}")) }
        return ConsoleAnswer(.page(title: "Shown", "<p>\(request.query["text"] ?? "nothing")</p>"))
    }

    var acts: Int { asked.withLock { $0.count { $0.isPost } } }
}

private struct World {
    let pages = Pages()
    let clock = ManualClock()
    let site: ConsoleSite
    static let token = "0123456789abcdef"

    init(token: String? = World.token, hosts: [String] = []) {
        site = ConsoleSite(pages, token: token, hosts: hosts.compactMap { ConsoleHostName($0) }, clock: clock)
        site.listens(host: "127.0.0.1", port: 9464)
    }

    func ask(
        _ method: HTTPRequest.Method, _ target: String, host: String? = "127.0.0.1:9464", origin: String? = nil,
        site fetch: String? = nil,
        cookie: String? = nil, type: String? = "application/x-www-form-urlencoded", body: String = ""
    ) async -> ConsoleReply {
        var headers = HTTPFields()
        headers[.origin] = origin
        if method == .post { headers[.contentType] = type }
        if let fetch { headers[HTTPField.Name("Sec-Fetch-Site")!] = fetch }
        headers[.cookie] = cookie
        return await site.answer(
            ConsoleCall(method: method, target: target, authority: host, headers: headers, body: Array(body.utf8)))
    }

    func post(_ target: String, cookie: String? = nil, _ body: String) async -> ConsoleReply {
        await ask(.post, target, origin: "http://127.0.0.1:9464", cookie: cookie, body: body)
    }

    /// Signs in; gives the cookie and the form token that pages carry.
    func signIn(_ more: String = "") async throws -> (cookie: String, formToken: String) {
        let reply = await post("/console/login", "token=\(World.token)\(more)")
        #expect(reply.status == .seeOther)
        let cookie = String(try #require(reply.headers[.setCookie]).prefix { $0 != ";" })
        let page = await ask(.get, "/console", cookie: cookie).text
        let match = try #require(page.firstMatch(of: /name="form-token" value="([0-9a-f]{64})"/))
        return (cookie, String(match.output.1))
    }
}

extension ConsoleReply {
    fileprivate var text: String { String(decoding: body, as: UTF8.self) }
}

@Suite("The site that a console is served as")
struct ConsoleSiteTests {
    @Test("Only expected names are answered: a foreign one leads here by DNS rebinding, whatever is asked for")
    func hosts() async {
        let world = World(hosts: ["triage.example.org", "https://ops.example.org:8443"])
        let good = [
            "127.0.0.1:9464", "localhost:9464", "LOCALHOST:9464", "[::1]:9464", "triage.example.org", "triage.example.org:80",
            "ops.example.org:8443",
        ]
        for host in good { #expect(await world.ask(.get, "/console", host: host).status == .ok, "\(host)") }
        let bad: [String?] = [
            nil, "", "evil.example.org", "evil.example.org:9464", "127.0.0.1", "127.0.0.1:9465", "localhost",
            "localhost.evil.org:9464",
            "127.0.0.1:9464@evil.org", "evil.org#127.0.0.1:9464", "127.0.0.1:9464, evil.org", "0.0.0.0:9464", "ops.example.org",
            "ops.example.org:443", "[::1", "[::1]x:9464", "127.0.0.1:", "127.0.0.1:99999", "a b:9464",
        ]
        for host in bad {
            for target in ["/console", "/console/style.css", "/console/login"] {
                #expect(await world.ask(.get, target, host: host).status == .misdirectedRequest, "\(host ?? "none")")
            }
            let reply = await world.ask(
                .post, "/console/login", host: host, origin: "http://\(host ?? "")", body: "token=\(World.token)")
            #expect(reply.status == .misdirectedRequest && reply.headers[.setCookie] == nil)
        }
    }

    @Test("What changes something must come from a page of the console's own")
    func origins() async throws {
        let world = World()
        let (cookie, formToken) = try await world.signIn()
        func act(_ origin: String?, _ site: String?, host: String = "127.0.0.1:9464") async -> HTTPResponse.Status {
            await world.ask(
                .post, "/console/act", host: host, origin: origin, site: site, cookie: cookie, body: "form-token=\(formToken)"
            ).status
        }
        #expect(await act("http://127.0.0.1:9464", nil) == .seeOther)
        #expect(await act("http://127.0.0.1:9464", "same-origin") == .seeOther)
        #expect(await act(nil, "same-origin") == .seeOther)
        #expect(world.pages.acts == 3)
        let bad: [(String?, String?)] = [
            (nil, nil), ("null", nil), ("null", "same-origin"), ("http://127.0.0.1:9465", nil), ("http://localhost:9464", nil),
            ("https://127.0.0.1:9464", nil), ("http://evil.example.org", "cross-site"), ("http://127.0.0.1:9464", "cross-site"),
            ("http://127.0.0.1:9464", "same-site"), (nil, "same-site"), (nil, "none"), (nil, "cross-site"),
        ]
        for (origin, site) in bad { #expect(await act(origin, site) == .forbidden, "\(origin ?? "-") \(site ?? "-")") }
        #expect(world.pages.acts == 3)
    }

    @Test("Without a session, or without its form token, nothing is done")
    func sessions() async throws {
        let world = World()
        #expect(await world.post("/console/act", "do=it").status == .forbidden)
        let (cookie, formToken) = try await world.signIn("&name=Ann+O%27Hara".replacing("%27", with: ""))
        for body in ["", "form-token=", "form-token=\(String(repeating: "0", count: 64))", "form-token=\(formToken)0"] {
            #expect(await world.post("/console/act", cookie: cookie, body).status == .forbidden)
        }
        let forged = "triage_console_9464=\(String(repeating: "a", count: 64))"
        for cookie in ["", "triage_console_9464=", forged, "other=\(cookie)", "\(cookie); \(forged)"] {
            #expect(await world.post("/console/act", cookie: cookie, "form-token=\(formToken)").status == .forbidden, "\(cookie)")
        }
        #expect(world.pages.acts == 0)
        #expect(await world.post("/console/act", cookie: "a=b; \(cookie)", "form-token=\(formToken)").status == .seeOther)
        #expect(world.pages.asked.withLock { $0.last?.visitor?.name } == "Ann OHara")
        // Another session's token doesn't count here.
        let other = try await world.signIn()
        #expect(await world.post("/console/act", cookie: cookie, "form-token=\(other.formToken)").status == .forbidden)
        #expect(await world.post("/console/logout", cookie: cookie, "form-token=\(formToken)").status == .seeOther)
        #expect(await world.post("/console/act", cookie: cookie, "form-token=\(formToken)").status == .forbidden)
        #expect(world.pages.acts == 1)
    }

    @Test("A session ends after an hour without a request, and after eight in any case")
    func expiry() async throws {
        let world = World()
        let first = try await world.signIn()
        world.clock.advance(by: .seconds(3601))
        #expect(await world.post("/console/act", cookie: first.cookie, "form-token=\(first.formToken)").status == .forbidden)
        let second = try await world.signIn()
        for _ in 0..<8 {
            world.clock.advance(by: .seconds(3590))
            #expect(await world.post("/console/act", cookie: second.cookie, "form-token=\(second.formToken)").status == .seeOther)
        }
        world.clock.advance(by: .seconds(100))
        #expect(await world.post("/console/act", cookie: second.cookie, "form-token=\(second.formToken)").status == .forbidden)
    }

    @Test("Tokens can't be guessed: after ten wrong ones none is looked at for a minute, then again")
    func guessing() async throws {
        let world = World()
        for _ in 0..<10 { #expect(await world.post("/console/login", "token=wrong").status == .forbidden) }
        let refused = await world.post("/console/login", "token=\(World.token)")
        #expect(refused.status == .tooManyRequests && refused.headers[.setCookie] == nil)
        #expect(Int(refused.headers[.retryAfter] ?? "") == 60)
        world.clock.advance(by: .seconds(61))
        _ = try await world.signIn()
    }

    @Test("Without a token nobody signs in, not even with an empty one")
    func readOnly() async {
        let world = World(token: nil)
        for body in ["", "token=", "token=x"] {
            let reply = await world.post("/console/login", body)
            #expect(reply.status == .forbidden && reply.headers[.setCookie] == nil)
        }
        #expect(await world.ask(.get, "/console").status == .ok)
    }

    @Test("The cookie is out of reach of scripts and other sites, and secure where a proxy speaks TLS")
    func cookie() async {
        let world = World(hosts: ["https://ops.example.org"])
        let plain = await world.post("/console/login", "token=\(World.token)&next=/console/list%3Fa%3D1").headers
        let cookie = plain[.setCookie] ?? ""
        #expect(cookie.hasPrefix("triage_console_9464="))
        #expect(cookie.hasSuffix("; Path=/console; HttpOnly; SameSite=Strict; Max-Age=28800"))
        #expect(plain[.location] == "/console/list?a=1" && plain[.cacheControl] == "no-store")
        let secure = await world.ask(
            .post, "/console/login", host: "ops.example.org", origin: "https://ops.example.org", body: "token=\(World.token)")
        #expect(secure.headers[.setCookie]?.hasSuffix("; Secure") == true)
        #expect(
            await world.ask(.post, "/console/login", host: "ops.example.org", origin: "http://ops.example.org", body: "token=x")
                .status
                == .forbidden)
    }

    @Test(
        "Signing in leads nowhere else",
        arguments: [
            "https://evil.example.org", "//evil.example.org", "/console//evil", "/consoleevil", "/metrics", "/console/\\evil",
            "javascript:alert(1)",
            "/console/%0d%0aSet-Cookie:a=b", "",
        ])
    func redirects(next: String) async {
        let world = World()
        let reply = await world.post("/console/login", "token=\(World.token)&next=\(next)")
        let location = reply.headers[.location] ?? ""
        #expect(location == "/console" && reply.headers.count { $0.name == .setCookie } == 1)
    }

    @Test("Every answer has the strict policy, and none but style and script may be kept")
    func headers() async {
        let world = World()
        for target in [
            "/console", "/console/login", "/console/data", "/console/style.css?v=1", "/console/script.js", "/console/icon.svg",
        ] {
            let headers = await world.ask(.get, target).headers
            let policy = headers[HTTPField.Name("Content-Security-Policy")!] ?? ""
            #expect(policy.hasPrefix("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"))
            #expect(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'") && !policy.contains("unsafe"))
            for (name, value) in [
                ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "same-origin"),
                ("Cross-Origin-Opener-Policy", "same-origin"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
            ] { #expect(headers[HTTPField.Name(name)!] == value) }
            let isAsset = target.contains(".")
            #expect(headers[.cacheControl] == (isAsset ? "private, max-age=86400" : "no-store"))
        }
    }

    @Test("Malformed targets, forms, media types and methods are refused, and nothing is done")
    func malformed() async throws {
        let world = World()
        let (cookie, formToken) = try await world.signIn()
        for target in ["/console/../metrics", "/console/%2e%2e", "/console/a%00b", "/console/%zz", "/console/a%2fb"] {
            #expect(await world.ask(.get, target).status == .badRequest, "\(target)")
        }
        for method in [HTTPRequest.Method.put, .delete, .patch, .options, .trace] {
            let reply = await world.ask(method, "/console")
            #expect(reply.status == .methodNotAllowed && reply.headers[.allow] == "GET, HEAD, POST")
        }
        let body = "form-token=\(formToken)"
        for type in ["text/plain", "application/json", "multipart/form-data; boundary=x", nil] {
            let reply = await world.ask(
                .post, "/console/act", origin: "http://127.0.0.1:9464", cookie: cookie, type: type, body: body)
            #expect(reply.status == .unsupportedMediaType)
        }
        for bad in ["&a=%ff", "&a=%0", "&a=%00", String(repeating: "&a=b", count: 500)] {
            #expect(await world.post("/console/act", cookie: cookie, body + bad).status == .badRequest)
        }
        #expect(await world.post("/console/login", "token=x&name=%3Cb%3E").status == .badRequest)
        #expect(world.pages.acts == 0)
    }

    @Test("What pages are asked for is escaped, hostile as it may be")
    func hostile() async {
        let world = World()
        let page = await world.ask(.get, "/console?text=%3Cscript%3Ealert(1)%3C/script%3E%22%27%26").text
        #expect(page.contains("<p>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;</p>"))
        #expect(
            page.contains(
                "<li><a href=\"/console\" aria-current=\"page\">Overview</a></li><li><a href=\"/console/list\">List</a></li>"))
        let login = await world.ask(.get, "/console/login?next=/console/%22%3E%3Cb%3E").text
        #expect(!login.contains("<b>") && login.contains("name=\"next\" value=\"/console\""))
    }
}

@Suite("Markup")
struct HTMLTests {
    @Test("Text is escaped, markup isn't twice, numbers are numbers")
    func escaping() {
        let name = "<img src=x onerror='a'>\"&`"
        let inner: HTML = "<b>\(name)</b>"
        let html: HTML = "<p title=\"\(name)\">\(inner) \(7) \([inner, "<i></i>"])</p>"
        let escaped = "&lt;img src=x onerror=&#39;a&#39;&gt;&quot;&amp;&#96;"
        #expect(html.text == "<p title=\"\(escaped)\"><b>\(escaped)</b> 7 <b>\(escaped)</b><i></i></p>")
    }

    @Test("What could hide or turn text is replaced, other scripts aren't")
    func controls() {
        let html: HTML = "\("a\u{0}b\u{1B}[31m\u{202E}c\u{2028}\u{85}é漢😀\u{2066}\n\t")"
        #expect(html.text == "a\u{FFFD}b\u{FFFD}[31m\u{FFFD}c\u{FFFD}\u{FFFD}é漢😀\u{FFFD}\n\t")
    }

    @Test("An address is a path of this site or one of http and https")
    func addresses() {
        for good in ["/console/a?b=c", "#span", "http://jaeger:16686/trace/1", "HTTPS://g.example.org/"] {
            let html: HTML = "\(address: good)"
            #expect(html.text == good)
        }
        for bad in [
            "javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "//evil.org", "/\\evil.org", "vbscript:x", "evil",
        ] {
            let html: HTML = "\(address: bad)"
            #expect(html.text == "#")
        }
        let quoted: HTML = "\(address: "https://g/?a=\"b\"&c")"
        #expect(quoted.text == "https://g/?a=&quot;b&quot;&amp;c")
    }

    @Test("Whatever the text, no markup comes of it")
    func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        func next(_ below: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % below
        }
        let pieces = ["<", ">", "\"", "'", "&", "`", "\u{0}", "\u{202E}", "é", "a", "=", "/", "&amp;", "]]>", "<!--", "\n"]
        for _ in 0..<2000 {
            let text = (0..<next(12)).map { _ in pieces[Int(next(UInt64(pieces.count)))] }.joined()
            let html: HTML = "\(text)"
            #expect(!html.text.contains { "<>\"'`".contains($0) }, "seed \(seed): \(text.debugDescription)")
            #expect(!html.text.unicodeScalars.contains("\u{202E}"), "seed \(seed)")
        }
    }
}

@Suite("The console on the admin server", .serialized)
struct ConsoleServerTests {
    private func withServer(_ body: @escaping @Sendable (_ port: Int, _ pages: @Sendable () -> Int) async throws -> Void)
        async throws
    {
        let pages = Pages()
        let site = ConsoleSite(pages, token: World.token)
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
            let form = "token=\(World.token)"
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

import HTTPTypes
import Synchronization
import Testing
import TriageTelemetry
import TriageTestKit

@testable import TriageIngress

@Suite("The site that a console is served as")
struct ConsoleSiteTests {
    @Test("Only expected names are answered: a foreign one leads here by DNS rebinding, whatever is asked for")
    func hosts() async {
        let world = ConsoleSiteWorld(hosts: ["triage.example.org", "https://ops.example.org:8443"])
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
                .post, "/console/login", host: host, origin: "http://\(host ?? "")", body: "token=\(ConsoleSiteWorld.token)")
            #expect(reply.status == .misdirectedRequest && reply.headers[.setCookie] == nil)
        }
    }

    @Test("What changes something must come from a page of the console's own")
    func origins() async throws {
        let world = ConsoleSiteWorld()
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
        let world = ConsoleSiteWorld()
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
        let world = ConsoleSiteWorld()
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
        let world = ConsoleSiteWorld()
        for _ in 0..<10 { #expect(await world.post("/console/login", "token=wrong").status == .forbidden) }
        let refused = await world.post("/console/login", "token=\(ConsoleSiteWorld.token)")
        #expect(refused.status == .tooManyRequests && refused.headers[.setCookie] == nil)
        #expect(Int(refused.headers[.retryAfter] ?? "") == 60)
        world.clock.advance(by: .seconds(61))
        _ = try await world.signIn()
    }

    @Test("Without a token nobody signs in, not even with an empty one")
    func readOnly() async {
        let world = ConsoleSiteWorld(token: nil)
        for body in ["", "token=", "token=x"] {
            let reply = await world.post("/console/login", body)
            #expect(reply.status == .forbidden && reply.headers[.setCookie] == nil)
        }
        #expect(await world.ask(.get, "/console").status == .ok)
    }

    @Test("The cookie is out of reach of scripts and other sites, and secure where a proxy speaks TLS")
    func cookie() async {
        let world = ConsoleSiteWorld(hosts: ["https://ops.example.org"])
        let plain = await world.post("/console/login", "token=\(ConsoleSiteWorld.token)&next=/console/list%3Fa%3D1").headers
        let cookie = plain[.setCookie] ?? ""
        #expect(cookie.hasPrefix("triage_console_9464="))
        #expect(cookie.hasSuffix("; Path=/console; HttpOnly; SameSite=Strict; Max-Age=28800"))
        #expect(plain[.location] == "/console/list?a=1" && plain[.cacheControl] == "no-store")
        let secure = await world.ask(
            .post, "/console/login", host: "ops.example.org", origin: "https://ops.example.org",
            body: "token=\(ConsoleSiteWorld.token)")
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
        let world = ConsoleSiteWorld()
        let reply = await world.post("/console/login", "token=\(ConsoleSiteWorld.token)&next=\(next)")
        let location = reply.headers[.location] ?? ""
        #expect(location == "/console" && reply.headers.count { $0.name == .setCookie } == 1)
    }

    @Test("Every answer has the strict policy, and none but style and script may be kept")
    func headers() async {
        let world = ConsoleSiteWorld()
        for target in [
            "/console", "/console/login", "/console/data", "/console/file", "/console/style.css?v=1", "/console/script.js",
            "/console/icon.svg",
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

    @Test("Lines are a file to be saved, whose name can't end the header")
    func lines() async {
        let reply = await ConsoleSiteWorld().ask(.get, "/console/file")
        #expect(reply.headers[.contentType] == "application/x-ndjson" && reply.text == "{}\n")
        #expect(reply.headers[.contentDisposition] == "attachment; filename=\"ab.ndjson\"")
    }

    @Test("Malformed targets, forms, media types and methods are refused, and nothing is done")
    func malformed() async throws {
        let world = ConsoleSiteWorld()
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
        let world = ConsoleSiteWorld()
        let page = await world.ask(.get, "/console?text=%3Cscript%3Ealert(1)%3C/script%3E%22%27%26").text
        #expect(page.contains("<p>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;</p>"))
        #expect(
            page.contains(
                "<li><a href=\"/console\" aria-current=\"page\">Overview</a></li><li><a href=\"/console/list\">List</a></li>"))
        let login = await world.ask(.get, "/console/login?next=/console/%22%3E%3Cb%3E").text
        #expect(!login.contains("<b>") && login.contains("name=\"next\" value=\"/console\""))
    }
}

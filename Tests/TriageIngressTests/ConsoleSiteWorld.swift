import HTTPTypes
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageIngress

/// Pages that say what they were asked for, and count what they were asked to do.
final class ConsolePagesProbe: ConsolePages {
    let navigation = [(path: "/console", title: "Overview"), (path: "/console/list", title: "List")]
    let asked = Mutex<[ConsoleRequest]>([])

    func answer(_ request: ConsoleRequest) async -> ConsoleAnswer {
        asked.withLock { $0.append(request) }
        if request.isPost { return ConsoleAnswer(.redirect(to: "/console/done")) }
        if request.path == ["data"] { return ConsoleAnswer(.json("{}")) }
        if request.path == ["file"] { return ConsoleAnswer(.lines(name: "a b\"\r\n.ndjson", Array("{}\n".utf8))) }
        return ConsoleAnswer(.page(title: "Shown", "<p>\(request.query["text"] ?? "nothing")</p>"))
    }

    var acts: Int { asked.withLock { $0.count { $0.isPost } } }
}

struct ConsoleSiteWorld {
    let pages = ConsolePagesProbe()
    let clock = ManualClock()
    let site: ConsoleSite
    static let token = "0123456789abcdef"

    init(token: String? = ConsoleSiteWorld.token, hosts: [String] = []) {
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
        let reply = await post("/console/login", "token=\(ConsoleSiteWorld.token)\(more)")
        #expect(reply.status == .seeOther)
        let cookie = String(try #require(reply.headers[.setCookie]).prefix { $0 != ";" })
        let page = await ask(.get, "/console", cookie: cookie).text
        let match = try #require(page.firstMatch(of: /name="form-token" value="([0-9a-f]{64})"/))
        return (cookie, String(match.output.1))
    }
}

extension ConsoleReply {
    var text: String { String(decoding: body, as: UTF8.self) }
}

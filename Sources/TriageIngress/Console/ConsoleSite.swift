internal import Crypto
internal import HTTPTypes
internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// A request as the server read it.
struct ConsoleCall: Sendable {
    var method: HTTPRequest.Method
    /// Path and query as they came.
    var target: String
    /// The only `Host`; nil if there is none, or several.
    var authority: String?
    var headers: HTTPFields
    var body: [UInt8] = []
}

/// An answer in the server's terms.
struct ConsoleReply: Sendable, Equatable {
    var status: HTTPResponse.Status
    var headers: HTTPFields
    var body: [UInt8]
}

/// The pages under `/console`: judges who asks and what may be done, and has ``ConsolePages`` answer the rest.
///
/// | what came | answer |
/// | --- | --- |
/// | a `Host` that isn't an expected one | 421, whatever was asked for |
/// | a malformed target or form | 400 |
/// | another method than GET, HEAD, POST | 405 with `Allow` |
/// | POST from another page: `Origin`, or `Sec-Fetch-Site` in its place, says so | 403 |
/// | POST that is no form | 415 |
/// | POST without a session, or without its form token | 403, and nothing is done |
/// | too many wrong tokens | 429 with `Retry-After` |
///
/// Reading needs no token: the pages show no patient data. Every answer has the headers of ``ConsoleSite/protection``, and but for
/// style and script it is `no-store`.
public final class ConsoleSite: Sendable {
    /// Bytes that a form may have: 64 KiB.
    public static let maximumBodyBytes = 64 * 1024
    /// The path that all of it stands under.
    public static let path = "/console"

    private struct State {
        var hosts: ConsoleHosts
        var cookie: String
        var sessions: ConsoleSessions
    }

    private let pages: any ConsolePages
    private let further: [ConsoleHostName]
    private let clock: any EventClock
    private let notice: @Sendable (SafeText) -> Void
    private let state: Mutex<State>

    /// A console that isn't served yet.
    ///
    /// - Parameters:
    ///   - pages: what it shows.
    ///   - token: what has to be shown before anything can be changed or revealed; nil if nobody may.
    ///   - hosts: names that it is reached by, beside the address that the server listens on.
    ///   - clock: tells sessions their age.
    ///   - notice: told of who signed in and who wasn't let in: no name, no address.
    public init(
        _ pages: any ConsolePages, token: String?, hosts: [ConsoleHostName] = [], clock: any EventClock = SystemClock(),
        notice: @escaping @Sendable (SafeText) -> Void = { _ in }
    ) {
        self.pages = pages
        self.further = hosts
        self.clock = clock
        self.notice = notice
        state = Mutex(
            State(
                hosts: ConsoleHosts(host: "127.0.0.1", port: 0, further: hosts), cookie: "triage_console",
                sessions: ConsoleSessions(token: token)))
    }

    /// A token that nobody guesses: 192 random bits.
    public static func randomToken() -> String { ConsoleSessions.hex(random(24)) }

    /// The server listens there now.
    func listens(host: String, port: Int) {
        state.withLock { state in
            state.hosts = ConsoleHosts(host: host, port: port, further: further)
            // Cookies know no ports: two consoles on one machine would end one another's sessions.
            state.cookie = "triage_console_\(port)"
        }
    }

    /// Whether a path belongs to a console.
    static func owns(_ path: String) -> Bool { path == ConsoleSite.path || path.hasPrefix(ConsoleSite.path + "/") }

    /// Headers of each answer: nothing from elsewhere is loaded, nothing inline is run, no other page frames it or reads it.
    ///
    /// Other sites get no referrer. Of `no-referrer` browsers would make `Origin: null` for our own forms as well (Fetch §3.2,
    /// "append a request Origin header"), and nothing could be told by it.
    static let protection: HTTPFields = {
        var fields = HTTPFields()
        let policy = [
            "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'",
            "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
        let headers = [
            ("Content-Security-Policy", policy.joined(separator: "; ")), ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"), ("Referrer-Policy", "same-origin"), ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"), ("Cross-Origin-Embedder-Policy", "require-corp"),
            ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"), ("X-Robots-Tag", "noindex"),
        ]
        for (name, value) in headers {
            if let name = HTTPField.Name(name) { fields.append(HTTPField(name: name, value: value)) }
        }
        return fields
    }()

    func answer(_ call: ConsoleCall) async -> ConsoleReply {
        let (hosts, cookie) = state.withLock { ($0.hosts, $0.cookie) }
        guard let host = hosts.match(call.authority) else {
            return ConsoleSite.plain(
                .misdirectedRequest,
                "The console is not served under this name; the setting console-hosts names further ones.\n")
        }
        guard let target = RequestTarget(call.target), target.segments.first == "console" else {
            return ConsoleSite.plain(.badRequest, "The request's target is malformed.\n")
        }
        let path = Array(target.segments.dropFirst().filter { !$0.isEmpty })
        let id = ConsoleSite.session(call.headers, cookie)
        let now = clock.now()
        let (visitor, isOpen) = state.withLock { ($0.sessions.visitor(id, at: now), $0.sessions.isOpen) }
        var request = ConsoleRequest(
            path: path, query: FormFields(target.query.map { ($0.name, $0.value) }), visitor: visitor, canSignIn: isOpen)
        switch call.method {
        case .get, .head:
            if path.count == 1, let asset = ConsoleAsset.all[path[0]] { return asset.reply }
            if path == ["login"] { return signInPage(request) }
        case .post:
            if let refusal = read(call, from: host, into: &request) { return refusal }
            if path == ["login"] { return signIn(request, at: now, cookie, isSecure: host.isSecure) }
            guard let visitor, visitor.matches(request.form["form-token"]) else { return refuse(request) }
            request.isPost = true
            if path == ["logout"] { return signOut(id, cookie, isSecure: host.isSecure) }
        default:
            var reply = ConsoleSite.plain(.methodNotAllowed, "Only GET, HEAD and POST are understood.\n")
            reply.headers[.allow] = "GET, HEAD, POST"
            return reply
        }
        return reply(await pages.answer(request), to: request)
    }

    /// Reads the form of a request that would change something; gives the refusal if it isn't one of ours.
    private func read(_ call: ConsoleCall, from host: ConsoleHostName, into request: inout ConsoleRequest) -> ConsoleReply? {
        let site = HTTPField.Name("Sec-Fetch-Site").flatMap { call.headers.text($0) }
        guard host.isOwn(origin: call.headers.text(.origin), site: site) else {
            notice("a request to the console came from another page and was refused")
            return ConsoleSite.plain(.forbidden, "The request comes from another page. Nothing was done.\n")
        }
        let type = (call.headers.text(.contentType) ?? "").prefix { $0 != ";" }.lowercased()
        guard type.trimmingTail == FormFields.mediaType else {
            return ConsoleSite.plain(.unsupportedMediaType, "Only forms are understood. Nothing was done.\n")
        }
        guard let form = FormFields(call.body) else {
            return ConsoleSite.plain(.badRequest, "The form is malformed. Nothing was done.\n")
        }
        request.form = form
        return nil
    }

    // MARK: Signing in

    private func signInPage(_ request: ConsoleRequest, _ problem: String? = nil, status: HTTPResponse.Status = .ok)
        -> ConsoleReply
    {
        let next = ConsoleSite.local(request.form["next"] ?? request.query["next"])
        let page = ConsoleLayout.signIn(canSignIn: request.canSignIn, next: next, problem: problem)
        return reply(ConsoleAnswer(.page(title: "Sign in", page), status: status), to: request)
    }

    private func signIn(_ request: ConsoleRequest, at now: Timestamp, _ cookie: String, isSecure: Bool) -> ConsoleReply {
        let name = request.form["name"]
        if let name, !ConsoleSite.isName(name) {
            return signInPage(
                request, "A name has at most 64 letters, digits, spaces and . _ - @.", status: .badRequest)
        }
        let random = ConsoleSite.random(64)
        let entry = state.withLock { $0.sessions.enter(request.form["token"] ?? "", name: name, at: now, random: random) }
        switch entry {
        case .admitted(let id, _):
            notice("someone signed in to the console")
            var reply = ConsoleSite.redirect(to: ConsoleSite.local(request.form["next"]))
            let age = ConsoleSessions.maximumAge.wholeNanoseconds / 1_000_000_000
            ConsoleSite.set(cookie, id, age: age, isSecure: isSecure, on: &reply)
            return reply
        case .refused:
            notice("a wrong token was shown to the console")
            return signInPage(request, "This token is wrong.", status: .forbidden)
        case .later(let duration):
            let seconds = (duration.wholeNanoseconds + 999_999_999) / 1_000_000_000
            var reply = signInPage(
                request, "Too many wrong tokens: tokens are looked at again in \(seconds) s.", status: .tooManyRequests)
            reply.headers[.retryAfter] = "\(seconds)"
            return reply
        case .closed: return signInPage(request, status: .forbidden)
        }
    }

    private func signOut(_ id: String?, _ cookie: String, isSecure: Bool) -> ConsoleReply {
        state.withLock { $0.sessions.leave(id) }
        var reply = ConsoleSite.redirect(to: ConsoleSite.path)
        ConsoleSite.set(cookie, "", age: 0, isSecure: isSecure, on: &reply)
        return reply
    }

    /// What someone gets who would change something without having shown the token.
    private func refuse(_ request: ConsoleRequest) -> ConsoleReply {
        notice("a request to the console was refused, since its sender isn't signed in")
        let page = ConsoleLayout.refusal(isSignedIn: request.visitor != nil)
        return reply(ConsoleAnswer(.page(title: "Not done", page), status: .forbidden), to: request)
    }

    // MARK: Answers

    private func reply(_ answer: ConsoleAnswer, to request: ConsoleRequest) -> ConsoleReply {
        switch answer.content {
        case .redirect(let path): return ConsoleSite.redirect(to: ConsoleSite.local(path))
        case .json(let text):
            return ConsoleSite.reply(answer.status, "application/json", Array((text + "\n").utf8))
        case .lines(let name, let bytes):
            var reply = ConsoleSite.reply(answer.status, "application/x-ndjson", bytes)
            let safe = name.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "." || $0 == "-") }
            reply.headers[.contentDisposition] = "attachment; filename=\"\(safe)\""
            return reply
        case .page(let title, let body):
            let page = ConsoleLayout.page(title: title, body, navigation: pages.navigation, request: request)
            return ConsoleSite.reply(answer.status, "text/html; charset=utf-8", Array(page.text.utf8))
        }
    }

    private static func reply(_ status: HTTPResponse.Status, _ type: String, _ body: [UInt8]) -> ConsoleReply {
        var headers = protection
        headers[.contentType] = type
        headers[.cacheControl] = "no-store"
        return ConsoleReply(status: status, headers: headers, body: body)
    }

    /// An answer of one sentence, where no page is shown.
    static func plain(_ status: HTTPResponse.Status, _ text: StaticString) -> ConsoleReply {
        reply(status, "text/plain; charset=utf-8", Array(text.description.utf8))
    }

    private static func redirect(to path: String) -> ConsoleReply {
        var reply = reply(.seeOther, "text/plain; charset=utf-8", [])
        reply.headers[.location] = path
        return reply
    }

    /// A path of the console with its query, of visible ASCII; for anything else the first page.
    static func local(_ path: String?) -> String {
        guard let path, path.utf8.count <= 2000, owns(String(path.prefix { $0 != "?" })), !path.contains("//"),
            path.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != 0x5C && $0 != 0x22 && $0 != 0x3C && $0 != 0x3E })
        else { return ConsoleSite.path }
        return path
    }

    private static func isName(_ text: String) -> Bool {
        text.count <= 64
            && text.unicodeScalars.allSatisfy {
                $0.properties.isAlphabetic || ("0"..."9").contains($0) || " ._-@".unicodeScalars.contains($0)
            }
    }

    /// The session's id of the only cookie of that name; of several nobody knows which is ours.
    private static func session(_ headers: HTTPFields, _ cookie: String) -> String? {
        var found: [String] = []
        for field in headers where field.name == .cookie {
            for pair in field.value.split(separator: ";") {
                let halves = pair.drop { $0 == " " }.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                if halves.count == 2, halves[0] == cookie { found.append(String(halves[1])) }
            }
        }
        return found.count == 1 ? found[0] : nil
    }

    private static func set(_ name: String, _ value: String, age: Int64, isSecure: Bool, on reply: inout ConsoleReply) {
        reply.headers[.setCookie] =
            "\(name)=\(value); Path=\(path); HttpOnly; SameSite=Strict; Max-Age=\(age)\(isSecure ? "; Secure" : "")"
    }

    private static func random(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}

extension String {
    fileprivate var trimmingTail: Substring {
        var text = self[...]
        while text.last == " " { text = text.dropLast() }
        return text
    }
}

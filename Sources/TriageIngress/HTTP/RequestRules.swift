internal import HTTPTypes

/// Why a request is refused by the server itself, before any route sees it.
struct Refusal: Sendable, Equatable {
    let status: HTTPResponse.Status
    let outcome: OperationOutcome?
    var headers: HTTPFields = [:]
    /// Whether the connection ends with the answer: always where the rest of the request is not read.
    let closes: Bool

    init(_ status: HTTPResponse.Status, _ outcome: OperationOutcome?, headers: HTTPFields = [:], closes: Bool) {
        self.status = status
        self.outcome = outcome
        self.headers = headers
        self.closes = closes
    }

    static func bad(_ text: StaticString) -> Refusal { Refusal(.badRequest, OperationOutcome(.structure, text), closes: true) }
    static let headTooLarge = Refusal(
        .requestHeaderFieldsTooLarge, OperationOutcome(.tooLong, "the request's head is too large"), closes: true)
    static let bodyTooLarge = Refusal(
        .contentTooLarge, OperationOutcome(.tooLong, "the body is longer than this route takes"), closes: true)
    static let headTimeout = Refusal(
        .requestTimeout, OperationOutcome(.timeout, "the request's head did not come in time"), closes: true)
    static let bodyTimeout = Refusal(
        .requestTimeout, OperationOutcome(.timeout, "the request's body did not come in time"), closes: true)
    static let stranger = Refusal(
        .unauthorized, OperationOutcome(.login, "a bearer token or header that is known here is needed"),
        headers: [.wwwAuthenticate: "Bearer"], closes: true)
    static let noMemory = Refusal(
        .serviceUnavailable, OperationOutcome(.throttled, "too many bodies are being read at once"),
        headers: [.retryAfter: "1"], closes: true)
}

/// What the head of a request says, as far as the server judges it: pure, tested without a socket.
struct RequestRules: Sendable {
    /// How the body comes.
    enum Framing: Sendable, Equatable {
        case none
        case length(Int)
        case chunked
    }

    /// What a head that passes says of what follows.
    struct Verdict: Sendable, Equatable {
        var framing: Framing
        var expectsContinue: Bool
        /// The connection ends with the answer, since the client wants it or nothing readable can follow.
        var closes: Bool
    }

    /// Judges the head's fields; the path, the method and the route are not looked at.
    ///
    /// Whatever two servers on one connection could read in two ways is refused, though a parser might let it through: that is
    /// what request smuggling lives on (RFC 9112 §6.3, §11.2).
    ///
    /// - Parameter minor: the minor version of HTTP/1.
    static func judge(_ fields: HTTPFields, minor: Int, keepsAlive: Bool) -> Result<Verdict, RefusalError> {
        var lengths: [String] = []
        var codings: [String] = []
        var hosts = 0
        // What almost no request has is only noticed, and then looked up.
        var isUncommon = false
        for field in fields {
            switch field.name.canonicalName {
            case "host": hosts += 1
            case "content-length": lengths.append(field.value)
            case "transfer-encoding": codings.append(field.value)
            case "content-encoding", "expect", "upgrade": isUncommon = true
            default: break
            }
        }
        if !codings.isEmpty {
            guard lengths.isEmpty else { return refuse(.bad("Content-Length beside Transfer-Encoding")) }
            guard minor >= 1 else { return refuse(.bad("Transfer-Encoding in HTTP/1.0")) }
            guard codings.count == 1, codings[0].lowercased() == "chunked" else {
                return refuse(
                    Refusal(
                        .notImplemented, OperationOutcome(.notSupported, "the only Transfer-Encoding is chunked"), closes: true))
            }
        }
        guard lengths.count <= 1 else { return refuse(.bad("more than one Content-Length")) }
        var framing = codings.isEmpty ? Framing.none : .chunked
        if let text = lengths.first {
            guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                return refuse(.bad("Content-Length is no number"))
            }
            // What doesn't fit an Int is longer than any limit.
            let length = Int(text) ?? .max
            if length > 0 { framing = .length(length) }
        }
        guard hosts == 1 || (minor == 0 && hosts == 0) else { return refuse(.bad("not exactly one Host")) }
        guard isUncommon else {
            return .success(Verdict(framing: framing, expectsContinue: false, closes: !keepsAlive || minor == 0))
        }
        if framing != .none, let coding = fields[.contentEncoding], coding.lowercased() != "identity" {
            return refuse(
                Refusal(
                    .unsupportedMediaType, OperationOutcome(.notSupported, "compressed bodies are not taken"),
                    headers: [.acceptEncoding: "identity"], closes: true))
        }
        var expectsContinue = false
        if let expectation = fields[.expect], minor >= 1 {
            guard expectation.lowercased() == "100-continue" else {
                return refuse(
                    Refusal(
                        .expectationFailed, OperationOutcome(.notSupported, "the only expectation is 100-continue"), closes: true)
                )
            }
            expectsContinue = framing != .none
        }
        // Nothing behind a request that asks for another protocol is parsed; the request itself is answered in this one.
        let wantsUpgrade = fields[.upgrade] != nil
        return .success(
            Verdict(framing: framing, expectsContinue: expectsContinue, closes: !keepsAlive || minor == 0 || wantsUpgrade))
    }

    private static func refuse(_ refusal: Refusal) -> Result<Verdict, RefusalError> { .failure(RefusalError(refusal: refusal)) }
}

/// A refusal as an error.
struct RefusalError: Error, Equatable {
    let refusal: Refusal
}

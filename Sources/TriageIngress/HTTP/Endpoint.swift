internal import HTTPTypes
internal import Hummingbird

/// What one path answers to GET and HEAD.
struct Endpoint: Sendable {
    /// A path without query, such as `/metrics`.
    let path: String
    /// Makes the answer to a request with these headers.
    let answer: @Sendable (HTTPFields) -> Answer
}

/// An answer that is not yet in the server's terms.
struct Answer: Sendable, Equatable {
    var status: HTTPResponse.Status
    var contentType = "application/json"
    /// How the body is compressed, if it is: the header `Content-Encoding`.
    var contentEncoding: String?
    /// The request headers that the answer depends on, if there are any: the header `Vary`.
    var vary: String?
    /// Value of the header `Allow`, if there is one.
    var allow: String?
    var body: [UInt8]
    /// Whether the connection ends with this answer.
    var closes = false

    /// JSON `{"status":…}`, with reasons or without. Every text in it is a literal of ours: nothing needs escaping.
    static func json(_ status: HTTPResponse.Status, _ word: StaticString, reasons: [String] = []) -> Answer {
        let list = reasons.isEmpty ? "" : #","reasons":["# + reasons.map { "\"\($0)\"" }.joined(separator: ",") + "]"
        return Answer(status: status, body: Array("{\"status\":\"\(word)\"\(list)}\n".utf8))
    }
}

/// Chooses the endpoint for a request. A pure function, so that each rule can be tested without a socket.
struct EndpointTable: Sendable {
    let endpoints: [Endpoint]

    /// The answer to a request.
    ///
    /// A request with a body is refused and its connection closed: no endpoint takes one, and reading it to its end, only to
    /// keep the connection, would let a client feed us without bounds.
    func answer(method: HTTPRequest.Method, path: String, headers: HTTPFields = [:], hasBody: Bool) -> Answer {
        guard !hasBody else {
            var answer = Answer.json(.contentTooLarge, "content_too_large")
            answer.closes = true
            return answer
        }
        guard let endpoint = endpoints.first(where: { $0.path == path }) else { return .json(.notFound, "not_found") }
        guard method == .get || method == .head else {
            var answer = Answer.json(.methodNotAllowed, "method_not_allowed")
            answer.allow = "GET, HEAD"
            return answer
        }
        return endpoint.answer(headers)
    }
}

/// Hands requests to an ``EndpointTable``. It logs nothing: no path, no query, no header of a client.
struct EndpointResponder: HTTPResponder {
    typealias Context = BasicRequestContext

    let table: EndpointTable
    /// The pages beside the table; nil if there are none.
    var console: ConsoleSite?

    func respond(to request: Request, context: BasicRequestContext) async throws -> Response {
        if let console, ConsoleSite.owns(request.uri.path) { return await ConsoleResponder(site: console).respond(to: request) }
        let hasBody = request.headers[.transferEncoding] != nil || (request.headers[.contentLength] ?? "0") != "0"
        let answer = table.answer(method: request.method, path: request.uri.path, headers: request.headers, hasBody: hasBody)
        var headers = HTTPFields()
        headers[.contentType] = answer.contentType
        headers[.cacheControl] = "no-store"
        if let coding = answer.contentEncoding { headers[.contentEncoding] = coding }
        if let vary = answer.vary { headers[.vary] = vary }
        if let allow = answer.allow { headers[.allow] = allow }
        if answer.closes { headers[.connection] = "close" }
        let body = ResponseBody.bytes(answer.body, closes: answer.closes)
        let response = Response(status: answer.status, headers: headers, body: body)
        return request.method == .head && !answer.closes ? response.createHeadResponse() : response
    }
}

extension ResponseBody {
    /// These bytes, after which the connection ends or stays.
    static func bytes(_ bytes: [UInt8], closes: Bool) -> ResponseBody {
        let buffer = ByteBuffer(bytes: bytes)
        guard closes else { return ResponseBody(byteBuffer: buffer) }
        return ResponseBody(contentLength: buffer.readableBytes) { writer in
            try await writer.write(buffer)
            try await writer.finish(nil)
            // The answer is complete; a thrown error is how Hummingbird closes a connection without reading on.
            throw ConnectionClosed()
        }
    }
}

/// Ends a connection after its answer.
private struct ConnectionClosed: Error {}

public import HTTPTypes
public import TriageEvents

/// A request as a route sees it: its head, and its whole body within the route's limit.
public struct IngressRequest: Sendable {
    /// The method.
    public var method: HTTPRequest.Method
    /// The decoded values of the template's parameters, by name. Patient data where they are ids.
    public var parameters: [String: String]
    /// The decoded pairs of the query, in order.
    public var query: [(name: String, value: String)]
    /// The header fields.
    public var headers: HTTPFields
    /// The body; empty if there was none.
    public var body: ByteSlice
    /// When the head had been read.
    public var receivedAt: Timestamp

    /// A request of these parts.
    public init(
        method: HTTPRequest.Method, parameters: [String: String] = [:], query: [(name: String, value: String)] = [],
        headers: HTTPFields = [:], body: ByteSlice = ByteSlice(""), receivedAt: Timestamp
    ) {
        self.method = method
        self.parameters = parameters
        self.query = query
        self.headers = headers
        self.body = body
        self.receivedAt = receivedAt
    }

    /// The value of the query's first pair called `name`.
    public func query(_ name: String) -> String? { query.first { $0.name == name }?.value }
}

/// A route's answer, complete.
public struct IngressAnswer: Sendable {
    /// The status.
    public var status: HTTPResponse.Status
    /// The header fields; `Content-Length` comes by itself.
    public var headers: HTTPFields
    /// The body.
    public var body: ByteSlice
    /// The SERVER span's context: what the access log and the duration's exemplar name; nil if there was none.
    public var context: TraceContext?

    /// An answer of these parts.
    public init(
        status: HTTPResponse.Status, headers: HTTPFields = [:], body: ByteSlice = ByteSlice(""), context: TraceContext? = nil
    ) {
        self.status = status
        self.headers = headers
        self.body = body
        self.context = context
    }
}

/// What one path of the ingress server does. Called from many tasks at a time, whose jobs run on event loops: it must not block.
///
/// The route judges who asks and opens the SERVER span; the server has already refused what is too large, too slow or no HTTP, and
/// it writes the access log and `http.server.request.duration` for all of it.
public protocol IngressRoute: Sendable {
    /// The path with its parameters in braces, such as `/webhooks/fhir/{type}/{id}`: the attribute `http.route`.
    var template: String { get }
    /// The methods it takes; others are answered 405.
    var methods: [HTTPRequest.Method] { get }
    /// Bytes that a body may have; longer ones are answered 413 without being read to their end.
    var maximumBodyBytes: Int { get }
    /// Whether who sends these header fields may send a body. Of who may not none is read: he is answered 401 by the head alone, so that
    /// strangers can't take the memory that bodies share. The route judges again what it answers. Called on an event loop: it must not
    /// block.
    func admits(_ headers: HTTPFields) -> Bool
    /// Answers a request; it never fails.
    func answer(_ request: IngressRequest) async -> IngressAnswer
}

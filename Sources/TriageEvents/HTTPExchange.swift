/// A request to another server, for the port ``HTTPCaller``.
public struct HTTPCall: Sendable {
    /// The methods that are sent.
    public enum Method: String, Sendable, CaseIterable {
        /// Reads.
        case get = "GET"
        /// Creates, or hands over.
        case post = "POST"
        /// Replaces.
        case put = "PUT"
        /// Removes.
        case delete = "DELETE"
    }

    /// The method.
    public var method: Method
    /// An absolute `http` or `https` URL. Its path and query may name patients: they never go into telemetry.
    public var url: String
    /// Names and values, in the order in which they are sent. Without line breaks; a call that has one is refused.
    public var headers: [(name: String, value: String)]
    /// What is sent; nil for nothing.
    public var body: ByteSlice?
    /// How long the whole call may take, connecting included.
    public var timeout: Duration
    /// Bytes that the answer's body may have; nil, the default, and whatever is more, is the caller's own limit.
    public var maximumAnswerBytes: Int?

    /// A call; see the properties.
    public init(
        _ method: Method, _ url: String, headers: [(name: String, value: String)] = [], body: ByteSlice? = nil,
        timeout: Duration = .seconds(30)
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.timeout = timeout
    }
}

/// What a server answered.
public struct HTTPAnswer: Sendable {
    /// The status, 200 to 599; interim answers are not reported.
    public let status: Int
    /// The header fields, names in lower case, in the order in which they came.
    public let headers: [(name: String, value: String)]
    /// The body; at most as long as the caller's limit.
    public let body: ByteSlice

    /// An answer of these parts.
    public init(status: Int, headers: [(name: String, value: String)] = [], body: ByteSlice = ByteSlice("")) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// The value of the first header field called `name`, which is in lower case.
    public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// Why there was no answer.
public struct HTTPCallError: Error, Sendable, Hashable, CustomStringConvertible {
    /// A closed vocabulary; the name stands in `error.type`.
    public enum Code: String, Sendable, CaseIterable {
        /// The host's name has no address.
        case nameNotResolved = "name_not_resolved"
        /// Nobody listens there, or the way there is closed.
        case connectionFailed = "connection_failed"
        /// The connection ended before the answer did.
        case connectionLost = "connection_lost"
        /// The time was up.
        case timeout
        /// The server's certificate isn't trusted or doesn't name the host, or TLS failed otherwise.
        case tls
        /// The answer is longer than the limit.
        case answerTooLarge = "answer_too_large"
        /// What came is no HTTP.
        case invalidAnswer = "invalid_answer"
        /// The URL or a header can't be sent.
        case invalidCall = "invalid_call"
        /// The task was cancelled.
        case cancelled
        /// The caller is closed.
        case closed
        /// Anything else.
        case other
    }

    /// Which.
    public let code: Code
    /// Whether the same call may succeed later.
    public var isTransient: Bool {
        switch code {
        case .nameNotResolved, .connectionFailed, .connectionLost, .timeout, .other, .cancelled, .closed: true
        // A certificate that has expired, or a gateway's page in place of the server, is an outage, not the event's fault.
        case .tls, .invalidAnswer: true
        case .answerTooLarge, .invalidCall: false
        }
    }

    /// An error of this kind.
    public init(_ code: Code) { self.code = code }

    /// The code's name.
    public var description: String { code.rawValue }
}

/// The port through which other servers are called. Implementations: libcurl; a stub in tests.
///
/// Only the traced caller holds one, so that no call goes out without its CLIENT span.
public protocol HTTPCaller: Sendable {
    /// Sends the call once and waits for the answer, whatever its status. Redirects are answers like others.
    func send(_ call: HTTPCall) async throws(HTTPCallError) -> HTTPAnswer
}

public import HTTPTypes

/// A request for a page, after its host and, where it changes something, its origin, session and form token were found good.
public struct ConsoleRequest: Sendable {
    /// Whether something is to be changed, or revealed; never without a ``visitor``.
    public var isPost: Bool
    /// The decoded segments behind `/console`; none for the first page.
    public var path: [String]
    /// The query.
    public var query: FormFields
    /// The form; empty for what isn't a POST.
    public var form: FormFields
    /// Who asks; nil for whoever hasn't shown the token.
    public var visitor: ConsoleVisitor?
    /// Whether there is a token that can be shown.
    public var canSignIn: Bool

    /// A request of these parts.
    public init(
        isPost: Bool = false, path: [String], query: FormFields = FormFields(), form: FormFields = FormFields(),
        visitor: ConsoleVisitor? = nil, canSignIn: Bool = true
    ) {
        self.isPost = isPost
        self.path = path
        self.query = query
        self.form = form
        self.visitor = visitor
        self.canSignIn = canSignIn
    }
}

/// What a console shows for a request.
public struct ConsoleAnswer: Sendable {
    /// What the answer is.
    public enum Content: Sendable, Hashable {
        /// A page with this title and body.
        case page(title: String, HTML)
        /// Data for scripts.
        case json(String)
        /// A file of lines of JSON (NDJSON) that a browser saves under this name: letters, digits, `.` and `-`.
        case lines(name: String, [UInt8])
        /// Another page of the console, shown by GET (RFC 9110 §15.4.4): its path and query.
        case redirect(to: String)
    }

    /// The status; a redirect's is always 303.
    public var status: HTTPResponse.Status
    /// What it is.
    public var content: Content

    /// An answer.
    public init(_ content: Content, status: HTTPResponse.Status = .ok) {
        self.status = status
        self.content = content
    }
}

/// What a ``ConsoleSite`` shows. Called from many tasks at a time.
public protocol ConsolePages: Sendable {
    /// The links that stand on each page: where they lead, and what they are called.
    var navigation: [(path: String, title: String)] { get }
    /// Answers a request; it never fails.
    func answer(_ request: ConsoleRequest) async -> ConsoleAnswer
}

internal import Synchronization
public import TriageEvents

/// Calls other servers by libcurl: all calls on one thread of its own, over connections that stay open and are used again.
///
/// HTTP/1.1, over TLS HTTP/2 where the server offers it. Redirects are answers, not followed, so that neither a body nor credentials go
/// to a server that wasn't named. Certificates must be trusted and name the host; TLS 1.2 or later. Bodies of answers are not
/// decompressed, as none is asked for. The variables `http_proxy`, `https_proxy` and `no_proxy` count, as they do for curl.
public final class CurlCaller: HTTPCaller, Sendable {
    /// How it calls.
    public struct Options: Sendable, Hashable {
        /// A PEM file with the authorities that are trusted, instead of the system's; nil for the system's.
        public var caFile: String?
        /// Bytes that an answer's body may have. Default 16 MiB.
        public var maximumAnswerBytes = 16 * 1_048_576
        /// Whether a body beyond that is cut off, for who only wants the status; else the call fails as `answer_too_large`.
        public var cutsLongAnswers = false
        /// Connections open at the same time; more calls than that wait for one, within their time-outs. Default 128.
        public var maximumConnections = 128
        /// How long connecting may take at most, TLS included; the call's own time-out holds as well. Default 10 s.
        public var connectTimeout: Duration = .seconds(10)
        /// `User-Agent` of calls that don't say one.
        public var userAgent = "triage"

        /// The defaults.
        public init() {}
    }

    private let loop: CurlLoop?

    /// A caller with a thread of its own, which ends with ``close()`` or when nobody has the caller any more.
    ///
    /// If the system has no thread or memory for it, each call fails as `other`.
    public init(_ options: Options = Options()) {
        loop = CurlLibrary.isReady ? CurlLoop(options) : nil
        if let loop, !loop.start() { loop.close() }
    }

    deinit { loop?.close() }

    /// Sends the call once and waits for the answer, whatever its status. Cancelling the task ends the call at once.
    ///
    /// A call on a connection that the server closed meanwhile is sent again on a new one by libcurl if nothing of an answer had come.
    ///
    /// - Throws: `invalid_call` for a URL that isn't absolute http(s) or names a user, for a header whose name is no token or whose value
    ///   has a control character, for a header that says how the body is framed, and for a GET with a body.
    public func send(_ call: HTTPCall) async throws(HTTPCallError) -> HTTPAnswer {
        guard let loop else { throw HTTPCallError(.other) }
        guard CurlCaller.isValid(call) else { throw HTTPCallError(.invalidCall) }
        let transfer = Transfer(call)
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                transfer.continuation = continuation
                if !loop.submit(transfer) { transfer.finish(.failure(HTTPCallError(.closed))) }
            }
        } onCancel: {
            loop.cancel(transfer)
        }
        return try result.get()
    }

    /// Ends the calls under way as `closed`, and the thread; later calls fail so as well. Returns at once.
    public func close() { loop?.close() }

    /// Headers that libcurl makes itself: two of them, or one that isn't true, is how requests are smuggled (RFC 9112 §11.2).
    private static let ownHeaders: Set<String> = ["content-length", "transfer-encoding", "expect", "connection", "te", "upgrade"]

    static func isValid(_ call: HTTPCall) -> Bool {
        HTTPOrigin(call.url) != nil && !(call.method == .get && call.body != nil) && call.timeout > .zero
            && call.headers.allSatisfy { name, value in
                !name.isEmpty && name.utf8.allSatisfy(isTokenByte) && !ownHeaders.contains(name.lowercased())
                    && value.utf8.allSatisfy { $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }
            }
    }

    /// `tchar` of RFC 9110 §5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

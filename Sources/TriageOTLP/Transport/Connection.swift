internal import CCurl
internal import Glibc
internal import Synchronization
internal import TriageTelemetry

/// The multi handle, which any thread may wake while another one polls.
///
/// `@unchecked Sendable`: all that happens here is `curl_multi_wakeup`, which libcurl allows from any thread at any time
/// (curl_multi_wakeup(3)); the handle is made in `init` and cleaned up when the last of transport and connection is gone.
/// Everything else on the handle is ``Connection``'s, which only the thread that holds the transport's lock uses.
final class Wakeup: @unchecked Sendable {
    fileprivate let multi: UnsafeMutableRawPointer?

    init() { multi = curl_multi_init() }

    deinit { if let multi { curl_multi_cleanup(multi) } }

    func wake() { if let multi { curl_multi_wakeup(multi) } }
}

/// One connection: libcurl's handles, the headers, the compressor, and the request under way.
///
/// `@unchecked Sendable`: it lives inside the transport's `Mutex`, whose holder alone uses it.
final class Connection: @unchecked Sendable {
    /// How a try ended, and libcurl's words for it.
    struct Outcome {
        let attempt: ExportRetry.Attempt
        let explanation: String
        var error = ExportErrorType.other

        /// The status of the answer, if there was one.
        var status: Int? {
            if case .status(let status, _) = attempt { status } else { nil }
        }
    }

    private let wakeup: Wakeup
    private let easy: UnsafeMutableRawPointer?
    private let headers: UnsafeMutablePointer<curl_slist>?
    private let compressor: GzipCompressor?
    private let response = Response()
    private var body: [UInt8] = []

    /// What has been read of the answer. A class, since libcurl keeps a pointer to it.
    private final class Response {
        var bytes: [UInt8] = []
        var isTooLarge = false
    }

    init(_ signal: OTLPConfiguration.Signal, version: String, wakeup: Wakeup) {
        self.wakeup = wakeup
        easy = wakeup.multi == nil ? nil : curl_easy_init()
        compressor = signal.compression == .gzip ? GzipCompressor() : nil
        headers = Connection.headers(signal)
        configure(signal, version: version)
    }

    deinit {
        if let easy { curl_easy_cleanup(easy) }
        curl_slist_free_all(headers)
    }

    /// Takes a body to send, compressed if so configured; false if that fails, or if there is nothing to send.
    func prepare(_ body: [UInt8]) -> Bool {
        guard easy != nil, !body.isEmpty else { return false }
        guard let compressor else {
            self.body = body
            return true
        }
        guard let compressed = compressor.compress(body) else { return false }
        self.body = compressed
        return true
    }

    /// Lets go of the body, so that its memory can be used again.
    func finish() { body = [] }

    /// Sends the body once.
    ///
    /// - Parameter remaining: the time there is; nil is no limit.
    func perform(remaining: Duration?, _ isCancelled: borrowing Atomic<Bool>) -> Outcome {
        guard let easy, let multi = wakeup.multi else { return Outcome(attempt: .unusable, explanation: "no handle") }
        response.bytes.removeAll(keepingCapacity: true)
        response.isTooLarge = false
        let milliseconds = remaining.map { Int(clamping: max(1, $0.wholeMilliseconds)) } ?? 0
        triage_curl_set_long(easy, CURLOPT_TIMEOUT_MS, milliseconds)
        return body.withUnsafeBytes { bytes in
            triage_curl_set_pointer(easy, CURLOPT_POSTFIELDS, bytes.baseAddress)
            triage_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(bytes.count))
            guard curl_multi_add_handle(multi, easy) == CURLM_OK else {
                return Outcome(attempt: .unusable, explanation: "no transfer")
            }
            defer { curl_multi_remove_handle(multi, easy) }
            guard let code = run(multi, isCancelled) else {
                return Outcome(attempt: .cancelled, explanation: "cancelled", error: .cancelled)
            }
            return outcome(code, easy)
        }
    }

    /// Sleeps until `deadline` or until cancelled.
    func sleep(until deadline: Duration, _ isCancelled: borrowing Atomic<Bool>) {
        guard let multi = wakeup.multi else { return }
        while !isCancelled.load(ordering: .acquiring) {
            let rest = deadline - MonotonicClock.now
            guard rest > .zero else { return }
            curl_multi_poll(multi, nil, 0, Int32(clamping: min(60_000, rest.wholeMilliseconds + 1)), nil)
        }
    }

    /// The body of the last answer.
    func takeResponse() -> [UInt8] { response.bytes }

    /// libcurl's result, or nil if cancelled.
    private func run(_ multi: UnsafeMutableRawPointer, _ isCancelled: borrowing Atomic<Bool>) -> CURLcode? {
        while true {
            var running: Int32 = 0
            guard curl_multi_perform(multi, &running) == CURLM_OK else { return CURLE_OUT_OF_MEMORY }
            var left: Int32 = 0
            while let message = curl_multi_info_read(multi, &left) {
                if message.pointee.msg == CURLMSG_DONE { return message.pointee.data.result }
            }
            if isCancelled.load(ordering: .acquiring) { return nil }
            curl_multi_poll(multi, nil, 0, 1000, nil)
        }
    }

    private func outcome(_ code: CURLcode, _ easy: UnsafeMutableRawPointer) -> Outcome {
        let explanation = response.isTooLarge ? "its answer is over 4 MiB" : String(cString: curl_easy_strerror(code))
        guard code == CURLE_OK else {
            let isLasting = response.isTooLarge || Connection.lastingErrors.contains(code.rawValue)
            let error: ExportErrorType =
                if response.isTooLarge {
                    .other
                } else if code == CURLE_OPERATION_TIMEDOUT {
                    .timeout
                } else if Connection.tlsErrors.contains(code.rawValue) {
                    .tls
                } else {
                    isLasting ? .other : .noAnswer
                }
            return Outcome(attempt: isLasting ? .unusable : .unanswered, explanation: explanation, error: error)
        }
        var status = 0
        triage_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
        // libcurl reads both forms, seconds and an HTTP date, and answers in seconds from now; 0 if there is none.
        var seconds: curl_off_t = 0
        triage_curl_get_offset(easy, CURLINFO_RETRY_AFTER, &seconds)
        let retryAfter = seconds > 0 ? Duration.seconds(Int64(seconds)) : nil
        return Outcome(attempt: .status(status, retryAfter: retryAfter), explanation: explanation)
    }

    /// What another try would meet again.
    private static let lastingErrors: Set<CURLcode.RawValue> = Set(
        [
            CURLE_UNSUPPORTED_PROTOCOL, CURLE_FAILED_INIT, CURLE_URL_MALFORMAT, CURLE_NOT_BUILT_IN, CURLE_OUT_OF_MEMORY,
            CURLE_BAD_FUNCTION_ARGUMENT, CURLE_SSL_ENGINE_NOTFOUND, CURLE_SSL_ENGINE_SETFAILED, CURLE_SSL_CERTPROBLEM,
            CURLE_SSL_CIPHER, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_WEIRD_SERVER_REPLY,
        ].map(\.rawValue)
    )

    private static let tlsErrors: Set<CURLcode.RawValue> = Set(
        [
            CURLE_SSL_CONNECT_ERROR, CURLE_SSL_ENGINE_NOTFOUND, CURLE_SSL_ENGINE_SETFAILED, CURLE_SSL_CERTPROBLEM,
            CURLE_SSL_CIPHER, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE,
        ].map(\.rawValue)
    )

    private func configure(_ signal: OTLPConfiguration.Signal, version: String) {
        guard let easy else { return }
        triage_curl_set_string(easy, CURLOPT_URL, signal.endpoint)
        triage_curl_set_long(easy, CURLOPT_POST, 1)
        triage_curl_set_pointer(easy, CURLOPT_HTTPHEADER, headers)
        if !signal.headers.contains(where: { $0.name.lowercased() == "user-agent" }) {
            triage_curl_set_string(easy, CURLOPT_USERAGENT, "OTel-OTLP-Exporter-Swift/\(version)")
        }
        // No signals for time-outs: this is a library on a thread of its own.
        triage_curl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        triage_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        // Headers with credentials never go to another host.
        triage_curl_set_long(easy, CURLOPT_FOLLOWLOCATION, 0)
        triage_curl_set_pointer(easy, CURLOPT_WRITEDATA, Unmanaged.passUnretained(response).toOpaque())
        triage_curl_set_write_function(easy) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let response = Unmanaged<Response>.fromOpaque(context).takeUnretainedValue()
            guard response.bytes.count + size * count <= OTLPTransport.maximumResponse else {
                response.isTooLarge = true
                return 0
            }
            response.bytes.append(contentsOf: UnsafeRawBufferPointer(start: bytes, count: size * count))
            return size * count
        }
        configureTLS(signal, easy)
    }

    /// The certificate must be trusted and name the host; TLS 1.2 or later.
    private func configureTLS(_ signal: OTLPConfiguration.Signal, _ easy: UnsafeMutableRawPointer) {
        triage_curl_set_long(easy, CURLOPT_SSL_VERIFYPEER, 1)
        triage_curl_set_long(easy, CURLOPT_SSL_VERIFYHOST, 2)
        triage_curl_set_long(easy, CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        if let file = signal.certificate {
            triage_curl_set_string(easy, CURLOPT_CAINFO, file)
            // The directory of the system's authorities would be trusted beside the file.
            triage_curl_set_string(easy, CURLOPT_CAPATH, nil)
        }
        if let key = signal.clientKey, let certificate = signal.clientCertificate {
            triage_curl_set_string(easy, CURLOPT_SSLKEY, key)
            triage_curl_set_string(easy, CURLOPT_SSLCERT, certificate)
        }
    }

    /// An empty `Expect` keeps libcurl from waiting a second for "100 Continue" before large bodies.
    private static func headers(_ signal: OTLPConfiguration.Signal) -> UnsafeMutablePointer<curl_slist>? {
        var lines = ["Content-Type: application/x-protobuf", "Expect:"]
        if signal.compression == .gzip { lines.append("Content-Encoding: gzip") }
        // libcurl's way to send a header without a value is a semicolon; a colon would remove it.
        for header in signal.headers {
            lines.append(header.value.isEmpty ? "\(header.name);" : "\(header.name): \(header.value)")
        }
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines { list = curl_slist_append(list, line) ?? list }
        return list
    }
}

extension Duration {
    fileprivate var wholeMilliseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1000)
        return overflow ? (seconds < 0 ? .min : .max) : product + attoseconds / 1_000_000_000_000_000
    }
}

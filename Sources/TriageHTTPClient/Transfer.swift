internal import CCurl
internal import Synchronization
internal import TriageEvents

/// One call from being handed in until its answer is handed over.
///
/// `@unchecked Sendable`: until ``CurlLoop/submit(_:)`` only the calling task touches it, which sets ``continuation``; submitting passes
/// it through the loop's mutex to the loop's thread, which alone uses everything but `isCancelled` from then on. `isCancelled` is atomic.
/// ``finish(_:)`` is called once: by the task if the loop refuses the transfer, else by the loop's thread.
final class Transfer: @unchecked Sendable {
    let call: HTTPCall
    let isCancelled = Atomic(false)
    var continuation: CheckedContinuation<Result<HTTPAnswer, HTTPCallError>, Never>?
    /// libcurl's handle while the call is under way.
    private(set) var easy: UnsafeMutableRawPointer?
    private var list: UnsafeMutablePointer<curl_slist>?
    private var body: [UInt8] = []
    private var headers: [(name: String, value: String)] = []
    private var headerBytes = 0
    private var isTooLarge = false
    private var maximum = 0
    private var cuts = false

    init(_ call: HTTPCall) { self.call = call }

    /// Bytes of header fields that an answer may have.
    private static let maximumHeaderBytes = 65_536

    /// Resumes the caller; later calls do nothing.
    func finish(_ result: Result<HTTPAnswer, HTTPCallError>) {
        continuation?.resume(returning: result)
        continuation = nil
    }

    /// Sets a fresh handle up for the call.
    func configure(_ easy: UnsafeMutableRawPointer, _ options: CurlCaller.Options) {
        self.easy = easy
        maximum = min(options.maximumAnswerBytes, max(0, call.maximumAnswerBytes ?? .max))
        cuts = options.cutsLongAnswers
        triage_curl_set_string(easy, CURLOPT_URL, call.url)
        // No signals for time-outs: this is a library on a thread of its own.
        triage_curl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        triage_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        triage_curl_set_long(easy, CURLOPT_FOLLOWLOCATION, 0)
        triage_curl_set_long(easy, CURLOPT_TIMEOUT_MS, call.timeout.wholeMilliseconds)
        triage_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, min(call.timeout, options.connectTimeout).wholeMilliseconds)
        triage_curl_set_string(easy, CURLOPT_USERAGENT, options.userAgent)
        triage_curl_set_long(easy, CURLOPT_SSL_VERIFYPEER, 1)
        triage_curl_set_long(easy, CURLOPT_SSL_VERIFYHOST, 2)
        triage_curl_set_long(easy, CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        if let file = options.caFile {
            triage_curl_set_string(easy, CURLOPT_CAINFO, file)
            // The directory of the system's authorities would be trusted beside the file.
            triage_curl_set_string(easy, CURLOPT_CAPATH, nil)
        }
        setBody(easy)
        setHeaders(easy)
        setFunctions(easy)
    }

    private func setBody(_ easy: UnsafeMutableRawPointer) {
        guard call.method != .get else {
            triage_curl_set_long(easy, CURLOPT_HTTPGET, 1)
            return
        }
        if call.method != .delete || call.body != nil {
            triage_curl_set_long(easy, CURLOPT_POST, 1)
            let body = call.body ?? ByteSlice("")
            triage_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
            // libcurl copies the bytes; it wants to know how many first.
            _ = body.withUnsafeBytes { bytes in
                if let base = bytes.baseAddress, bytes.count > 0 {
                    triage_curl_set_pointer(easy, CURLOPT_COPYPOSTFIELDS, base)
                } else {
                    triage_curl_set_string(easy, CURLOPT_COPYPOSTFIELDS, "")
                }
            }
        }
        if call.method != .post { triage_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, call.method.rawValue) }
    }

    private func setHeaders(_ easy: UnsafeMutableRawPointer) {
        // An empty `Expect` keeps libcurl from waiting a second for "100 Continue" before large bodies.
        var lines = ["Expect:"]
        // Else a body would be called a form.
        if !call.headers.contains(where: { $0.name.lowercased() == "content-type" }) { lines.append("Content-Type:") }
        // libcurl's way to send a header without a value is a semicolon; a colon would remove it.
        for (name, value) in call.headers { lines.append(value.isEmpty ? "\(name);" : "\(name): \(value)") }
        for line in lines { list = curl_slist_append(list, line) ?? list }
        triage_curl_set_pointer(easy, CURLOPT_HTTPHEADER, list)
    }

    private func setFunctions(_ easy: UnsafeMutableRawPointer) {
        let context = Unmanaged.passUnretained(self).toOpaque()
        triage_curl_set_pointer(easy, CURLOPT_WRITEDATA, context)
        triage_curl_set_write_function(easy) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let data = UnsafeRawBufferPointer(start: bytes, count: size * count)
            return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().received(body: data)
        }
        triage_curl_set_pointer(easy, CURLOPT_HEADERDATA, context)
        triage_curl_set_header_function(easy) { bytes, size, count, context in
            guard let bytes, let context else { return 0 }
            let data = UnsafeRawBufferPointer(start: bytes, count: size * count)
            return Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue().received(header: data)
        }
    }

    /// How many of the bytes were taken; fewer than there are ends the transfer.
    private func received(body bytes: UnsafeRawBufferPointer) -> Int {
        let room = maximum - body.count
        guard bytes.count > room else {
            body += bytes
            return bytes.count
        }
        if cuts { body += bytes.prefix(room) }
        isTooLarge = true
        return 0
    }

    private func received(header bytes: UnsafeRawBufferPointer) -> Int {
        headerBytes += bytes.count
        guard headerBytes <= Transfer.maximumHeaderBytes else {
            cuts = false
            isTooLarge = true
            return 0
        }
        let line = bytes.prefix { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
        if line.starts(with: "HTTP/".utf8) {
            // Another answer begins: the one before was an interim one.
            headers.removeAll()
        } else if let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex, line.first != 0x20,
            line.first != 0x09
        {
            let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
            var value = line[(colon + 1)...]
            while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
            while let last = value.last, last == 0x20 || last == 0x09 { value = value.dropLast() }
            headers.append((name, String(decoding: value, as: UTF8.self)))
        }
        return bytes.count
    }

    /// Lets go of what libcurl was given, once it has let go of the handle.
    func release() {
        curl_slist_free_all(list)
        list = nil
        easy = nil
    }

    /// What became of the call, by libcurl's result.
    func result(_ code: CURLcode) -> Result<HTTPAnswer, HTTPCallError> {
        guard code == CURLE_OK || isTooLarge && cuts else {
            return .failure(HTTPCallError(isTooLarge ? .answerTooLarge : Transfer.error(code)))
        }
        var status = 0
        if let easy { triage_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &status) }
        // Without a status line it was HTTP/0.9 or nothing.
        guard (200...599).contains(status) else { return .failure(HTTPCallError(.invalidAnswer)) }
        return .success(HTTPAnswer(status: status, headers: headers, body: ByteSlice(body)))
    }

    /// libcurl's codes in our words.
    static func error(_ code: CURLcode) -> HTTPCallError.Code {
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: .nameNotResolved
        case CURLE_COULDNT_CONNECT, CURLE_PROXY: .connectionFailed
        case CURLE_GOT_NOTHING, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE, CURLE_HTTP2, CURLE_HTTP2_STREAM:
            .connectionLost
        case CURLE_OPERATION_TIMEDOUT: .timeout
        case CURLE_SSL_CONNECT_ERROR, CURLE_SSL_ENGINE_NOTFOUND, CURLE_SSL_ENGINE_SETFAILED, CURLE_SSL_CERTPROBLEM,
            CURLE_SSL_CIPHER,
            CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS:
            .tls
        // HTTP/0.9 is reported as an unsupported protocol; the URL's own was looked at before.
        case CURLE_WEIRD_SERVER_REPLY, CURLE_UNSUPPORTED_PROTOCOL, CURLE_BAD_CONTENT_ENCODING: .invalidAnswer
        case CURLE_URL_MALFORMAT, CURLE_BAD_FUNCTION_ARGUMENT: .invalidCall
        default: .other
        }
    }
}

extension Duration {
    /// For libcurl: at least 1, since 0 is no limit, at most what its arithmetic takes (24 days).
    fileprivate var wholeMilliseconds: Int { Int(clamping: min(2_000_000_000, max(1, wholeNanoseconds / 1_000_000))) }
}

internal import CCurl

/// Checks and joins endpoint URLs with libcurl's own parser, so that what is accepted is what will be requested.
enum OTLPEndpoint {
    /// `text` as it is; with path `/` if it has none. Nil unless it is an HTTP URL with a host.
    static func verbatim(_ text: String) -> String? {
        withURL(text) { url in hasPath(text) ? text : get(url, CURLUPART_URL) } ?? nil
    }

    /// `path` below the base `text`.
    static func joined(_ text: String, path: String) -> String? {
        withURL(text) { url in
            guard var base = get(url, CURLUPART_PATH) else { return nil }
            if !base.hasSuffix("/") { base += "/" }
            guard curl_url_set(url, CURLUPART_PATH, base + path, 0) == CURLUE_OK else { return nil }
            return get(url, CURLUPART_URL)
        } ?? nil
    }

    /// Scheme, host, port and path of `text`: without user, password and query, which may be secrets.
    static func redacted(_ text: String) -> String {
        withURL(text) { url in
            for part in [CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS, CURLUPART_QUERY, CURLUPART_FRAGMENT] {
                _ = curl_url_set(url, part, nil, 0)
            }
            return get(url, CURLUPART_URL)
        }.flatMap { $0 } ?? "[redacted]"
    }

    /// Host and port of `text`, the scheme's default port included: `server.address` and `server.port`.
    static func server(_ text: String) -> (address: String, port: Int)? {
        withURL(text) { url -> (address: String, port: Int)? in
            guard let host = get(url, CURLUPART_HOST) else { return nil }
            var port: UnsafeMutablePointer<CChar>?
            guard curl_url_get(url, CURLUPART_PORT, &port, UInt32(CURLU_DEFAULT_PORT)) == CURLUE_OK, let port else { return nil }
            defer { curl_free(port) }
            guard let number = Int(String(cString: port)) else { return nil }
            // libcurl keeps the brackets of an IPv6 address; the conventions want the address.
            return (host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host, number)
        } ?? nil
    }

    private static func hasPath(_ text: String) -> Bool {
        guard let authority = text.firstRange(of: "://") else { return false }
        return text[authority.upperBound...].first { "/?#".contains($0) } == "/"
    }

    private static func withURL<Result>(_ text: String, _ body: (OpaquePointer) -> Result) -> Result? {
        guard let url = curl_url() else { return nil }
        defer { curl_url_cleanup(url) }
        guard curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK, let scheme = get(url, CURLUPART_SCHEME)?.lowercased(),
            scheme == "http" || scheme == "https"
        else { return nil }
        return body(url)
    }

    private static func get(_ url: OpaquePointer, _ part: CURLUPart) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        guard curl_url_get(url, part, &text, 0) == CURLUE_OK, let text else { return nil }
        defer { curl_free(text) }
        return String(cString: text)
    }
}

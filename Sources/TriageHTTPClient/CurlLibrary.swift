internal import CCurl

/// libcurl as a whole.
enum CurlLibrary {
    /// libcurl wants its global set-up before any thread uses it (curl_global_init(3)); later reads do nothing.
    static let isReady = curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK
}

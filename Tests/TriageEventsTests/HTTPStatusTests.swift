import Testing

@testable import TriageEvents

@Suite("What HTTP says")
struct HTTPStatusTests {
    let now = Timestamp(milliseconds: 1_700_000_000_000)

    @Test("Every status has its class")
    func classes() {
        for status in 200...599 {
            let expected: ErrorClass? =
                status < 300 ? nil : status >= 500 || [408, 425, 429].contains(status) ? .transient : .persistent
            #expect(HTTPStatus.errorClass(status) == expected)
        }
    }

    @Test(
        "Retry-After: seconds, and dates in their three forms",
        arguments: [
            ("0", 0), ("120", 120), (" 7 ", 7), ("86400", 86_400), ("99999999999999999999", 86_400), ("100000", 86_400),
            ("Tue, 14 Nov 2023 22:14:20 GMT", 60), ("Tuesday, 14-Nov-23 22:14:20 GMT", 60), ("Tue Nov 14 22:14:20 2023", 60),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0), ("Sun Nov  6 08:49:37 1994", 0), ("Fri, 01 Jan 2100 00:00:00 GMT", 86_400),
        ])
    func retryAfter(text: String, seconds: Int64) { #expect(RetryAfter.time(text, now: now) == now + .seconds(seconds)) }

    @Test(
        "What is neither is nothing",
        arguments: [
            "", "-1", "1.5", "soon", "Tue, 14 Nov 2023 22:14:20", "Tue, 14 Nov 2023 22:14:20 CET",
            "Tue, 32 Nov 2023 22:14:20 GMT",
            "Tue, 14 Foo 2023 22:14:20 GMT", "Tue, 14 Nov 2023 25:14:20 GMT", "Tue, 14 Nov 23 22:14:20 GMT", "１２",
        ])
    func noRetryAfter(text: String) { #expect(RetryAfter.time(text, now: now) == nil) }

    @Test(
        "A URL's server",
        arguments: [
            ("http://Host.Example", "http://host.example", 80, ""), ("HTTPS://h:8443/a?b#c", "https://h:8443", 8443, "/a?b#c"),
            ("https://h:443", "https://h", 443, ""), ("http://[::1]:80/x", "http://[::1]", 80, "/x"),
            ("http://[fe80::1]", "http://[fe80::1]", 80, ""), ("http://h?q", "http://h", 80, "?q"),
        ])
    func origins(url: String, text: String, port: Int, rest: String) throws {
        let origin = try #require(HTTPOrigin(url))
        #expect(origin.description == text && origin.port == port && origin.rest == rest)
    }

    @Test(
        "What names none",
        arguments: [
            "", "h", "//h", "ftp://h", "http:/h", "http://", "http://:80", "http://u@h", "http://u:p@h/", "http://h:0",
            "http://h:65536",
            "http://h:+80", "http://h:", "http://h:8a", "http://h/ä", "http://h/a b", "http://h\r\n", "http://[::1",
            "http://[::1]x", "http://a[b",
        ])
    func noOrigins(url: String) { #expect(HTTPOrigin(url) == nil) }
}

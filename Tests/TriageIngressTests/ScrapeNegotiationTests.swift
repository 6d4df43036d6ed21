import Testing
import TriageTelemetry

@testable import TriageIngress

/// Reference §7.1.
@Suite struct ScrapeNegotiationTests {
    private static let text = "text/plain; version=0.0.4; charset=utf-8"
    private static func open(_ version: String = "1.0.0", _ escaping: String = "underscores") -> String {
        "application/openmetrics-text; version=\(version); charset=utf-8; escaping=\(escaping)"
    }

    @Test(
        "Accept, and the Content-Type that answers it",
        arguments: [
            // What Prometheus 3 and Prometheus 2 send, and the same with OpenMetrics switched off.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
                    + "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                open("1.0.0", "allow-utf-8")
            ),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                    + "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", open()
            ),
            ("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", text),
            // Protobuf first, as with native histograms: not offered.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
                    + "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1", open()
            ),
            // No header, a browser, curl.
            ("", text), ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", text), ("*/*", text),
            // Versions.
            ("application/openmetrics-text", open("0.0.1")), ("application/openmetrics-text;version=0.0.1", open("0.0.1")),
            ("application/openmetrics-text; version=\"1.0.0\"", open()), ("application/openmetrics-text;version=2.0.0", text),
            ("application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.1", open()),
            ("application/openmetrics-text;version=1", text), ("text/plain;version=9.9.9", text), ("text/*", text),
            // Qualities.
            ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.3", text),
            ("text/plain;q=0.2,application/openmetrics-text;version=1.0.0;q=0.3", open()),
            ("text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.5", text),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.5", open()),
            ("application/openmetrics-text;version=1.0.0;q=0", text),
            ("application/openmetrics-text;version=1.0.0;q=0.000", text),
            ("application/openmetrics-text;version=1.0.0;q=0.001", open()),
            ("application/openmetrics-text;version=1.0.0;q=0.0001", text),
            ("text/plain;q=0.3,application/openmetrics-text;version=1.0.0;q=0.33333", open()),
            ("text/plain;q=.3,application/openmetrics-text;version=1.0.0;q=1.", open()),
            ("text/plain;q=0.999,application/openmetrics-text;version=1.0.0;Q=1.000", open()),
            // Case and space.
            (" APPLICATION/OpenMetrics-Text ;\tVersion = 1.0.0 ; Escaping = VALUES", open("1.0.0", "values")),
            // Escaping.
            ("application/openmetrics-text;version=1.0.0;escaping=underscores", open()),
            ("application/openmetrics-text;version=1.0.0;escaping=values", open("1.0.0", "values")),
            ("application/openmetrics-text;version=1.0.0;escaping=dots", open()),
            ("application/openmetrics-text;version=1.0.0;escaping=\"\\r\\nX: y\"", open()),
            // What can't be served or makes no sense.
            ("application/json", text), ("application/*", text), ("application/openmetrics", text), ("openmetrics-text", text),
            ("application/openmetrics-text;version=1.0.0;q=2", text), ("application/openmetrics-text;version=1.0.0;q=1.5", text),
            ("application/openmetrics-text;version=1.0.0;q=-1", text), ("application/openmetrics-text;version=1.0.0;q=", text),
            ("application/openmetrics-text;version=1.0.0;q=.", text), ("application/openmetrics-text;version=1.0.0;q=1e0", text),
            ("application/openmetrics-text;version=1.0.0;q=0x1", text),
            ("application/openmetrics-text;version=1.0.0;q=nan", text),
            (",,;;==,;q=1,=;=,\",\";", text), (";version=1.0.0", text),
            ("application/openmetrics-text;;=;version", open("0.0.1")),
            ("é,application/openmetrics-text;version=1.0.0;é=\u{0}", open()),
        ])
    func accept(header: String, contentType: String) {
        let asked = ScrapeNegotiation(accept: header)
        #expect(asked.contentType == contentType)
        #expect(asked.format == (contentType == ScrapeNegotiationTests.text ? .text : .openMetrics))
        #expect(!asked.usesGzip)
    }

    @Test(
        "Accept-Encoding",
        arguments: [
            ("gzip", true), ("GZIP", true), ("x-gzip", true), ("gzip, deflate, br", true), ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0.001", true), ("*", true), ("*;q=0.1", true), ("identity;q=0.5, gzip;q=0.5", true),
            ("identity;q=0, *", true),
            ("", false), ("identity", false), ("gzip;q=0", false), ("gzip;q=0.0", false), ("gzip; q=0.000", false),
            ("gzip;q=0, *", false), ("*;q=0", false), ("deflate, br", false), ("identity, gzip;q=0.5", false),
            ("identity;q=1, *;q=0.5", false), ("gzip;q=junk", false), ("gzipped", false), (",;q=,", false),
        ])
    func acceptEncoding(header: String, usesGzip: Bool) {
        #expect(ScrapeNegotiation(acceptEncoding: header).usesGzip == usesGzip)
        #expect(ScrapeNegotiation(acceptEncoding: header).contentType == ScrapeNegotiationTests.text)
    }

    @Test func noHeadersAreTextAsItIs() {
        #expect(ScrapeNegotiation() == ScrapeNegotiation(accept: "", acceptEncoding: ""))
        #expect(ScrapeNegotiation().contentType == ExpositionFormat.text.contentType)
        #expect(ExpositionFormat.openMetrics.contentType == ScrapeNegotiationTests.open())
    }

    @Test("whatever bytes come, one of the known answers goes out")
    func junk() {
        var random = SystemRandomNumberGenerator()
        let pieces = [
            "application/openmetrics-text", "text/plain", "*/*", ";", ",", "=", "q=", "version=", "1.0.0", "0.5", "\"", " ", "\t",
            "escaping=", "dots", "\u{0}", "é", "🙂", "-",
        ]
        let known = Set(
            ["1.0.0", "0.0.1"].flatMap { version in
                ["underscores", "allow-utf-8", "values"].map { ScrapeNegotiationTests.open(version, $0) }
            } + [ScrapeNegotiationTests.text])
        for _ in 0..<2000 {
            let header = (0..<Int.random(in: 0..<20, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }
                .joined()
            #expect(known.contains(ScrapeNegotiation(accept: header, acceptEncoding: header).contentType), "\(header)")
        }
    }
}

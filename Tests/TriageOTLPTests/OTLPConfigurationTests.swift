import Testing

@testable import TriageOTLP

@Suite("Reading OTEL_EXPORTER_OTLP_*")
struct OTLPConfigurationTests {
    func read(_ variables: [String: String]) -> OTLPConfiguration {
        OTLPConfiguration(environment: Dictionary(uniqueKeysWithValues: variables.map { ("OTEL_EXPORTER_OTLP_" + $0, $1) }))
    }

    @Test("Defaults; an empty value counts as unset")
    func defaults() {
        for configuration in [
            OTLPConfiguration(environment: [:]), read(["ENDPOINT": "", "TIMEOUT": "", "HEADERS": " ", "COMPRESSION": ""]),
        ] {
            #expect(configuration.traces == OTLPConfiguration.Signal(.traces))
            #expect(configuration.metrics == OTLPConfiguration.Signal(.metrics))
            #expect(configuration.traces.endpoint == "http://localhost:4318/v1/traces")
            #expect(configuration.metrics.endpoint == "http://localhost:4318/v1/metrics")
            #expect(configuration.traces.timeout == .seconds(10))
            #expect(!configuration.isEndpointConfigured)
            #expect(configuration.rejected.isEmpty)
        }
    }

    @Test(
        "The general endpoint is a base",
        arguments: [
            ("http://c:4318", "http://c:4318/v1/traces"), ("http://c:4318/", "http://c:4318/v1/traces"),
            ("http://c:4318/x", "http://c:4318/x/v1/traces"), ("http://c/x/", "http://c/x/v1/traces"),
            ("https://c", "https://c/v1/traces"), ("HTTPS://c", "https://c/v1/traces"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
            ("http://c/x?tenant=a", "http://c/x/v1/traces?tenant=a"),
        ])
    func base(text: String, url: String) {
        let configuration = read(["ENDPOINT": text])
        #expect(configuration.traces.endpoint == url)
        #expect(configuration.traces.isEndpointConfigured && configuration.metrics.isEndpointConfigured)
        #expect(configuration.rejected.isEmpty)
    }

    @Test(
        "A signal's own endpoint is used as it is",
        arguments: [
            ("http://c:4318", "http://c:4318/"), ("http://c:4318/", "http://c:4318/"), ("http://c:4318/x", "http://c:4318/x"),
            ("http://c/v1/traces", "http://c/v1/traces"), ("http://c?a=1", "http://c/?a=1"), ("http://c/%7Ex/", "http://c/%7Ex/"),
        ])
    func verbatim(text: String, url: String) {
        let configuration = read(["ENDPOINT": "http://general", "TRACES_ENDPOINT": text])
        #expect(configuration.traces.endpoint == url)
        #expect(configuration.metrics.endpoint == "http://general/v1/metrics")
        let alone = read(["TRACES_ENDPOINT": text])
        #expect(alone.traces.isEndpointConfigured && !alone.metrics.isEndpointConfigured && alone.isEndpointConfigured)
    }

    @Test(
        "Unusable endpoints are reported without their secrets, and the next best one is used",
        arguments: [
            "localhost:4318", "ftp://c", "http://", "http://a b", "file:///etc/passwd", "grpc://c:4317",
        ])
    func badEndpoint(text: String) {
        let general = read(["ENDPOINT": text])
        #expect(general.traces.endpoint == "http://localhost:4318/v1/traces")
        #expect(!general.isEndpointConfigured)
        #expect(general.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_ENDPOINT"])
        let own = read(["TRACES_ENDPOINT": text, "ENDPOINT": "http://c"])
        #expect(own.traces.endpoint == "http://c/v1/traces")
        #expect(own.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
    }

    @Test("What is printed of a URL has no user, password or query")
    func redaction() {
        #expect(OTLPEndpoint.redacted("https://user:secret@c:4318/x?key=secret#f") == "https://c:4318/x")
        #expect(OTLPEndpoint.redacted("user:secret@c") == "[redacted]")
    }

    @Test("Headers are percent-decoded; the last of one name counts")
    func headers() {
        let configuration = read(["HEADERS": "api-key=a%20b%3D , x = 1=2,,empty=,X=3", "METRICS_HEADERS": "only=metrics"])
        #expect(
            configuration.traces.headers == [
                .init(name: "api-key", value: "a b="), .init(name: "empty", value: ""), .init(name: "X", value: "3"),
            ])
        #expect(configuration.metrics.headers == [.init(name: "only", value: "metrics")])
        #expect(configuration.rejected.isEmpty)
    }

    @Test(
        "Unusable headers are ignored as a whole and never printed",
        arguments: [
            "secret", "=secret", "a b=secret", "k=%zzsecret", "k=secret%0d%0aHost: x", "k=%ff", "content-type=secret",
            "ok=1,secret", "k=%4",
        ])
    func badHeaders(text: String) {
        let configuration = read(["HEADERS": text])
        #expect(configuration.traces.headers.isEmpty)
        #expect(configuration.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_HEADERS"])
        #expect(!configuration.rejected.map(\.description).joined().contains("secret"))
    }

    @Test("Time-outs are milliseconds, 0 is no limit")
    func timeouts() {
        let configuration = read(["TIMEOUT": "2500", "METRICS_TIMEOUT": "0"])
        #expect(configuration.traces.timeout == .milliseconds(2500))
        #expect(configuration.metrics.timeout == nil)
        for text in ["-1", "10s", "1.5", "99999999999999999999"] {
            let bad = read(["TIMEOUT": text])
            #expect(bad.traces.timeout == .seconds(10))
            #expect(bad.rejected.map(\.value) == [text])
        }
        #expect(read(["TRACES_TIMEOUT": "x", "TIMEOUT": "7"]).traces.timeout == .milliseconds(7))
    }

    @Test("Compression and protocol are case-insensitive; other protocols are reported once")
    func enums() {
        #expect(read(["COMPRESSION": "GZIP"]).traces.compression == .gzip)
        #expect(read(["COMPRESSION": "gzip", "TRACES_COMPRESSION": "none"]).traces.compression == .none)
        #expect(read(["COMPRESSION": "zstd"]).rejected.map(\.expected) == ["gzip or none"])
        #expect(read(["PROTOCOL": "HTTP/protobuf"]).rejected.isEmpty)
        #expect(read(["PROTOCOL": "grpc"]).rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_PROTOCOL"])
        #expect(read(["TRACES_PROTOCOL": "http/json"]).rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
    }

    @Test("A client certificate and its key go together")
    func clientCertificate() {
        let both = read(["CERTIFICATE": "ca.pem", "CLIENT_KEY": "k.pem", "CLIENT_CERTIFICATE": "c.pem"])
        #expect(
            both.traces.certificate == "ca.pem" && both.traces.clientKey == "k.pem" && both.traces.clientCertificate == "c.pem")
        let mixed = read(["CLIENT_KEY": "k.pem", "TRACES_CLIENT_CERTIFICATE": "c.pem"])
        #expect(mixed.traces.clientCertificate == "c.pem" && mixed.metrics.clientKey == nil)
        #expect(mixed.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_CLIENT_KEY"])
    }
}

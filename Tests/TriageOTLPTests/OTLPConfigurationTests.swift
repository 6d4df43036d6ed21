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

    /// Reads variables with these files in the system.
    func read(_ variables: [String: String], files: [String: String]) -> OTLPConfiguration {
        let environment = Dictionary(uniqueKeysWithValues: variables.map { ("OTEL_EXPORTER_OTLP_" + $0, $1) })
        return OTLPConfiguration(environment: environment) { files[$0] }
    }

    /// A PEM block around the shortest DER sequence with some content.
    static func pem(_ label: String, _ base64: String = "MAMCAQU=") -> String {
        "text before\n-----BEGIN \(label)-----\n\(base64)\n-----END \(label)-----\n"
    }

    let files = ["ca.pem": pem("CERTIFICATE"), "k.pem": pem("PRIVATE KEY"), "c.pem": pem("CERTIFICATE") + pem("CERTIFICATE")]

    @Test("A client certificate and its key go together")
    func clientCertificate() {
        let both = read(["CERTIFICATE": "ca.pem", "CLIENT_KEY": "k.pem", "CLIENT_CERTIFICATE": "c.pem"], files: files)
        for signal in [both.traces, both.metrics, both.logs] {
            #expect(signal.certificate == "ca.pem" && signal.clientKey == "k.pem" && signal.clientCertificate == "c.pem")
        }
        #expect(both.rejected.isEmpty)
        let mixed = read(["CLIENT_KEY": "k.pem", "TRACES_CLIENT_CERTIFICATE": "c.pem"], files: files)
        #expect(mixed.traces.clientCertificate == "c.pem" && mixed.metrics.clientKey == nil)
        #expect(mixed.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_CLIENT_KEY"])
    }

    @Test(
        "A file that is missing or holds something else is named once with its path, and not used",
        arguments: [
            nil, "", "hello", pem("PRIVATE KEY"), pem("CERTIFICATE", "MAMCAQ"), pem("CERTIFICATE", "MAQCAQU="),
            pem("CERTIFICATE", "!!!!"), pem("CERTIFICATE", "AAMCAQU="), "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n",
            pem("CERTIFICATE") + pem("CERTIFICATE", "MAMCAQU"),
        ] as [String?])
    func badCertificate(content: String?) {
        let configuration = read(["CERTIFICATE": "/x/ca.pem"], files: content.map { ["/x/ca.pem": $0] } ?? [:])
        #expect(configuration.traces.certificate == nil)
        #expect(
            configuration.rejected.map(\.description) == [
                "OTEL_EXPORTER_OTLP_CERTIFICATE=/x/ca.pem is ignored: expected a readable PEM file with at least one certificate"
            ])
    }

    @Test(
        "A client key that is encrypted, broken or a certificate isn't used, and its certificate isn't complained about",
        arguments: [
            pem("ENCRYPTED PRIVATE KEY"), pem("CERTIFICATE"), pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nMAMCAQU="),
        ])
    func badKey(content: String) {
        let configuration = read(
            ["CLIENT_KEY": "k.pem", "CLIENT_CERTIFICATE": "c.pem"],
            files: ["k.pem": content, "c.pem": Self.pem("CERTIFICATE")])
        #expect(configuration.traces.clientKey == nil && configuration.traces.clientCertificate == nil)
        #expect(configuration.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_CLIENT_KEY"])
        #expect(configuration.rejected.first?.expected == "a readable PEM file with an unencrypted private key")
    }

    @Test("Keys of each kind are taken", arguments: ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])
    func keys(label: String) {
        let configuration = read(
            ["CLIENT_KEY": "k.pem", "CLIENT_CERTIFICATE": "c.pem"],
            files: ["k.pem": Self.pem(label), "c.pem": Self.pem("CERTIFICATE")])
        #expect(configuration.traces.clientKey == "k.pem" && configuration.rejected.isEmpty)
    }

    @Test("A file is really read: the system's authorities are usable, a directory isn't")
    func realFile() {
        #expect(PEMFile.read("/") == nil && PEMFile.read("/nowhere") == nil)
        #expect(PEMFile.read("/proc/self/comm") != nil)
    }

    @Test("Logs have every setting of their own")
    func logs() {
        let configuration = read([
            "ENDPOINT": "http://c:4318", "LOGS_ENDPOINT": "http://l/x", "LOGS_HEADERS": "a=b", "LOGS_TIMEOUT": "5",
            "LOGS_COMPRESSION": "gzip", "METRICS_TIMEOUT": "7",
        ])
        #expect(configuration.logs.endpoint == "http://l/x" && configuration.logs.timeout == .milliseconds(5))
        #expect(configuration.logs.compression == .gzip && configuration.logs.headers == [.init(name: "a", value: "b")])
        #expect(configuration.metrics.timeout == .milliseconds(7) && configuration.traces.timeout == .seconds(10))
        #expect(read(["ENDPOINT": "http://c:4318"]).logs.endpoint == "http://c:4318/v1/logs")
        #expect(OTLPConfiguration(environment: [:]).logs.endpoint == "http://localhost:4318/v1/logs")
        #expect(read(["LOGS_PROTOCOL": "grpc"]).rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"])
    }

    @Test(
        "The endpoint's host and port",
        arguments: [
            ("http://c:4318/v1/traces", "c", 4318), ("https://c/x", "c", 443), ("http://[::1]:4318", "::1", 4318),
            ("http://user:pw@c", "c", 80),
        ])
    func server(url: String, address: String, port: Int) throws {
        let server = try #require(OTLPEndpoint.server(url))
        #expect(server.address == address && server.port == port)
    }
}

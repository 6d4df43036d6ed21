/// Where and how telemetry is exported: the `OTEL_EXPORTER_OTLP_*` variables, read.
///
/// The specification's rules (protocol/exporter, configuration/sdk-environment-variables): an empty value counts as
/// unset; a signal's own variable beats the general one; a value that can't be used is ignored, and here also reported.
public struct OTLPConfiguration: Sendable, Hashable {
    /// What OTLP carries.
    public enum SignalKind: String, Sendable, CaseIterable {
        /// Spans, to `/v1/traces`.
        case traces
        /// Metrics, to `/v1/metrics`.
        case metrics
        /// Log records, to `/v1/logs`.
        case logs

        var infix: String { rawValue.uppercased() }
    }

    /// How bodies are compressed.
    public enum Compression: String, Sendable, CaseIterable {
        /// Not at all.
        case none
        /// gzip, level 1: about a seventh of the bytes for two to three microseconds a span.
        case gzip
    }

    /// A header of every request.
    public struct Header: Sendable, Hashable {
        /// The field's name.
        public let name: String
        /// The value: often a secret, never to be printed.
        public let value: String

        /// A header.
        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The settings of one signal.
    public struct Signal: Sendable, Hashable {
        /// The signal.
        public let kind: SignalKind
        /// The URL that bodies are posted to. Default `http://localhost:4318/v1/traces` or `…/metrics`.
        public var endpoint: String
        /// Whether a variable named a usable endpoint, its own or the general one.
        public var isEndpointConfigured = false
        /// Further headers, such as credentials. Default none.
        public var headers: [Header] = []
        /// The time one export may take, retries included; nil is no limit. Default 10 s.
        public var timeout: Duration? = .seconds(10)
        /// How bodies are compressed. Default none.
        public var compression = Compression.none
        /// The largest request that is sent, in bytes before compression; what is larger is split, and one item that is larger
        /// alone is dropped. 1 to 67,108,864 (OTLP specification, §OTLP/HTTP). Default 16 MiB: the collector takes 20 MiB.
        public var maximumRequestBytes = 16 * 1024 * 1024
        /// A PEM file of the certificate authorities to trust, and no others; nil trusts the system's.
        public var certificate: String?
        /// A PEM file with the client's private key; only together with ``clientCertificate``.
        public var clientKey: String?
        /// A PEM file with the client's certificate chain; only together with ``clientKey``.
        public var clientCertificate: String?

        /// The defaults, for this URL.
        public init(_ kind: SignalKind, endpoint: String? = nil) {
            self.kind = kind
            self.endpoint = endpoint ?? "http://localhost:4318/v1/\(kind.rawValue)"
        }
    }

    /// A variable whose value was ignored.
    public struct RejectedSetting: Sendable, Hashable, CustomStringConvertible {
        /// The variable.
        public let key: String
        /// Its value; `[redacted]` for headers and wherever a URL may hold credentials.
        public let value: String
        /// What would have been usable.
        public let expected: String

        /// All three in one sentence.
        public var description: String { "\(key)=\(value) is ignored: expected \(expected)" }
    }

    /// The settings for spans.
    public let traces: Signal
    /// The settings for metrics.
    public let metrics: Signal
    /// The settings for log records.
    public let logs: Signal
    /// The variables that were ignored, in the order they were read.
    public let rejected: [RejectedSetting]

    /// Whether a variable named a usable endpoint for any signal.
    public var isEndpointConfigured: Bool {
        traces.isEndpointConfigured || metrics.isEndpointConfigured || logs.isEndpointConfigured
    }

    /// Reads the variables, and looks into the PEM files that they name.
    public init(environment: [String: String]) { self.init(environment: environment, readFile: PEMFile.read) }

    init(environment: [String: String], readFile: @escaping (String) -> String?) {
        var reader = EnvironmentReader(environment: environment, readFile: readFile)
        traces = reader.signal(.traces)
        metrics = reader.signal(.metrics)
        logs = reader.signal(.logs)
        rejected = reader.rejected
    }
}

/// Reads the variables of a signal, its own before the general ones.
private struct EnvironmentReader {
    let environment: [String: String]
    let readFile: (String) -> String?
    private(set) var rejected: [OTLPConfiguration.RejectedSetting] = []

    init(environment: [String: String], readFile: @escaping (String) -> String?) {
        self.environment = environment
        self.readFile = readFile
    }

    mutating func signal(_ kind: OTLPConfiguration.SignalKind) -> OTLPConfiguration.Signal {
        var signal = OTLPConfiguration.Signal(kind)
        if let endpoint = endpoint(kind) {
            signal.endpoint = endpoint
            signal.isEndpointConfigured = true
        }
        checkProtocol(kind)
        if let headers = read(kind, "HEADERS", "k1=v1,k2=v2 with percent-encoded values", isSecret: true, OTLPHeaderList.parse) {
            signal.headers = headers
        }
        if let timeout = read(
            kind, "TIMEOUT", "whole milliseconds from 0 (no limit)", { Int64($0).flatMap { $0 < 0 ? nil : $0 } })
        {
            signal.timeout = timeout == 0 ? nil : .milliseconds(timeout)
        }
        let compression = read(kind, "COMPRESSION", "gzip or none") { OTLPConfiguration.Compression(rawValue: $0.lowercased()) }
        if let compression { signal.compression = compression }
        signal.certificate = file(kind, "CERTIFICATE", .certificates)
        let isKeyNamed = isNamed(kind, "CLIENT_KEY")
        let isCertificateNamed = isNamed(kind, "CLIENT_CERTIFICATE")
        let key = file(kind, "CLIENT_KEY", .privateKey)
        let certificate = file(kind, "CLIENT_CERTIFICATE", .certificates)
        if let key, let certificate {
            signal.clientKey = key
            signal.clientCertificate = certificate
        } else if isKeyNamed != isCertificateNamed, let lone = key ?? certificate {
            // One that can't be read has been reported already, and so has one of two.
            reject(
                nameInUse(kind, isKeyNamed ? "CLIENT_KEY" : "CLIENT_CERTIFICATE"), lone,
                "CLIENT_KEY and CLIENT_CERTIFICATE together, for each signal"
            )
        }
        return signal
    }

    /// A signal's own endpoint is used as it is; the general one is a base that `v1/<signal>` is appended to.
    private mutating func endpoint(_ kind: OTLPConfiguration.SignalKind) -> String? {
        let expected = "an http:// or https:// URL"
        if let text = value(name(kind, "ENDPOINT")) {
            if let url = OTLPEndpoint.verbatim(text) { return url }
            reject(name(kind, "ENDPOINT"), OTLPEndpoint.redacted(text), expected)
        }
        guard let text = value(name(nil, "ENDPOINT")) else { return nil }
        if let url = OTLPEndpoint.joined(text, path: "v1/\(kind.rawValue)") { return url }
        reject(name(nil, "ENDPOINT"), OTLPEndpoint.redacted(text), expected)
        return nil
    }

    /// There is one protocol, so nothing comes of the value but a report.
    private mutating func checkProtocol(_ kind: OTLPConfiguration.SignalKind) {
        _ = read(kind, "PROTOCOL", "http/protobuf, the only protocol there is") { $0.lowercased() == "http/protobuf" ? $0 : nil }
    }

    private mutating func file(_ kind: OTLPConfiguration.SignalKind, _ suffix: String, _ content: PEMFile.Content) -> String? {
        let readFile = readFile
        return read(kind, suffix, content.expected) { path in
            readFile(path).map { PEMFile.holds(content, $0) } == true ? path : nil
        }
    }

    /// The variable that a signal's setting comes from.
    private func nameInUse(_ kind: OTLPConfiguration.SignalKind, _ suffix: String) -> String {
        value(name(kind, suffix)) == nil ? name(nil, suffix) : name(kind, suffix)
    }

    private func isNamed(_ kind: OTLPConfiguration.SignalKind, _ suffix: String) -> Bool {
        value(name(kind, suffix)) != nil || value(name(nil, suffix)) != nil
    }

    /// The first usable value, the signal's own before the general one; those that come before it are reported.
    private mutating func read<Value>(
        _ kind: OTLPConfiguration.SignalKind, _ suffix: String, _ expected: String, isSecret: Bool = false,
        _ parse: (String) -> Value?
    ) -> Value? {
        for name in [name(kind, suffix), name(nil, suffix)] {
            guard let text = value(name) else { continue }
            if let value = parse(text) { return value }
            reject(name, isSecret ? "[redacted]" : text, expected)
        }
        return nil
    }

    private func name(_ kind: OTLPConfiguration.SignalKind?, _ suffix: String) -> String {
        kind.map { "OTEL_EXPORTER_OTLP_\($0.infix)_\(suffix)" } ?? "OTEL_EXPORTER_OTLP_\(suffix)"
    }

    private func value(_ name: String) -> String? {
        guard let text = environment[name] else { return nil }
        let trimmed = text.trimmingBlanks
        return trimmed.isEmpty ? nil : trimmed
    }

    /// A general variable is read once for each signal, but reported once.
    private mutating func reject(_ key: String, _ value: String, _ expected: String) {
        let setting = OTLPConfiguration.RejectedSetting(key: key, value: value, expected: expected)
        if !rejected.contains(setting) { rejected.append(setting) }
    }
}

/// The list form of `OTEL_EXPORTER_OTLP_HEADERS`: W3C baggage without properties (protocol/exporter §specifying headers).
enum OTLPHeaderList {
    /// Headers that describe the body, which only the transport knows.
    private static let reserved: Set<String> = [
        "content-type", "content-length", "content-encoding", "transfer-encoding", "expect",
    ]

    /// The headers; nil if one member is unusable, for half of the credentials help nobody.
    static func parse(_ text: String) -> [OTLPConfiguration.Header]? {
        var headers: [OTLPConfiguration.Header] = []
        for member in text.split(separator: ",", omittingEmptySubsequences: true) {
            let member = String(member).trimmingBlanks
            if member.isEmpty { continue }
            guard let equals = member.firstIndex(of: "=") else { return nil }
            let name = String(member[..<equals]).trimmingBlanks
            guard isToken(name), !reserved.contains(name.lowercased()),
                let value = percentDecoded(String(member[member.index(after: equals)...]).trimmingBlanks),
                value.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F || $0.value == 0x09 })
            else { return nil }
            headers.removeAll { $0.name.lowercased() == name.lowercased() }
            headers.append(OTLPConfiguration.Header(name: name, value: value))
        }
        return headers
    }

    /// A field name (RFC 9110 §5.6.2).
    private static func isToken(_ text: String) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                    || "!#$%&'*+-.^_`|~".utf8.contains($0)
            }
    }

    /// Decodes `%41`; nil for a `%` without two digits and for bytes that are no UTF-8.
    private static func percentDecoded(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let high = Character(UnicodeScalar(rest.removeFirst())).hexDigitValue,
                let low = Character(UnicodeScalar(rest.removeFirst())).hexDigitValue
            else { return nil }
            bytes.append(UInt8(high << 4 | low))
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

extension String {
    /// Without spaces and tabs at its ends.
    fileprivate var trimmingBlanks: String {
        var text = self[...]
        while let first = text.first, first == " " || first == "\t" { text = text.dropFirst() }
        while let last = text.last, last == " " || last == "\t" { text = text.dropLast() }
        return String(text)
    }
}

internal import TriageEvents
public import TriageTelemetry

extension Configuration {
    /// Where traces are kept: for links to them, and for tools that show them.
    public struct Traces: Sendable, Hashable {
        /// Jaeger's base URL, of its pages and its query API; nil for none, the default. `TRIAGE_JAEGER_URL`.
        public var jaeger: String?
        /// Tempo's base URL, of its query API; nil for none, the default. `TRIAGE_TEMPO_URL`.
        public var tempo: String?
        /// Grafana's base URL, for links to its Explore page; nil for none, the default. `TRIAGE_GRAFANA_URL`.
        public var grafana: String?
        /// The uid of Grafana's Tempo data source. Default `tempo`; `TRIAGE_GRAFANA_TEMPO_UID`.
        public var grafanaTempoUID = "tempo"
        /// A file with header fields for the query APIs, one `Name: value` a line, such as `Authorization` or Tempo's
        /// `X-Scope-OrgID`; nil for none. `TRIAGE_TRACE_HEADERS_FILE`.
        public var headersFile: String?
        /// A PEM file with the authorities that are trusted for the query APIs, instead of the system's; `TRIAGE_TRACE_CA_FILE`.
        public var caFile: String?

        /// Nowhere.
        public init() {}

        /// Ready-made addresses of a trace's pages.
        public var links: TraceLinks { TraceLinks(jaeger: jaeger, grafana: grafana, grafanaTempoUID: grafanaTempoUID) }

        /// The fields of ``headersFile``; empty without one.
        ///
        /// - Throws: ``ConfigurationError`` with the file's name, never its content, if it can't be read or a line is no field.
        func headers() throws(ConfigurationError) -> [(name: String, value: String)] {
            guard let headersFile else { return [] }
            var fields: [(name: String, value: String)] = []
            let lines = SecretFile.lines(of: headersFile)
            for line in lines ?? [] {
                guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else { break }
                let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
                fields.append((String(line[..<colon]), String(value)))
            }
            guard let lines, !lines.isEmpty, fields.count == lines.count else {
                throw ConfigurationError(
                    key: "trace-headers-file", value: headersFile, expected: "a readable file with one Name: value a line")
            }
            return fields
        }
    }
}

extension ConfigurationLoader {
    /// The keys of ``Configuration/Traces``.
    static let traceKeys: [(key: String, meaning: String)] = [
        ("jaeger-url", "base URL of Jaeger, for links to traces and for triage explain"),
        ("tempo-url", "base URL of Tempo's API, for triage explain"),
        ("grafana-url", "base URL of Grafana, for links to traces in Tempo"),
        ("grafana-tempo-uid", "uid of Grafana's Tempo data source"),
        ("trace-headers-file", "file with headers for Jaeger's and Tempo's API, one Name: value a line"),
        ("trace-ca-file", "PEM file with the authorities trusted for Jaeger's and Tempo's API, instead of the system's"),
    ]

    /// Where traces are kept.
    func traces() throws(ConfigurationError) -> Configuration.Traces {
        var traces = Configuration.Traces()
        traces.jaeger = try traceURL("jaeger-url")
        traces.tempo = try traceURL("tempo-url")
        traces.grafana = try traceURL("grafana-url")
        if let uid = text("grafana-tempo-uid") {
            // What Grafana allows (its HTTP API, "Data source UID").
            guard (1...40).contains(uid.utf8.count), uid.utf8.allSatisfy(ConfigurationLoader.isUIDByte) else {
                throw ConfigurationError(
                    key: "grafana-tempo-uid", value: uid, expected: "up to 40 letters, digits, dashes or underscores")
            }
            traces.grafanaTempoUID = uid
        }
        traces.headersFile = try readableFile("trace-headers-file")
        traces.caFile = try certificatesFile("trace-ca-file")
        return traces
    }

    private func traceURL(_ key: String) throws(ConfigurationError) -> String? {
        guard let url = text(key) else { return nil }
        guard let origin = HTTPOrigin(url), !origin.rest.contains("?"), !origin.rest.contains("#") else {
            throw ConfigurationError(
                key: key, value: "…", expected: "an absolute http or https URL without a user, a query and a fragment")
        }
        var base = url[...]
        while base.last == "/" { base = base.dropLast() }
        return String(base)
    }

    private static func isUIDByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || "-_".utf8.contains(byte)
    }
}

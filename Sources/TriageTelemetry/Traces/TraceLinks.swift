public import TriageEvents

/// Where to look at a trace in a browser: Jaeger's own pages, and Grafana's Explore over a Tempo data source.
public struct TraceLinks: Sendable, Hashable {
    /// One of them.
    public struct Link: Sendable, Hashable {
        /// `Jaeger` or `Grafana`.
        public let name: String
        /// The address, ready to be opened.
        public let url: String
    }

    /// Where Jaeger's pages are, without a slash at the end; nil for no link.
    public let jaeger: String?
    /// Where Grafana is, without a slash at the end; nil for no link.
    public let grafana: String?
    /// The uid of Grafana's Tempo data source.
    public let grafanaTempoUID: String

    /// Links to these places.
    ///
    /// - Parameters:
    ///   - jaeger: Jaeger's base URL, such as `http://localhost:16686`.
    ///   - grafana: Grafana's base URL.
    ///   - grafanaTempoUID: the uid of its Tempo data source.
    public init(jaeger: String? = nil, grafana: String? = nil, grafanaTempoUID: String = "tempo") {
        self.jaeger = jaeger.map(TraceLinks.base)
        self.grafana = grafana.map(TraceLinks.base)
        self.grafanaTempoUID = grafanaTempoUID
    }

    /// Whether there is any place to link to.
    public var isEmpty: Bool { jaeger == nil && grafana == nil }

    /// The addresses of a trace; empty if no place is known.
    public func links(for trace: TraceID) -> [Link] {
        var links: [Link] = []
        if let jaeger { links.append(Link(name: "Jaeger", url: "\(jaeger)/trace/\(trace)")) }
        if let grafana { links.append(Link(name: "Grafana", url: "\(grafana)/explore?\(explore(trace))")) }
        return links
    }

    /// The query of Grafana's Explore page, since Grafana 10: `panes` is JSON, a trace id is a TraceQL query of its own.
    private func explore(_ trace: TraceID) -> String {
        let source = "{\"type\":\"tempo\",\"uid\":\(JSONText(grafanaTempoUID).quoted)}"
        let query = "{\"refId\":\"A\",\"datasource\":\(source),\"queryType\":\"traceql\",\"query\":\"\(trace)\"}"
        let range = "{\"from\":\"now-7d\",\"to\":\"now\"}"
        let pane = "{\"datasource\":\(JSONText(grafanaTempoUID).quoted),\"queries\":[\(query)],\"range\":\(range)}"
        return "schemaVersion=1&orgId=1&panes=" + TraceLinks.escaped("{\"trace\":\(pane)}")
    }

    /// Everything but unreserved characters as `%XX` (RFC 3986 §2.1, §2.3).
    private static func escaped(_ text: String) -> String {
        var escaped = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: escaped.unicodeScalars.append(UnicodeScalar(byte))
            case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                escaped.unicodeScalars.append(UnicodeScalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                escaped += byte < 16 ? "%0\(digits)" : "%\(digits)"
            }
        }
        return escaped
    }

    private static func base(_ url: String) -> String {
        var url = url[...]
        while url.last == "/" { url = url.dropLast() }
        return String(url)
    }
}

/// A text format in which Prometheus takes metrics.
public enum ExpositionFormat: Sendable, Hashable, CaseIterable {
    /// Prometheus' text format 0.0.4 (Prometheus documentation, "Exposition formats").
    case text
    /// OpenMetrics 1.0 (OpenMetrics specification 1.0.0).
    case openMetrics

    /// The media type without parameters, such as `text/plain`.
    public var mediaType: String {
        switch self {
        case .text: "text/plain"
        case .openMetrics: "application/openmetrics-text"
        }
    }

    /// The version that is written, `0.0.4` or `1.0.0`.
    public var version: String {
        switch self {
        case .text: "0.0.4"
        case .openMetrics: "1.0.0"
        }
    }

    /// The value of the header `Content-Type` for a client that asked for nothing in particular.
    public var contentType: String {
        switch self {
        case .text: "text/plain; version=0.0.4; charset=utf-8"
        case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
        }
    }
}

/// Sends metric snapshots somewhere, such as to an OpenTelemetry collector.
public protocol MetricExporter: Sendable {
    /// Sends one snapshot, retrying within the exporter's own time-out; called by one thread at a time, which it may block.
    func export(_ snapshot: MetricSnapshot) -> ExportResult
    /// Ends an export under way promptly and makes later ones fail; may be called from any thread, more than once.
    func cancel()
}

public import TriageTelemetry

/// Exports batches of log records to an OTLP receiver over HTTP.
public final class OTLPLogExporter: LogExporter {
    private let entries: EntryExport

    /// An exporter; it connects with the first batch. Parameters as for ``OTLPSpanExporter``.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        meter: Meter? = nil, warnings: OTLPWarnings
    ) {
        entries = EntryExport(
            "log records", LogRequest(resource).request,
            over: OTLPTransport(signal, version: resource.version, policy: retry, warnings: warnings),
            metrics: meter.map { ExporterMetrics(.logs, meter: $0, server: OTLPEndpoint.server(signal.endpoint)) },
            read: { OTLPResponse(logs: $0) }
        )
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { entries.transport.counts }

    /// Sends one batch of entries that ``OTLPLogEncoder`` wrote, in several requests if it is too large for one.
    public func export(_ records: EncodedLogs) -> ExportResult { entries.export(records.entries) }

    /// Ends the export under way and fails later ones.
    public func cancel() { entries.transport.cancel() }
}

internal import Synchronization
public import TriageTelemetry

/// Exports batches of log records to an OTLP receiver over HTTP.
public final class OTLPLogExporter: LogExporter {
    private let request: LogRequest
    private let transport: OTLPTransport
    private let metrics: ExporterMetrics?
    /// The body under construction, kept so that its memory is used again.
    private let body = Mutex<[UInt8]>([])

    /// An exporter; it connects with the first batch. Parameters as for ``OTLPSpanExporter``.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        meter: Meter? = nil, warnings: OTLPWarnings
    ) {
        request = LogRequest(resource)
        transport = OTLPTransport(signal, version: resource.version, policy: retry, warnings: warnings)
        metrics = meter.map { ExporterMetrics(.logs, meter: $0, server: OTLPEndpoint.server(signal.endpoint)) }
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { transport.counts }

    /// Sends one batch of entries that ``OTLPLogEncoder`` wrote.
    public func export(_ records: EncodedLogs) -> ExportResult {
        guard records.count > 0 else { return .exported }
        return transport.operation(records.count, metrics) { tally, deadline in
            body.withLock { body in
                request.write(records, to: &body)
                // A batch of log records is far smaller; one that isn't can't be cut here.
                guard body.count <= transport.maximumRequest else {
                    return transport.dropped(records.count, "log records", &tally)
                }
                transport.post(body, of: records.count, "log records", until: deadline, &tally) { OTLPResponse(logs: $0) }
            }
        }
    }

    /// Ends the export under way and fails later ones.
    public func cancel() { transport.cancel() }
}

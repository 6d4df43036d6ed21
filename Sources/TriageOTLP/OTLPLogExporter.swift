internal import Synchronization
public import TriageTelemetry

/// Exports batches of log records to an OTLP receiver over HTTP.
public final class OTLPLogExporter: LogExporter {
    private let request: LogRequest
    private let transport: OTLPTransport
    /// The body under construction, kept so that its memory is used again.
    private let body = Mutex<[UInt8]>([])

    /// An exporter; it connects with the first batch. Parameters as for ``OTLPSpanExporter``.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        request = LogRequest(resource)
        transport = OTLPTransport(signal, version: resource.version, policy: retry, onWarning: onWarning)
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { transport.counts }

    /// Sends one batch of entries that ``OTLPLogEncoder`` wrote.
    public func export(_ records: EncodedLogs) -> ExportResult {
        guard records.count > 0 else { return .exported }
        return body.withLock { body in
            request.write(records, to: &body)
            guard let answer = transport.post(body) else { return .failed }
            return transport.result(OTLPResponse(logs: answer), of: "log records")
        }
    }

    /// Ends the export under way and fails later ones.
    public func cancel() { transport.cancel() }
}

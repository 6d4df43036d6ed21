internal import Synchronization
internal import TriageTelemetry

/// Exports batches of entries: of spans and of log records, whose requests are laid out alike (``LogRequest``).
final class EntryExport: Sendable {
    let transport: OTLPTransport
    private let request: TraceRequest
    private let metrics: ExporterMetrics?
    /// What the entries are called in warnings.
    private let name: String
    private let read: @Sendable ([UInt8]) -> OTLPResponse
    /// The body under construction, kept so that its memory is used again.
    private let body = Mutex<[UInt8]>([])

    init(
        _ name: String, _ request: TraceRequest, over transport: OTLPTransport, metrics: ExporterMetrics?,
        read: @escaping @Sendable ([UInt8]) -> OTLPResponse
    ) {
        self.name = name
        self.request = request
        self.transport = transport
        self.metrics = metrics
        self.read = read
    }

    /// Sends one batch, in several requests if it is too large for one.
    func export(_ entries: EncodedSpans) -> ExportResult {
        guard entries.count > 0 else { return .exported }
        return transport.operation(entries.count, metrics) { tally, deadline in
            body.withLock { body in
                entries.withUnsafeBytes { bytes in
                    let (parts, tooLarge) = request.parts(bytes, count: entries.count, limit: transport.maximumRequest)
                    if tooLarge > 0 { transport.dropped(tooLarge, name, &tally) }
                    for part in parts {
                        request.write(UnsafeRawBufferPointer(rebasing: bytes[part.range]), to: &body)
                        transport.post(body, of: part.spans, name, until: deadline, &tally, read)
                    }
                }
            }
        }
    }
}

internal import Synchronization
public import TriageTelemetry

/// Exports batches of spans to an OTLP receiver over HTTP.
public final class OTLPSpanExporter: SpanExporter {
    private let request: TraceRequest
    private let transport: OTLPTransport
    /// The body under construction, kept so that its memory is used again.
    private let body = Mutex<[UInt8]>([])

    /// An exporter; it connects with the first batch.
    ///
    /// - Parameters:
    ///   - signal: where and how, from ``OTLPConfiguration/traces``.
    ///   - resource: what the spans are about.
    ///   - retry: waits between tries.
    ///   - onWarning: gets a sentence when an export fails, spans are rejected or an answer can't be read; each kind at
    ///     most once in five minutes. Called on the exporting thread.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        request = TraceRequest(resource)
        transport = OTLPTransport(signal, version: resource.version, policy: retry, onWarning: onWarning)
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { transport.counts }

    /// Sends one batch of entries that ``OTLPSpanEncoder`` wrote.
    public func export(_ spans: EncodedSpans) -> ExportResult {
        guard spans.count > 0 else { return .exported }
        return body.withLock { body in
            request.write(spans, to: &body)
            guard let answer = transport.post(body) else { return .failed }
            return transport.result(OTLPResponse(traces: answer), of: "spans")
        }
    }

    /// Ends the export under way and fails later ones.
    public func cancel() { transport.cancel() }
}

/// Exports metric snapshots to an OTLP receiver over HTTP.
public final class OTLPMetricExporter: MetricExporter {
    private let encoder: OTLPMetricEncoder
    private let transport: OTLPTransport

    /// An exporter; it connects with the first snapshot. Parameters as for ``OTLPSpanExporter``.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        encoder = OTLPMetricEncoder(resource)
        transport = OTLPTransport(signal, version: resource.version, policy: retry, onWarning: onWarning)
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { transport.counts }

    /// Sends one snapshot; one without points isn't sent.
    public func export(_ snapshot: MetricSnapshot) -> ExportResult {
        let (body, points) = encoder.encode(snapshot)
        guard points > 0 else { return .exported }
        guard let answer = transport.post(body) else { return .failed }
        return transport.result(OTLPResponse(metrics: answer), of: "data points")
    }

    /// Ends the export under way and fails later ones.
    public func cancel() { transport.cancel() }
}

extension OTLPTransport {
    /// Reports what a successful answer says besides success.
    func result(_ response: OTLPResponse, of items: String) -> ExportResult {
        switch response {
        case .full:
            return .exported
        case .partial(let rejected, let message):
            let message = OTLPTransport.printable(message)
            warn(rejected > 0 ? "rejected" : "message", "the receiver rejected \(rejected) \(items): \(message)")
            return rejected > 0 ? .partial(rejected: rejected) : .exported
        case .unreadable:
            countUnreadableResponse()
            warn("unreadable", "the receiver took the \(items), but its answer is no OTLP")
            return .exported
        }
    }

    /// At most 256 characters of a foreign text, without control characters.
    private static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.filter { $0.properties.generalCategory != .control }.prefix(256)))
    }
}

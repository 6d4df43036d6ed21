internal import TriageEvents
public import TriageTelemetry

/// Exports batches of spans to an OTLP receiver over HTTP.
public final class OTLPSpanExporter: SpanExporter {
    private let entries: EntryExport

    /// An exporter; it connects with the first batch.
    ///
    /// - Parameters:
    ///   - signal: where and how, from ``OTLPConfiguration/traces``.
    ///   - resource: what the spans are about.
    ///   - retry: waits between tries.
    ///   - meter: gets `otel.sdk.exporter.*`; nil tells nobody.
    ///   - warnings: get a sentence when an export fails, spans are rejected or an answer can't be read; shared by the
    ///     exporters of a process.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        meter: Meter? = nil, warnings: OTLPWarnings
    ) {
        entries = EntryExport(
            "spans", TraceRequest(resource),
            over: OTLPTransport(signal, version: resource.version, policy: retry, warnings: warnings),
            metrics: meter.map { ExporterMetrics(.spans, meter: $0, server: OTLPEndpoint.server(signal.endpoint)) },
            read: { OTLPResponse(traces: $0) }
        )
    }

    /// An exporter with warnings of its own, each kind at most once in five minutes.
    public convenience init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        self.init(signal, resource: resource, retry: retry, warnings: OTLPWarnings(onWarning))
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { entries.transport.counts }

    /// Sends one batch of entries that ``OTLPSpanEncoder`` wrote, in several requests if it is too large for one.
    public func export(_ spans: EncodedSpans) -> ExportResult { entries.export(spans) }

    /// Ends the export under way and fails later ones.
    public func cancel() { entries.transport.cancel() }
}

/// Exports metric snapshots to an OTLP receiver over HTTP.
public final class OTLPMetricExporter: MetricExporter {
    private let encoder: OTLPMetricEncoder
    private let transport: OTLPTransport
    private let metrics: ExporterMetrics?

    /// An exporter; it connects with the first snapshot. Parameters as for ``OTLPSpanExporter``.
    public init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        meter: Meter? = nil, warnings: OTLPWarnings
    ) {
        encoder = OTLPMetricEncoder(resource)
        transport = OTLPTransport(signal, version: resource.version, policy: retry, warnings: warnings)
        metrics = meter.map { ExporterMetrics(.metricDataPoints, meter: $0, server: OTLPEndpoint.server(signal.endpoint)) }
    }

    /// An exporter with warnings of its own, each kind at most once in five minutes.
    public convenience init(
        _ signal: OTLPConfiguration.Signal, resource: OTLPResource, retry: ExportRetry.Policy = ExportRetry.Policy(),
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        self.init(signal, resource: resource, retry: retry, warnings: OTLPWarnings(onWarning))
    }

    /// What the transport has done so far.
    public var counts: OTLPTransportCounts { transport.counts }

    /// Sends one snapshot, in several requests if it is too large for one; one without points isn't sent.
    public func export(_ snapshot: MetricSnapshot) -> ExportResult {
        let (body, points) = encoder.encode(snapshot)
        guard points > 0 else { return .exported }
        return transport.operation(points, metrics) { tally, deadline in
            send(snapshot, body, points, until: deadline, &tally)
        }
    }

    /// Ends the export under way and fails later ones.
    public func cancel() { transport.cancel() }

    /// Halves a snapshot until its parts fit.
    private func send(
        _ snapshot: MetricSnapshot, _ body: [UInt8], _ points: Int, until deadline: Duration?, _ tally: inout ExportTally
    ) {
        guard points > 0 else { return }
        if body.count <= transport.maximumRequest {
            transport.post(body, of: points, "data points", until: deadline, &tally) { OTLPResponse(metrics: $0) }
        } else if let (first, second) = snapshot.halves {
            for half in [first, second] {
                let (body, points) = encoder.encode(half)
                send(half, body, points, until: deadline, &tally)
            }
        } else {
            transport.dropped(points, "data points", &tally)
        }
    }
}

extension MetricSnapshot {
    /// Two snapshots that together have the same points; nil if there is but one.
    var halves: (MetricSnapshot, MetricSnapshot)? {
        func snapshot(_ metrics: [MetricData]) -> MetricSnapshot { MetricSnapshot(timestamp: timestamp, metrics: metrics) }
        if metrics.count > 1 {
            let middle = metrics.count / 2
            return (snapshot(Array(metrics[..<middle])), snapshot(Array(metrics[middle...])))
        }
        guard let only = metrics.first, only.points.count > 1 else { return nil }
        let middle = only.points.count / 2
        func part(_ points: ArraySlice<MetricData.Point>) -> MetricSnapshot {
            snapshot([MetricData(metric: only.metric, temporality: only.temporality, points: Array(points))])
        }
        return (part(only.points[..<middle]), part(only.points[middle...]))
    }
}

extension OTLPTransport {
    /// One export: `body` sends what it takes and tallies, and the metrics are told.
    func operation(
        _ items: Int, _ metrics: ExporterMetrics?, _ body: (inout ExportTally, _ deadline: Duration?) -> Void
    ) -> ExportResult {
        let begin = MonotonicClock.now
        metrics?.begin(items)
        var tally = ExportTally()
        body(&tally, deadline)
        metrics?.end(items, tally, duration: MonotonicClock.now - begin)
        return tally.result
    }

    /// Posts one request and tallies what became of its items.
    func post(
        _ body: [UInt8], of items: Int, _ name: String, until deadline: Duration?, _ tally: inout ExportTally,
        _ read: ([UInt8]) -> OTLPResponse
    ) {
        switch post(body, until: deadline) {
        case .failed(let error, let status):
            tally.status = status
            tally.fail(items, error)
        case .delivered(let status, let answer):
            tally.status = status
            let rejected = min(items, rejected(read(answer), of: name))
            tally.fail(rejected, .rejected)
            tally.export(items - rejected)
        }
    }

    /// Items that no request may hold.
    func dropped(_ items: Int, _ name: String, _ tally: inout ExportTally) {
        warn("size", "\(items) \(name) dropped: each alone is over the limit of \(maximumRequest) bytes")
        tally.fail(items, .tooLarge)
    }

    /// Reports what a successful answer says besides success; gives the number of items that were refused.
    private func rejected(_ response: OTLPResponse, of items: String) -> Int {
        switch response {
        case .full:
            return 0
        case .partial(let rejected, let message):
            let message = OTLPTransport.printable(message)
            warn(rejected > 0 ? "rejected" : "message", "the receiver rejected \(rejected) \(items): \(message)")
            return rejected
        case .unreadable:
            countUnreadableResponse()
            warn("unreadable", "the receiver took the \(items), but its answer is no OTLP")
            return 0
        }
    }

    /// At most 256 characters of a foreign text, without those that do something where they are shown.
    private static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.filter { !HarmlessText.isActive($0) }.prefix(256)))
    }
}

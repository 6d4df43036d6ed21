internal import TriageEvents

/// Sends batches of encoded log records somewhere, such as to an OpenTelemetry collector.
public protocol LogExporter: Sendable {
    /// Sends one batch, retrying within the exporter's own time-out; called by one thread at a time, which it may block.
    func export(_ records: EncodedLogs) -> ExportResult
    /// Ends an export under way promptly and makes later ones fail; may be called from any thread, more than once.
    func cancel()
}

/// A batch of records as a ``LogEncoder`` wrote them, one behind the other.
public struct EncodedLogs: Sendable {
    /// The same batch: to the queue and to the transport, entries are entries.
    public let entries: EncodedSpans

    /// How many records.
    public var count: Int { entries.count }

    /// A batch of these entries, for exporters that are used without a processor.
    public init(_ entries: EncodedSpans) { self.entries = entries }
}

/// Encodes log records where they are emitted, queues the bytes, and exports them on a thread of its own.
///
/// The queue, its rules and its counts are those of the ``BatchSpanProcessor``: a record is an entry like a span, and one of
/// severity ERROR or worse may use the reserve that is kept for spans with an error.
public final class BatchLogProcessor: LogProcessor {
    private let encoder: any LogEncoder
    private let core: BatchSpanProcessor.Core

    /// The batching log record processor's defaults (specification, logs/sdk §batching processor), with memory bounded too.
    ///
    /// 2,048 records, 512 in a batch, 1 s of delay; at most 4 MiB of encoded records.
    public static var defaultLimits: SpanQueue.Limits {
        var limits = SpanQueue.Limits()
        limits.bytes = 4 * 1024 * 1024
        limits.reservedBytes = 1024 * 1024
        limits.spans = 2048
        limits.batchSpans = 512
        limits.batchBytes = 512 * 1024
        limits.delay = .seconds(1)
        return limits
    }

    /// A processor with its export thread running; parameters as for ``BatchSpanProcessor``.
    public init(encoder: any LogEncoder, exporter: any LogExporter, limits: SpanQueue.Limits = defaultLimits) {
        self.encoder = encoder
        let core = BatchSpanProcessor.Core(exporter: Adapter(exporter: exporter), limits: limits)
        self.core = core
        if !WorkerThread.start("triage-logs", { core.run() }) { core.abandon() }
    }

    deinit { core.shutdown() }

    /// Encodes and queues a record.
    public func onEmit(_ record: LogRecord, limits: LogLimits) {
        let core = core
        let isError = record.severity >= .error
        encoder.withEncoded(record, valueLength: limits.valueLength) { core.offer($0, isError: isError) }
    }

    /// What became of the records so far; where it says spans, records are meant.
    public var counts: SpanExportCounts { core.counts }

    /// The limits in force.
    public var limits: SpanQueue.Limits { core.limits }

    /// Exports everything that was emitted before the call; see ``BatchSpanProcessor/forceFlush(timeout:)``.
    public func forceFlush(timeout: Duration) async -> Bool { await core.forceFlush(timeout: timeout) }

    /// Drops later records, exports what waits, and ends the thread; see ``BatchSpanProcessor/shutdown(timeout:)``.
    public func shutdown(timeout: Duration) async { await core.shutdown(timeout: timeout) }

    private struct Adapter: SpanExporter {
        let exporter: any LogExporter

        func export(_ entries: EncodedSpans) -> ExportResult { exporter.export(EncodedLogs(entries)) }
        func cancel() { exporter.cancel() }
    }
}

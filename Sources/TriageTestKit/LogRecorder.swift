internal import Synchronization
public import TriageTelemetry

/// Keeps the log records that are emitted, to be looked at by a test.
public final class LogRecorder: LogProcessor {
    private let recorded = Mutex<[LogRecord]>([])

    /// A recorder.
    public init() {}

    /// Keeps a record.
    public func onEmit(_ record: LogRecord, limits: LogLimits) { recorded.withLock { $0.append(record) } }

    /// The records in the order in which they were emitted.
    public var records: [LogRecord] { recorded.withLock { $0 } }
}

internal import Glibc
internal import Logging
internal import Synchronization
public import TriageEvents
internal import TriageTelemetry

/// Where the log handlers of a process write to: one descriptor, one line at a time, and, once told, OpenTelemetry.
///
/// Each line is one `write(2)` under a lock, so lines never interleave. A reader that is slow holds the process up as with any
/// log on stderr; one that went away loses lines, which are counted, and nothing else happens.
public final class LogOutput: Sendable {
    /// How lines are written.
    public let format: LogFormat
    /// What of other people's lines may be exported.
    public let exported: LogExportRules
    private let clock: any EventClock
    private let stream: Mutex<Stream>
    private let isExporting = Atomic<Bool>(false)
    private let emitter = Mutex<LogEmitter?>(nil)

    private struct Stream {
        let descriptor: Int32
        var isTorn = false
        var lost = 0
    }

    /// An output.
    ///
    /// - Parameters:
    ///   - descriptor: where lines go; stays open and belongs to the caller. Default stderr.
    ///   - exported: what of lines that are not ``Logging/Logger/log(level:safe:_:in:shown:file:function:line:)`` may be exported.
    ///   - clock: where the lines' times come from.
    public init(
        _ format: LogFormat = .text, descriptor: Int32 = 2, exported: LogExportRules = LogExportRules(),
        clock: any EventClock = SystemClock()
    ) {
        self.format = format
        self.exported = exported
        self.clock = clock
        stream = Mutex(Stream(descriptor: descriptor))
    }

    /// Lines that could not be written whole.
    public var linesLost: Int { stream.withLock { $0.lost } }

    /// Has later lines exported by `telemetry` as well, if that exports logs (`OTEL_LOGS_EXPORTER=otlp`).
    public func export(to telemetry: Telemetry) { export(to: telemetry.tracer.logs) }

    func export(to target: LogEmitter?) {
        emitter.withLock { $0 = target }
        isExporting.store(target != nil, ordering: .releasing)
    }

    /// Where records go; nil while none are exported.
    var target: LogEmitter? {
        guard isExporting.load(ordering: .acquiring) else { return nil }
        return emitter.withLock { $0 }
    }

    func now() -> Timestamp { clock.now() }

    func write(_ line: LogLine) {
        let bytes = line.bytes(format)
        stream.withLock { stream in
            // What an earlier line left behind half written must not swallow this one.
            let isWritten = LogOutput.write(stream.isTorn ? [0x0A] + bytes : bytes, to: stream.descriptor)
            stream.isTorn = isWritten == .partly || (stream.isTorn && isWritten == .not)
            if isWritten != .whole { stream.lost += 1 }
        }
    }

    private enum Written { case whole, partly, not }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Written {
        bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count, let base = bytes.baseAddress {
                let count = Glibc.write(descriptor, base + done, bytes.count - done)
                if count >= 0 {
                    done += count
                } else if errno == EAGAIN {
                    // Somebody made the descriptor non-blocking; a reader has one second.
                    var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    guard poll(&waiting, 1, 1000) > 0 else { break }
                } else if errno != EINTR {
                    break
                }
            }
            return done == bytes.count ? .whole : done == 0 ? .not : .partly
        }
    }
}

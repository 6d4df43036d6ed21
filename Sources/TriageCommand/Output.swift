import Foundation
import Glibc
import Logging
import Synchronization
import Triage
import TriageEvents

/// What goes to stdout: data, and nothing else.
enum Output {
    /// Writes a line.
    ///
    /// - Throws: ``OutputError`` if it can't be written, so that a full disk doesn't look like success.
    static func line(_ text: String) throws(OutputError) {
        if let reason = write(text + "\n", to: STDOUT_FILENO) { throw OutputError(errno: reason) }
    }

    /// Writes one JSON object or array in a line.
    static func json(_ value: some Encodable) throws { try line(encoded(value)) }

    /// A value as JSON: keys in snake case, sorted.
    static func encoded(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    /// Writes all of a text; the `errno` if that failed.
    static func write(_ text: String, to descriptor: Int32) -> Int32? {
        var text = text
        return text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while let base = rest.baseAddress, !rest.isEmpty {
                let written = Glibc.write(descriptor, base, rest.count)
                if written < 0 {
                    if errno == EINTR { continue }
                    return errno
                }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(written))
            }
            return nil
        }
    }
}

/// stdout doesn't take what is written to it.
struct OutputError: Error, CustomStringConvertible {
    let errno: Int32
    /// Whether the reader went away, as `head` does: no reason to complain.
    var isClosedPipe: Bool { errno == EPIPE }
    var description: String { "standard output can't be written: \(String(cString: strerror(errno)))" }
}

/// What goes to stderr: log lines, progress, warnings. It never fails: whom nobody listens to just talks on.
///
/// With JSON logs everything that is said is a log line, so that whoever reads stderr as JSON reads all of it.
enum Narration {
    private static let settings = Mutex((level: Logger.Level.notice, output: LogOutput()))

    /// Logs as these settings say from here on.
    static func begin(_ chosen: LogSettings) {
        settings.withLock { $0 = (chosen.level, LogOutput(chosen.format, exported: chosen.exported)) }
    }

    /// Where log lines go.
    static var output: LogOutput { settings.withLock { $0.output } }

    /// Log lines on stderr.
    static var logger: Logger {
        let (level, output) = settings.withLock { $0 }
        return Logger(label: "triage") { TriageLogHandler(label: $0, output: output, level: level) }
    }

    /// Names variables that look like settings and are none: a mistyped one would silently do nothing.
    static func warn(of variables: [UnknownVariable]) {
        guard !variables.isEmpty else { return }
        let names = variables.prefix(10).map(\.description).joined(separator: ", ") + (variables.count > 10 ? ", …" : "")
        logger.log(
            level: .warning, safe: "\(variables.count) TRIAGE_ variables are no settings and are ignored",
            shown: "no settings, and ignored: \(names)")
    }

    static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    static func say(_ text: String) { say(text, .notice) }

    /// Says why the command ends.
    static func fail(_ text: String) { say(output.format == .json ? text : "Error: \(text)", .error) }

    private static func say(_ text: String, _ level: Logger.Level) {
        let output = output
        guard output.format == .json else {
            // What is said may repeat what was typed, or what a broker answered.
            _ = Output.write(HarmlessText.escaped(text) + "\n", to: STDERR_FILENO)
            return
        }
        let logger = Logger(label: "triage") { TriageLogHandler(label: $0, output: output, level: level) }
        logger.log(level: level, "\(text)")
    }

    /// Replaces the last progress line on a terminal; elsewhere it says nothing.
    static func progress(_ text: String) {
        guard isTerminal, output.format == .text else { return }
        _ = Output.write("\r\u{1B}[K" + text.prefix(columns - 1), to: STDERR_FILENO)
    }

    /// Ends the progress line.
    static func endProgress() {
        if isTerminal, output.format == .text { _ = Output.write("\r\u{1B}[K", to: STDERR_FILENO) }
    }

    /// The terminal's width: a line that is longer than it can't be replaced.
    private static var columns: Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 1 else { return 80 }
        return Int(size.ws_col)
    }
}

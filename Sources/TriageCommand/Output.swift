import Foundation
import Glibc

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
enum Narration {
    static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    static func say(_ text: String) { _ = Output.write(text + "\n", to: STDERR_FILENO) }

    /// Replaces the last progress line on a terminal; elsewhere it says nothing.
    static func progress(_ text: String) {
        guard isTerminal else { return }
        _ = Output.write("\r\u{1B}[K" + text.prefix(columns - 1), to: STDERR_FILENO)
    }

    /// Ends the progress line.
    static func endProgress() {
        if isTerminal { _ = Output.write("\r\u{1B}[K", to: STDERR_FILENO) }
    }

    /// The terminal's width: a line that is longer than it can't be replaced.
    private static var columns: Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 1 else { return 80 }
        return Int(size.ws_col)
    }
}

import Glibc
import Triage

/// Reads lines of bytes from a file or standard input.
final class LineReader {
    private static let chunk = 1 << 16

    private let path: String
    private let descriptor: Int32
    /// The file's size; nil for what has none, such as a pipe.
    private let size: Int?
    private var read = 0
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false

    /// Opens a file, or standard input for `-`.
    ///
    /// - Throws: ``ConfigurationError`` if there is no such file or it can't be read.
    init(_ path: String) throws(ConfigurationError) {
        self.path = path
        let isStandardInput = path == "-"
        descriptor = isStandardInput ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        var status = stat()
        guard descriptor >= 0, fstat(descriptor, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
            if descriptor >= 0, !isStandardInput { close(descriptor) }
            throw ConfigurationError(key: "FILE", value: path, expected: "a readable file, or - for standard input")
        }
        size = status.st_size > 0 ? Int(status.st_size) : nil
    }

    deinit { if descriptor != STDIN_FILENO { close(descriptor) } }

    /// How much of the file has been read, 0 to 1; nil if its size isn't known.
    var share: Double? { size.map { min(1, Double(read) / Double($0)) } }

    /// The next line without its end (LF or CRLF), or nil.
    ///
    /// - Throws: ``LineReadError`` if the file can't be read on.
    func next() throws(LineReadError) -> ArraySlice<UInt8>? {
        var searched = start
        while true {
            if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                defer { start = end + 1 }
                return line(start..<end)
            }
            searched = buffer.count
            if isAtEnd {
                guard start < buffer.count else { return nil }
                defer { start = buffer.count }
                return line(start..<buffer.count)
            }
            if start > 0 {
                buffer.removeSubrange(..<start)
                searched -= start
                start = 0
            }
            try fill()
        }
    }

    private func fill() throws(LineReadError) {
        let old = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: LineReader.chunk))
        var got = 0
        repeat {
            got = buffer.withUnsafeMutableBytes { bytes in
                Glibc.read(descriptor, bytes.baseAddress.map { $0 + old }, LineReader.chunk)
            }
        } while got < 0 && errno == EINTR
        let reason = errno
        buffer.removeLast(LineReader.chunk - max(0, got))
        guard got >= 0 else { throw LineReadError(path: path, errno: reason) }
        read += got
        isAtEnd = got == 0
    }

    private func line(_ range: Range<Int>) -> ArraySlice<UInt8> {
        let line = buffer[range]
        return line.last == UInt8(ascii: "\r") ? line.dropLast() : line
    }
}

/// A file could not be read to its end.
struct LineReadError: Error, CustomStringConvertible {
    let path: String
    let errno: Int32
    var description: String { "\(path) can't be read: \(String(cString: strerror(errno)))" }
}

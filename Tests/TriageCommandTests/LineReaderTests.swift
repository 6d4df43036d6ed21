import Glibc
import Testing
import Triage

@testable import TriageCommand

/// A file that lives as long as `body` runs.
func withFile<Result>(_ content: [UInt8], _ body: (_ path: String) throws -> Result) rethrows -> Result {
    var template = Array("/tmp/triage-test-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer { unlink(path) }
    _ = Output.write(String(decoding: content, as: UTF8.self), to: descriptor)
    close(descriptor)
    return try body(path)
}

@Suite("Reading lines")
struct LineReaderTests {
    func lines(_ text: String) throws -> [String] {
        try withFile(Array(text.utf8)) { path in
            let reader = try LineReader(path)
            var lines: [String] = []
            while let line = try reader.next() { lines.append(String(decoding: line, as: UTF8.self)) }
            #expect(try reader.next() == nil)
            return lines
        }
    }

    @Test(
        "Ends of lines",
        arguments: [
            ("", []), ("\n", [""]), ("a", ["a"]), ("a\n", ["a"]), ("a\r\nb\r\n", ["a", "b"]), ("a\nb", ["a", "b"]),
            ("a\r\nb\r", ["a", "b"]),
            ("\n\na\n\n", ["", "", "a", ""]), ("a\rb\n", ["a\rb"]), ("\r\n", [""]),
        ] as [(String, [String])])
    func ends(text: String, expected: [String]) throws { #expect(try lines(text) == expected) }

    @Test("Lines longer than what is read at once, at and around its bounds")
    func longLines() throws {
        let chunk = 1 << 16
        let expected = [0, 1, chunk - 2, chunk - 1, chunk, chunk + 1, 3 * chunk, 5, 3 << 20].map {
            String(repeating: "x", count: $0)
        }
        #expect(try lines(expected.joined(separator: "\n")) == expected)
        #expect(try lines(expected.joined(separator: "\r\n") + "\r\n") == expected)
    }

    @Test("How much of the file is read")
    func share() throws {
        try withFile(Array(String(repeating: "a\n", count: 100_000).utf8)) { path in
            let reader = try LineReader(path)
            #expect(reader.share == 0)
            _ = try reader.next()
            let first = try #require(reader.share)
            #expect(first > 0 && first < 1)
            while try reader.next() != nil {}
            #expect(reader.share == 1)
        }
        #expect(try LineReader("/dev/null").share == nil)
    }

    @Test("What can't be read is named", arguments: ["/nowhere/patients.ndjson", "/tmp", ""])
    func unreadable(path: String) {
        let error = #expect(throws: ConfigurationError.self) { _ = try LineReader(path) }
        #expect(error?.key == "FILE" && error?.value == path)
    }
}

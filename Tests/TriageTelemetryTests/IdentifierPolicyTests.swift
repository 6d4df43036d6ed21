import Glibc
import Testing
import TriageEvents
import TriageTelemetry

@Suite("Identifiers in telemetry")
struct IdentifierPolicyTests {
    @Test("Hashes are HMAC-SHA-256, named by the key")
    func vectors() throws {
        // RFC 4231 §4.7, test case 6.
        let key = try IdentifierKey([UInt8](repeating: 0xAA, count: 131))
        #expect(key.text(for: ByteSlice("Test Using Larger Than Block-Size Key - Hash Key First")) == "45ad4b37:60e431591ee0b67f")
        // Python: hashlib.sha256, hmac.new.
        #expect(try IdentifierKey(0..<32).text(for: ByteSlice("")) == "630dcd29:d38b42096d80f45f")
    }

    @Test("Omitted, plain, hashed")
    func policies() throws {
        let id = ByteSlice("p-1")
        let key = try IdentifierKey(0..<32)
        #expect(IdentifierPolicy.omitted.text(for: id) == nil)
        #expect(IdentifierPolicy.plain.text(for: id) == "p-1")
        #expect(IdentifierPolicy.plain.text(for: ByteSlice([0x61, 0xC3])) == "a\u{FFFD}")
        #expect(IdentifierPolicy.hashed(key).text(for: id) == key.text(for: id))
    }

    @Test("More identifiers than the table holds, each the same the second time")
    func table() throws {
        let key = try IdentifierKey(0..<32)
        let first = (0..<500).map { key.text(for: ByteSlice("patient-\($0)")) }
        #expect(Set(first).count == 500)
        #expect((0..<500).map { key.text(for: ByteSlice("patient-\($0)")) } == first)
        #expect(first.allSatisfy { $0.utf8.count == 25 && $0.hasPrefix(key.id + ":") })
    }

    @Test("Random keys differ")
    func random() {
        let id = ByteSlice("p-1")
        #expect(IdentifierKey.random().text(for: id) != IdentifierKey.random().text(for: id))
    }

    @Test("A short key is refused, and the error says what is needed but not the key")
    func shortKey() {
        let error = #expect(throws: IdentifierKeyError.self) { try IdentifierKey(Array("secret".utf8)) }
        #expect(error?.reason == .tooShort(byteCount: 6))
        #expect(error?.description.contains("32") == true && error?.description.contains("secret") == false)
    }

    @Test("A key file: a line end behind text doesn't count, in binary it does")
    func files() throws {
        let text = Array("0123456789abcdef0123456789abcdef".utf8)
        let key = try IdentifierKey(text)
        for content in [text, text + [10], text + [13, 10]] {
            #expect(try withFile(content) { try IdentifierKey(contentsOfFile: $0).id } == key.id)
        }
        let binary = [UInt8](repeating: 0xFF, count: 31) + [10]
        #expect(try withFile(binary) { try IdentifierKey(contentsOfFile: $0).id } == IdentifierKey(binary).id)
        #expect(throws: IdentifierKeyError.self) {
            try withFile(Array(text.dropLast()) + [10]) { try IdentifierKey(contentsOfFile: $0) }
        }
        let long = [UInt8](repeating: 65, count: 65_537)
        let tooLong = #expect(throws: IdentifierKeyError.self) { try withFile(long) { try IdentifierKey(contentsOfFile: $0) } }
        #expect(tooLong?.reason == .tooLong)
        let missing = #expect(throws: IdentifierKeyError.self) { try IdentifierKey(contentsOfFile: "/nonexistent/key") }
        #expect(missing?.reason == .unreadable(errno: ENOENT))
    }

    private func withFile<Result>(_ bytes: [UInt8], _ body: (String) throws -> Result) throws -> Result {
        var template = Array("/tmp/triage-key-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        try #require(descriptor >= 0)
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { unlink(path) }
        #expect(write(descriptor, bytes, bytes.count) == bytes.count)
        close(descriptor)
        return try body(path)
    }
}

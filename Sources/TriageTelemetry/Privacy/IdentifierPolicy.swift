internal import Crypto
internal import Glibc
internal import Synchronization
public import TriageEvents

/// How resource ids and record keys appear in telemetry (design §6).
public enum IdentifierPolicy: Sendable {
    /// Not at all: the attribute is left out. The choice when there is no key.
    case omitted
    /// As they are. Only where ids are no patient data.
    case plain
    /// As a keyed hash, such as `1f0c8a53:9b1d…`: equal ids look equal, and only who has the key can tell which they are.
    case hashed(IdentifierKey)

    /// What stands for `identifier`; nil if the attribute is to be left out.
    ///
    /// A plain identifier that is not UTF-8 has U+FFFD where its bytes are not.
    public func text(for identifier: ByteSlice) -> String? {
        switch self {
        case .omitted: nil
        case .plain: identifier.utf8Text ?? String(decoding: identifier, as: UTF8.self)
        case .hashed(let key): key.text(for: identifier)
        }
    }
}

/// A secret key that identifiers are hashed with: HMAC-SHA-256 (RFC 2104), of which 64 bits are shown.
public final class IdentifierKey: Sendable {
    /// Bytes that a key must have at least: as many as SHA-256 gives out (RFC 2104 §3).
    public static let minimumByteCount = 32

    /// The name of the key, by which hashes of an old and a new key can be told apart: the first 8 hexadecimal digits of
    /// the key's SHA-256. It gives nothing about the key away.
    public let id: String

    private let key: SymmetricKey
    private let recent = Mutex([Recent?](repeating: nil, count: 64))

    private struct Recent {
        let identifier: ByteSlice
        let text: String
    }

    /// A key of these bytes.
    ///
    /// - Throws: ``IdentifierKeyError`` if there are fewer than ``minimumByteCount``.
    public init(_ bytes: some Sequence<UInt8>) throws(IdentifierKeyError) {
        let bytes = Array(bytes)
        guard bytes.count >= IdentifierKey.minimumByteCount else { throw IdentifierKeyError(.tooShort(byteCount: bytes.count)) }
        key = SymmetricKey(data: bytes)
        id = IdentifierKey.id(of: bytes)
    }

    /// A key of the bytes of a file; a line end behind a key of printable characters doesn't count.
    ///
    /// - Throws: ``IdentifierKeyError`` if the file can't be read, is longer than 64 KiB, or has too few bytes.
    public convenience init(contentsOfFile path: String) throws(IdentifierKeyError) {
        try self.init(IdentifierKey.bytes(ofFile: path))
    }

    /// The bytes of a key file; a line end behind printable characters doesn't count.
    package static func bytes(ofFile path: String) throws(IdentifierKeyError) -> [UInt8] {
        let bytes = try IdentifierKey.read(path)
        var text = bytes[...]
        if text.last == UInt8(ascii: "\n") { text = text.dropLast() }
        if text.last == UInt8(ascii: "\r") { text = text.dropLast() }
        return text.allSatisfy({ (0x20...0x7E).contains($0) }) ? Array(text) : bytes
    }

    /// The name of a key of these bytes: the first 8 hexadecimal digits of their SHA-256.
    package static func id(of bytes: [UInt8]) -> String { SHA256.hash(data: bytes).prefix(4).hexadecimal }

    private init(random: SymmetricKey) {
        key = random
        id = random.withUnsafeBytes { SHA256.hash(data: $0).prefix(4).hexadecimal }
    }

    /// A key from the system's random generator, forgotten at the end of the process: for demonstrations.
    public static func random() -> IdentifierKey { IdentifierKey(random: SymmetricKey(size: .bits256)) }

    /// `keyid:` and the first 16 hexadecimal digits of the identifier's HMAC.
    ///
    /// A small table keeps recent results, so that the spans of an event share one computation.
    public func text(for identifier: ByteSlice) -> String {
        let slot = Int(truncatingIfNeeded: identifier.hash64(seed: 0) & 63)
        if let known = recent.withLock({ $0[slot] }), known.identifier == identifier { return known.text }
        let code = identifier.withUnsafeBytes { HMAC<SHA256>.authenticationCode(for: $0, using: key) }
        let text = id + ":" + code.prefix(8).hexadecimal
        let copy = identifier.withUnsafeBytes { ByteSlice(copying: $0) }
        recent.withLock { $0[slot] = Recent(identifier: copy, text: text) }
        return text
    }

    private static func read(_ path: String) throws(IdentifierKeyError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw IdentifierKeyError(.unreadable(errno: errno)) }
        defer { close(descriptor) }
        let limit = 64 * 1024
        var bytes = [UInt8](repeating: 0, count: limit + 1)
        var count = 0
        while count < bytes.count {
            let got = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress.map { $0 + count }, limit + 1 - count)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw IdentifierKeyError(.unreadable(errno: errno)) }
            if got == 0 { break }
            count += got
        }
        guard count <= limit else { throw IdentifierKeyError(.tooLong) }
        return Array(bytes[..<count])
    }
}

/// Why a key for identifiers can't be used. Never contains the key.
public struct IdentifierKeyError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What is wrong.
    public enum Reason: Sendable, Hashable {
        /// It has this many bytes, fewer than ``IdentifierKey/minimumByteCount``.
        case tooShort(byteCount: Int)
        /// The file has more than 64 KiB, so it is hardly a key.
        case tooLong
        /// The file can't be read, for this `errno`.
        case unreadable(errno: Int32)
    }

    /// What is wrong.
    public let reason: Reason

    init(_ reason: Reason) { self.reason = reason }

    /// What is wrong, and what would be right.
    public var description: String {
        switch reason {
        case .tooShort(let count):
            "the identifier key has \(count) bytes; it needs at least \(IdentifierKey.minimumByteCount) (HMAC-SHA-256)"
        case .tooLong:
            "the identifier key file has more than 64 KiB; expected a key of at least \(IdentifierKey.minimumByteCount) bytes"
        case .unreadable(let code):
            "the identifier key file can't be read: \(String(cString: strerror(code)))"
        }
    }
}

extension Sequence<UInt8> {
    /// Two lower-case hexadecimal digits for each byte.
    fileprivate var hexadecimal: String {
        var text = ""
        for byte in self {
            if byte < 16 { text += "0" }
            text += String(byte, radix: 16)
        }
        return text
    }
}

internal import Crypto
internal import Foundation
public import TriageEvents
public import TriageProcessing
internal import TriageTelemetry

/// A secret key that dead letters are sealed with and opened by: AES-256-GCM (NIST SP 800-38D).
///
/// A part is sealed as nonce (12 random bytes), ciphertext, tag (16 bytes). With it is authenticated, but not contained, the text
/// `triage-dead-letter\nPART\nA256GCM KEYID\nTOPIC/PARTITION/OFFSET`, whose last line is the header `triage-origin`: so no part can
/// be put in the place of another one, or of another event's. One key is good for 2³² parts (SP 800-38D §8.3), some thousand
/// million dead letters.
public struct DeadLetterSealKey: DeadLetterSeal {
    /// Bytes that a key must have at least: as many as AES-256 has.
    public static let minimumByteCount = 32

    /// The key's name: the first 8 hexadecimal digits of its bytes' SHA-256. It gives nothing about the key away.
    public let id: String

    private let key: SymmetricKey

    /// A key of these bytes. What seals is derived from them: HKDF-SHA-256 (RFC 5869) without salt, info `triage dead letters`.
    ///
    /// - Throws: ``DeadLetterSealKeyError`` if there are fewer than ``minimumByteCount``.
    public init(_ bytes: some Sequence<UInt8>) throws(DeadLetterSealKeyError) {
        let bytes = Array(bytes)
        guard bytes.count >= DeadLetterSealKey.minimumByteCount else { throw .tooShort(byteCount: bytes.count) }
        id = IdentifierKey.id(of: bytes)
        key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: bytes), info: Array("triage dead letters".utf8), outputByteCount: 32)
    }

    /// A key of the bytes of a file; a line end behind a key of printable characters doesn't count.
    ///
    /// - Throws: ``DeadLetterSealKeyError`` if the file can't be read, is longer than 64 KiB, or has too few bytes.
    public init(contentsOfFile path: String) throws(DeadLetterSealKeyError) {
        let bytes: [UInt8]
        do throws(IdentifierKeyError) { bytes = try IdentifierKey.bytes(ofFile: path) } catch {
            switch error.reason {
            case .tooShort(let count): throw .tooShort(byteCount: count)
            case .tooLong: throw .tooLong
            case .unreadable(let code): throw .unreadable(errno: code)
            }
        }
        try self.init(bytes)
    }

    /// `A256GCM` and the key's id.
    public var name: String { "\(DeadLetter.sealAlgorithm) \(id)" }

    /// Seals bytes under a nonce of their own; nil if the system has no random bytes.
    public func seal(_ clear: ByteSlice, as part: DeadLetterPart, of origin: RecordPosition) -> ByteSlice? {
        let context = context(of: part, origin: "\(origin)")
        let box = clear.withUnsafeBytes { try? AES.GCM.seal($0, using: key, authenticating: context) }
        return box?.combined.map { ByteSlice($0) }
    }

    /// The bytes that were sealed; nil if these aren't what was sealed with this key as this part for this origin.
    func open(_ sealed: ByteSlice, as part: DeadLetterPart, origin: String) -> ByteSlice? {
        let context = context(of: part, origin: origin)
        let clear = sealed.withUnsafeBytes { bytes -> Data? in
            guard let box = try? AES.GCM.SealedBox(combined: bytes) else { return nil }
            return try? AES.GCM.open(box, using: key, authenticating: context)
        }
        return clear.map { ByteSlice($0) }
    }

    private func context(of part: DeadLetterPart, origin: String) -> [UInt8] {
        Array("triage-dead-letter\n\(part.rawValue)\n\(name)\n\(origin)".utf8)
    }
}

/// Why a key for dead letters can't be used. Never contains the key.
public enum DeadLetterSealKeyError: Error, Sendable, Hashable, CustomStringConvertible {
    /// It has this many bytes, fewer than ``DeadLetterSealKey/minimumByteCount``.
    case tooShort(byteCount: Int)
    /// The file has more than 64 KiB, so it is hardly a key.
    case tooLong
    /// The file can't be read, for this `errno`.
    case unreadable(errno: Int32)

    /// What is wrong.
    public var description: String {
        switch self {
        case .tooShort(let count): "it has \(count) bytes"
        case .tooLong: "it has more than 64 KiB"
        case .unreadable(let code): "it can't be read: \(String(cString: strerror(code)))"
        }
    }
}

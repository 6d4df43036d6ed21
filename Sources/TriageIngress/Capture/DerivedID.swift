internal import Crypto
internal import TriageEvents

/// An id that is made of what it is about, so that the same thing told twice has the same one: the first 128 bits of a SHA-256.
struct DerivedID: Sendable, Hashable {
    let high: UInt64
    let low: UInt64

    /// The id of these parts; each counts with its length, so that no two lists look alike.
    ///
    /// - Parameter purpose: keeps ids of different kinds apart.
    init(_ purpose: StaticString, _ parts: [ByteSlice]) {
        var bytes = TextBytes(capacity: 256)
        bytes.append(part: ByteSlice(purpose.description))
        for part in parts { bytes.append(part: part) }
        let digest = bytes.withBytes { SHA256.hash(data: $0) }
        (high, low) = digest.withUnsafeBytes { digest in
            (
                UInt64(bigEndian: digest.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                UInt64(bigEndian: digest.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
    }

    /// A UUID of version 8 (RFC 9562 §5.8) and the variant of §4.1, in 36 lower-case characters.
    var uuid: String {
        uuidText(high: high & 0xFFFF_FFFF_FFFF_0FFF | 0x8000, low: low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
    }
}

extension TextBytes {
    /// Appends bytes behind their number, in eight bytes.
    fileprivate mutating func append(part: ByteSlice) {
        append(bigEndian: UInt64(part.count))
        append(part)
    }
}

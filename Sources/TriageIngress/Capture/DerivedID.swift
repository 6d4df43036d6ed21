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
        var bytes: [UInt8] = []
        for part in [ByteSlice(purpose.description)] + parts {
            withUnsafeBytes(of: UInt64(part.count).bigEndian) { bytes += $0 }
            bytes += part
        }
        var halves: (UInt64, UInt64) = (0, 0)
        for (index, byte) in SHA256.hash(data: bytes).prefix(16).enumerated() {
            if index < 8 { halves.0 = halves.0 << 8 | UInt64(byte) } else { halves.1 = halves.1 << 8 | UInt64(byte) }
        }
        (high, low) = halves
    }

    /// A UUID of version 8 (RFC 9562 §5.8) and the variant of §4.1, in 36 lower-case characters.
    var uuid: String {
        let high = (high & 0xFFFF_FFFF_FFFF_0FFF | 0x8000).hexadecimal
        let low = (low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000).hexadecimal
        return "\(high.prefix(8))-\(high.dropFirst(8).prefix(4))-\(high.suffix(4))-\(low.prefix(4))-\(low.suffix(12))"
    }
}

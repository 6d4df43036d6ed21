/// A random UUID, version 4 (RFC 9562 §5.4), in the usual 36 lower-case characters.
///
/// - Parameter generator: where the 128 bits come from; six of them are fixed by the version and variant.
package func randomUUID(using generator: inout some RandomNumberGenerator) -> String {
    let high = generator.next()
    let low = generator.next()
    return uuidText(high: high & ~0xF000 | 0x4000, low: low >> 4 & 0x0FFF_0000_0000_0000 | low & 0xFFFF_FFFF_FFFF | 0xA << 60)
}

/// A random UUID from the system's generator.
package func randomUUID() -> String {
    var generator = SystemRandomNumberGenerator()
    return randomUUID(using: &generator)
}

/// 128 bits as a UUID is written (RFC 9562 §4): 36 lower-case characters.
package func uuidText(high: UInt64, low: UInt64) -> String {
    String(unsafeUninitializedCapacity: 36) { text in
        let bytes = UnsafeMutableRawBufferPointer(text)
        Hex.write(high >> 32, to: bytes, at: 0, digits: 8)
        Hex.write(high >> 16 & 0xFFFF, to: bytes, at: 9, digits: 4)
        Hex.write(high & 0xFFFF, to: bytes, at: 14, digits: 4)
        Hex.write(low >> 48, to: bytes, at: 19, digits: 4)
        Hex.write(low & 0xFFFF_FFFF_FFFF, to: bytes, at: 24, digits: 12)
        for hyphen in [8, 13, 18, 23] { bytes[hyphen] = UInt8(ascii: "-") }
        return 36
    }
}

/// A random UUID, version 4 (RFC 9562 §5.4), in the usual 36 lower-case characters.
///
/// - Parameter generator: where the 128 bits come from; six of them are fixed by the version and variant.
package func randomUUID(using generator: inout some RandomNumberGenerator) -> String {
    let high = generator.next().hexadecimal
    let low = generator.next().hexadecimal
    return "\(high.prefix(8))-\(high.dropFirst(8).prefix(4))-4\(high.suffix(3))-a\(low.prefix(3))-\(low.suffix(12))"
}

/// A random UUID from the system's generator.
package func randomUUID() -> String {
    var generator = SystemRandomNumberGenerator()
    return randomUUID(using: &generator)
}

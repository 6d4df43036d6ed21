/// Which partition a key goes to, as Java's producer chooses it and librdkafka's `murmur2` and `murmur2_random` do.
public enum JavaPartitioner {
    /// The partition of a record with this key, an empty one included; a record without a key may be in any.
    ///
    /// - Parameter count: how many partitions the topic has, 1 or more.
    public static func partition(of key: ByteSlice, count: Int32) -> Int32 {
        // `Utils.toPositive`: the sign goes, the magnitude stays.
        Int32(bitPattern: murmur2(key) & 0x7FFF_FFFF) % max(1, count)
    }

    /// MurmurHash2 with Kafka's seed (Apache Kafka, `org.apache.kafka.common.utils.Utils.murmur2`).
    static func murmur2(_ key: ByteSlice) -> UInt32 {
        let multiplier: UInt32 = 0x5BD1_E995
        return key.withUnsafeBytes { bytes in
            var hash: UInt32 = 0x9747_B28C ^ UInt32(truncatingIfNeeded: bytes.count)
            var index = 0
            while index + 4 <= bytes.count {
                var word = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt32.self)) &* multiplier
                word = (word ^ word >> 24) &* multiplier
                hash = hash &* multiplier ^ word
                index += 4
            }
            if index < bytes.count {
                for rest in (index..<bytes.count).reversed() { hash ^= UInt32(bytes[rest]) << UInt32(8 * (rest - index)) }
                hash = hash &* multiplier
            }
            hash = (hash ^ hash >> 13) &* multiplier
            return hash ^ hash >> 15
        }
    }
}

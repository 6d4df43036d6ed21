/// A partition of a topic.
public struct TopicPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The topic's name.
    public let topic: String
    /// The partition's number, from 0.
    public let partition: Int32

    /// The partition numbered `partition` of `topic`.
    public init(_ topic: String, _ partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    /// `topic/partition`.
    public var description: String { "\(topic)/\(partition)" }

    /// By topic, then by number.
    public static func < (left: TopicPartition, right: TopicPartition) -> Bool {
        (left.topic, left.partition) < (right.topic, right.partition)
    }
}

/// Where a record stands: topic, partition and offset.
public struct RecordPosition: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The topic's name.
    public let topic: String
    /// The partition's number, from 0.
    public let partition: Int32
    /// The offset in the partition.
    public let offset: Int64

    /// The position `topic/partition/offset`.
    public init(topic: String, partition: Int32, offset: Int64) {
        self.topic = topic
        self.partition = partition
        self.offset = offset
    }

    /// Parses the form that ``description`` writes; nil for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, let partition = Int32(parts[1]), partition >= 0,
            let offset = Int64(parts[2]), offset >= 0
        else { return nil }
        self.init(topic: String(parts[0]), partition: partition, offset: offset)
        // Int also reads "+1" and "01", which would give one position two names.
        guard description == text else { return nil }
    }

    /// `topic/partition/offset`.
    public var description: String { "\(topic)/\(partition)/\(offset)" }

    /// The partition that the record stands in.
    public var topicPartition: TopicPartition { TopicPartition(topic, partition) }

    /// By topic, partition, then offset.
    public static func < (left: RecordPosition, right: RecordPosition) -> Bool {
        (left.topic, left.partition, left.offset) < (right.topic, right.partition, right.offset)
    }
}

/// A record as it was read from a topic.
///
/// Key, value and headers lie in one block of memory that was copied out of the client's fetch buffer once, so a
/// record that is kept pins nothing else.
public struct Record: Sendable {
    /// The topic it was read from.
    public let topic: String
    /// The partition it was read from.
    public let partition: Int32
    /// Its offset there.
    public let offset: Int64
    /// The broker's or producer's timestamp; nil if it has none.
    public let timestamp: Timestamp?
    private nonisolated(unsafe) let storage: ByteStorage?
    private let headerCount: Int32
    private let headerBytes: Int32
    private let keyBytes: Int32
    private let valueBytes: Int32

    /// A record with copies of these parts.
    public init(
        topic: String, partition: Int32, offset: Int64, timestamp: Timestamp?, key: ByteSlice?, value: ByteSlice?,
        headers: Headers = Headers()
    ) {
        self.init(
            topic: topic, partition: partition, offset: offset, timestamp: timestamp,
            keyCount: key?.count, valueCount: value?.count, headerCount: headers.count, headerBytes: headers.packed.count
        ) { headerTarget, keyTarget, valueTarget in
            headers.packed.withUnsafeBytes { if $0.count > 0 { headerTarget.copyMemory(from: $0) } }
            key?.withUnsafeBytes { if $0.count > 0 { keyTarget.copyMemory(from: $0) } }
            value?.withUnsafeBytes { if $0.count > 0 { valueTarget.copyMemory(from: $0) } }
        }
    }

    /// A record whose parts `fill` writes into one block: for a client that copies from C memory.
    ///
    /// - Parameters:
    ///   - keyCount: bytes of the key, nil for a null key.
    ///   - valueCount: bytes of the value, nil for a null value.
    ///   - headerBytes: bytes of the packed headers, ``Headers/packedSize(name:value:)`` summed.
    ///   - fill: writes the packed headers, the key and the value into the three targets.
    public init(
        topic: String, partition: Int32, offset: Int64, timestamp: Timestamp?,
        keyCount: Int?, valueCount: Int?, headerCount: Int, headerBytes: Int,
        _ fill: (
            _ headers: UnsafeMutableRawBufferPointer, _ key: UnsafeMutableRawBufferPointer,
            _ value: UnsafeMutableRawBufferPointer
        ) -> Void
    ) {
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.headerCount = Int32(truncatingIfNeeded: headerCount)
        self.headerBytes = Int32(truncatingIfNeeded: headerBytes)
        self.keyBytes = keyCount.map { Int32(truncatingIfNeeded: $0) } ?? -1
        self.valueBytes = valueCount.map { Int32(truncatingIfNeeded: $0) } ?? -1
        let keyCount = keyCount ?? 0
        let valueCount = valueCount ?? 0
        storage = ByteStorage.make(count: headerBytes + keyCount + valueCount) { all in
            fill(
                UnsafeMutableRawBufferPointer(rebasing: all[0..<headerBytes]),
                UnsafeMutableRawBufferPointer(rebasing: all[headerBytes..<headerBytes + keyCount]),
                UnsafeMutableRawBufferPointer(rebasing: all[(headerBytes + keyCount)...])
            )
        }
    }

    /// The key's bytes; nil for a null key.
    public var key: ByteSlice? {
        keyBytes < 0 ? nil : ByteSlice(storage: storage, start: Int(headerBytes), count: Int(keyBytes))
    }

    /// The value's bytes; nil for a null value, a tombstone.
    public var value: ByteSlice? {
        guard valueBytes >= 0 else { return nil }
        return ByteSlice(storage: storage, start: Int(headerBytes) + max(0, Int(keyBytes)), count: Int(valueBytes))
    }

    /// The headers, as they were on the record.
    public var headers: Headers {
        guard headerCount > 0 else { return Headers() }
        return Headers(packed: ByteSlice(storage: storage, start: 0, count: Int(headerBytes)), count: Int(headerCount))
    }

    /// Where the record stands.
    public var position: RecordPosition { RecordPosition(topic: topic, partition: partition, offset: offset) }

    /// The partition that the record stands in.
    public var topicPartition: TopicPartition { TopicPartition(topic, partition) }

    /// Bytes of key, value and headers together.
    public var size: Int { Int(headerBytes) + max(0, Int(keyBytes)) + max(0, Int(valueBytes)) }
}

extension Headers {
    /// Bytes that a header takes in the packed form of ``Record/init(topic:partition:offset:timestamp:keyCount:valueCount:headerCount:headerBytes:_:)``.
    public static func packedSize(name: Int, value: Int?) -> Int { 8 + name + (value ?? 0) }

    /// Writes one header in the packed form at `offset` of `target` and returns the offset behind it.
    public static func pack(
        name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer?, into target: UnsafeMutableRawBufferPointer, at offset: Int
    ) -> Int {
        target.storeBytes(of: Int32(truncatingIfNeeded: name.count), toByteOffset: offset, as: Int32.self)
        target.storeBytes(of: value.map { Int32(truncatingIfNeeded: $0.count) } ?? -1, toByteOffset: offset + 4, as: Int32.self)
        var at = offset + 8
        for part in [name, value ?? UnsafeRawBufferPointer(start: nil, count: 0)] where part.count > 0 {
            UnsafeMutableRawBufferPointer(rebasing: target[at..<at + part.count]).copyMemory(from: part)
            at += part.count
        }
        return at
    }
}

/// A record to be produced.
public struct OutboundRecord: Sendable {
    /// The topic to produce to.
    public var topic: String
    /// The partition, or nil to let the partitioner choose by the key (murmur2, as Java does).
    public var partition: Int32?
    /// The key's bytes, or nil.
    public var key: ByteSlice?
    /// The value's bytes, or nil for a tombstone.
    public var value: ByteSlice?
    /// The headers.
    public var headers: Headers

    /// A record to be produced to `topic`.
    public init(topic: String, partition: Int32? = nil, key: ByteSlice?, value: ByteSlice?, headers: Headers = Headers()) {
        self.topic = topic
        self.partition = partition
        self.key = key
        self.value = value
        self.headers = headers
    }
}

/// What a broker answered to a produced record: where it stands now.
public struct Acknowledgement: Sendable, Hashable {
    /// The partition it was written to.
    public let partition: Int32
    /// The offset it was given.
    public let offset: Int64

    /// The record stands at `offset` of `partition`.
    public init(partition: Int32, offset: Int64) {
        self.partition = partition
        self.offset = offset
    }
}

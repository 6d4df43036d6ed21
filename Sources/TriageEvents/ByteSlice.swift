/// The heap block behind one or more ``ByteSlice`` values: written once, while it is made, and read-only afterwards.
///
/// Holders keep it as `nonisolated(unsafe)`: the only writes happen inside ``make(count:_:)``, before any reference
/// leaves it; after that every thread only reads, so nothing needs guarding. (`ManagedBuffer` itself refuses to be
/// `Sendable`, since it can't know that.)
@usableFromInline
final class ByteStorage: ManagedBuffer<Int, UInt8> {
    /// Bytes that stay readable behind the content, so that a vectorised parser may load past the end
    /// (simdjson asks for 32, `SIMDJSON_PADDING`; 64 covers its wider kernels).
    @usableFromInline static let padding = 64

    @usableFromInline
    static func make(count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) -> ByteStorage {
        let buffer = ByteStorage.create(minimumCapacity: count + padding) { _ in count }
        buffer.withUnsafeMutablePointerToElements { pointer in
            fill(UnsafeMutableRawBufferPointer(start: pointer, count: count))
        }
        return unsafeDowncast(buffer, to: ByteStorage.self)
    }
}

/// An immutable run of bytes that shares its storage with other slices: a record's key, value or header value.
///
/// Copying a slice copies a reference. At least 64 readable bytes follow the last one, which is what lets the
/// decoder work on the bytes where they lie.
public struct ByteSlice: Sendable, RandomAccessCollection {
    nonisolated(unsafe) let storage: ByteStorage?
    let start: Int
    /// How many bytes the slice has.
    public let count: Int

    init(storage: ByteStorage?, start: Int, count: Int) {
        self.storage = storage
        self.start = start
        self.count = count
    }

    /// A slice with a copy of `bytes`.
    public init(_ bytes: some Collection<UInt8>) {
        // One call instead of one for each byte, which is what a generic function of another module would come to.
        if let copy = bytes.withContiguousStorageIfAvailable({ ByteSlice(copying: UnsafeRawBufferPointer($0)) }) {
            self = copy
            return
        }
        let count = bytes.count
        storage = ByteStorage.make(count: count) { _ = $0.initializeMemory(as: UInt8.self, from: bytes) }
        start = 0
        self.count = count
    }

    /// A slice with a copy of the memory that `buffer` points to.
    public init(copying buffer: UnsafeRawBufferPointer) {
        storage = ByteStorage.make(count: buffer.count) { target in
            if buffer.count > 0 { target.copyMemory(from: buffer) }
        }
        start = 0
        count = buffer.count
    }

    /// A slice of `count` bytes that `fill` writes, once, before the slice exists.
    public init(count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) {
        storage = ByteStorage.make(count: count, fill)
        start = 0
        self.count = count
    }

    /// A slice with the UTF-8 bytes of `text`.
    public init(_ text: String) {
        var text = text
        self = text.withUTF8 { ByteSlice(copying: UnsafeRawBufferPointer($0)) }
    }

    /// The index of the first byte: always 0.
    public var startIndex: Int { 0 }
    /// The index behind the last byte: ``count``.
    public var endIndex: Int { count }

    /// The byte at `position`, which must be a valid index.
    public subscript(position: Int) -> UInt8 {
        precondition(position >= 0 && position < count, "index out of range")
        return withUnsafeBytes { $0[position] }
    }

    /// Calls `body` with the bytes; the pointer must not leave it.
    @inline(__always)
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard let storage else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        defer { withExtendedLifetime(storage) {} }
        let base = storage.withUnsafeMutablePointerToElements { UnsafeRawPointer($0) }
        return try body(UnsafeRawBufferPointer(start: base + start, count: count))
    }

    /// Gives the standard library direct access, so that `Array(slice)` and `String(decoding:)` copy in one go.
    public func withContiguousStorageIfAvailable<Result>(
        _ body: (UnsafeBufferPointer<UInt8>) throws -> Result
    ) rethrows -> Result? {
        guard let storage else { return try body(UnsafeBufferPointer(start: nil, count: 0)) }
        defer { withExtendedLifetime(storage) {} }
        let base = storage.withUnsafeMutablePointerToElements { UnsafePointer($0) }
        return try body(UnsafeBufferPointer(start: base + start, count: count))
    }

    /// A slice of this slice, by offsets from its start; shares the storage.
    public func subslice(_ range: Range<Int>) -> ByteSlice {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "range out of bounds")
        return ByteSlice(storage: storage, start: start + range.lowerBound, count: range.count)
    }

    /// Whether the bytes are exactly the ASCII text `text`.
    public func equals(_ text: StaticString) -> Bool {
        guard text.utf8CodeUnitCount == count else { return false }
        return withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return true }
            return triageEqualBytes(base, UnsafeRawPointer(text.utf8Start), count)
        }
    }

    /// The bytes as text if they are valid UTF-8, else nil.
    public var utf8Text: String? {
        withUnsafeBytes { String(validating: $0.bindMemory(to: UInt8.self), as: UTF8.self) }
    }

    /// A 64-bit hash of the bytes, the same in one process for the same `seed`; not for untrusted persistence.
    ///
    /// Multiply-and-fold over eight bytes at a time in the manner of wyhash; the seed keeps outsiders from
    /// choosing keys that collide.
    public func hash64(seed: UInt64) -> UInt64 {
        withUnsafeBytes { bytes in
            var state = seed ^ 0xA076_1D64_78BD_642F
            var index = 0
            while index + 8 <= bytes.count {
                state = triageFold(state ^ bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self), 0xE703_7ED1_A0B4_28DB)
                index += 8
            }
            var tail: UInt64 = 0
            while index < bytes.count {
                tail = tail << 8 | UInt64(bytes[index])
                index += 1
            }
            state = triageFold(state ^ tail, 0x8EBC_6AF0_9C88_C6E3)
            return triageFold(state ^ UInt64(truncatingIfNeeded: bytes.count), 0x5899_65CC_7537_4CC3)
        }
    }
}

extension ByteSlice: Hashable {
    /// Two slices are equal if their bytes are.
    public static func == (left: ByteSlice, right: ByteSlice) -> Bool {
        guard left.count == right.count else { return false }
        return left.withUnsafeBytes { a in
            right.withUnsafeBytes { b in
                guard let a = a.baseAddress, let b = b.baseAddress else { return true }
                return a == b || triageEqualBytes(a, b, left.count)
            }
        }
    }

    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) {
        withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

@inline(__always)
func triageFold(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
}

@inline(__always)
func triageEqualBytes(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ count: Int) -> Bool {
    var index = 0
    while index + 8 <= count {
        if a.loadUnaligned(fromByteOffset: index, as: UInt64.self) != b.loadUnaligned(fromByteOffset: index, as: UInt64.self) {
            return false
        }
        index += 8
    }
    while index < count {
        if a.load(fromByteOffset: index, as: UInt8.self) != b.load(fromByteOffset: index, as: UInt8.self) { return false }
        index += 1
    }
    return true
}

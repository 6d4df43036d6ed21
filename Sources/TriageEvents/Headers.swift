/// One header of a Kafka record: a name and bytes, or a name and null.
public struct Header: Sendable, Hashable {
    /// The name, case-sensitive as Kafka has it.
    public let name: String
    /// The value's bytes; nil for a null value, which is not the same as an empty one.
    public let value: ByteSlice?

    /// A header with these bytes, or with a null value.
    public init(_ name: String, _ value: ByteSlice?) {
        self.name = name
        self.value = value
    }

    /// A header whose value is `text` in UTF-8.
    public init(_ name: String, text: String) {
        self.init(name, ByteSlice(text))
    }
}

/// A record's headers: ordered, possibly with the same name more than once on read; replaced on write.
///
/// Kept packed in one block, entry behind entry (`Int32` name length, `Int32` value length or −1 for null, name,
/// value), because the consumer reads one or two of them and the rest only travels on.
public struct Headers: Sendable, Sequence, ExpressibleByArrayLiteral {
    let packed: ByteSlice
    /// How many headers there are.
    public let count: Int

    /// No headers.
    public init() {
        packed = ByteSlice(storage: nil, start: 0, count: 0)
        count = 0
    }

    init(packed: ByteSlice, count: Int) {
        self.packed = packed
        self.count = count
    }

    /// These headers, in this order, duplicates included.
    public init(_ headers: some Sequence<Header>) {
        var bytes: [UInt8] = []
        var count = 0
        for header in headers {
            Headers.append(header, to: &bytes)
            count += 1
        }
        packed = ByteSlice(bytes)
        self.count = count
    }

    /// These headers, in this order, duplicates included.
    public init(arrayLiteral elements: Header...) { self.init(elements) }

    /// Whether there are none.
    public var isEmpty: Bool { count == 0 }

    /// The value of the last header with this name: what a writer that appends (Python) meant, and what Java reads.
    ///
    /// - Returns: nil if there is none or its value is null.
    public func last(_ name: StaticString) -> ByteSlice? {
        lastRange(name).map { packed.subslice($0) }
    }

    /// Where the value of the last header with this name lies in ``packed``; nil if there is none or it is null.
    @inline(__always)
    func lastRange(_ name: StaticString) -> Range<Int>? {
        let (start, count) = lastEntry(name)
        return count < 0 ? nil : start..<start + count
    }

    /// Whether there is a header with this name, null ones included.
    @inline(__always)
    package func contains(_ name: StaticString) -> Bool { lastEntry(name).start >= 0 }

    /// Where the value of the last header with this name starts, and its length: −1 if it is null, or if there is no such
    /// header, whose start is −1 as well.
    @inline(__always)
    private func lastEntry(_ name: StaticString) -> (start: Int, count: Int) {
        let wanted = name.utf8CodeUnitCount
        var start = -1
        var count = -1
        packed.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            var at = 0
            while at + 8 <= bytes.count {
                let nameCount = Int(bytes.loadUnaligned(fromByteOffset: at, as: Int32.self))
                let valueCount = Int(bytes.loadUnaligned(fromByteOffset: at + 4, as: Int32.self))
                if nameCount == wanted, triageEqualBytes(base + at + 8, UnsafeRawPointer(name.utf8Start), wanted) {
                    start = at + 8 + nameCount
                    count = valueCount
                }
                at += 8 + nameCount + Swift.max(0, valueCount)
            }
        }
        return (start, count)
    }

    /// The text of the last header with this name, if it is valid UTF-8.
    public func text(_ name: StaticString) -> String? { last(name)?.utf8Text }

    /// How many headers have this name.
    public func count(of name: StaticString) -> Int {
        var count = 0
        forEachEntry { if $0.name.equals(name) { count += 1 } }
        return count
    }

    /// A copy in which every header named in `replacements` is removed and then the non-null ones are added once each,
    /// in the order given; the others keep their bytes and order.
    ///
    /// - Parameter replacements: names with their new value; a nil value only removes.
    public func replacing(_ replacements: [Header]) -> Headers { replacing(HeaderEdits(replacements)) }

    /// Iterates over the headers in order.
    public func makeIterator() -> AnyIterator<Header> {
        var all: [Header] = []
        all.reserveCapacity(count)
        forEachEntry { all.append(Header(String(decoding: $0.name, as: UTF8.self), $0.value)) }
        return AnyIterator(all.makeIterator())
    }

    /// Calls `body` with each name and value as raw memory, for a client that hands them on to C.
    public func forEachRaw<Failure: Error>(
        _ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) throws(Failure) -> Void
    ) throws(Failure) {
        try packed.withUnsafeBytes { (bytes) throws(Failure) in
            var at = 0
            while at + 8 <= bytes.count {
                let nameCount = Int(bytes.loadUnaligned(fromByteOffset: at, as: Int32.self))
                let valueCount = Int(bytes.loadUnaligned(fromByteOffset: at + 4, as: Int32.self))
                let name = UnsafeRawBufferPointer(rebasing: bytes[at + 8..<at + 8 + nameCount])
                at += 8 + nameCount
                let value = valueCount < 0 ? nil : UnsafeRawBufferPointer(rebasing: bytes[at..<at + valueCount])
                at += Swift.max(0, valueCount)
                try body(name, value)
            }
        }
    }

    struct Entry {
        let name: ByteSlice
        let value: ByteSlice?
        let range: Range<Int>
    }

    func forEachEntry(_ body: (Entry) -> Void) {
        var at = 0
        while at + 8 <= packed.count {
            let (nameCount, valueCount) = packed.withUnsafeBytes {
                (
                    Int($0.loadUnaligned(fromByteOffset: at, as: Int32.self)),
                    Int($0.loadUnaligned(fromByteOffset: at + 4, as: Int32.self))
                )
            }
            let nameEnd = at + 8 + nameCount
            let end = nameEnd + Swift.max(0, valueCount)
            body(
                Entry(
                    name: packed.subslice(at + 8..<nameEnd),
                    value: valueCount < 0 ? nil : packed.subslice(nameEnd..<end),
                    range: at..<end
                )
            )
            at = end
        }
    }

    private static func append(_ header: Header, to bytes: inout [UInt8]) {
        var nameCount = Int32(truncatingIfNeeded: header.name.utf8.count)
        var valueCount = header.value.map { Int32(truncatingIfNeeded: $0.count) } ?? -1
        Swift.withUnsafeBytes(of: &nameCount) { bytes.append(contentsOf: $0) }
        Swift.withUnsafeBytes(of: &valueCount) { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: header.name.utf8)
        if let value = header.value { value.withUnsafeBytes { bytes.append(contentsOf: $0) } }
    }
}

extension Headers: Equatable {
    /// Two header lists are equal if they have the same names and bytes in the same order.
    public static func == (left: Headers, right: Headers) -> Bool {
        left.count == right.count && left.packed == right.packed
    }
}

/// The names of the headers that Triage writes or understands (design §2).
public enum HeaderName {
    /// W3C Trace Context `traceparent`.
    public static let traceparent: StaticString = "traceparent"
    /// W3C Trace Context `tracestate`.
    public static let tracestate: StaticString = "tracestate"
    /// W3C Baggage.
    public static let baggage: StaticString = "baggage"
    /// The media type of the value.
    public static let contentType: StaticString = "content-type"
    /// Retries so far, decimal; the first retry record says 1.
    public static let retryCount: StaticString = "retryCount"
    /// Error type and safe text; never payload or foreign text.
    public static let error: StaticString = "error"
    /// When the attempt failed: ISO 8601 UTC with milliseconds.
    public static let failedAt: StaticString = "failedAt"
    /// Epoch milliseconds: not to be handled before.
    public static let dueAt: StaticString = "triage-due-at"
    /// Why a retry record waits, if not for its backoff: `scheduled`.
    public static let waitReason: StaticString = "triage-wait-reason"
    /// The origin of the record that a parked record waits for.
    public static let parkedBehind: StaticString = "triage-parked-behind"
    /// `topic/partition/offset` of the first delivery; immutable.
    public static let origin: StaticString = "triage-origin"
    /// Epoch milliseconds of the first record; immutable.
    public static let originTimestamp: StaticString = "triage-origin-timestamp"
    /// The context that the event was first created under; immutable.
    public static let originTraceparent: StaticString = "triage-origin-traceparent"
    /// `transient`, `persistent` or `system`.
    public static let errorClass: StaticString = "triage-error-class"
    /// The same for the same bug on different patients.
    public static let errorFingerprint: StaticString = "triage-error-fingerprint"
    /// The bounded attempt ledger.
    public static let attempts: StaticString = "triage-attempts"
    /// The consumer group that failed.
    public static let group: StaticString = "triage-group"
    /// The random id of the writer's assignment.
    public static let writer: StaticString = "triage-writer"
    /// The replay that put the record there.
    public static let replay: StaticString = "triage-replay"
    /// On a dead letter without a value: the error that refused its bytes, and how many there are; they stand at the origin.
    public static let pointer: StaticString = "triage-pointer"
    /// On a sealed dead letter: algorithm and key id, `A256GCM 1f0c8a53`. Value, error text and the producer's headers are sealed.
    public static let encryption: StaticString = "triage-encryption"
    /// The sealed text of the error, in base64.
    public static let errorDetail: StaticString = "triage-error-detail"
    /// What the value of a sealed dead letter looks like: ``PayloadShape/text(maximumBytes:)``.
    public static let shape: StaticString = "triage-shape"
    /// The sealed headers that we don't own, in base64.
    public static let sealedHeaders: StaticString = "triage-sealed-headers"
    /// What only stands on sealed dead letters.
    package static let ofSeals: [StaticString] = [encryption, errorDetail, shape, sealedHeaders]
}

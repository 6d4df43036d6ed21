/// What became of a batch that was handed to an exporter.
public enum ExportResult: Sendable, Hashable {
    /// The receiver took all of it.
    case exported
    /// The receiver took it but for `rejected` items, which are lost and must not be sent again.
    case partial(rejected: Int)
    /// Nothing of it arrived, as far as is known; it is dropped, since trying again is the exporter's business.
    case failed
    /// It took several requests that ended differently: `rejected` as above, `failed` items did not arrive, the rest did.
    case mixed(rejected: Int, failed: Int)
}

/// Sends batches of encoded spans somewhere, such as to an OpenTelemetry collector.
public protocol SpanExporter: Sendable {
    /// Sends one batch, retrying within the exporter's own time-out; called by one thread at a time, which it may block.
    func export(_ spans: EncodedSpans) -> ExportResult
    /// Ends an export under way promptly and makes later ones fail; may be called from any thread, more than once.
    func cancel()
}

/// A batch of spans as a ``SpanEncoder`` wrote them, one behind the other.
public struct EncodedSpans: Sendable {
    /// How many spans.
    public let count: Int
    private let chunk: SpanChunk

    init(_ chunk: SpanChunk) {
        count = chunk.spans
        self.chunk = chunk
    }

    /// A batch with a copy of these bytes, for exporters that are used without a processor.
    public init(count: Int, copying bytes: UnsafeRawBufferPointer) {
        chunk = SpanChunk(capacity: bytes.count)
        chunk.append(bytes)
        self.count = count
    }

    /// How many bytes.
    public var byteCount: Int { chunk.count }

    /// Calls `body` with the bytes; the pointer must not leave it.
    public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        defer { withExtendedLifetime(chunk) {} }
        return try body(chunk.bytes)
    }
}

/// Growing memory that encoded spans are appended to, so that none of them costs an allocation.
///
/// `@unchecked Sendable`: a chunk is written only while it is the open one, under the processor's lock (or by the
/// initialiser of ``EncodedSpans``); once sealed it is only read, by the export thread. ``clear()`` runs after that
/// thread has given it back.
final class SpanChunk: @unchecked Sendable {
    private(set) var spans = 0
    private(set) var count = 0
    private(set) var capacity: Int
    private var base: UnsafeMutableRawPointer

    /// - Parameter capacity: room at first. Taken at once, since the system gives memory that isn't touched no pages.
    init(capacity: Int) {
        self.capacity = max(1, capacity)
        base = .allocate(byteCount: self.capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    @inline(__always)
    func append(_ bytes: UnsafeRawBufferPointer) {
        if count + bytes.count > capacity { grow(to: count + bytes.count) }
        if let source = bytes.baseAddress { (base + count).copyMemory(from: source, byteCount: bytes.count) }
        count += bytes.count
        spans += 1
    }

    func clear() {
        spans = 0
        count = 0
    }

    private func grow(to needed: Int) {
        capacity = max(needed, capacity * 2)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        larger.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = larger
    }
}

internal import COTLP
internal import CProtobufC
internal import TriageEvents
public import TriageTelemetry

/// Puts batches of encoded spans into `ExportTraceServiceRequest` bodies.
///
/// Everything but the spans is packed once. A body is then the packed fields of one `ResourceSpans` (resource, schema),
/// those of its one `ScopeSpans` (scope, schema), and the spans' entries copied behind them; only two lengths are new:
///
///     0a len  resource fields  12 len  scope fields  (12 len span)…
public struct TraceRequest: Sendable {
    /// `ScopeSpans.spans` is field 2: every encoded span begins with this byte.
    static let spanTag = lengthDelimitedTag(2)
    private static let resourceSpansTag = lengthDelimitedTag(1)
    private static let scopeSpansTag = lengthDelimitedTag(2)

    private let resourceFields: ByteSlice
    private let scopeFields: ByteSlice

    /// Packs what the requests have in common.
    public init(_ resource: OTLPResource) {
        (resourceFields, scopeFields) = Arena.with { arena in
            var builder = MessageBuilder(arena)
            let parts = resource.build(&builder)
            let resourceSpans = arena.allocate(Opentelemetry__Proto__Trace__V1__ResourceSpans.self, 1)
            opentelemetry__proto__trace__v1__resource_spans__init(resourceSpans)
            resourceSpans.pointee.resource = parts.resource
            resourceSpans.pointee.schema_url = parts.schemaURL
            let scopeSpans = arena.allocate(Opentelemetry__Proto__Trace__V1__ScopeSpans.self, 1)
            opentelemetry__proto__trace__v1__scope_spans__init(scopeSpans)
            scopeSpans.pointee.scope = parts.scope
            scopeSpans.pointee.schema_url = parts.schemaURL
            return (ByteSlice(copying: builder.pack(resourceSpans)), ByteSlice(copying: builder.pack(scopeSpans)))
        }
    }

    /// Replaces the content of `body` by the request for `spans`, whose bytes came from ``OTLPSpanEncoder``.
    public func write(_ spans: EncodedSpans, to body: inout [UInt8]) {
        spans.withUnsafeBytes { write($0, to: &body) }
    }

    /// The same for a part of them.
    func write(_ spans: UnsafeRawBufferPointer, to body: inout [UInt8]) {
        body.removeAll(keepingCapacity: true)
        let scopeCount = scopeFields.count + spans.count
        let resourceCount = resourceFields.count + 1 + Varint.size(scopeCount) + scopeCount
        body.reserveCapacity(1 + Varint.size(resourceCount) + resourceCount)
        append(TraceRequest.resourceSpansTag, length: resourceCount, to: &body)
        resourceFields.withUnsafeBytes { body.append(contentsOf: $0) }
        append(TraceRequest.scopeSpansTag, length: scopeCount, to: &body)
        scopeFields.withUnsafeBytes { body.append(contentsOf: $0) }
        body.append(contentsOf: spans)
    }

    /// The bytes of a request for so many bytes of spans.
    func size(spanBytes: Int) -> Int {
        let scopeCount = scopeFields.count + spanBytes
        let resourceCount = resourceFields.count + 1 + Varint.size(scopeCount) + scopeCount
        return 1 + Varint.size(resourceCount) + resourceCount
    }

    /// Entries of encoded spans that go into one request.
    struct Part: Hashable {
        /// Where they are.
        var range: Range<Int>
        /// How many.
        var spans: Int
    }

    /// Cuts encoded spans between entries so that no request is larger than `limit`; entries that alone would be are left
    /// out and counted.
    func parts(_ bytes: UnsafeRawBufferPointer, count: Int, limit: Int) -> (parts: [Part], tooLarge: Int) {
        if size(spanBytes: bytes.count) <= limit { return ([Part(range: 0..<bytes.count, spans: count)], 0) }
        var parts: [Part] = []
        var tooLarge = 0
        var offset = 0
        while offset < bytes.count {
            guard let end = TraceRequest.entryEnd(bytes, at: offset) else {
                // Not what our encoder writes: what can't be read can't be cut.
                tooLarge += max(0, count - tooLarge - parts.reduce(0) { $0 + $1.spans })
                break
            }
            if size(spanBytes: end - offset) > limit {
                tooLarge += 1
            } else if let last = parts.last, last.range.upperBound == offset,
                size(spanBytes: end - last.range.lowerBound) <= limit
            {
                parts[parts.count - 1] = Part(range: last.range.lowerBound..<end, spans: last.spans + 1)
            } else {
                parts.append(Part(range: offset..<end, spans: 1))
            }
            offset = end
        }
        return (parts, tooLarge)
    }

    /// The end of the entry that begins at `offset`: a tag, a length, and so many bytes; nil if there is none.
    private static func entryEnd(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Int? {
        guard bytes[offset] == spanTag else { return nil }
        var length = 0
        var position = offset + 1
        for shift in stride(from: 0, to: 35, by: 7) {
            guard position < bytes.count else { return nil }
            let byte = bytes[position]
            position += 1
            length |= Int(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return length <= bytes.count - position ? position + length : nil }
        }
        return nil
    }

    private func append(_ tag: UInt8, length: Int, to body: inout [UInt8]) {
        body.append(tag)
        withUnsafeTemporaryAllocation(byteCount: 10, alignment: 1) { buffer in
            guard let base = buffer.baseAddress else { return }
            let count = Varint.write(length, to: base)
            body.append(contentsOf: UnsafeRawBufferPointer(start: base, count: count))
        }
    }
}

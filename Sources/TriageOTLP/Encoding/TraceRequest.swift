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
        body.removeAll(keepingCapacity: true)
        let scopeCount = scopeFields.count + spans.byteCount
        let resourceCount = resourceFields.count + 1 + Varint.size(scopeCount) + scopeCount
        body.reserveCapacity(1 + Varint.size(resourceCount) + resourceCount)
        append(TraceRequest.resourceSpansTag, length: resourceCount, to: &body)
        resourceFields.withUnsafeBytes { body.append(contentsOf: $0) }
        append(TraceRequest.scopeSpansTag, length: scopeCount, to: &body)
        scopeFields.withUnsafeBytes { body.append(contentsOf: $0) }
        spans.withUnsafeBytes { body.append(contentsOf: $0) }
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

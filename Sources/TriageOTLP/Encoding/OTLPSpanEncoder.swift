internal import COTLP
internal import CProtobufC
public import TriageEvents
public import TriageTelemetry

private typealias SpanMessage = Opentelemetry__Proto__Trace__V1__Span
private typealias EventMessage = Opentelemetry__Proto__Trace__V1__Span__Event
private typealias LinkMessage = Opentelemetry__Proto__Trace__V1__Span__Link
private typealias StatusMessage = Opentelemetry__Proto__Trace__V1__Status

/// Encodes spans as OTLP, each as one entry of a `ScopeSpans`: tag, length, span. Entries one behind the other are a batch.
///
/// What all spans of a template have in common (name, kind, constant attributes) is packed once. protobuf-c copies a
/// message's *unknown fields* verbatim behind its known ones, so the packed bytes are attached as one unknown field: its
/// tag and wire type are those of the first packed field, its data is all the rest. Fields may come in any order, and
/// entries of a repeated field may be interrupted by others (protobuf encoding, "Field Order"), so a receiver sees a span
/// like any other.
public struct OTLPSpanEncoder: SpanEncoder {
    /// The room in front of a packed span for its tag and its length of at most five bytes.
    private static let headroom = 6
    /// More than everything in a span that is neither text nor list: ids 28, times 18, counts 18, flags 6, kind 2, status 12.
    private static let spanOverhead = 128
    private static let eventOverhead = 40
    private static let linkOverhead = 64

    private let identifiers: IdentifierPolicy

    /// An encoder.
    ///
    /// - Parameter identifiers: how resource ids and record keys appear.
    public init(identifiers: IdentifierPolicy) { self.identifiers = identifiers }

    /// Packs name, kind and attributes into the bytes of their fields.
    public func pack(name: String, kind: SpanKind, attributes: [Attribute]) -> ByteSlice {
        Arena.with { arena in
            var builder = MessageBuilder(arena)
            let span = arena.allocate(SpanMessage.self, 1)
            opentelemetry__proto__trace__v1__span__init(span)
            fill(span, name: name, kind: kind, attributes, &builder)
            return ByteSlice(copying: builder.pack(span))
        }
    }

    /// Encodes a span as an entry of `ScopeSpans.spans`.
    public func withEncoded(_ span: borrowing SpanData, _ body: (UnsafeRawBufferPointer) -> Void) {
        Arena.with { arena in
            var builder = MessageBuilder(arena, valueLength: span.limits.valueLength)
            let message = arena.allocate(SpanMessage.self, 1)
            opentelemetry__proto__trace__v1__span__init(message)
            fill(message, span, &builder)
            let template = span.template
            if template.packed.count > 1 {
                template.packed.withUnsafeBytes { packed in
                    attach(packed, to: message, &builder)
                    body(packEntry(message, builder))
                }
            } else {
                fillConstants(message, template, &builder)
                body(packEntry(message, builder))
            }
        }
    }

    /// The fields that are a span's own.
    @inline(__always)
    private func fill(
        _ message: UnsafeMutablePointer<SpanMessage>, _ span: borrowing SpanData, _ builder: inout MessageBuilder
    ) {
        builder.reserve(OTLPSpanEncoder.spanOverhead)
        let context = span.context
        message.pointee.trace_id = builder.bytes(context.traceID)
        message.pointee.span_id = builder.bytes(context.spanID)
        if span.parentSpanID.isValid { message.pointee.parent_span_id = builder.bytes(span.parentSpanID) }
        if let state = context.traceState?.openTelemetryMember { message.pointee.trace_state = builder.cString(state) }
        message.pointee.flags = flags(context, isRemote: span.parentIsRemote)
        message.pointee.start_time_unix_nano = UInt64(max(0, span.start.nanoseconds))
        message.pointee.end_time_unix_nano = UInt64(max(0, span.end.nanoseconds))
        let attributes = builder.keyValues(span.attributes, identifiers: identifiers)
        message.pointee.attributes = attributes.pointers
        message.pointee.n_attributes = attributes.count
        message.pointee.dropped_attributes_count = span.droppedAttributes
        message.pointee.dropped_events_count = span.droppedEvents
        message.pointee.dropped_links_count = span.droppedLinks
        if !span.events.isEmpty { fillEvents(message, span, &builder) }
        if !span.links.isEmpty { fillLinks(message, span, &builder) }
        switch span.status {
        case .unset: break
        case .ok: setStatus(message, OPENTELEMETRY__PROTO__TRACE__V1__STATUS__STATUS_CODE__STATUS_CODE_OK, nil, &builder)
        case .error(let text):
            setStatus(message, OPENTELEMETRY__PROTO__TRACE__V1__STATUS__STATUS_CODE__STATUS_CODE_ERROR, text, &builder)
        }
    }

    private func fillEvents(
        _ message: UnsafeMutablePointer<SpanMessage>, _ span: borrowing SpanData, _ builder: inout MessageBuilder
    ) {
        let pointers = builder.messages(EventMessage.self, span.events.count)
        for (index, event) in span.events.enumerated() {
            guard let target = pointers[index] else { continue }
            opentelemetry__proto__trace__v1__span__event__init(target)
            builder.reserve(OTLPSpanEncoder.eventOverhead)
            target.pointee.time_unix_nano = UInt64(max(0, event.timestamp.nanoseconds))
            target.pointee.name = builder.cString(event.name.text)
            let limit = span.limits.eventAttributes
            let attributes = builder.keyValues(event.attributes, identifiers: identifiers, limit: limit)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            target.pointee.dropped_attributes_count = UInt32(clamping: max(0, event.attributes.count - max(0, limit)))
        }
        message.pointee.events = pointers
        message.pointee.n_events = span.events.count
    }

    private func fillLinks(
        _ message: UnsafeMutablePointer<SpanMessage>, _ span: borrowing SpanData, _ builder: inout MessageBuilder
    ) {
        let pointers = builder.messages(LinkMessage.self, span.links.count)
        for (index, link) in span.links.enumerated() {
            guard let target = pointers[index] else { continue }
            opentelemetry__proto__trace__v1__span__link__init(target)
            builder.reserve(OTLPSpanEncoder.linkOverhead)
            target.pointee.trace_id = builder.bytes(link.context.traceID)
            target.pointee.span_id = builder.bytes(link.context.spanID)
            if let state = link.context.traceState?.openTelemetryMember { target.pointee.trace_state = builder.cString(state) }
            target.pointee.flags = flags(link.context, isRemote: link.context.isRemote)
            let limit = span.limits.linkAttributes
            let attributes = builder.keyValues(link.attributes, identifiers: identifiers, limit: limit)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            target.pointee.dropped_attributes_count = UInt32(clamping: max(0, link.attributes.count - max(0, limit)))
        }
        message.pointee.links = pointers
        message.pointee.n_links = span.links.count
    }

    private func setStatus(
        _ message: UnsafeMutablePointer<SpanMessage>, _ code: Opentelemetry__Proto__Trace__V1__Status__StatusCode,
        _ text: SafeText?, _ builder: inout MessageBuilder
    ) {
        let status = builder.arena.allocate(StatusMessage.self, 1)
        opentelemetry__proto__trace__v1__status__init(status)
        status.pointee.code = code
        if let text { status.pointee.message = builder.cString(text.text) }
        message.pointee.status = status
    }

    /// `flags`: the W3C byte, bit 8 "it is known whether the context is remote", bit 9 "it is" (trace.proto, SpanFlags).
    @inline(__always)
    private func flags(_ context: TraceContext, isRemote: Bool) -> UInt32 {
        UInt32(context.flags.rawValue) | 0x100 | (isRemote ? 0x200 : 0)
    }

    private func fill(
        _ message: UnsafeMutablePointer<SpanMessage>, name: String, kind: SpanKind, _ attributes: [Attribute],
        _ builder: inout MessageBuilder
    ) {
        builder.reserve(OTLPSpanEncoder.spanOverhead)
        message.pointee.name = builder.cString(name)
        message.pointee.kind = Opentelemetry__Proto__Trace__V1__Span__SpanKind(UInt32(kind.rawValue))
        let attributes = builder.keyValues(attributes, identifiers: identifiers)
        message.pointee.attributes = attributes.pointers
        message.pointee.n_attributes = attributes.count
    }

    /// For a template that no encoder has packed: its attributes behind the span's own.
    private func fillConstants(
        _ message: UnsafeMutablePointer<SpanMessage>, _ template: SpanTemplate, _ builder: inout MessageBuilder
    ) {
        let own = (pointers: message.pointee.attributes, count: message.pointee.n_attributes)
        fill(message, name: template.name, kind: template.kind, template.attributes, &builder)
        let constant = (pointers: message.pointee.attributes, count: message.pointee.n_attributes)
        let all = builder.arena.allocate(UnsafeMutablePointer<KeyValueMessage>?.self, max(1, own.count + constant.count))
        for index in 0..<own.count { all[index] = own.pointers?[index] }
        for index in 0..<constant.count { all[own.count + index] = constant.pointers?[index] }
        message.pointee.attributes = all
        message.pointee.n_attributes = own.count + constant.count
    }

    /// Attaches packed fields. Their first tag is one byte long, since `name` is field 5 and `kind` field 6.
    @inline(__always)
    private func attach(
        _ packed: UnsafeRawBufferPointer, to message: UnsafeMutablePointer<SpanMessage>, _ builder: inout MessageBuilder
    ) {
        guard let base = packed.baseAddress else { return }
        let unknown = builder.arena.allocate(ProtobufCMessageUnknownField.self, 1)
        unknown.initialize(
            to: ProtobufCMessageUnknownField(
                tag: UInt32(packed[0] >> 3), wire_type: ProtobufCWireType(UInt32(packed[0] & 7)), len: packed.count - 1,
                data: UnsafeMutableRawPointer(mutating: base + 1).assumingMemoryBound(to: UInt8.self)
            )
        )
        message.pointee.base.unknown_fields = unknown
        message.pointee.base.n_unknown_fields = 1
        builder.reserve(packed.count)
    }

    /// Packs behind the headroom, then writes the length and the tag in front.
    @inline(__always)
    private func packEntry(_ message: UnsafeMutablePointer<SpanMessage>, _ builder: MessageBuilder) -> UnsafeRawBufferPointer {
        let span = builder.pack(message, headroom: OTLPSpanEncoder.headroom)
        guard let base = span.baseAddress else { return span }
        let start = UnsafeMutableRawPointer(mutating: base) - Varint.size(span.count) - 1
        start.storeBytes(of: TraceRequest.spanTag, as: UInt8.self)
        let length = Varint.write(span.count, to: start + 1)
        return UnsafeRawBufferPointer(start: start, count: 1 + length + span.count)
    }
}

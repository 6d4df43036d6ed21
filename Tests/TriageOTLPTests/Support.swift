import COTLP
import CProtobufC
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

typealias WireSpan = Opentelemetry__Proto__Trace__V1__Span
typealias WireTraceRequest = Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest
typealias WireMetricsRequest = Opentelemetry__Proto__Collector__Metrics__V1__ExportMetricsServiceRequest

/// Bytes from hexadecimal text, whitespace ignored.
func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = hexadecimal.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

/// Packs any protobuf-c message.
func packed<Message>(_ message: UnsafeMutablePointer<Message>) -> [UInt8] {
    message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) { message in
        [UInt8](unsafeUninitializedCapacity: protobuf_c_message_get_packed_size(message)) { target, count in
            count = protobuf_c_message_pack(message, target.baseAddress)
        }
    }
}

/// Unpacks a message, hands it to `body` and frees it; nil if the bytes are none.
func unpacked<Message, Result>(
    _ bytes: [UInt8], as descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ type: Message.Type,
    _ body: (UnsafeMutablePointer<Message>) throws -> Result
) rethrows -> Result? {
    guard let message = protobuf_c_message_unpack(descriptor, nil, bytes.count, bytes) else { return nil }
    defer { protobuf_c_message_free_unpacked(message, nil) }
    return try message.withMemoryRebound(to: type, capacity: 1) { try body($0) }
}

/// The descriptors of the messages the tests read, taken from initialised messages.
enum Descriptors {
    static var span: UnsafePointer<ProtobufCMessageDescriptor> {
        var message = WireSpan()
        opentelemetry__proto__trace__v1__span__init(&message)
        return message.base.descriptor
    }

    static var traceRequest: UnsafePointer<ProtobufCMessageDescriptor> {
        var message = WireTraceRequest()
        opentelemetry__proto__collector__trace__v1__export_trace_service_request__init(&message)
        return message.base.descriptor
    }

    static var metricsRequest: UnsafePointer<ProtobufCMessageDescriptor> {
        var message = WireMetricsRequest()
        opentelemetry__proto__collector__metrics__v1__export_metrics_service_request__init(&message)
        return message.base.descriptor
    }

    static var logsRequest: UnsafePointer<ProtobufCMessageDescriptor> {
        var message = Opentelemetry__Proto__Collector__Logs__V1__ExportLogsServiceRequest()
        opentelemetry__proto__collector__logs__v1__export_logs_service_request__init(&message)
        return message.base.descriptor
    }
}

/// The bytes of one span's entry.
func entry(_ span: SpanData, _ encoder: OTLPSpanEncoder = OTLPSpanEncoder(identifiers: .omitted)) -> [UInt8] {
    var result: [UInt8] = []
    encoder.withEncoded(span) { result = Array($0) }
    return result
}

/// The span in an entry: without tag and length, which must be right.
func spanBytes(_ entry: [UInt8]) -> [UInt8]? {
    guard entry.first == 0x12 else { return nil }
    var length = 0
    var index = 1
    var shift = 0
    while index < entry.count {
        length |= Int(entry[index] & 0x7F) << shift
        shift += 7
        index += 1
        if entry[index - 1] < 0x80 { break }
    }
    guard entry.count == index + length else { return nil }
    return Array(entry[index...])
}

/// What a receiver reads of a span, in types that can be compared.
struct DecodedSpan: Equatable {
    var traceID: [UInt8]
    var spanID: [UInt8]
    var parentSpanID: [UInt8]
    var traceState: String
    var name: String
    var kind: UInt32
    var flags: UInt32
    var start: UInt64
    var end: UInt64
    var attributes: [String: String]
    var attributeCount: Int
    var dropped: [UInt32]
    var events: [String]
    var links: [String]
    var status: String
    var unknownFields: Int

    init?(entry: [UInt8]) {
        guard let content = spanBytes(entry) else { return nil }
        let decoded = unpacked(content, as: Descriptors.span, WireSpan.self) { DecodedSpan($0.pointee) }
        guard let decoded else { return nil }
        self = decoded
    }

    init(_ span: WireSpan) {
        traceID = DecodedSpan.array(span.trace_id)
        spanID = DecodedSpan.array(span.span_id)
        parentSpanID = DecodedSpan.array(span.parent_span_id)
        traceState = String(cString: span.trace_state)
        name = String(cString: span.name)
        kind = span.kind.rawValue
        flags = span.flags
        start = span.start_time_unix_nano
        end = span.end_time_unix_nano
        attributes = DecodedSpan.attributes(span.attributes, span.n_attributes)
        attributeCount = span.n_attributes
        dropped = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count]
        unknownFields = Int(span.base.n_unknown_fields)
        events = (0..<span.n_events).compactMap { span.events[$0]?.pointee }.map { event in
            let attributes = DecodedSpan.attributes(event.attributes, event.n_attributes).sorted { $0.key < $1.key }
            return "\(String(cString: event.name))@\(event.time_unix_nano) \(attributes.map { "\($0.key)=\($0.value)" })"
                + " -\(event.dropped_attributes_count)"
        }
        links = (0..<span.n_links).compactMap { span.links[$0]?.pointee }.map { link in
            let attributes = DecodedSpan.attributes(link.attributes, link.n_attributes).sorted { $0.key < $1.key }
            return "\(DecodedSpan.array(link.trace_id))/\(DecodedSpan.array(link.span_id)) \(String(cString: link.trace_state))"
                + " \(link.flags) \(attributes.map { "\($0.key)=\($0.value)" }) -\(link.dropped_attributes_count)"
        }
        status = span.status.map { "\($0.pointee.code.rawValue) \(String(cString: $0.pointee.message))" } ?? ""
    }

    private static func array(_ data: ProtobufCBinaryData) -> [UInt8] {
        Array(UnsafeBufferPointer(start: data.data, count: data.len))
    }

    private static func attributes(
        _ pairs: UnsafeMutablePointer<UnsafeMutablePointer<Opentelemetry__Proto__Common__V1__KeyValue>?>?, _ count: Int
    ) -> [String: String] {
        var result: [String: String] = [:]
        for index in 0..<count {
            guard let pair = pairs?[index]?.pointee, let value = pair.value?.pointee else { continue }
            result[String(cString: pair.key)] = text(value)
        }
        return result
    }

    private static func text(_ value: Opentelemetry__Proto__Common__V1__AnyValue) -> String {
        switch value.value_case {
        case OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE: "s:" + String(cString: value.string_value)
        case OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_INT_VALUE: "i:\(value.int_value)"
        case OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_DOUBLE_VALUE: "d:\(value.double_value)"
        case OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_BOOL_VALUE: "b:\(value.bool_value != 0)"
        default: "?"
        }
    }
}

/// A fixed time: that of the golden vectors.
let t0 = Timestamp(nanoseconds: 1_700_000_000_000_000_000)

/// A context of the golden vectors' trace.
func context(_ span: UInt64, flags: UInt8 = 1, state: String? = nil, isRemote: Bool = false) -> TraceContext {
    TraceContext(
        traceID: TraceID(high: 0x0AF7_6519_16CD_43DD, low: 0x8448_EB21_1C80_319C), spanID: SpanID(span),
        flags: TraceFlags(rawValue: flags), traceState: state.flatMap { TraceState($0) }, isRemote: isRemote
    )
}

/// A batch of these entries.
func batch(_ entries: [[UInt8]]) -> EncodedSpans {
    entries.flatMap { $0 }.withUnsafeBytes { EncodedSpans(count: entries.count, copying: $0) }
}

internal import COTLP
internal import CProtobufC
internal import TriageEvents
public import TriageTelemetry

private typealias LogMessage = Opentelemetry__Proto__Logs__V1__LogRecord

/// Encodes log records as OTLP, each as one entry of a `ScopeLogs`: tag, length, record. Entries one behind the other are a batch.
public struct OTLPLogEncoder: LogEncoder {
    /// The room in front of a packed record for its tag and its length of at most five bytes.
    private static let headroom = 6
    /// More than everything in a record that is neither text nor list: ids 28, times 18, severity 2, count 6, flags 5.
    private static let recordOverhead = 96

    private let identifiers: IdentifierPolicy

    /// An encoder.
    ///
    /// - Parameter identifiers: how resource ids and record keys appear.
    public init(identifiers: IdentifierPolicy) { self.identifiers = identifiers }

    /// Encodes a record as an entry of `ScopeLogs.log_records`.
    public func withEncoded(_ record: LogRecord, valueLength: Int?, _ body: (UnsafeRawBufferPointer) -> Void) {
        Arena.with { arena in
            var builder = MessageBuilder(arena, valueLength: valueLength)
            let message = arena.allocate(LogMessage.self, 1)
            opentelemetry__proto__logs__v1__log_record__init(message)
            fill(message, record, &builder)
            let packed = builder.pack(message, headroom: OTLPLogEncoder.headroom)
            guard let base = packed.baseAddress else { return }
            let start = UnsafeMutableRawPointer(mutating: base) - Varint.size(packed.count) - 1
            start.storeBytes(of: TraceRequest.spanTag, as: UInt8.self)
            let length = Varint.write(packed.count, to: start + 1)
            body(UnsafeRawBufferPointer(start: start, count: 1 + length + packed.count))
        }
    }

    private func fill(_ message: UnsafeMutablePointer<LogMessage>, _ record: LogRecord, _ builder: inout MessageBuilder) {
        builder.reserve(OTLPLogEncoder.recordOverhead)
        message.pointee.time_unix_nano = UInt64(max(0, record.timestamp.nanoseconds))
        message.pointee.observed_time_unix_nano = UInt64(max(0, record.observed.nanoseconds))
        message.pointee.severity_number = Opentelemetry__Proto__Logs__V1__SeverityNumber(UInt32(record.severity.rawValue))
        message.pointee.severity_text = builder.cString(record.severity.text)
        if let body = record.body {
            let value = builder.arena.allocate(AnyValueMessage.self, 1)
            opentelemetry__proto__common__v1__any_value__init(value)
            builder.set(text: builder.cString(body.text), in: value)
            builder.reserve(MessageBuilder.attributeOverhead)
            message.pointee.body = value
        }
        fillAttributes(message, record, &builder)
        message.pointee.dropped_attributes_count = record.droppedAttributes
        if let context = record.context, context.isValid {
            message.pointee.trace_id = builder.bytes(context.traceID)
            message.pointee.span_id = builder.bytes(context.spanID)
            message.pointee.flags = UInt32(context.flags.rawValue)
        }
        if let name = record.eventName { message.pointee.event_name = builder.cString(name) }
    }

    private func fillAttributes(
        _ message: UnsafeMutablePointer<LogMessage>, _ record: LogRecord, _ builder: inout MessageBuilder
    ) {
        let own = builder.keyValues(record.attributes, identifiers: identifiers)
        message.pointee.attributes = own.pointers
        message.pointee.n_attributes = own.count
        guard !record.allowed.isEmpty else { return }
        let allowed = builder.keyValues(record.allowed.count) { builder, index, value in
            builder.set(text: builder.limitedCString(record.allowed[index].value.text), in: value)
            return record.allowed[index].key.text
        }
        let all = builder.arena.allocate(UnsafeMutablePointer<KeyValueMessage>?.self, own.count + allowed.count)
        for index in 0..<own.count { all[index] = own.pointers?[index] }
        for index in 0..<allowed.count { all[own.count + index] = allowed.pointers?[index] }
        message.pointee.attributes = all
        message.pointee.n_attributes = own.count + allowed.count
    }
}

/// Puts batches of encoded records into `ExportLogsServiceRequest` bodies.
///
/// Resource, scope, schema and entries have the same field numbers as those of spans (trace.proto and logs.proto: 1 and 2
/// with 3), so the bytes around the entries are the same, and one piece of code writes both.
public struct LogRequest: Sendable {
    /// The same bytes around other entries.
    let request: TraceRequest

    /// Packs what the requests have in common.
    public init(_ resource: OTLPResource) { request = TraceRequest(resource) }

    /// Replaces the content of `body` by the request for `records`, whose bytes came from ``OTLPLogEncoder``.
    public func write(_ records: EncodedLogs, to body: inout [UInt8]) { request.write(records.entries, to: &body) }
}

internal import COTLP
internal import CProtobufC

/// What a receiver says about an export that it answered with success.
enum OTLPResponse: Hashable, Sendable {
    /// It took everything.
    case full
    /// It took all but `rejected` items, which must not be sent again; with none rejected, `message` is a warning.
    case partial(rejected: Int, message: String)
    /// The answer is no OTLP; it was a success all the same.
    case unreadable

    /// Reads the answer to an export of spans. No bytes at all mean full success.
    init(traces body: [UInt8]) {
        self = OTLPResponse.read(
            body, opentelemetry__proto__collector__trace__v1__export_trace_service_response__unpack,
            opentelemetry__proto__collector__trace__v1__export_trace_service_response__free_unpacked
        ) { $0.partial_success.map { ($0.pointee.rejected_spans, $0.pointee.error_message) } }
    }

    /// Reads the answer to an export of metrics.
    init(metrics body: [UInt8]) {
        self = OTLPResponse.read(
            body, opentelemetry__proto__collector__metrics__v1__export_metrics_service_response__unpack,
            opentelemetry__proto__collector__metrics__v1__export_metrics_service_response__free_unpacked
        ) { $0.partial_success.map { ($0.pointee.rejected_data_points, $0.pointee.error_message) } }
    }

    /// Reads the answer to an export of log records.
    init(logs body: [UInt8]) {
        self = OTLPResponse.read(
            body, opentelemetry__proto__collector__logs__v1__export_logs_service_response__unpack,
            opentelemetry__proto__collector__logs__v1__export_logs_service_response__free_unpacked
        ) { $0.partial_success.map { ($0.pointee.rejected_log_records, $0.pointee.error_message) } }
    }

    private static func read<Message>(
        _ body: [UInt8],
        _ unpack: (UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?) -> UnsafeMutablePointer<Message>?,
        _ free: (UnsafeMutablePointer<Message>?, UnsafeMutablePointer<ProtobufCAllocator>?) -> Void,
        _ partial: (Message) -> (Int64, UnsafeMutablePointer<CChar>?)?
    ) -> OTLPResponse {
        guard !body.isEmpty else { return .full }
        guard let message = unpack(nil, body.count, body) else { return .unreadable }
        defer { free(message, nil) }
        guard let (rejected, text) = partial(message.pointee) else { return .full }
        let explanation = text.map { String(cString: $0) } ?? ""
        guard rejected > 0 || !explanation.isEmpty else { return .full }
        return .partial(rejected: Int(clamping: max(0, rejected)), message: explanation)
    }
}

import COTLP
import CProtobufC
import Testing
import TriageEvents

@testable import TriageOTLP
@testable import TriageTelemetry

private typealias WireLog = Opentelemetry__Proto__Logs__V1__LogRecord
typealias WireLogsRequest = Opentelemetry__Proto__Collector__Logs__V1__ExportLogsServiceRequest

private var logDescriptor: UnsafePointer<ProtobufCMessageDescriptor> {
    var message = WireLog()
    opentelemetry__proto__logs__v1__log_record__init(&message)
    return message.base.descriptor
}

/// What a receiver reads of a record.
private struct DecodedLog: Equatable {
    var body: String?
    var severity: String
    var attributes: [String]
    var dropped: UInt32
    var traceID: Int
    var spanID: Int
    var flags: UInt32
    var name: String
    var unknown: Int

    init?(entry: [UInt8]) {
        guard let content = spanBytes(entry) else { return nil }
        let decoded = unpacked(content, as: logDescriptor, WireLog.self) { DecodedLog($0.pointee) }
        guard let decoded else { return nil }
        self = decoded
    }

    init(_ log: WireLog) {
        body = log.body.map { String(cString: $0.pointee.string_value) }
        severity = "\(log.severity_number.rawValue) \(String(cString: log.severity_text))"
        attributes = (0..<log.n_attributes).compactMap { log.attributes[$0]?.pointee }.map { pair in
            let value = pair.value.pointee
            let isInt = value.value_case == OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_INT_VALUE
            return "\(String(cString: pair.key))=" + (isInt ? "\(value.int_value)" : String(cString: value.string_value))
        }
        dropped = log.dropped_attributes_count
        traceID = log.trace_id.len
        spanID = log.span_id.len
        flags = log.flags
        name = String(cString: log.event_name)
        unknown = Int(log.base.n_unknown_fields)
    }
}

@Suite("Encoding log records")
struct OTLPLogEncoderTests {
    func entry(_ record: LogRecord, valueLength: Int? = nil, _ identifiers: IdentifierPolicy = .omitted) -> [UInt8] {
        var result: [UInt8] = []
        OTLPLogEncoder(identifiers: identifiers).withEncoded(record, valueLength: valueLength) { result = Array($0) }
        return result
    }

    @Test("A record from the encoder is the golden record, byte for byte")
    func golden() {
        let record = LogRecord(
            .error, "boom", eventName: "messaging.process.exception", at: t0, context: context(0xB7AD_6B71_6920_3331))
        let golden = unpacked(Golden.log, as: Descriptors.logsRequest, WireLogsRequest.self) { request in
            request.pointee.resource_logs[0]?.pointee.scope_logs[0]?.pointee.log_records[0].map { packed($0) }
        }
        #expect(golden != nil && spanBytes(entry(record)) == golden ?? nil)
    }

    @Test("Attributes of both kinds, the limit on values, identifiers, a NUL, counts")
    func attributes() {
        var record = LogRecord(
            .notice, "a long body is not cut", at: t0,
            attributes: [
                Attribute("code.line.number", .int(0)), Attribute("text", .text("é2345")),
                Attribute("id", .identifier(ByteSlice("p-1"))),
            ],
            allowed: [
                LogRecord.AllowedAttribute(vettedKey: "request", vettedValue: "a\u{0}b"),
                LogRecord.AllowedAttribute(vettedKey: "empty", vettedValue: ""),
            ])
        record.countDroppedAttributes(4)
        let decoded = DecodedLog(entry: entry(record, valueLength: 3))
        #expect(decoded?.attributes == ["code.line.number=0", "text=é23", "request=a\u{FFFD}b", "empty="])
        #expect(decoded?.body == "a long body is not cut" && decoded?.severity == "10 NOTICE" && decoded?.dropped == 4)
        #expect(decoded?.traceID == 0 && decoded?.spanID == 0 && decoded?.flags == 0 && decoded?.name == "")
        #expect(decoded?.unknown == 0)
        #expect(DecodedLog(entry: entry(record, .plain))?.attributes.contains("id=p-1") == true)
    }

    @Test("No body, only allowed attributes, flags of an unsampled context, an invalid context")
    func little() {
        let allowed = [LogRecord.AllowedAttribute(vettedKey: "k", vettedValue: "v")]
        let unsampled = DecodedLog(entry: entry(LogRecord(.trace, nil, at: t0, allowed: allowed, context: context(3, flags: 2))))
        #expect(unsampled?.body == nil && unsampled?.attributes == ["k=v"] && unsampled?.flags == 2)
        #expect(unsampled?.traceID == 16 && unsampled?.spanID == 8)
        let invalid = DecodedLog(entry: entry(LogRecord(.fatal, "x", at: t0, context: context(0))))
        #expect(invalid?.traceID == 0 && invalid?.severity == "21 FATAL")
    }

    @Test("A request holds resource, scope and every record; answers are read", arguments: [1, 700])
    func request(count: Int) throws {
        let resource = OTLPResource(attributes: [("service.name", "triage")], version: "1.2.3")
        let entries = (1...count).map { entry(LogRecord(.info, SafeText(vetted: "line \($0)"), at: t0)) }
        var body: [UInt8] = []
        LogRequest(resource).write(EncodedLogs(batch(entries)), to: &body)
        let isRead: Void? = try unpacked(body, as: Descriptors.logsRequest, WireLogsRequest.self) { request in
            let resourceLogs = try #require(request.pointee.resource_logs[0]).pointee
            #expect(String(cString: resourceLogs.schema_url) == "https://opentelemetry.io/schemas/1.44.0")
            #expect(resourceLogs.resource.pointee.n_attributes == 1 && resourceLogs.base.n_unknown_fields == 0)
            let scope = try #require(resourceLogs.scope_logs[0]).pointee
            #expect(String(cString: scope.scope.pointee.name) == "triage" && scope.n_log_records == count)
            let last = try #require(scope.log_records[count - 1]).pointee
            #expect(String(cString: last.body.pointee.string_value) == "line \(count)")
        }
        #expect(isRead != nil)
        #expect(OTLPResponse(logs: []) == .full)
        #expect(OTLPResponse(logs: bytes("0a0708031203626164")) == .partial(rejected: 3, message: "bad"))
    }
}

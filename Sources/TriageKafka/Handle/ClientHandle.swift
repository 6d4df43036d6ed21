import CRdKafka
import Synchronization
import TriageEvents

/// Receives librdkafka's log lines: syslog level (0 emergency … 7 debug), facility, text.
///
/// Called on threads of the client's own, so it must be quick. The text is librdkafka's: it names brokers, topics and
/// groups, never keys or values of records; still it is foreign text, not to be used as an attribute.
public typealias KafkaLog = @Sendable (_ level: Int, _ facility: String, _ text: String) -> Void

/// What the C callbacks of one client find behind its opaque pointer.
///
/// `@unchecked Sendable`: the closures but ``log`` are set before the client polls and called only from within calls
/// that poll, which one thread makes; ``log`` is `Sendable` itself and never changes.
final class ClientContext: @unchecked Sendable {
    let log: KafkaLog?
    /// Errors that concern the whole client, in the polling thread.
    var failed: ((BrokerError) -> Void)?
    /// Assignment (true) or revocation (false) of a list of partitions, in the polling thread.
    var rebalanced: ((_ assigns: Bool, _ list: OpaqueList) -> Void)?
    /// Whether an answer was larger than `receive.message.max.bytes` since somebody last looked. librdkafka says so in its log
    /// alone, closes the connection and asks again, for ever; to whoever waits for the answer it looks as if nobody was there.
    private let refused = Atomic(false)
    /// How many delivery reports came; read and written in the polling thread only.
    var deliveries = 0

    init(log: KafkaLog?) { self.log = log }

    /// Notes what a log line of librdkafka's tells (`rd_kafka_recv`, "Invalid response size … increase receive.message.max.bytes").
    func logged(_ line: String) {
        if line.has("increase receive.message.max.bytes") { refused.store(true, ordering: .relaxed) }
    }

    /// Whether an answer was too large since this was asked last.
    func takeRefusal() -> Bool { refused.exchange(false, ordering: .relaxed) }

    static func of(_ client: OpaquePointer?) -> ClientContext? {
        guard let client, let opaque = rd_kafka_opaque(client) else { return nil }
        return Unmanaged<ClientContext>.fromOpaque(opaque).takeUnretainedValue()
    }
}

/// A list of partitions that belongs to C, valid during a callback.
typealias OpaqueList = UnsafeMutablePointer<rd_kafka_topic_partition_list_t>

/// One client of librdkafka: owns the `rd_kafka_t` and destroys it; whatever uses it retains this.
///
/// `@unchecked Sendable`: the pointer never changes, and librdkafka allows its calls on any thread at once. What is
/// not safe to do at once (the consumer's calls) is kept on one thread by the owner.
final class ClientHandle: @unchecked Sendable {
    let client: OpaquePointer
    let context: ClientContext

    /// Makes a client; it connects in the background.
    init(_ role: ClientRole, properties: [Property], log: KafkaLog?) throws(KafkaConfigurationError) {
        let context = ClientContext(log: log)
        let configuration = try ClientHandle.configuration(properties)
        rd_kafka_conf_set_opaque(configuration, Unmanaged.passUnretained(context).toOpaque())
        rd_kafka_conf_set_log_cb(configuration) { client, level, facility, text in
            guard let context = ClientContext.of(client), let facility, let text else { return }
            let line = String(cString: text)
            let name = String(cString: facility)
            if level <= 5 { context.logged(line) }
            guard let log = context.log else { return }
            // The same properties serve consumers and producers, so each kind is told about the other's.
            if name == "CONFWARN" && line.hasSuffix("will be ignored by this \(kindName(client)) instance") { return }
            log(Int(level), name, line)
        }
        rd_kafka_conf_set_error_cb(configuration) { client, code, _, opaque in
            guard let client, let context = ClientContext.of(client), let failed = context.failed else { return }
            let isTooLarge = code == RD_KAFKA_RESP_ERR__BAD_MSG.rawValue && context.takeRefusal()
            failed(
                isTooLarge
                    ? .answerTooLarge("client")
                    : BrokerError(code: rd_kafka_resp_err_t(code), client: client, operation: "client"))
        }
        switch role {
        case .consumer:
            rd_kafka_conf_set_rebalance_cb(configuration) { client, code, list, _ in
                guard let client, let list else { return }
                guard let rebalanced = ClientContext.of(client)?.rebalanced else {
                    rd_kafka_assign(client, nil)
                    return
                }
                rebalanced(code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, list)
            }
        case .producer:
            rd_kafka_conf_set_dr_msg_cb(configuration, deliveryReported)
        case .admin, .reader: break
        }
        client = try ClientHandle.make(role, configuration, properties)
        self.context = context
    }

    deinit { rd_kafka_destroy(client) }

    /// Checks that librdkafka takes every one of `properties`.
    static func check(_ properties: [Property]) throws(KafkaConfigurationError) {
        rd_kafka_conf_destroy(try configuration(properties))
    }

    /// The error after which the client can't go on, if it has one.
    var fatalError: BrokerError? {
        let code = rd_kafka_fatal_error(client, nil, 0)
        return code == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : BrokerError(code: code, operation: "client", isFatal: true)
    }

    /// A configuration object with these properties; the caller owns it.
    private static func configuration(_ properties: [Property]) throws(KafkaConfigurationError) -> OpaquePointer {
        guard let configuration = rd_kafka_conf_new() else {
            throw KafkaConfigurationError(key: "client", value: "", expected: "memory for a configuration")
        }
        for property in properties {
            var text = [CChar](repeating: 0, count: 512)
            let result = rd_kafka_conf_set(configuration, property.key, property.value, &text, text.count)
            if result == RD_KAFKA_CONF_OK || (result == RD_KAFKA_CONF_UNKNOWN && property.isOptional) { continue }
            rd_kafka_conf_destroy(configuration)
            let said = text.message
            let expected =
                if result == RD_KAFKA_CONF_UNKNOWN {
                    "the name of a property of librdkafka"
                } else if Redaction.isSecret(property.key) || said.isEmpty {
                    "a value that librdkafka accepts"
                } else {
                    said
                }
            throw KafkaConfigurationError(key: property.key, value: property.value, expected: expected)
        }
        return configuration
    }

    /// Makes the client; `configuration` is consumed whether it succeeds or not.
    private static func make(
        _ role: ClientRole, _ configuration: OpaquePointer, _ properties: [Property]
    ) throws(KafkaConfigurationError) -> OpaquePointer {
        var text = [CChar](repeating: 0, count: 512)
        // The admin client and the reader are consumers without a group: unlike a producer they never create topics by
        // asking for them.
        let type = role == .producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER
        if let client = rd_kafka_new(type, configuration, &text, text.count) { return client }
        rd_kafka_conf_destroy(configuration)
        let said = text.message
        let showsSecret = properties.contains { Redaction.isSecret($0.key) && !$0.value.isEmpty && said.has($0.value) }
        let named = properties.filter { said.has($0.key) }.max { $0.key.utf8.count < $1.key.utf8.count }
        throw KafkaConfigurationError(
            key: named?.key ?? "client", value: named?.value ?? "",
            expected: showsSecret || said.isEmpty ? "settings that librdkafka accepts together" : said
        )
    }
}

private func kindName(_ client: OpaquePointer?) -> String {
    rd_kafka_type(client) == RD_KAFKA_PRODUCER ? "producer" : "consumer"
}

extension [CChar] {
    /// The text up to the terminating zero.
    fileprivate var message: String {
        String(decoding: prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension String {
    /// Whether `part` occurs anywhere in the text.
    func has(_ part: String) -> Bool {
        let text = Array(utf8)
        let part = Array(part.utf8)
        guard !part.isEmpty, text.count >= part.count else { return false }
        return (0...text.count - part.count).contains { text[$0..<$0 + part.count].elementsEqual(part) }
    }
}

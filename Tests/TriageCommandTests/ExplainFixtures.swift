import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry

@testable import Triage

/// What others write onto a record of topic `orders`, partition 3, offset 0, that failed three times.
enum ExplainFixtures {
    struct Foreign: Sendable, CustomTestStringConvertible {
        let dialect: String
        let headers: [Header]
        /// What the page says.
        let lines: [String]
        var testDescription: String { dialect }
    }

    static func bigEndian<Number: FixedWidthInteger>(_ number: Number) -> ByteSlice {
        withUnsafeBytes(of: number.bigEndian) { ByteSlice(copying: $0) }
    }

    private static let marker = ExplainWorld.marker
    private static let time = ExplainWorld.begin.milliseconds

    static let foreign: [Foreign] = [
        Foreign(
            dialect: "spring",
            headers: [
                Header("kafka_dlt-original-topic", text: "orders"), Header("kafka_dlt-original-partition", bigEndian(Int32(3))),
                Header("kafka_dlt-original-offset", bigEndian(Int64(0))), Header("kafka_dlt-original-timestamp", bigEndian(time)),
                Header("kafka_dlt-original-consumer-group", text: "billing"),
                Header("kafka_dlt-exception-fqcn", text: "org.springframework.kafka.listener.ListenerExecutionFailedException"),
                Header("kafka_dlt-exception-cause-fqcn", text: "java.lang.IllegalStateException"),
                Header("kafka_dlt-exception-message", text: marker), Header("kafka_dlt-exception-stacktrace", text: marker),
            ],
            lines: [
                "orders-dlt/3/0: dead-lettered by billing at 13:33:25Z", "a dead letter of Spring for Apache Kafka",
                "event          orders/3/0", "caused by", "java.lang.IllegalStateException", "group          billing",
                "Nobody has acted on it",
            ]),
        Foreign(
            dialect: "spring-retry",
            headers: [
                Header("kafka_original-topic", text: "orders"), Header("kafka_original-partition", bigEndian(Int32(3))),
                Header("kafka_original-offset", bigEndian(Int64(0))), Header("kafka_original-timestamp", bigEndian(time)),
                Header("kafka_original-consumer-group", text: "billing"),
                Header("kafka_exception-fqcn", text: "java.io.IOException"),
                Header("kafka_exception-message", text: marker), Header("retry_topic-attempts", bigEndian(Int32(3))),
                Header("retry_topic-backoff-timestamp", bigEndian(time + 9000)),
            ],
            lines: [
                "dead-lettered by billing at 13:33:25Z (0 ms ago) after 3 attempts: java.io.IOException",
                "a dead letter of Spring for Apache Kafka", "group          billing", "due            2026-09-21T13:33:29.000Z",
            ]),
        Foreign(
            dialect: "connect",
            headers: [
                Header("__connect.errors.topic", text: "orders"), Header("__connect.errors.partition", text: "3"),
                Header("__connect.errors.offset", text: "0"), Header("__connect.errors.connector.name", text: "patient-sink"),
                Header("__connect.errors.stage", text: "VALUE_CONVERTER"),
                Header("__connect.errors.exception.class.name", text: "org.apache.kafka.connect.errors.DataException"),
                Header("__connect.errors.exception.message", text: marker),
                Header("__connect.errors.exception.stacktrace", text: marker),
            ],
            lines: [
                "a dead letter of a Kafka Connect sink", "connector      patient-sink",
                "org.apache.kafka.connect.errors.DataException at VALUE_CONVERTER",
            ]),
        Foreign(
            dialect: "streams",
            headers: [
                Header("__streams.errors.topic", text: "orders"), Header("__streams.errors.partition", text: "3"),
                Header("__streams.errors.offset", text: "0"), Header("__streams.errors.message", text: marker),
                Header("__streams.errors.exception", text: "java.lang.NullPointerException"),
            ],
            lines: ["a dead letter of Kafka Streams", "error          java.lang.NullPointerException"]),
        Foreign(
            dialect: "share-group",
            headers: [
                Header("__dlq.errors.topic", text: "orders"), Header("__dlq.errors.partition", text: "3"),
                Header("__dlq.errors.offset", text: "0"), Header("__dlq.errors.group", text: "billing"),
                Header("__dlq.errors.delivery.count", text: "3"), Header("__dlq.errors.message", text: marker),
            ],
            lines: [
                "a dead letter of a share group", "after 3 attempts: a failure that it doesn't name", "group          billing",
            ]),
        Foreign(
            dialect: "karafka",
            headers: [
                Header("source_topic", text: "orders"), Header("source_partition", text: "3"), Header("source_offset", text: "0"),
                Header("source_consumer_group", text: "billing"), Header("source_attempts", text: "3"),
                Header("source_trace_id", text: marker),
            ],
            lines: ["a dead letter of Karafka", "after 3 attempts", "event          orders/3/0"]),
        Foreign(
            dialect: "watermill",
            headers: [
                Header("reason_poisoned", text: marker), Header("topic_poisoned", text: "orders"),
                Header("handler_poisoned", text: "onPatient"), Header("subscriber_poisoned", text: "billing"),
            ],
            lines: ["a dead letter of Watermill", "its headers don't say where it was first delivered", "at onPatient"]),
        Foreign(
            dialect: "nservicebus",
            headers: [
                Header("NServiceBus.FailedQ", text: "billing"), Header("NServiceBus.Retries", text: "3"),
                Header("NServiceBus.ExceptionInfo.ExceptionType", text: "System.FormatException"),
                Header("NServiceBus.ExceptionInfo.Message", text: marker),
                Header("NServiceBus.ExceptionInfo.StackTrace", text: marker),
            ],
            lines: ["a dead letter of NServiceBus", "error          System.FormatException", "group          billing"]),
    ]

    /// Headers of any of the dialects with values of any kind.
    static func randomHeaders(_ generator: inout SplitMix) -> [Header] {
        let names =
            foreign.flatMap(\.headers).map(\.name)
            + [
                "triage-origin", "triage-origin-timestamp", "triage-attempts", "triage-due-at", "triage-group", "triage-replay",
                "retryCount",
                "error", "failedAt", "triage-error-class", "triage-error-fingerprint", "triage-parked-behind", "triage-pointer",
                "triage-encryption", "traceparent", "triage-origin-traceparent", "triage-wait-reason", "ce_id",
            ]
        return (0..<Int.random(in: 0...8, using: &generator)).map { _ in
            let name = names.randomElement(using: &generator) ?? "error"
            switch Int.random(in: 0...6, using: &generator) {
            case 0: return Header(name, nil)
            case 1:
                return Header(
                    name,
                    ByteSlice(
                        (0..<Int.random(in: 0...20, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) })
                )
            case 2: return Header(name, text: "\(Int64.random(in: .min ... .max, using: &generator))")
            case 3: return Header(name, text: "fhir.Patient.created/0/\(Int.random(in: 0...6, using: &generator))")
            case 4: return Header(name, text: ExplainWorld.ledger([Int64.random(in: -9...9999, using: &generator), 20]))
            case 5:
                return Header(
                    name,
                    text: [
                        "clinic", "transient", "\u{1B}[2J", "00-\(ExplainWorld.trace)-0000000000000001-01",
                        "2026-09-21T13:33:20.010Z",
                    ]
                    .randomElement(using: &generator) ?? "")
            default: return Header(name, bigEndian(Int64.random(in: .min ... .max, using: &generator)))
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}

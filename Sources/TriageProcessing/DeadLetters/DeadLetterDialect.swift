public import TriageEvents

/// Whose headers a dead letter carries.
public enum DeadLetterDialect: String, Sendable, Hashable, CaseIterable {
    /// Ours.
    case triage
    /// Spring for Apache Kafka: `kafka_dlt-…`.
    case spring
    /// Spring's retry topics and the dead letters behind them: `kafka_original-…`, `retry_topic-…`.
    case springRetry = "spring-retry"
    /// Kafka Connect's sink connectors: `__connect.errors.…`.
    case connect
    /// Kafka Streams' exception handlers: `__streams.errors.…`.
    case streams
    /// Kafka's share groups: `__dlq.errors.…`.
    case shareGroup = "share-group"
    /// Karafka: `source_…`.
    case karafka
    /// Watermill's poison queue: `reason_poisoned` and its like.
    case watermill
    /// NServiceBus: `NServiceBus.FailedQ` and its like.
    case nServiceBus = "nservicebus"
    /// None of these.
    case unknown

    /// The dialect of these headers; ours comes first, since what one of the others wrote may have gone through us afterwards.
    public init(_ headers: Headers) {
        self = DeadLetterDialect.signs.first { headers.contains($0.name) }?.dialect ?? .unknown
    }

    /// The headers that tell a dialect; each writes at least one of its own.
    private static let signs: [(name: StaticString, dialect: DeadLetterDialect)] = [
        (HeaderName.origin, .triage), (HeaderName.errorFingerprint, .triage),
        ("kafka_dlt-original-topic", .spring), ("kafka_dlt-exception-fqcn", .spring),
        ("kafka_original-topic", .springRetry), ("retry_topic-attempts", .springRetry),
        ("__connect.errors.topic", .connect), ("__connect.errors.exception.class.name", .connect),
        ("__streams.errors.topic", .streams), ("__streams.errors.exception", .streams),
        ("__dlq.errors.topic", .shareGroup), ("__dlq.errors.group", .shareGroup),
        ("source_consumer_group", .karafka), ("source_topic", .karafka),
        ("reason_poisoned", .watermill), ("topic_poisoned", .watermill),
        ("NServiceBus.FailedQ", .nServiceBus), ("NServiceBus.ExceptionInfo.ExceptionType", .nServiceBus),
    ]

    /// Where the parts of a failure stand in a dialect; nil where it has none.
    struct Names {
        var topic: StaticString?
        var partition: StaticString?
        var offset: StaticString?
        var timestamp: StaticString?
        var group: StaticString?
        /// The name of the exception's class.
        var type: StaticString?
        /// That of the one beneath it, which says more.
        var cause: StaticString?
        /// Where in the other's work it failed.
        var stage: StaticString?
        var attempts: StaticString?
        /// Not to be handled before: of records that wait for a retry.
        var dueAt: StaticString?
        /// What may say anything, patient data among it.
        var texts: [StaticString] = []
        /// Numbers are big-endian integers, not decimal text.
        var isBinary = false
    }

    /// What tells of a failure in another's dialect, its exception's texts among it; where the event came from isn't.
    var failureHeaders: [StaticString] {
        guard let names else { return [] }
        return [names.type, names.cause, names.stage, names.attempts, names.dueAt].compactMap { $0 } + names.texts
    }

    /// The headers of a dialect, as its documentation and source name them.
    var names: Names? {
        switch self {
        case .triage, .unknown: nil
        case .spring:
            Names(
                topic: "kafka_dlt-original-topic", partition: "kafka_dlt-original-partition",
                offset: "kafka_dlt-original-offset", timestamp: "kafka_dlt-original-timestamp",
                group: "kafka_dlt-original-consumer-group", type: "kafka_dlt-exception-fqcn",
                cause: "kafka_dlt-exception-cause-fqcn", attempts: "retry_topic-attempts",
                texts: ["kafka_dlt-exception-message", "kafka_dlt-exception-stacktrace", "kafka_dlt-key-exception-message"],
                isBinary: true)
        case .springRetry:
            Names(
                topic: "kafka_original-topic", partition: "kafka_original-partition", offset: "kafka_original-offset",
                timestamp: "kafka_original-timestamp", group: "kafka_original-consumer-group", type: "kafka_exception-fqcn",
                cause: "kafka_exception-cause-fqcn", attempts: "retry_topic-attempts",
                dueAt: "retry_topic-backoff-timestamp",
                texts: ["kafka_exception-message", "kafka_exception-stacktrace", "kafka_key-exception-message"],
                isBinary: true)
        case .connect:
            Names(
                topic: "__connect.errors.topic", partition: "__connect.errors.partition", offset: "__connect.errors.offset",
                group: "__connect.errors.connector.name", type: "__connect.errors.exception.class.name",
                stage: "__connect.errors.stage",
                texts: ["__connect.errors.exception.message", "__connect.errors.exception.stacktrace"])
        case .streams:
            Names(
                topic: "__streams.errors.topic", partition: "__streams.errors.partition", offset: "__streams.errors.offset",
                type: "__streams.errors.exception", texts: ["__streams.errors.message", "__streams.errors.stacktrace"])
        case .shareGroup:
            Names(
                topic: "__dlq.errors.topic", partition: "__dlq.errors.partition", offset: "__dlq.errors.offset",
                group: "__dlq.errors.group", attempts: "__dlq.errors.delivery.count", texts: ["__dlq.errors.message"])
        case .karafka:
            Names(
                topic: "source_topic", partition: "source_partition", offset: "source_offset", group: "source_consumer_group",
                attempts: "source_attempts")
        case .watermill:
            Names(topic: "topic_poisoned", group: "subscriber_poisoned", stage: "handler_poisoned", texts: ["reason_poisoned"])
        case .nServiceBus:
            Names(
                group: "NServiceBus.FailedQ", type: "NServiceBus.ExceptionInfo.ExceptionType",
                cause: "NServiceBus.ExceptionInfo.InnerExceptionType", attempts: "NServiceBus.Retries",
                texts: ["NServiceBus.ExceptionInfo.Message", "NServiceBus.ExceptionInfo.StackTrace"])
        }
    }
}

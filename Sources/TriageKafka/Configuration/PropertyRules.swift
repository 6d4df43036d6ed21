import TriageEvents

/// A property as it is handed to librdkafka.
struct Property: Equatable {
    let key: String
    let value: String
    /// Whether a librdkafka that doesn't know the property may go without it.
    let isOptional: Bool

    init(_ key: String, _ value: String, isOptional: Bool = false) {
        self.key = key
        self.value = value
        self.isOptional = isOptional
    }

    var shownValue: String { Redaction.isSecret(key) ? Redaction.mark : value }
}

/// What the kinds of clients are made for.
enum ClientRole {
    case consumer, producer, admin
    /// Reads single records, in no group.
    case reader
}

/// Which properties are fixed, and why one must not touch them.
enum PropertyRules {
    /// Fixed properties of a consumer.
    static let consumer = [
        Property("enable.auto.commit", "false"),
        Property("enable.auto.offset.store", "false"),
        Property("partition.assignment.strategy", "range"),
        Property("isolation.level", "read_committed"),
        Property("enable.partition.eof", "true"),
    ]

    /// Defaults of ours that anyone may change.
    static let consumerDefaults = [
        // 16 MiB instead of 64: memory that is filled again soon stays in the cache. ``PrefetchWatch`` keeps it filled.
        Property("queued.max.messages.kbytes", "16384"),
        // How soon a full prefetch queue is looked at again; since librdkafka 2.2, see ``PrefetchWatch``.
        Property("fetch.queue.backoff.ms", "20", isOptional: true),
    ]

    /// Fixed properties of a reader of single records: it commits nothing, guesses no offset, fetches little ahead of what
    /// is asked, and is never kept waiting by a fetch that stands at the end of another partition.
    static let reader = [
        Property("enable.auto.commit", "false"),
        Property("enable.auto.offset.store", "false"),
        Property("isolation.level", "read_committed"),
        Property("enable.partition.eof", "true"),
        Property("auto.offset.reset", "error"),
        Property("fetch.wait.max.ms", "10"),
        Property("fetch.error.backoff.ms", "50"),
        Property("fetch.message.max.bytes", "65536"),
        Property("queued.max.messages.kbytes", "1024"),
        Property("fetch.queue.backoff.ms", "20", isOptional: true),
    ]

    /// Fixed properties of a producer.
    static let producer = [
        Property("acks", "all"),
        Property("enable.idempotence", "true"),
        Property("partitioner", "murmur2_random"),
    ]

    /// What a producer starts from, which `additional` may change.
    ///
    /// The largest record: a consumer is handed up to `receive.message.max.bytes` (100,000,000), and what came in must be able to
    /// go on into the retry or dead letter topic; librdkafka's default of 1,000,000 would refuse it for ever. Brokers have
    /// limits of their own.
    static let producerDefaults = [Property("message.max.bytes", "100000000")]

    /// What may not be set, aliases included, with what is expected instead.
    static let forbidden: [String: String] = {
        let byCommit = "nothing: offsets are committed explicitly, with metadata"
        let byRange = "nothing: co-partitioning of a topic and its retry topic needs the range assignor"
        let byReports = "nothing: every produced record must report how it ended"
        return [
            "enable.auto.commit": byCommit,
            "auto.commit.enable": byCommit,
            "auto.commit.interval.ms": byCommit,
            "enable.auto.offset.store": byCommit,
            "partition.assignment.strategy": byRange,
            "group.protocol": byRange,
            "group.remote.assignor": byRange,
            "isolation.level": "nothing: aborted records must not be processed (read_committed)",
            "enable.partition.eof": "nothing: the end of a partition must be reported",
            "acks": "nothing: a record counts only when all in-sync replicas have it (all)",
            "request.required.acks": "nothing: a record counts only when all in-sync replicas have it (all)",
            "enable.idempotence": "nothing: retried sends must not duplicate or reorder (true)",
            "partitioner": "nothing: keys are partitioned as Java does (murmur2_random)",
            "transactional.id": "nothing: only operators' replays use transactions, with an id of their own",
            "delivery.report.only.error": byReports,
            "dr_cb": byReports,
            "dr_msg_cb": byReports,
            "log.queue": "nothing: log lines are handed to the log closure",
            "group.id": "nothing: the group has an option of its own",
            "bootstrap.servers": "nothing: the brokers have an option of their own",
            "metadata.broker.list": "nothing: the brokers have an option of their own",
        ]
    }()

    /// The name without the prefix `topic.`, which other tools use for topic-level properties.
    static func normalized(_ key: String) -> String {
        key.hasPrefix("topic.") && key != "topic.blacklist" && !key.hasPrefix("topic.metadata.")
            ? String(key.dropFirst("topic.".count)) : key
    }
}

extension KafkaConfiguration.TLS {
    var properties: [Property] {
        [
            caLocation.map { Property("ssl.ca.location", $0) },
            certificateLocation.map { Property("ssl.certificate.location", $0) },
            keyLocation.map { Property("ssl.key.location", $0) },
            keyPassword.map { Property("ssl.key.password", $0) },
        ].compactMap { $0 }
    }
}

extension KafkaConfiguration.SASL {
    var properties: [Property] {
        [
            Property("sasl.mechanism", mechanism.rawValue),
            username.map { Property("sasl.username", $0) },
            password.map { Property("sasl.password", $0) },
        ].compactMap { $0 }
    }
}

extension KafkaConfiguration {
    private var connectionProperties: [Property] {
        var all = [Property("bootstrap.servers", bootstrapServers), Property("client.id", clientID)]
        let derived: SecurityProtocol? =
            switch (sasl != nil, tls != nil) {
            case (true, true): .saslSSL
            case (true, false): .saslPlaintext
            case (false, true): .ssl
            case (false, false): nil
            }
        if let security = securityProtocol ?? derived { all.append(Property("security.protocol", security.rawValue)) }
        all += tls?.properties ?? []
        all += sasl?.properties ?? []
        return all
    }

    private var groupProperties: [Property] {
        var all: [Property] = []
        if let groupID { all.append(Property("group.id", groupID)) }
        if let groupInstanceID { all.append(Property("group.instance.id", groupInstanceID)) }
        all.append(Property("auto.offset.reset", autoOffsetReset.rawValue))
        all.append(Property("session.timeout.ms", "\(sessionTimeout.wholeMilliseconds)"))
        all.append(Property("max.poll.interval.ms", "\(maxPollInterval.wholeMilliseconds)"))
        return all
    }

    /// Typed properties, for ``description``.
    var typedProperties: [Property] { connectionProperties + groupProperties }

    /// Everything to be set for a client of this role, in an order in which the later wins.
    func properties(for role: ClientRole) throws(KafkaConfigurationError) -> [Property] {
        guard !bootstrapServers.isEmpty else {
            throw KafkaConfigurationError(key: "bootstrap.servers", value: "", expected: "host:port of at least one broker")
        }
        var all = connectionProperties
        if role == .consumer {
            guard let groupID, !groupID.isEmpty else {
                throw KafkaConfigurationError(key: "group.id", value: groupID ?? "", expected: "the name of a consumer group")
            }
            all += groupProperties + PropertyRules.consumerDefaults
        }
        if role == .producer { all += PropertyRules.producerDefaults }
        for (key, value) in additional.sorted(by: { $0.key < $1.key }) {
            let name = PropertyRules.normalized(key)
            if let expected = PropertyRules.forbidden[name] {
                throw KafkaConfigurationError(key: key, value: value, expected: expected)
            }
            all.append(Property(name, value))
        }
        switch role {
        case .consumer: all += PropertyRules.consumer
        case .producer: all += PropertyRules.producer
        case .reader: all += PropertyRules.reader
        case .admin: break
        }
        return all
    }
}

extension Duration {
    /// Whole milliseconds, rounded up and clamped to 0...Int32.max, as C takes time-outs.
    var wholeMilliseconds: Int32 {
        let nanoseconds = wholeNanoseconds
        guard nanoseconds > 0 else { return 0 }
        return Int32(clamping: (nanoseconds - 1) / 1_000_000 + 1)
    }
}

/// How to reach the brokers, for consumer, producer and admin client alike.
///
/// About fifteen properties are typed; every other property of librdkafka goes through ``additional``. What the order
/// of events and their safety rest on is fixed and can't be overridden: the range assignor, explicit commits only,
/// read-committed isolation, end-of-partition events, idempotent produce with `acks=all`, and Java's partitioner.
public struct KafkaConfiguration: Sendable, Hashable {
    /// Where a group starts in a partition that it has never committed (`auto.offset.reset`).
    public enum OffsetReset: String, Sendable, Hashable, CaseIterable {
        /// At the first record there is: nothing is skipped.
        case earliest
        /// Behind the last record: what was produced before the group came is never seen.
        case latest
    }

    /// How the connection is secured and the client identified (`security.protocol`).
    public enum SecurityProtocol: String, Sendable, Hashable, CaseIterable {
        /// Neither encrypted nor authenticated.
        case plaintext
        /// TLS; the client is authenticated by its certificate if it has one.
        case ssl
        /// SASL without encryption.
        case saslPlaintext = "sasl_plaintext"
        /// SASL over TLS.
        case saslSSL = "sasl_ssl"
    }

    /// The TLS side of a connection. Paths are read by librdkafka when the client is made.
    public struct TLS: Sendable, Hashable {
        /// File or directory of CA certificates (`ssl.ca.location`); nil for those of the system.
        public var caLocation: String?
        /// The client's certificate, PEM (`ssl.certificate.location`).
        public var certificateLocation: String?
        /// The client's private key, PEM (`ssl.key.location`).
        public var keyLocation: String?
        /// The password of the private key (`ssl.key.password`); never shown.
        public var keyPassword: String?

        /// TLS with these files.
        public init(
            caLocation: String? = nil, certificateLocation: String? = nil, keyLocation: String? = nil,
            keyPassword: String? = nil
        ) {
            self.caLocation = caLocation
            self.certificateLocation = certificateLocation
            self.keyLocation = keyLocation
            self.keyPassword = keyPassword
        }
    }

    /// Who the client is.
    public struct SASL: Sendable, Hashable {
        /// How the client proves who it is (`sasl.mechanism`).
        public enum Mechanism: String, Sendable, Hashable, CaseIterable {
            /// User name and password as they are; only over TLS.
            case plain = "PLAIN"
            /// Salted challenge and response, SHA-256 (RFC 7677).
            case scramSHA256 = "SCRAM-SHA-256"
            /// Salted challenge and response, SHA-512.
            case scramSHA512 = "SCRAM-SHA-512"
            /// A bearer token; its settings go through ``KafkaConfiguration/additional``.
            case oauthBearer = "OAUTHBEARER"
        }

        /// How the client proves who it is.
        public var mechanism: Mechanism
        /// The user's name (`sasl.username`); never shown.
        public var username: String?
        /// The password (`sasl.password`); never shown.
        public var password: String?

        /// This user with this password.
        public init(mechanism: Mechanism, username: String? = nil, password: String? = nil) {
            self.mechanism = mechanism
            self.username = username
            self.password = password
        }
    }

    /// Brokers to ask first, `host:port` separated by commas (`bootstrap.servers`). Needed.
    public var bootstrapServers: String
    /// The name that brokers log and count by (`client.id`). Default `triage`.
    public var clientID: String
    /// The consumer group (`group.id`). A consumer needs it; producer and admin client ignore it.
    public var groupID: String?
    /// A name that makes the member static (`group.instance.id`): a restart within the session time-out moves no partition.
    public var groupInstanceID: String?
    /// Where the group starts without a commit. Default ``OffsetReset/earliest``: with `latest`, records that came before
    /// the first commit are skipped.
    public var autoOffsetReset: OffsetReset
    /// How long a member may be silent before its partitions go to others (`session.timeout.ms`). Default 45 s.
    public var sessionTimeout: Duration
    /// How long the polling thread may stay away before the member is expelled (`max.poll.interval.ms`). Default 5 min;
    /// at least the session time-out.
    public var maxPollInterval: Duration
    /// How the connection is secured; nil derives it from which of ``tls`` and ``sasl`` are set.
    public var securityProtocol: SecurityProtocol?
    /// The TLS side, if there is one.
    public var tls: TLS?
    /// The SASL side, if there is one.
    public var sasl: SASL?
    /// Any other property of librdkafka, by its name; topic-level ones too, with or without the prefix `topic.`.
    ///
    /// A property set here wins over the typed one. Fixed properties are refused with a ``KafkaConfigurationError``
    /// when a client is made or ``validate()`` is called.
    public var additional: [String: String]

    /// Brokers at `bootstrapServers`, everything else as described at each property.
    public init(
        bootstrapServers: String, clientID: String = "triage", groupID: String? = nil, groupInstanceID: String? = nil,
        autoOffsetReset: OffsetReset = .earliest, sessionTimeout: Duration = .seconds(45),
        maxPollInterval: Duration = .seconds(300), securityProtocol: SecurityProtocol? = nil, tls: TLS? = nil,
        sasl: SASL? = nil, additional: [String: String] = [:]
    ) {
        self.bootstrapServers = bootstrapServers
        self.clientID = clientID
        self.groupID = groupID
        self.groupInstanceID = groupInstanceID
        self.autoOffsetReset = autoOffsetReset
        self.sessionTimeout = sessionTimeout
        self.maxPollInterval = maxPollInterval
        self.securityProtocol = securityProtocol
        self.tls = tls
        self.sasl = sasl
        self.additional = additional
    }

    /// Checks every property as a consumer, if there is a group, and as a producer, without connecting anywhere.
    ///
    /// - Throws: a ``KafkaConfigurationError`` that names the first property that can't be used.
    public func validate() throws(KafkaConfigurationError) {
        if groupID != nil { try ClientHandle.check(properties(for: .consumer)) }
        try ClientHandle.check(properties(for: .producer))
    }
}

extension KafkaConfiguration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Every property that would be set, one `name=value` after the other, secrets as `***`.
    public var description: String {
        let all = typedProperties + additional.sorted { $0.key < $1.key }.map { Property($0.key, $0.value) }
        return all.map { "\($0.key)=\($0.shownValue)" }.joined(separator: " ")
    }
    /// The same as ``description``, so that no secret shows in a debugger's or test's output.
    public var debugDescription: String { description }
    /// Shows ``description`` only, so that `dump` shows no secret.
    public var customMirror: Mirror { Mirror(self, children: ["properties": description]) }
}

extension KafkaConfiguration.TLS: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The locations; the key's password as `***`.
    public var description: String { properties.map { "\($0.key)=\($0.shownValue)" }.joined(separator: " ") }
    /// The same as ``description``.
    public var debugDescription: String { description }
    /// Shows ``description`` only.
    public var customMirror: Mirror { Mirror(self, children: ["properties": description]) }
}

extension KafkaConfiguration.SASL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The mechanism; name and password as `***`.
    public var description: String { properties.map { "\($0.key)=\($0.shownValue)" }.joined(separator: " ") }
    /// The same as ``description``.
    public var debugDescription: String { description }
    /// Shows ``description`` only.
    public var customMirror: Mirror { Mirror(self, children: ["properties": description]) }
}

internal import TriageEvents
public import TriageIngress

extension Configuration {
    /// Delivering each event to a receiver over HTTP.
    public struct Delivery: Sendable, Hashable {
        /// Where to: an absolute http or https URL without a user. Its path and query may be secrets: they are not told; `TRIAGE_DELIVER_TO`.
        public var url: String
        /// How long one attempt may take, connecting included. Default 30 s, or half of the attempt's if that is
        /// less; `TRIAGE_DELIVER_TIMEOUT`.
        public var timeout: Duration = .seconds(30)
        /// Deliveries under way at the same time, 1 to 10,000; ``Configuration/concurrency`` holds as well. Default 64;
        /// `TRIAGE_DELIVER_CONCURRENCY`.
        public var concurrency = 64
        /// Deliveries begun a second, 0.01 to 1,000,000; nil for no limit, the default; `TRIAGE_DELIVER_RATE`.
        public var rate: Double?
        /// The key that deliveries are signed with, at least 32 bytes; nil signs none. `TRIAGE_DELIVER_SIGNATURE_KEY_FILE`.
        public var signatureKey: [UInt8]?
        /// A PEM file with the authorities that are trusted instead of the system's; `TRIAGE_DELIVER_CA_FILE`.
        public var caFile: String?
        /// A bearer token; nil for none. `TRIAGE_DELIVER_TOKEN_FILE`.
        public var token: String?

        /// Whether what is posted is a CloudEvent, with the record's resource as its data, instead of the record's bytes. Default
        /// off; `TRIAGE_DELIVER_CLOUD_EVENTS`.
        public var cloudEvents = CloudEventMode.off

        /// Delivery to `url`, with the defaults.
        public init(to url: String) { self.url = url }

        /// How many may be under way so that none waits longer for its turn by the rate than an attempt may take; the whole number that
        /// ``Configuration/concurrency`` may be at most.
        func concurrency(within attempt: Duration?) -> Int {
            guard let rate, let attempt else { return concurrency }
            let patience = max(1, (attempt - timeout).inSeconds)
            return max(1, min(concurrency, Int(min(10_000, rate * patience))))
        }
    }
}

extension Configuration {
    /// Lowers ``concurrency`` to what ``delivery`` may have under way, so that nothing waits inside of an attempt for its turn.
    public mutating func limitToDelivery() {
        if let delivery { concurrency = min(concurrency, delivery.concurrency(within: attemptTimeout)) }
    }
}

extension ConfigurationLoader {
    /// The keys of ``Configuration/Delivery``.
    static let deliveryKeys: [(key: String, meaning: String)] = [
        ("deliver-to", "URL that --handler http posts each event to"),
        ("deliver-timeout", "time for one delivery, such as 30s; less than attempt-timeout"),
        ("deliver-concurrency", "deliveries under way at the same time, 1 to 10000"),
        ("deliver-rate", "deliveries begun a second, such as 50 or 0.5; 0 for no limit"),
        ("deliver-signature-key-file", "file with at least 32 bytes that deliveries are signed with"),
        ("deliver-ca-file", "PEM file with the authorities trusted for the receiver, instead of the system's"),
        ("deliver-token-file", "file with the bearer token for the receiver"),
        ("deliver-cloud-events", "how events are posted: off (as they stand in Kafka), or as CloudEvents binary or structured"),
    ]

    /// Where and how events are delivered; nil if nowhere.
    func delivery(attemptTimeout: Duration?) throws(ConfigurationError) -> Configuration.Delivery? {
        guard let url = text("deliver-to") else {
            for (key, _) in ConfigurationLoader.deliveryKeys where text(key) != nil {
                throw ConfigurationError(key: key, value: "…", expected: "deliver-to beside it")
            }
            return nil
        }
        guard HTTPOrigin(url) != nil else {
            throw ConfigurationError(key: "deliver-to", value: "…", expected: "an absolute http or https URL without a user")
        }
        var delivery = Configuration.Delivery(to: url)
        if let timeout = try duration("deliver-timeout") {
            delivery.timeout = timeout
        } else if let attemptTimeout {
            delivery.timeout = min(delivery.timeout, attemptTimeout / 2)
        }
        guard delivery.timeout > .zero, attemptTimeout.map({ delivery.timeout < $0 }) ?? true else {
            throw ConfigurationError(
                key: "deliver-timeout", value: text("deliver-timeout") ?? "30s",
                expected: "more than 0 and less than attempt-timeout")
        }
        if let concurrency = text("deliver-concurrency") {
            guard let number = Int(concurrency), (1...10_000).contains(number) else {
                throw ConfigurationError(key: "deliver-concurrency", value: concurrency, expected: "a number from 1 to 10000")
            }
            delivery.concurrency = number
        }
        if let rate = text("deliver-rate") {
            guard let number = Double(rate), number == 0 || (0.01...1_000_000).contains(number) else {
                throw ConfigurationError(
                    key: "deliver-rate", value: rate, expected: "a number from 0.01 to 1000000, or 0 for no limit")
            }
            delivery.rate = number == 0 ? nil : number
        }
        delivery.signatureKey = try secretBytes("deliver-signature-key-file", atLeast: 32)
        delivery.caFile = try certificatesFile("deliver-ca-file")
        delivery.token = try secret("deliver-token-file")
        if let mode = text("deliver-cloud-events") {
            guard let known = CloudEventMode(rawValue: mode) else {
                throw ConfigurationError(key: "deliver-cloud-events", value: mode, expected: "off, binary or structured")
            }
            delivery.cloudEvents = known
        }
        return delivery
    }
}

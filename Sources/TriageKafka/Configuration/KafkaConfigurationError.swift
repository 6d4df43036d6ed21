/// A property that can't be used as it was given.
public struct KafkaConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The property's name as librdkafka has it, such as `session.timeout.ms`.
    public let key: String
    /// The rejected value; `***` if the property is a secret, empty if none was given.
    public let value: String
    /// What would have been accepted, or why this was not.
    public let expected: String

    /// The property `key` was given `value` where `expected` would do; the value of a secret property is dropped.
    public init(key: String, value: String, expected: String) {
        self.key = key
        self.value = Redaction.isSecret(key) && !value.isEmpty ? Redaction.mark : value
        self.expected = expected
    }

    /// Name, value (redacted if secret) and what was expected.
    public var description: String { "\(key)=\(value): expected \(expected)" }
}

/// Decides which properties hold secrets.
enum Redaction {
    /// What stands in the place of a secret.
    static let mark = "***"

    private static let words = ["password", "secret", "token", "jaas", "credential", "private"]
    /// Paths and choices that begin like secrets but are none.
    private static let harmless: Set<String> = [
        "sasl.mechanism", "sasl.mechanisms", "ssl.key.location", "ssl.keystore.location", "sasl.oauthbearer.method",
    ]

    /// Whether the value of the property `key` must not be shown. Unknown `sasl.*` properties count as secret.
    static func isSecret(_ key: String) -> Bool {
        let key = PropertyRules.normalized(key).lowercased()
        if harmless.contains(key) { return false }
        if key.hasPrefix("sasl.") || key.hasPrefix("ssl.key") { return true }
        return words.contains { key.has($0) }
    }
}

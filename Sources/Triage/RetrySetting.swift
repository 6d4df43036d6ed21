internal import TriageEvents
public import TriageProcessing

extension ConfigurationLoader {
    /// What a policy may look like, for those whose text can't be read.
    private static let policyForm = """
        none, immediate:N, or exponential:N,immediate=0,base=1s,cap=60s,jitter=0.2; limit=1h may be added to both
        """

    /// Parses `none`, `immediate:N,limit=1h`, `exponential:N,immediate=0,base=1s,cap=60s,jitter=0.2,limit=1h`.
    ///
    /// N is the number of all retries, 0 to 100; of `exponential` the first `immediate` ones are made in place. Durations are longer
    /// than 0.
    ///
    /// - Parameter key: the setting that the text is of, to be named if it can't be used.
    /// - Throws: ``ConfigurationError`` naming the part that can't be used.
    public static func retryPolicy(_ text: String, of key: String = "retry") throws(ConfigurationError) -> RetryPolicy {
        func refuse(_ value: some StringProtocol, _ expected: String) -> ConfigurationError {
            ConfigurationError(key: key, value: String(value), expected: expected)
        }
        if text == "none" { return .none }
        let parts = text.split(separator: ",")
        let head = (parts.first ?? "").split(separator: ":", maxSplits: 1)
        guard let name = head.first, let strategy = RetryPolicy.Strategy(rawValue: String(name)), strategy != .scheduled else {
            throw refuse(text, policyForm)
        }
        var policy = RetryPolicy(strategy)
        var seen: Set<String> = []
        if head.count == 2 {
            guard let retries = Int(head[1]), (0...100).contains(retries) else {
                throw refuse(head[1], "a number of retries from 0 to 100")
            }
            policy.retries = retries
        }
        for part in parts.dropFirst() {
            let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2, strategy == .exponential || pair[0] == "limit" else {
                throw refuse(part, "immediate=…, base=…, cap=… or jitter=… of exponential, or limit=…")
            }
            guard seen.insert(pair[0]).inserted else { throw refuse(part, "each part once: \(pair[0]) stands there twice") }
            switch pair[0] {
            case "base", "cap", "limit":
                guard let duration = Duration(triage: pair[1]), duration > .zero else {
                    throw refuse(part, "a duration such as 500ms, 1s or 5m")
                }
                switch pair[0] {
                case "base": policy.base = duration
                case "cap": policy.cap = duration
                default: policy.limit = duration
                }
            case "immediate":
                guard let number = Int(pair[1]), (0...100).contains(number) else {
                    throw refuse(part, "a number of retries in place from 0 to 100")
                }
                policy.immediate = number
            case "jitter":
                guard let jitter = Double(pair[1]), (0...1).contains(jitter) else { throw refuse(part, "a number from 0 to 1") }
                policy.jitter = jitter
            default: throw refuse(part, "immediate=…, base=…, cap=…, jitter=… or limit=…")
            }
        }
        guard policy.immediate <= policy.retries else {
            throw refuse("immediate=\(policy.immediate)", "at most the \(policy.retries) retries that there are in all")
        }
        guard policy.cap >= policy.base else {
            let said = parts.contains { $0.hasPrefix("cap=") } ? "" : ", the default,"
            throw refuse(
                text,
                "a cap of at least the base: cap \(PlainText.span(policy.cap))\(said) is below base \(PlainText.span(policy.base))"
            )
        }
        return policy
    }

    /// The policies as `retry`, `retry-by-class` and `retry-by-topic` say.
    ///
    /// - Parameter topics: the main topics; a policy for any other would silently do nothing.
    func retryPolicies(topics: [String]) throws(ConfigurationError) -> RetryPolicies {
        var policies = RetryPolicies()
        if let retry = text("retry") { policies.standard = try ConfigurationLoader.retryPolicy(retry) }
        for (name, policy) in try pairs("retry-by-class") {
            let errorClass = try ConfigurationLoader.errorClass(name[...], of: "retry-by-class")
            policies.byClass[errorClass] = policy
        }
        for (name, policy) in try pairs("retry-by-topic") {
            let parts = name.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            guard let topic = parts.first.map(String.init), topics.contains(topic) else {
                throw ConfigurationError(
                    key: "retry-by-topic", value: name,
                    expected: "one of the topics \(topics.joined(separator: ", ")), with or without a class as in TOPIC/system")
            }
            if parts.count == 1 {
                policies.byTopic[topic] = policy
            } else {
                let errorClass = try ConfigurationLoader.errorClass(parts[1], of: "retry-by-topic")
                policies.byPlace[RetryPolicies.Place(topic: topic, errorClass: errorClass)] = policy
            }
        }
        return policies
    }

    private static func errorClass(_ name: Substring, of key: String) throws(ConfigurationError) -> ErrorClass {
        guard let errorClass = ErrorClass(rawValue: String(name)), errorClass != .persistent else {
            throw ConfigurationError(
                key: key, value: String(name), expected: "the class transient or system; persistent failures are never retried")
        }
        return errorClass
    }

    /// `NAME=POLICY` separated by semicolons, each name once.
    private func pairs(_ key: String) throws(ConfigurationError) -> [(name: String, policy: RetryPolicy)] {
        guard let text = text(key) else { return [] }
        var pairs: [(name: String, policy: RetryPolicy)] = []
        for part in text.split(separator: ";") {
            let part = part.drop { $0 == " " }
            let pair = part.split(separator: "=", maxSplits: 1)
            if pair.count == 2, pairs.contains(where: { $0.name == pair[0] }) {
                throw ConfigurationError(key: key, value: String(part), expected: "each name once: \(pair[0]) stands there twice")
            }
            guard pair.count == 2 else {
                throw ConfigurationError(
                    key: key, value: String(part), expected: "NAME=POLICY, each name once, separated by semicolons")
            }
            // Whose policy it is stands in the key.
            let policy = try ConfigurationLoader.retryPolicy(String(pair[1]), of: "\(key).\(pair[0])")
            pairs.append((String(pair[0]), policy))
        }
        return pairs
    }
}

/// Retry policies as the file may have them: in one line as in the environment, or as a mapping with a line for each part.
struct NestedPolicies {
    private static let members = ["strategy", "retries", "immediate", "base", "cap", "jitter", "limit"]

    /// By setting, then by the name that the policy is for, then by part.
    private var parts: [String: [String: [String: String]]] = [:]
    /// By setting and name.
    private var whole: [String: [String: String]] = [:]

    /// Takes a value of the file with the path `key`, such as `retry.base` or `retry-by-class.system`.
    ///
    /// - Returns: false if it is none of a retry policy.
    mutating func take(_ key: String, _ value: String) throws(ConfigurationError) -> Bool {
        let path = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard let setting = path.first, ["retry", "retry-by-class", "retry-by-topic"].contains(setting), path.count > 1 else {
            return false
        }
        guard !value.contains(where: { ";= ".contains($0) }) || !Self.members.contains(path[path.count - 1]) else {
            throw ConfigurationError(key: key, value: value, expected: "one value, such as 3 or 1s")
        }
        if Self.members.contains(path[path.count - 1]) {
            // What a topic is called may hold dots; the last part says what the value is.
            let name = path[1..<path.count - 1].joined(separator: ".")
            guard name.isEmpty == (setting == "retry") else { return false }
            parts[setting, default: [:]][name, default: [:]][path[path.count - 1]] = value
            return true
        }
        let place = path.dropFirst()
        let isMisspelt =
            switch setting {
            case "retry": true
            case "retry-by-class": place.count > 1
            // What a topic is called may hold dots, so a part that nobody knows looks like the end of a longer name.
            default: place.count > 1 && !Self.isPolicy(value)
            }
        guard !isMisspelt else {
            let parent = path.dropLast().joined(separator: ".")
            throw ConfigurationError(
                key: key, value: value,
                expected: "one of \(Self.members.joined(separator: ", ")) in \(parent)\(Self.hint(setting))")
        }
        whole[setting, default: [:]][path.dropFirst().joined(separator: ".")] = value
        return true
    }

    /// The settings in one line each.
    var texts: [String: String] {
        var texts: [String: String] = [:]
        for setting in Set(parts.keys).union(whole.keys) {
            var policies = whole[setting] ?? [:]
            for (name, members) in parts[setting] ?? [:] { policies[name] = Self.text(members) }
            texts[setting] =
                setting == "retry"
                ? policies[""] : policies.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ";")
        }
        return texts
    }

    /// What else it may have been meant for.
    private static func hint(_ setting: String) -> String {
        setting == "retry-by-topic" ? ", or a topic's name with none, immediate:N or exponential:N" : ""
    }

    /// Whether a value begins as a policy in one line does.
    private static func isPolicy(_ value: String) -> Bool {
        let head = value.prefix { $0 != ":" && $0 != "," }
        return head == "none" || RetryPolicy.Strategy(rawValue: String(head)) != nil
    }

    private static func text(_ members: [String: String]) -> String {
        let head = (members["strategy"] ?? "exponential") + (members["retries"].map { ":\($0)" } ?? "")
        return ([head] + Self.members.dropFirst(2).compactMap { name in members[name].map { "\(name)=\($0)" } })
            .joined(separator: ",")
    }
}

/// A part `name=value` of a setting that is `off` or a list of such parts: what the outage gate and the storm breaker are told by.
struct PolicySetting {
    /// The setting.
    let key: String
    /// The part as it was written.
    let text: String
    let name: String
    let value: String

    /// The parts of a setting; one that is empty is refused.
    ///
    /// - Parameter known: the names that there are, as they are told to whoever wrote another.
    static func parts(of text: String, key: String, known: String) throws(ConfigurationError) -> [PolicySetting] {
        var parts: [PolicySetting] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
            let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2 else {
                throw ConfigurationError(key: key, value: part, expected: "off, or \(known), separated by commas")
            }
            guard !parts.contains(where: { $0.name == pair[0] }) else {
                throw ConfigurationError(key: key, value: part, expected: "each part once: \(pair[0]) stands there twice")
            }
            parts.append(PolicySetting(key: key, text: part, name: pair[0], value: pair[1]))
        }
        return parts
    }

    /// The part can't be used.
    func refused(_ expected: String) -> ConfigurationError { ConfigurationError(key: key, value: text, expected: expected) }

    /// Two durations of which one grows up to the other contradict each other.
    static func check(
        _ key: String, _ text: String, _ least: (name: String, value: Duration), _ cap: (name: String, value: Duration)
    ) throws(ConfigurationError) {
        guard cap.value < least.value else { return }
        throw ConfigurationError(
            key: key, value: text,
            expected: "\(cap.name) of at least \(least.name), be it set or the default: "
                + "\(cap.name) is \(PlainText.span(cap.value)), \(least.name) \(PlainText.span(least.value))")
    }

    func count(_ range: ClosedRange<Int>) throws(ConfigurationError) -> Int {
        guard let number = Int(value), range.contains(number) else {
            throw refused("a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A duration of at least `least`, which `said` says.
    func time(_ least: Duration, _ said: String) throws(ConfigurationError) -> Duration {
        guard let time = Duration(triage: value), time >= least else {
            throw refused("a duration of at least \(said), such as 500ms, 1s or 5m")
        }
        return time
    }
}

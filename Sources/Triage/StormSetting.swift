public import TriageProcessing

extension ConfigurationLoader {
    /// Parses `off`, or any of `share=0.5,events=200,window=60s,pause=10s,pause-cap=5m`.
    ///
    /// - Returns: nil for `off`.
    /// - Throws: ``ConfigurationError`` naming the part that can't be used.
    public static func stormPolicy(_ text: String) throws(ConfigurationError) -> StormPolicy? {
        if text == "off" { return nil }
        func refuse(_ value: some StringProtocol, _ expected: String) -> ConfigurationError {
            ConfigurationError(key: "storm-breaker", value: String(value), expected: expected)
        }
        var policy = StormPolicy()
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
            let known = "share=…, events=…, window=…, pause=… or pause-cap=…"
            guard pair.count == 2 else { throw refuse(part, "off, or \(known), separated by commas") }
            func time(_ least: Duration, _ said: String) throws(ConfigurationError) -> Duration {
                guard let time = Duration(triage: pair[1]), time >= least else {
                    throw refuse(part, "a duration of at least \(said), such as 500ms, 1s or 5m")
                }
                return time
            }
            switch pair[0] {
            case "share":
                guard let share = Double(pair[1]), share > 0, share <= 1 else {
                    throw refuse(part, "a number above 0 and up to 1")
                }
                policy.share = share
            case "events":
                guard let events = Int(pair[1]), (1...1_000_000).contains(events) else {
                    throw refuse(part, "a number from 1 to 1000000")
                }
                policy.minimumEvents = events
            case "window": policy.window = try time(.seconds(1), "1s")
            case "pause": policy.pause = try time(.milliseconds(1), "1ms")
            case "pause-cap": policy.maximumPause = try time(.milliseconds(1), "1ms")
            default: throw refuse(part, known)
            }
        }
        return policy
    }
}

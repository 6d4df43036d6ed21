public import TriageProcessing

extension ConfigurationLoader {
    /// Parses `off`, or any of `row=20,ratio=0.5,attempts=100,window=60s,probe=1s,probe-cap=30s`; 0 switches a rule off.
    ///
    /// - Returns: nil for `off`.
    /// - Throws: ``ConfigurationError`` naming the part that can't be used.
    public static func outagePolicy(_ text: String) throws(ConfigurationError) -> OutagePolicy? {
        if text == "off" { return nil }
        func refuse(_ value: some StringProtocol, _ expected: String) -> ConfigurationError {
            ConfigurationError(key: "outage-gate", value: String(value), expected: expected)
        }
        var policy = OutagePolicy()
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2 else {
                throw refuse(part, "off, or row=…, ratio=…, attempts=…, window=…, probe=… or probe-cap=…, separated by commas")
            }
            func count(_ range: ClosedRange<Int>) throws(ConfigurationError) -> Int {
                guard let number = Int(pair[1]), range.contains(number) else {
                    throw refuse(part, "a number from \(range.lowerBound) to \(range.upperBound)")
                }
                return number
            }
            func time(_ least: Duration, _ said: String) throws(ConfigurationError) -> Duration {
                guard let time = Duration(triage: pair[1]), time >= least else {
                    throw refuse(part, "a duration of at least \(said), such as 500ms, 1s or 5m")
                }
                return time
            }
            switch pair[0] {
            case "row": policy.failuresInRow = try count(0...10_000)
            case "ratio":
                guard let ratio = Double(pair[1]), (0...1).contains(ratio) else { throw refuse(part, "a number from 0 to 1") }
                policy.failureRatio = ratio
            case "attempts": policy.minimumAttempts = try count(1...1_000_000)
            case "window": policy.window = try time(.seconds(1), "1s")
            case "probe": policy.probeDelay = try time(.milliseconds(1), "1ms")
            case "probe-cap": policy.maximumProbeDelay = try time(.milliseconds(1), "1ms")
            default: throw refuse(part, "row=…, ratio=…, attempts=…, window=…, probe=… or probe-cap=…")
            }
        }
        return policy
    }
}

public import TriageProcessing

extension ConfigurationLoader {
    /// Parses `off`, or any of `row=20,ratio=0.5,attempts=100,window=60s,probe=1s,probe-cap=30s`; 0 switches a rule off.
    ///
    /// - Returns: nil for `off`.
    /// - Throws: ``ConfigurationError`` naming the part that can't be used.
    public static func outagePolicy(_ text: String) throws(ConfigurationError) -> OutagePolicy? {
        if text == "off" { return nil }
        let known = "row=…, ratio=…, attempts=…, window=…, probe=… or probe-cap=…"
        var policy = OutagePolicy()
        for part in try PolicySetting.parts(of: text, key: "outage-gate", known: known) {
            switch part.name {
            case "row": policy.failuresInRow = try part.count(0...10_000)
            case "ratio":
                guard let ratio = Double(part.value), (0...1).contains(ratio) else { throw part.refused("a number from 0 to 1") }
                policy.failureRatio = ratio
            case "attempts": policy.minimumAttempts = try part.count(1...1_000_000)
            case "window": policy.window = try part.time(.seconds(1), "1s")
            case "probe": policy.probeDelay = try part.time(.milliseconds(1), "1ms")
            case "probe-cap": policy.maximumProbeDelay = try part.time(.milliseconds(1), "1ms")
            default: throw part.refused(known)
            }
        }
        try PolicySetting.check("outage-gate", text, ("probe", policy.probeDelay), ("probe-cap", policy.maximumProbeDelay))
        return policy
    }
}

public import TriageProcessing

extension ConfigurationLoader {
    /// Parses `off`, or any of `share=0.5,events=200,window=60s,pause=10s,pause-cap=5m`.
    ///
    /// - Returns: nil for `off`.
    /// - Throws: ``ConfigurationError`` naming the part that can't be used.
    public static func stormPolicy(_ text: String) throws(ConfigurationError) -> StormPolicy? {
        if text == "off" { return nil }
        let known = "share=…, events=…, window=…, pause=… or pause-cap=…"
        var policy = StormPolicy()
        for part in try PolicySetting.parts(of: text, key: "storm-breaker", known: known) {
            switch part.name {
            case "share":
                guard let share = Double(part.value), share > 0, share <= 1 else {
                    throw part.refused("a number above 0 and up to 1")
                }
                policy.share = share
            case "events": policy.minimumEvents = try part.count(1...1_000_000)
            case "window": policy.window = try part.time(.seconds(1), "1s")
            case "pause": policy.pause = try part.time(.milliseconds(1), "1ms")
            case "pause-cap": policy.maximumPause = try part.time(.milliseconds(1), "1ms")
            default: throw part.refused(known)
            }
        }
        try PolicySetting.check("storm-breaker", text, ("pause", policy.pause), ("pause-cap", policy.maximumPause))
        return policy
    }
}

import Testing
import TriageTelemetry

@testable import TriageOTLP

/// A generator whose numbers follow from its seed (splitmix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

@Suite("Hours without a collector, by a clock of the test's")
struct OutageTests {
    @Test("What is held stays within the queue, the reserve is for errors, every span is counted, and all is well afterwards")
    func hours() {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed)
        var limits = SpanQueue.Limits()
        limits.bytes = 1024 * 1024
        limits.reservedBytes = 256 * 1024
        limits.batchBytes = 64 * 1024
        limits.batchSpans = 128
        var queue = SpanQueue(limits)
        let exportTimeout = Duration.seconds(10)
        let outage = Duration.seconds(600)...Duration.seconds(600 + 6 * 3600)
        let end = outage.upperBound + .seconds(600)
        var now = Duration.zero
        var offered = 0
        var tries = 0
        var longestExport = Duration.zero
        var heldMost = 0
        /// The export under way: when it began, its machine, and when its next try is.
        var export: (begin: Duration, retry: ExportRetry, next: Duration)?
        var beforeOutage: SpanExportCounts?
        var atEndOfOutage: SpanExportCounts?
        while now < end {
            now += .milliseconds(Int.random(in: 1...400, using: &random))
            if now >= outage.lowerBound, beforeOutage == nil { beforeOutage = queue.counts }
            if now >= outage.upperBound, atEndOfOutage == nil { atEndOfOutage = queue.counts }
            for _ in 0..<Int.random(in: 0...20, using: &random) {
                offered += 1
                _ = queue.offer(
                    bytes: Int.random(in: 200...2000, using: &random), isError: Int.random(in: 0..<10, using: &random) == 0,
                    at: now)
            }
            if export == nil, case .export = queue.next(at: now) {
                export = (now, ExportRetry(deadline: now + exportTimeout), now)
            }
            while var current = export, current.next <= now {
                tries += 1
                let attempt: ExportRetry.Attempt =
                    if !outage.contains(now) {
                        .status(200, retryAfter: nil)
                    } else if Bool.random(using: &random) {
                        .unanswered
                    } else {
                        .status(
                            503, retryAfter: Bool.random(using: &random) ? .seconds(Int.random(in: 1...20, using: &random)) : nil)
                    }
                switch current.retry.decide(after: attempt, at: now, random: Double.random(in: 0..<1, using: &random)) {
                case .retry(let time):
                    #expect(time > now && time < current.begin + exportTimeout, "seed \(seed)")
                    current.next = time
                    export = current
                case .delivered:
                    export = nil
                    _ = queue.completed(.exported)
                case .giveUp:
                    longestExport = max(longestExport, now - current.begin)
                    export = nil
                    _ = queue.completed(.failed)
                }
            }
            let counts = queue.counts
            heldMost = max(heldMost, counts.queuedBytes)
            guard counts.ended == offered, counts.queuedBytes <= limits.bytes else {
                Issue.record("seed \(seed), at \(now): \(counts), offered \(offered)")
                return
            }
        }
        let counts = queue.counts
        let place = "seed \(seed): \(counts)"
        #expect(beforeOutage?.failed == 0 && beforeOutage?.dropped == 0, "\(place)")
        // Full but for the reserve, the batch under way and one span.
        #expect(heldMost > limits.bytes - limits.reservedBytes - limits.batchBytes - 4000, "\(place)")
        #expect(counts.droppedQueueFull > 10_000 && counts.failed > 1000, "\(place)")
        // The test's clock goes on by up to 400 ms at a time.
        #expect(longestExport <= exportTimeout + .milliseconds(400), "\(place)")
        // Backing off: within 10 s there are four tries at most, so this many at most in six hours.
        #expect(tries < 6 * 3600 / 7 * 5 + 20_000, "\(place)")
        // Afterwards nothing more fails than what was under way, and what waited went out.
        #expect(counts.failed <= (atEndOfOutage?.failed ?? 0) + limits.batchSpans, "\(place)")
        #expect(counts.queued < 2 * limits.batchSpans * 16, "\(place)")
        #expect(counts.exported > (atEndOfOutage?.exported ?? 0) + 1000, "\(place)")
    }
}

import Testing

@testable import TriageTelemetry

/// The limiter as a reference, so that expectations may change it.
private final class Limiter {
    private var limiter: TraceRateLimiter
    init(_ limits: FailureTraceLimits) { limiter = TraceRateLimiter(limits) }
    func admits(_ fingerprint: String, at now: Duration) -> Bool { limiter.admits(fingerprint, at: now) }
}

@Suite("The rate limit of failure traces")
struct TraceRateLimiterTests {
    func limits(_ perSecond: Int, interval: Duration = .seconds(10)) -> FailureTraceLimits {
        var limits = FailureTraceLimits()
        limits.tracesPerSecond = perSecond
        limits.fingerprintInterval = interval
        return limits
    }

    @Test("a second's worth at once, then one for each share of a second; a pause gives no more than a second's worth")
    func bucket() {
        let limiter = Limiter(limits(4))
        func admitted(_ count: Int, at now: Duration) -> Int { (0..<count).count { _ in limiter.admits("a", at: now) } }
        #expect(admitted(10, at: .seconds(100)) == 4)
        #expect(admitted(10, at: .seconds(100) + .milliseconds(249)) == 0)
        #expect(admitted(10, at: .seconds(100) + .milliseconds(250)) == 1)
        #expect(admitted(10, at: .seconds(101)) == 3)
        #expect(admitted(10, at: .seconds(3600)) == 4)
        // A clock that goes back gives nothing, and takes nothing.
        #expect(admitted(10, at: .seconds(3599)) == 0)
        #expect(admitted(10, at: .seconds(3600) + .milliseconds(500)) == 2)
    }

    @Test("without tokens one of each fingerprint in the interval")
    func fingerprints() {
        let limiter = Limiter(limits(1))
        #expect(limiter.admits("a", at: .zero))
        #expect(!limiter.admits("a", at: .zero))
        #expect(limiter.admits("b", at: .zero))
        #expect(!limiter.admits("b", at: .milliseconds(999)))
        #expect(limiter.admits("b", at: .seconds(1)), "by the token")
        #expect(!limiter.admits("a", at: .seconds(1)))
        #expect(limiter.admits("c", at: .seconds(9)), "by the token")
        #expect(!limiter.admits("a", at: .milliseconds(9999)))
        #expect(limiter.admits("a", at: .seconds(10)))
        #expect(limiter.admits("d", at: .seconds(10)), "a fingerprint that was never seen")
    }

    @Test("no limit admits everything")
    func unlimited() {
        let limiter = Limiter(limits(0))
        for _ in 0..<10_000 { #expect(limiter.admits("a", at: .zero)) }
        let negative = Limiter(limits(-1))
        #expect(negative.admits("a", at: .zero))
    }

    @Test("fingerprints without end don't occupy memory without end; those that were promised something keep it")
    func manyFingerprints() {
        let limiter = Limiter(limits(1))
        let admitted = (0..<5000).count { limiter.admits("\($0)", at: .zero) }
        #expect(admitted == TraceRateLimiter.maximumFingerprints)
        #expect(!limiter.admits("0", at: .zero))
        // After the interval there is room again.
        #expect((5000..<6000).count { limiter.admits("\($0)", at: .seconds(10)) } == 1000)
    }

    @Test("whatever comes: within the bounds of the limit, and no fingerprint is silenced for longer than the interval")
    func bounds() {
        let seed = UInt64.random(in: 1 ... .max)
        var random = QueueRandom(seed)
        for round in 0..<50 {
            let perSecond = Int.random(in: 1...20, using: &random)
            let names = (0..<Int.random(in: 1...6, using: &random)).map { "\($0)" }
            let limiter = Limiter(limits(perSecond))
            var now = Duration.seconds(Int.random(in: 0...100, using: &random))
            var times: [Duration] = []
            var last: [String: Duration] = [:]
            for _ in 0..<2000 {
                now += .milliseconds(Int.random(in: 0...40, using: &random))
                let name = names.randomElement(using: &random) ?? ""
                if limiter.admits(name, at: now) {
                    times.append(now)
                    last[name] = now
                } else {
                    #expect(last[name].map { now - $0 < .seconds(10) } == true, "seed \(seed), round \(round)")
                }
            }
            // In any second: the bucket's content, what flows in meanwhile, and each fingerprint once.
            for (index, start) in times.enumerated() {
                let count = times[index...].prefix { $0 - start < .seconds(1) }.count
                #expect(count <= 2 * perSecond + names.count, "seed \(seed), round \(round)")
            }
        }
    }
}

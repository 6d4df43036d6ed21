import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Storm breaker")
struct StormBreakerTests {
    private let start = Timestamp(milliseconds: 1_700_000_040_000)

    private func at(_ seconds: Double) -> Timestamp { start + .milliseconds(Int64(seconds * 1000)) }

    private func deadLetter(
        _ breaker: inout StormBreaker, at seconds: Double, isProbe: Bool = false, as errorClass: ErrorClass = .persistent
    ) -> StormBreaker.Change? {
        breaker.deadLettered(errorClass, isProbe: isProbe, at: at(seconds), unit: 0.5)
    }

    @Test("a share of the window's outcomes stops it, not before there are enough, and what is old doesn't count")
    func share() {
        let policy = StormPolicy(share: 0.5, minimumEvents: 10, pause: .seconds(1))
        var breaker = StormBreaker(policy)
        for second in 0..<5 { #expect(breaker.completed(isProbe: false, at: at(Double(second))) == nil) }
        for _ in 0..<4 { #expect(deadLetter(&breaker, at: 6) == nil) }
        #expect(deadLetter(&breaker, at: 7) == .stopped(deadLetters: 5, events: 10, nextProbe: at(8)))
        #expect(breaker.state == .stopped && breaker.nextProbe == at(8))

        // The same, but the first ones have left the window.
        breaker = StormBreaker(policy)
        for second in 0..<5 { _ = breaker.completed(isProbe: false, at: at(Double(second))) }
        for _ in 0..<9 { #expect(deadLetter(&breaker, at: 90) == nil) }
        #expect(deadLetter(&breaker, at: 90) == .stopped(deadLetters: 10, events: 10, nextProbe: at(91)))

        // Too small a share never stops it.
        breaker = StormBreaker(policy)
        for second in 0..<1000 {
            _ = breaker.completed(isProbe: false, at: at(Double(second)))
            _ = breaker.completed(isProbe: false, at: at(Double(second)))
            #expect(deadLetter(&breaker, at: Double(second)) == nil)
        }
        #expect(breaker.state == .open)
    }

    @Test("dead letters for transient and system failures count on neither side")
    func otherClasses() {
        var breaker = StormBreaker(StormPolicy(share: 0.5, minimumEvents: 2))
        for errorClass in [ErrorClass.transient, .system] {
            for _ in 0..<50 { #expect(deadLetter(&breaker, at: 1, as: errorClass) == nil) }
        }
        #expect(deadLetter(&breaker, at: 1) == nil)
        #expect(deadLetter(&breaker, at: 1) == .stopped(deadLetters: 2, events: 2, nextProbe: at(11)))
    }

    @Test("one probe at a time, after pauses that double up to the cap; the first that is completed opens it")
    func probes() {
        var breaker = StormBreaker(
            StormPolicy(share: 1, minimumEvents: 1, pause: .seconds(1), maximumPause: .seconds(5)))
        #expect(!breaker.admitsProbe(at: at(0)))
        #expect(deadLetter(&breaker, at: 0) == .stopped(deadLetters: 1, events: 1, nextProbe: at(1)))
        var now = 1.0
        for delay in [2.0, 4, 5, 5] {
            #expect(!breaker.admitsProbe(at: at(now - 0.001)) && breaker.admitsProbe(at: at(now)))
            breaker.probeBegan()
            #expect(breaker.state == .probing && !breaker.admitsProbe(at: at(now + 1000)))
            // What was in flight when it stopped changes nothing, however it ends.
            #expect(deadLetter(&breaker, at: now) == nil)
            #expect(breaker.completed(isProbe: false, at: at(now)) == nil)
            #expect(breaker.state == .probing)
            #expect(deadLetter(&breaker, at: now, isProbe: true) == .probeFailed(nextProbe: at(now + delay)))
            now += delay
        }
        breaker.probeBegan()
        // It says nothing: the next one at once, and the pause doesn't grow.
        #expect(deadLetter(&breaker, at: now, isProbe: true, as: .system) == nil)
        #expect(breaker.admitsProbe(at: at(now)))
        breaker.probeBegan()
        breaker.probeSaidNothing(at: at(now))
        #expect(breaker.admitsProbe(at: at(now)))
        breaker.probeBegan()
        #expect(breaker.completed(isProbe: true, at: at(20)) == .opened(after: .seconds(20)))
        #expect(breaker.state == .open && breaker.nextProbe == nil)
        // It begins anew: the pause, too.
        #expect(deadLetter(&breaker, at: 30) == .stopped(deadLetters: 1, events: 1, nextProbe: at(31)))
    }

    @Test("without a policy it stays open; random times and extreme settings don't trap")
    func extremes() {
        var off = StormBreaker(nil)
        for _ in 0..<1000 { #expect(deadLetter(&off, at: 1) == nil) }
        #expect(off.state == .open)
        var breaker = StormBreaker(
            StormPolicy(share: -1, minimumEvents: -5, window: .nanoseconds(Int64.max), pause: .seconds(-1)))
        for time in [Int64.min, 0, .max, .min, .max] {
            let now = Timestamp(nanoseconds: time)
            _ = breaker.completed(isProbe: false, at: now)
            _ = breaker.deadLettered(.persistent, isProbe: false, at: now, unit: 1)
            breaker.probeSaidNothing(at: now)
        }
    }

    /// All outcomes since it opened last, judged from scratch each time.
    private struct Model {
        let policy: StormPolicy
        var outcomes: [(part: Int64, isDead: Bool)] = []
        var latest = Int64.min

        mutating func note(_ isDead: Bool, at now: Timestamp) -> (deadLetters: Int, events: Int)? {
            latest = max(latest, now.nanoseconds / (policy.window.wholeNanoseconds / 6))
            outcomes.append((latest, isDead))
            let seen = outcomes.filter { $0.part > latest - 6 }
            let dead = seen.count { $0.isDead }
            guard isDead, seen.count >= policy.minimumEvents, Double(dead) / Double(seen.count) >= policy.share else {
                return nil
            }
            return (dead, seen.count)
        }
    }

    @Test("random histories agree with a model that judges all outcomes from scratch")
    func property() {
        var stops = 0
        for seed in UInt64(1)...3000 {
            var random = SeededGenerator(seed)
            let policy = StormPolicy(
                share: [0.25, 0.5, 1].randomElement(using: &random) ?? 1, minimumEvents: Int.random(in: 1...15, using: &random),
                window: .seconds(6), pause: .seconds(1), maximumPause: .seconds(9))
            var breaker = StormBreaker(policy)
            var model = Model(policy: policy)
            let share = Double.random(in: 0.1...0.9, using: &random)
            var now = start
            var stopped = start
            var probes = 0
            for step in 0..<120 {
                // Sometimes the clock is set back.
                now = now + .milliseconds(Int64.random(in: -200...900, using: &random))
                let where_ = Comment(rawValue: "seed \(seed), step \(step)")
                if breaker.state == .open {
                    let kind = Double.random(in: 0..<1, using: &random)
                    if kind < share {
                        let expected = model.note(true, at: now)
                        let change = breaker.deadLettered(.persistent, isProbe: false, at: now, unit: 0.5)
                        #expect(
                            change
                                == expected.map {
                                    .stopped(deadLetters: $0.deadLetters, events: $0.events, nextProbe: now + .seconds(1))
                                }, where_)
                        #expect((breaker.state == .stopped) == (expected != nil), where_)
                        if expected != nil {
                            stops += 1
                            stopped = now
                            probes = 0
                        }
                    } else if kind < share + 0.05 {
                        #expect(breaker.deadLettered(.transient, isProbe: false, at: now, unit: 0.5) == nil, where_)
                    } else {
                        #expect(breaker.completed(isProbe: false, at: now) == nil, where_)
                        _ = model.note(false, at: now)
                    }
                } else {
                    guard let due = breaker.nextProbe else {
                        Issue.record("no probe is due: \(where_)")
                        break
                    }
                    now = max(now, due)
                    #expect(breaker.admitsProbe(at: now), where_)
                    breaker.probeBegan()
                    switch Int.random(in: 0..<3, using: &random) {
                    case 0:
                        probes += 1
                        let pause = min(policy.maximumPause, policy.pause * (1 << min(probes, 20)))
                        let change = breaker.deadLettered(.persistent, isProbe: true, at: now, unit: 0.5)
                        #expect(change == .probeFailed(nextProbe: now + pause), where_)
                    case 1:
                        breaker.probeSaidNothing(at: now)
                        #expect(breaker.state == .stopped && breaker.nextProbe == now, where_)
                    default:
                        #expect(breaker.completed(isProbe: true, at: now) == .opened(after: now - stopped), where_)
                        model = Model(policy: policy)
                    }
                }
            }
        }
        // The histories do reach what is tested.
        #expect(stops > 3000)
    }
}

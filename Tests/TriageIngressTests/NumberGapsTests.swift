import Testing
import TriageEvents
import TriageIngress

@Suite("Gaps in event numbers")
struct NumberGapsTests {
    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

    @Test("holes are told once, after their patience, and close when what was missing comes")
    func holes() {
        var gaps = NumberGaps(patience: .seconds(5))
        #expect(gaps.take(7, of: "s", at: at(0)) == .first)
        #expect(gaps.take(8, of: "s", at: at(0)) == .next)
        #expect(gaps.take(12, of: "s", at: at(1)) == .gap(9...11))
        #expect(gaps.take(10, of: "s", at: at(2)) == .late)
        #expect(gaps.take(10, of: "s", at: at(2)) == .repeated)
        #expect(gaps.due(at: at(5)).isEmpty)
        #expect(gaps.due(at: at(6)) == [.init(subscription: "s", numbers: 9...9), .init(subscription: "s", numbers: 11...11)])
        #expect(gaps.due(at: at(60)).isEmpty)
        #expect(gaps.take(11, of: "s", at: at(61)) == .late && gaps.missing(of: "s") == [9...9])
    }

    @Test("a handshake begins anew, a heartbeat tells what is missing at the end")
    func handshakes() {
        var gaps = NumberGaps()
        gaps.begin("s", after: 0)
        #expect(gaps.take(2, of: "s", at: at(0)) == .gap(1...1))
        #expect(gaps.announce("s", last: 4, at: at(0)) == 3...4)
        #expect(gaps.announce("s", last: 4, at: at(0)) == nil)
        #expect(gaps.announce("new", last: 9, at: at(0)) == nil && gaps.take(10, of: "new", at: at(0)) == .next)
        gaps.begin("s", after: 0)
        #expect(gaps.missing(of: "s").isEmpty && gaps.take(1, of: "s", at: at(1)) == .next)
    }

    @Test("it is bounded whatever comes")
    func bounds() {
        var gaps = NumberGaps()
        #expect(gaps.take(1, of: "s", at: at(0)) == .first)
        #expect(gaps.take(.max, of: "s", at: at(0)) == .unlikely)
        #expect(gaps.take(.max, of: "s", at: at(0)) == .repeated)
        #expect(gaps.announce("s", last: .max, at: at(0)) == 2...Int64.max)
        #expect(gaps.announce("s", last: .max, at: at(0)) == nil && gaps.take(.max, of: "s", at: at(0)) == .late)
        for number in 0..<500 { _ = gaps.take(Int64(number) * 2, of: "many", at: at(0)) }
        #expect(gaps.missing(of: "many").count == NumberGaps.maximumHoles)
        for name in 0..<500 { _ = gaps.take(1, of: "\(name)", at: at(0)) }
        #expect(gaps.take(2, of: "many", at: at(0)) == .first)
        #expect(gaps.take(2, of: "499", at: at(0)) == .next)
    }

    @Test("one number far too high hides nothing; only another one near it makes it count, as a jump")
    func unlikely() {
        var gaps = NumberGaps(patience: .seconds(5))
        gaps.begin("s", after: 4)
        #expect(gaps.take(5, of: "s", happened: at(100), at: at(0)) == .next)
        #expect(gaps.take(1 << 60, of: "s", at: at(0)) == .unlikely && gaps.missing(of: "s").isEmpty)
        #expect(gaps.take(6, of: "s", happened: at(101), at: at(1)) == .next)
        #expect(gaps.take(9, of: "s", at: at(1)) == .gap(7...8), "what follows is watched as before")
        #expect(gaps.take(20_000, of: "s", at: at(2)) == .unlikely && gaps.take(20_000, of: "s", at: at(2)) == .repeated)
        #expect(gaps.take(20_003, of: "s", at: at(2)) == .gap(10...19_999))
        #expect(gaps.missing(of: "s") == [7...8, 10...19_999, 20_001...20_002])
        let due = gaps.due(at: at(9))
        #expect(due.map(\.numbers) == [7...8, 10...19_999, 20_001...20_002])
        #expect(due.map(\.isJump) == [false, true, false] && due.allSatisfy { $0.after == at(101) })
        #expect(gaps.take(10_009 + 20_003, of: "s", at: at(9)) == .unlikely)
        #expect(gaps.take(10_000 + 20_003, of: "s", at: at(9)) == .gap(20_004...30_002), "the bound itself is a gap")
    }

    @Test("a time that is yet to come tells nothing")
    func future() {
        var gaps = NumberGaps(patience: .seconds(5))
        #expect(gaps.take(5, of: "s", happened: at(100), at: at(0)) == .first)
        #expect(gaps.take(6, of: "s", happened: Timestamp(nanoseconds: .max), at: at(1)) == .next)
        #expect(gaps.take(8, of: "s", happened: at(102), at: at(2)) == .gap(7...7))
        #expect(gaps.due(at: at(9)).map(\.after) == [at(100)], "the history is read from there")
    }

    @Test("numbers that fall back begin anew if their events happened later, or, without times, if three follow one another")
    func anew() {
        var gaps = NumberGaps()
        #expect(gaps.take(5000, of: "s", happened: at(1000), at: at(0)) == .first)
        for number in 1...5 { #expect(gaps.take(Int64(number), of: "s", happened: at(999), at: at(0)) == .repeated) }
        #expect(gaps.take(1, of: "s", happened: at(1005), at: at(0)) == .repeated, "about the same time")
        #expect(gaps.take(2, of: "s", happened: at(1006), at: at(0)) == .first)
        #expect(gaps.take(4, of: "s", happened: at(1007), at: at(0)) == .gap(3...3))
        // Without times.
        #expect(gaps.take(5000, of: "t", at: at(0)) == .first)
        for number in [4901, 4902, 4903, 4904] as [Int64] { #expect(gaps.take(number, of: "t", at: at(0)) == .repeated) }
        for number in [1, 2, 2, 3, 5] as [Int64] { #expect(gaps.take(number, of: "t", at: at(0)) == .repeated) }
        #expect(gaps.take(6, of: "t", at: at(0)) == .repeated && gaps.take(7, of: "t", at: at(0)) == .first)
        #expect(gaps.take(8, of: "t", at: at(0)) == .next)
        // By heartbeats.
        #expect(gaps.announce("t", last: 3, at: at(0)) == nil && gaps.take(9, of: "t", at: at(0)) == .next)
        #expect(gaps.announce("t", last: 3, at: at(0)) == nil && gaps.announce("t", last: 3, at: at(0)) == nil)
        #expect(gaps.take(5, of: "t", at: at(0)) == .gap(4...4))
    }

    @Test("it agrees with a set of all numbers", arguments: 0..<40)
    func property(round: Int) {
        var random = SystemRandomNumberGenerator()
        let seed = random.next() &+ UInt64(round)
        var generator = Steps(state: seed)
        var gaps = NumberGaps(patience: .seconds(5))
        var seen: [String: Set<Int64>] = [:]
        var first: [String: Int64] = [:]
        var now: Int64 = 0
        var since: [String: [Int64: Int64]] = [:]
        var told: [String: Set<Int64>] = [:]
        for _ in 0..<300 {
            now += Int64.random(in: 0...2, using: &generator)
            let name = ["a", "b"].randomElement(using: &generator) ?? "a"
            let highest = seen[name]?.max() ?? 20
            let number = max(0, highest + Int64.random(in: -15...4, using: &generator))
            let before = seen[name] ?? []
            let start = first[name] ?? number
            first[name] = start
            let verdict = gaps.take(number, of: name, at: at(now))
            let expected: NumberGaps.Verdict
            if before.isEmpty {
                expected = .first
            } else if number > highest + 1 {
                expected = .gap(highest + 1...number - 1)
                for missing in highest + 1..<number { since[name, default: [:]][missing] = now }
            } else if number == highest + 1 {
                expected = .next
            } else {
                expected = number > start && !before.contains(number) ? .late : .repeated
            }
            #expect(verdict == expected, "seed \(seed)")
            // What came before the first one isn't missed.
            if number >= start { seen[name, default: []].insert(number) }
            let all = seen[name] ?? []
            let missing = (start...(all.max() ?? start)).filter { !all.contains($0) }
            #expect(gaps.missing(of: name).flatMap { Array($0) } == missing, "seed \(seed)")
            guard Bool.random(using: &generator) else { continue }
            var due: [String: [Int64]] = [:]
            for gap in gaps.due(at: at(now)) { due[gap.subscription, default: []] += Array(gap.numbers) }
            for name in ["a", "b"] {
                let all = seen[name] ?? []
                let overdue = (since[name] ?? [:]).filter { !all.contains($0.key) && now - $0.value >= 5 }.map(\.key)
                #expect((due[name] ?? []).sorted() == Set(overdue).subtracting(told[name] ?? []).sorted(), "seed \(seed)")
                told[name, default: []].formUnion(overdue)
            }
        }
    }
}

/// Numbers that a seed fixes (Steele, Lea, Flood: SplitMix64).
struct Steps: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

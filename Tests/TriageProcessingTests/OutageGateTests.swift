import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Outage gate")
struct OutageGateTests {
    private let start = Timestamp(milliseconds: 1_700_000_040_000)

    private func at(_ seconds: Double) -> Timestamp { start + .milliseconds(Int64(seconds * 1000)) }
    private func key(_ number: Int) -> LaneKey { LaneKey(UInt64(number)) }

    /// A first attempt fails as transient; without jitter.
    private func fail(
        _ gate: inout OutageGate, _ number: Int, at seconds: Double, isProbe: Bool = false, isFirst: Bool = true,
        as errorClass: ErrorClass = .transient
    ) -> OutageGate.Change? {
        gate.failed(errorClass, key: key(number), isFirst: isFirst, isProbe: isProbe, at: at(seconds), unit: 0.5)
    }

    @Test("so many keys in a row close it; a success ends the row, a key again and a persistent failure don't count")
    func row() {
        var gate = OutageGate(OutagePolicy(failuresInRow: 3))
        #expect(fail(&gate, 1, at: 0) == nil)
        #expect(fail(&gate, 1, at: 0) == nil)
        #expect(fail(&gate, 2, at: 0, as: .system) == nil)
        #expect(fail(&gate, 3, at: 0, as: .persistent) == nil)
        #expect(gate.isOpen)
        #expect(gate.succeeded(isProbe: false, at: at(1)) == nil)
        #expect(fail(&gate, 1, at: 1) == nil)
        #expect(fail(&gate, 2, at: 1) == nil)
        #expect(fail(&gate, 3, at: 1) == .closed(.row(3), nextProbe: at(2)))
        #expect(gate.state == .closed && gate.nextProbe == at(2))
    }

    @Test("failed retries count in a row when nothing has succeeded for a second, and only then")
    func retries() {
        // Nothing has succeeded at all.
        var gate = OutageGate(OutagePolicy(failuresInRow: 3))
        #expect(fail(&gate, 1, at: 0, isFirst: false) == nil)
        #expect(fail(&gate, 1, at: 0, isFirst: false) == nil)
        #expect(fail(&gate, 2, at: 0) == nil)
        #expect(fail(&gate, 3, at: 0, isFirst: false) == .closed(.row(3), nextProbe: at(1)))
        // A probe's success counts as one.
        gate.probeBegan()
        _ = gate.succeeded(isProbe: true, at: at(10))
        for number in 0..<100 { #expect(fail(&gate, number, at: 10.999, isFirst: false) == nil) }
        for number in 0..<2 { #expect(fail(&gate, number, at: 11, isFirst: false) == nil) }
        // A success ends the row, and a second begins anew. First attempts count at once.
        _ = gate.succeeded(isProbe: false, at: at(12))
        for number in 0..<100 { #expect(fail(&gate, number, at: 12.5, isFirst: false) == nil) }
        for number in 0..<2 { #expect(fail(&gate, number, at: 12.5) == nil) }
        #expect(fail(&gate, 2, at: 13, isFirst: false) == .closed(.row(3), nextProbe: at(14)))
        // When the clock is set back by hours, the last success says nothing.
        gate = OutageGate(OutagePolicy(failuresInRow: 1))
        _ = gate.succeeded(isProbe: false, at: at(7200))
        #expect(fail(&gate, 1, at: 0, isFirst: false) == .closed(.row(1), nextProbe: at(1)))
        // The share is one of first attempts.
        gate = OutageGate(OutagePolicy(failuresInRow: 0, failureRatio: 0.1, minimumAttempts: 1))
        for number in 0..<100 { #expect(fail(&gate, number, at: 0, isFirst: false) == nil) }
    }

    @Test("a share of the window's attempts closes it, not before there are enough, and what is old doesn't count")
    func ratio() {
        let policy = OutagePolicy(failuresInRow: 0, failureRatio: 0.5, minimumAttempts: 10, window: .seconds(60))
        var gate = OutageGate(policy)
        for number in 0..<5 { #expect(gate.succeeded(isProbe: false, at: at(Double(number))) == nil) }
        for number in 0..<4 { #expect(fail(&gate, number, at: 6) == nil) }
        #expect(fail(&gate, 4, at: 7) == .closed(.ratio(failures: 5, attempts: 10), nextProbe: at(8)))

        // The same failures, but the successes before them are gone from the window: too few attempts.
        gate = OutageGate(policy)
        for number in 0..<5 { _ = gate.succeeded(isProbe: false, at: at(Double(number))) }
        for number in 0..<9 { #expect(fail(&gate, number, at: 90) == nil) }
        #expect(fail(&gate, 9, at: 90) == .closed(.ratio(failures: 10, attempts: 10), nextProbe: at(91)))

        // One key that fails again and again is one failure in each sixth of the window.
        gate = OutageGate(policy)
        for second in 0..<600 { #expect(fail(&gate, 1, at: Double(second)) == nil) }
        #expect(gate.isOpen)
    }

    @Test("one probe at a time, after delays that double up to the cap; the first that succeeds opens it")
    func probes() {
        var gate = OutageGate(OutagePolicy(failuresInRow: 1, probeDelay: .seconds(1), maximumProbeDelay: .seconds(5)))
        #expect(!gate.admitsProbe(at: at(0)))
        #expect(fail(&gate, 1, at: 0) == .closed(.row(1), nextProbe: at(1)))
        var now = 1.0
        for delay in [2.0, 4, 5, 5] {
            #expect(!gate.admitsProbe(at: at(now - 0.001)) && gate.admitsProbe(at: at(now)))
            gate.probeBegan()
            #expect(gate.state == .probing && !gate.admitsProbe(at: at(now + 1000)))
            // What was in flight when it closed changes nothing, however it ends.
            #expect(fail(&gate, 2, at: now) == nil)
            #expect(gate.succeeded(isProbe: false, at: at(now)) == nil)
            #expect(gate.state == .probing)
            #expect(fail(&gate, 3, at: now, isProbe: true, isFirst: false) == .probeFailed(nextProbe: at(now + delay)))
            now += delay
        }
        gate.probeBegan()
        #expect(gate.succeeded(isProbe: true, at: at(20)) == .opened(after: .seconds(20)))
        #expect(gate.isOpen && gate.lastOpened == at(20) && gate.nextProbe == nil)
        // It begins anew: the delay, too.
        #expect(fail(&gate, 1, at: 30) == .closed(.row(1), nextProbe: at(31)))
    }

    @Test("a probe that says nothing is followed by the next at once, and its delay doesn't grow")
    func nothingSaid() {
        var gate = OutageGate(OutagePolicy(failuresInRow: 1))
        _ = fail(&gate, 1, at: 0)
        gate.probeBegan()
        #expect(fail(&gate, 2, at: 2, isProbe: true, as: .persistent) == nil)
        #expect(gate.state == .closed && gate.admitsProbe(at: at(2)))
        gate.probeBegan()
        gate.probeSaidNothing(at: at(3))
        #expect(gate.admitsProbe(at: at(3)))
        gate.probeBegan()
        #expect(fail(&gate, 2, at: 3, isProbe: true) == .probeFailed(nextProbe: at(5)))
        gate.probeSaidNothing(at: at(3))
        #expect(!gate.admitsProbe(at: at(4)))
    }

    @Test("without a policy it never closes")
    func off() {
        var gate = OutageGate(nil)
        for number in 0..<1000 { #expect(fail(&gate, number, at: 0) == nil) }
        #expect(gate.succeeded(isProbe: false, at: at(0)) == nil)
        #expect(gate.isOpen && gate.lastOpened == nil)
    }

    @Test("random times and extreme settings neither trap nor close an idle gate")
    func extremes() {
        var gate = OutageGate(OutagePolicy(failuresInRow: 2, window: .nanoseconds(Int64.max)))
        for time in [Int64.min, 0, .max, .min, .max] {
            _ = gate.succeeded(isProbe: false, at: Timestamp(nanoseconds: time))
            _ = gate.failed(.system, key: key(1), isFirst: true, isProbe: false, at: Timestamp(nanoseconds: time), unit: 1)
        }
        #expect(gate.isOpen)
        _ = gate.failed(.system, key: key(2), isFirst: true, isProbe: false, at: Timestamp(nanoseconds: .max), unit: 1)
        _ = gate.failed(.system, key: key(3), isFirst: true, isProbe: false, at: Timestamp(nanoseconds: .max), unit: 1)
    }

    /// All that was fed since the gate opened last, judged from scratch each time.
    private struct Model {
        struct Sample {
            let part: Int64
            /// Nil for a success.
            let key: Int?
            let isFirst: Bool
        }
        let policy: OutagePolicy
        var samples: [Sample] = []
        var lastSuccess: Timestamp?
        var isOpen = true
        var latest = Int64.min

        private mutating func part(_ now: Timestamp) -> Int64 {
            latest = max(latest, now.nanoseconds / (policy.window.wholeNanoseconds / 6))
            return latest
        }

        mutating func succeeded(at now: Timestamp) {
            lastSuccess = now
            samples.append(Sample(part: part(now), key: nil, isFirst: true))
        }

        mutating func failed(_ key: Int, isFirst: Bool, at now: Timestamp) -> OutageGate.Cause? {
            if !isFirst, let last = lastSuccess, last <= now, now - last < .seconds(1) { return nil }
            // What only the row hears doesn't move the window either.
            let part = isFirst ? part(now) : latest
            samples.append(Sample(part: part, key: key, isFirst: isFirst))
            let row = Set(samples.reversed().prefix { $0.key != nil }.compactMap(\.key)).count
            if policy.failuresInRow > 0, row >= policy.failuresInRow { return .row(row) }
            guard isFirst else { return nil }
            var failures = 0
            var attempts = 0
            var isCounted = false
            for past in (part - 5)...part {
                var seen: Set<Int> = []
                for sample in samples where sample.part == past && sample.isFirst {
                    guard let key = sample.key else {
                        attempts += 1
                        continue
                    }
                    isCounted = !seen.contains(key)
                    guard isCounted else { continue }
                    if seen.count < policy.minimumAttempts { seen.insert(key) }
                    failures += 1
                    attempts += 1
                }
            }
            guard policy.failureRatio > 0, isCounted, attempts >= policy.minimumAttempts,
                Double(failures) >= policy.failureRatio * Double(attempts)
            else { return nil }
            return .ratio(failures: failures, attempts: attempts)
        }
    }

    @Test("random histories agree with a model that judges all samples from scratch")
    func property() {
        var closings = (row: 0, ratio: 0, retries: 0)
        for seed in UInt64(1)...3000 {
            var random = SeededGenerator(seed)
            let policy = OutagePolicy(
                failuresInRow: Int.random(in: 0...6, using: &random),
                failureRatio: [0, 0.3, 0.5, 1].randomElement(using: &random) ?? 0,
                minimumAttempts: Int.random(in: 1...15, using: &random), window: .seconds(6)
            )
            var gate = OutageGate(policy)
            var model = Model(policy: policy)
            let share = Double.random(in: 0.1...0.9, using: &random)
            var now = start
            var probes = 0
            for step in 0..<120 {
                // Sometimes the clock is set back.
                now = now + .milliseconds(Int64.random(in: -200...900, using: &random))
                let where_ = Comment(rawValue: "seed \(seed), step \(step)")
                if gate.isOpen {
                    #expect(model.isOpen, where_)
                    if Double.random(in: 0..<1, using: &random) < share {
                        let key = Int.random(in: 0..<12, using: &random)
                        let kind = Int.random(in: 0..<5, using: &random)
                        let isFirst = Bool.random(using: &random)
                        let change = gate.failed(
                            kind == 0 ? .persistent : kind == 1 ? .system : .transient, key: self.key(key), isFirst: isFirst,
                            isProbe: false, at: now, unit: 0.5)
                        let expected = kind == 0 ? nil : model.failed(key, isFirst: isFirst, at: now)
                        if expected != nil, !isFirst { closings.retries += 1 }
                        let next = now + policy.probeDelay
                        #expect(change == expected.map { .closed($0, nextProbe: next) }, where_)
                        if case .row? = expected { closings.row += 1 }
                        if case .ratio? = expected { closings.ratio += 1 }
                        if expected != nil {
                            model.isOpen = false
                            probes = 0
                        }
                    } else {
                        #expect(gate.succeeded(isProbe: false, at: now) == nil, where_)
                        model.succeeded(at: now)
                    }
                } else {
                    #expect(!model.isOpen, where_)
                    guard let due = gate.nextProbe else {
                        Issue.record("no probe is due: \(where_)")
                        break
                    }
                    now = max(now, due)
                    #expect(gate.admitsProbe(at: now), where_)
                    gate.probeBegan()
                    if Bool.random(using: &random) {
                        probes += 1
                        let delay = min(policy.maximumProbeDelay, policy.probeDelay * (1 << min(probes, 20)))
                        let change = gate.failed(
                            .transient, key: key(0), isFirst: false, isProbe: true, at: now, unit: 0.5)
                        #expect(change == .probeFailed(nextProbe: now + delay), where_)
                    } else {
                        guard case .opened? = gate.succeeded(isProbe: true, at: now) else {
                            Issue.record("a probe's success didn't open it: \(where_)")
                            break
                        }
                        model = Model(policy: policy)
                        model.lastSuccess = now
                    }
                }
            }
        }
        // The histories do reach what is tested.
        #expect(closings.row > 500 && closings.ratio > 500 && closings.retries > 200, "\(closings)")
    }
}

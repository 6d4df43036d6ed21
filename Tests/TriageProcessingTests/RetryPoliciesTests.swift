import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Retry policies")
struct RetryPoliciesTests {
    private let now = Timestamp(milliseconds: 1_700_000_000_000)

    @Test("topic and class go before topic, that before class, that before the standard; nothing is mixed")
    func lookup() {
        var policies = RetryPolicies(RetryPolicy(retries: 1))
        #expect(policies.policy(for: .system, topic: "a").retries == 1)
        policies.byClass[.system] = RetryPolicy(retries: 2)
        #expect(policies.policy(for: .system, topic: "a").retries == 2)
        #expect(policies.policy(for: .transient, topic: "a").retries == 1)
        policies.byTopic["a"] = RetryPolicy(retries: 3)
        #expect(policies.policy(for: .system, topic: "a").retries == 3)
        #expect(policies.policy(for: .transient, topic: "a").retries == 3)
        #expect(policies.policy(for: .system, topic: "b").retries == 2)
        #expect(policies.policy(for: .system, topic: nil).retries == 2)
        policies.byPlace[RetryPolicies.Place(topic: "a", errorClass: .system)] = RetryPolicy.none
        #expect(policies.policy(for: .system, topic: "a") == RetryPolicy.none)
        #expect(policies.policy(for: .transient, topic: "a").retries == 3)
    }

    @Test("the first retries in place, then the backoff from its first delay on, and no more than there are retries")
    func immediateThenExponential() {
        let plan = RetryPlan(RetryPolicy(retries: 5, immediate: 2, jitter: 0))
        func decide(_ retries: Int) -> RetryDecision { plan.failed(.transient, retries: retries, now: now, unit: 0.5) }
        #expect(decide(0) == .again && decide(1) == .again)
        #expect(decide(2) == .retry(count: 3, at: now + .seconds(1), strategy: .exponential))
        #expect(decide(3) == .retry(count: 4, at: now + .seconds(2), strategy: .exponential))
        #expect(decide(4) == .retry(count: 5, at: now + .seconds(4), strategy: .exponential))
        #expect(decide(5) == .deadLetter)
        #expect(RetryPlan(RetryPolicy(retries: 2, immediate: 9)).failed(.system, retries: 1, now: now, unit: 0) == .again)
        #expect(RetryPlan(RetryPolicy(retries: 2, immediate: 9)).failed(.system, retries: 2, now: now, unit: 0) == .deadLetter)
        #expect(RetryPolicy(immediate: -3).immediate == 0)
    }

    @Test("no retry is due later than the first record's time and the limit; without that time there is none")
    func limit() {
        let plan = RetryPlan(RetryPolicy(retries: 9, base: .seconds(10), jitter: 0, limit: .seconds(60)))
        func decide(_ age: Double, retryAt: Timestamp? = nil) -> RetryDecision {
            plan.failed(
                .transient, retries: 0, retryAt: retryAt, origin: now + .milliseconds(-Int64(age * 1000)), now: now, unit: 0.5)
        }
        #expect(decide(50) == .retry(count: 1, at: now + .seconds(10), strategy: .exponential))
        #expect(decide(50.001) == .deadLetter)
        #expect(decide(0, retryAt: now + .seconds(60)) == .retry(count: 1, at: now + .seconds(60), strategy: .scheduled))
        #expect(decide(0, retryAt: now + .milliseconds(60_001)) == .deadLetter)
        #expect(plan.failed(.transient, retries: 0, now: now, unit: 0.5) != .deadLetter)
        let inPlace = RetryPlan(RetryPolicy(.immediate, retries: 9, limit: .seconds(60)))
        #expect(inPlace.failed(.transient, retries: 0, origin: now + .seconds(-60), now: now, unit: 0) == .again)
        #expect(inPlace.failed(.transient, retries: 0, origin: now + .seconds(-61), now: now, unit: 0) == .deadLetter)
    }

    @Test("a wait is cut to seven days, whoever asks for more")
    func maximumWait() {
        let most = now + .seconds(7 * 86_400)
        let plan = RetryPlan(RetryPolicy(jitter: 0))
        for milliseconds in [253_402_300_799_999, Int64.max] {
            let decision = plan.failed(
                .transient, retries: 0, retryAt: Timestamp(milliseconds: milliseconds), now: now, unit: 0)
            #expect(decision == .retry(count: 1, at: most, strategy: .scheduled))
        }
        let long = RetryPlan(RetryPolicy(base: .seconds(366 * 86_400), cap: .seconds(366 * 86_400), jitter: 0))
        #expect(long.failed(.system, retries: 0, now: now, unit: 0) == .retry(count: 1, at: most, strategy: .exponential))
    }

    /// Says the same from scratch, in plain words.
    private func expected(
        _ policies: RetryPolicies, _ errorClass: ErrorClass, topic: String, retries: Int, retryAt: Timestamp?, origin: Timestamp?,
        unit: Double
    ) -> RetryDecision {
        let all = [
            policies.byPlace.first { $0.key.topic == topic && $0.key.errorClass == errorClass }?.value,
            policies.byTopic.first { $0.key == topic }?.value, policies.byClass.first { $0.key == errorClass }?.value,
        ]
        let policy = all.compactMap(\.self).first ?? policies.standard
        if errorClass == .persistent { return .deadLetter }
        if retries >= policy.retries { return .deadLetter }
        var due = now
        var strategy = RetryPolicy.Strategy.immediate
        if let retryAt, retryAt > now {
            due = retryAt
            strategy = .scheduled
        } else if policy.strategy == .exponential, retries >= policy.immediate {
            var delay = policy.base.inSeconds
            for _ in 0..<(retries - policy.immediate) { delay = min(delay * 2, 1e12) }
            let seconds = min(delay, policy.cap.inSeconds) * (1 - policy.jitter + 2 * policy.jitter * unit)
            due = now + .nanoseconds(Int64(seconds * 1e9))
            strategy = .exponential
        }
        if due - now > .seconds(604_800) { due = now + .seconds(604_800) }
        if let limit = policy.limit, let origin, due - origin > limit { return .deadLetter }
        return strategy == .immediate ? .again : .retry(count: retries + 1, at: due, strategy: strategy)
    }

    @Test("random policies and failures agree with a model that judges from scratch")
    func property() {
        var seen: [String: Int] = [:]
        for seed in UInt64(1)...5000 {
            var random = SeededGenerator(seed)
            func policy() -> RetryPolicy {
                RetryPolicy(
                    Bool.random(using: &random) ? .exponential : .immediate, retries: Int.random(in: 0...8, using: &random),
                    immediate: Int.random(in: 0...3, using: &random),
                    base: .milliseconds(Int64.random(in: 1...1_000_000_000, using: &random)),
                    cap: .milliseconds(Int64.random(in: 1...2_000_000_000, using: &random)),
                    jitter: Double.random(in: 0...1, using: &random),
                    limit: Bool.random(using: &random) ? .milliseconds(Int64.random(in: 0...1_000_000_000, using: &random)) : nil)
            }
            var policies = RetryPolicies(policy())
            for errorClass in [ErrorClass.transient, .system] where Bool.random(using: &random) {
                policies.byClass[errorClass] = policy()
            }
            if Bool.random(using: &random) { policies.byTopic["a"] = policy() }
            if Bool.random(using: &random) { policies.byPlace[.init(topic: "a", errorClass: .system)] = policy() }
            let plan = RetryPlan(policies)
            for step in 0..<20 {
                let errorClass = ErrorClass.allCases.randomElement(using: &random) ?? .system
                let topic = Bool.random(using: &random) ? "a" : "b"
                let retries = Int.random(in: 0...9, using: &random)
                let retryAt: Timestamp? =
                    Bool.random(using: &random)
                    ? now + .milliseconds(Int64.random(in: -1000...1_000_000_000, using: &random)) : nil
                let origin: Timestamp? =
                    Int.random(in: 0..<4, using: &random) > 0
                    ? now + .milliseconds(-Int64.random(in: -1000...1_000_000_000, using: &random)) : nil
                let unit = Double.random(in: 0..<1, using: &random)
                let decision = plan.failed(
                    errorClass, retries: retries, retryAt: retryAt, topic: topic, origin: origin, now: now, unit: unit)
                let wanted = expected(
                    policies, errorClass, topic: topic, retries: retries, retryAt: retryAt, origin: origin, unit: unit)
                switch (decision, wanted) {
                case (.retry(let count, let at, let strategy), .retry(let count2, let at2, let strategy2)):
                    // The model doubles step by step: the last digits may differ.
                    let difference = (at - at2).inSeconds.magnitude
                    #expect(
                        count == count2 && strategy == strategy2 && difference < 1e-3, "seed \(seed), step \(step)")
                    seen["\(strategy)", default: 0] += 1
                default:
                    #expect(decision == wanted, "seed \(seed), step \(step)")
                    seen["\(decision)", default: 0] += 1
                }
            }
        }
        // The random policies do reach each decision.
        #expect(seen.count == 4 && seen.values.allSatisfy { $0 > 1000 }, "\(seen)")
    }
}

import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Retry plan")
struct RetryPlanTests {
    private let now = Timestamp(milliseconds: 1_700_000_000_000)

    @Test("the delay is min(cap, base · 2^(n−1)) · U(1−j, 1+j)", arguments: 1...12)
    func formula(number: Int) {
        let policy = RetryPolicy()
        let exact = min(60, Double(1 << (number - 1)))
        #expect(abs(policy.delay(before: number, unit: 0).inSeconds - exact * 0.8) < 1e-6)
        #expect(abs(policy.delay(before: number, unit: 0.5).inSeconds - exact) < 1e-6)
        #expect(policy.delay(before: number, unit: 0.999_999).inSeconds < exact * 1.2)
        var random = SeededGenerator(UInt64(number))
        for _ in 0..<1000 {
            let delay = policy.delay(before: number, unit: Double.random(in: 0..<1, using: &random)).inSeconds
            #expect(delay >= exact * 0.8 - 1e-6)
            #expect(delay <= exact * 1.2 + 1e-6)
        }
    }

    @Test("without jitter the delays are exact")
    func exact() {
        let policy = RetryPolicy(base: .milliseconds(100), cap: .milliseconds(350), jitter: 0)
        #expect([1, 2, 3, 4].map { policy.delay(before: $0, unit: 0.7) } == [100, 200, 350, 350].map { .milliseconds($0) })
    }

    @Test("big, negative and senseless numbers neither trap nor make a negative delay")
    func extremes() {
        var policies = [
            RetryPolicy(base: .seconds(Int64.max / 2), cap: .seconds(Int64.max / 2), jitter: 1),
            RetryPolicy(base: .seconds(-5), cap: .seconds(60)), RetryPolicy(base: .seconds(1), cap: .seconds(-1)),
            RetryPolicy(base: .zero, cap: .zero), RetryPolicy(jitter: .nan), RetryPolicy(jitter: .infinity),
            RetryPolicy(jitter: -3),
        ]
        var wild = RetryPolicy()
        wild.jitter = 1e300
        policies.append(wild)
        wild.jitter = -.infinity
        policies.append(wild)
        for policy in policies {
            for number in [Int.min, -1, 0, 1, 2, 62, 63, 64, 1000, Int.max] {
                for unit in [0, 0.5, 0.999_999_999] {
                    let delay = policy.delay(before: number, unit: unit)
                    #expect(delay >= .zero)
                    #expect(delay <= .seconds(9_200_000_000))
                    #expect(now + delay >= now)
                }
            }
        }
    }

    @Test("three retries, then the dead letter topic")
    func decisions() {
        let plan = RetryPlan(RetryPolicy(jitter: 0))
        for errorClass in [ErrorClass.transient, .system] {
            #expect(
                plan.failed(errorClass, retries: 0, now: now, unit: 0.3)
                    == .retry(count: 1, at: now + .seconds(1), strategy: .exponential)
            )
            #expect(
                plan.failed(errorClass, retries: 2, now: now, unit: 0.3)
                    == .retry(count: 3, at: now + .seconds(4), strategy: .exponential)
            )
            #expect(plan.failed(errorClass, retries: 3, now: now, unit: 0.3) == .deadLetter)
            #expect(plan.failed(errorClass, retries: Int.max, now: now, unit: 0.3) == .deadLetter)
        }
    }

    @Test("persistent failures are never retried, whatever they ask for")
    func persistent() {
        let plan = RetryPlan(RetryPolicy(retries: 100))
        #expect(plan.failed(.persistent, retries: 0, retryAt: now + .seconds(5), now: now, unit: 0) == .deadLetter)
        #expect(RetryPlan(.none).failed(.transient, retries: 0, now: now, unit: 0) == .deadLetter)
    }

    @Test("a time that the error names goes before the policy's delay, in every strategy; one that is past doesn't count")
    func scheduled() {
        let later = now + .seconds(90)
        for strategy in RetryPolicy.Strategy.allCases {
            let plan = RetryPlan(RetryPolicy(strategy, jitter: 0))
            #expect(
                plan.failed(.transient, retries: 1, retryAt: later, now: now, unit: 0)
                    == .retry(count: 2, at: later, strategy: .scheduled)
            )
            #expect(plan.failed(.transient, retries: 3, retryAt: later, now: now, unit: 0) == .deadLetter)
        }
        #expect(
            RetryPlan(RetryPolicy(jitter: 0)).failed(.transient, retries: 0, retryAt: now, now: now, unit: 0)
                == .retry(count: 1, at: now + .seconds(1), strategy: .exponential)
        )
    }

    @Test("immediate: again in place, so often and no more")
    func immediate() {
        let plan = RetryPlan(RetryPolicy(.immediate, retries: 2))
        #expect(plan.failed(.system, retries: 0, now: now, unit: 0) == .again)
        #expect(plan.failed(.system, retries: 1, now: now, unit: 0) == .again)
        #expect(plan.failed(.system, retries: 2, now: now, unit: 0) == .deadLetter)
        #expect(plan.failed(.persistent, retries: 0, now: now, unit: 0) == .deadLetter)
    }

    @Test("negative retries are none")
    func negative() {
        var policy = RetryPolicy(retries: -4)
        #expect(policy.retries == 0)
        policy.retries = -1
        #expect(RetryPlan(policy).failed(.transient, retries: 0, now: now, unit: 0) == .deadLetter)
    }
}

import Testing

@testable import TriageOTLP

@Suite("Retrying an export")
struct ExportRetryTests {
    /// Without jitter, from second 100, until second 110.
    func machine(deadline: Duration? = .seconds(110)) -> ExportRetry { ExportRetry(ExportRetry.Policy(), deadline: deadline) }

    @Test("Nobody answers: 1, 2 and 4 seconds between tries, then the time is up")
    func unanswered() {
        var retry = machine()
        #expect(retry.decide(after: .unanswered, at: .seconds(100), random: 0.5) == .retry(at: .seconds(101)))
        #expect(retry.decide(after: .unanswered, at: .seconds(101), random: 0.5) == .retry(at: .seconds(103)))
        #expect(retry.decide(after: .unanswered, at: .seconds(103), random: 0.5) == .retry(at: .seconds(107)))
        #expect(retry.decide(after: .unanswered, at: .seconds(107), random: 0.5) == .giveUp)
    }

    @Test("Overloaded, then well again")
    func recovers() {
        var retry = machine()
        #expect(retry.decide(after: .status(503, retryAfter: nil), at: .seconds(100), random: 0.5) == .retry(at: .seconds(101)))
        #expect(
            retry.decide(after: .status(429, retryAfter: .seconds(3)), at: .seconds(101), random: 0.9)
                == .retry(at: .seconds(104)))
        #expect(retry.decide(after: .status(200, retryAfter: nil), at: .seconds(104), random: 0.5) == .delivered)
    }

    @Test("What Retry-After asks for isn't waited for if the time is up before")
    func retryAfterTooLate() {
        var retry = machine()
        #expect(retry.decide(after: .status(429, retryAfter: .seconds(10)), at: .seconds(100), random: 0) == .giveUp)
        var patient = machine(deadline: nil)
        #expect(
            patient.decide(after: .status(429, retryAfter: .seconds(600)), at: .seconds(100), random: 0)
                == .retry(at: .seconds(700)))
    }

    @Test("Each status does what OTLP says", arguments: 100..<600)
    func statuses(status: Int) {
        var retry = machine()
        let decision = retry.decide(after: .status(status, retryAfter: nil), at: .seconds(100), random: 0.5)
        switch status {
        case 200..<300: #expect(decision == .delivered)
        case 429, 502, 503, 504: #expect(decision == .retry(at: .seconds(101)))
        default: #expect(decision == .giveUp)
        }
    }

    @Test("A cancelled or hopeless try is the last one")
    func lasting() {
        var first = machine()
        #expect(first.decide(after: .cancelled, at: .seconds(100), random: 0.5) == .giveUp)
        var second = machine()
        #expect(second.decide(after: .unusable, at: .seconds(100), random: 0.5) == .giveUp)
    }

    @Test("Without a time-out the number of tries is bounded, and the wait capped")
    func bounded() {
        var retry = machine(deadline: nil)
        var now = Duration.zero
        var waits: [Duration] = []
        while case .retry(let time) = retry.decide(after: .unanswered, at: now, random: 0.5) {
            waits.append(time - now)
            now = time
        }
        #expect(waits == [1, 2, 4, 8, 16, 30, 30, 30, 30].map { .seconds($0) })
    }

    @Test("Jitter stays within its share")
    func jitter() {
        var low = machine()
        #expect(low.decide(after: .unanswered, at: .zero, random: 0) == .retry(at: .milliseconds(800)))
        var high = machine()
        guard case .retry(let time) = high.decide(after: .unanswered, at: .zero, random: 0.999) else {
            Issue.record("a first failure is retried")
            return
        }
        #expect(time > .milliseconds(1199) && time < .milliseconds(1200))
    }

    @Test("A warning of each kind comes once in five minutes")
    func warnings() {
        var limiter = WarningLimiter()
        let asked: [(String, Int)] = [("a", 0), ("a", 299), ("b", 299), ("a", 300), ("a", 301)]
        let allowed = asked.map { limiter.allows($0.0, at: .seconds($0.1)) }
        #expect(allowed == [true, false, true, true, false])
    }
}

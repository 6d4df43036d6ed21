import TestSupport
import Testing
import TriageEvents

@testable import TriageProcessing

/// Outages that meet retries, and patients that have more than their share; in virtual time.
@Suite("Simulation: outages and hot patients", .apart, .serialized, .timeLimit(.minutes(5)))
struct SimulationOutageTests {
    private let second: Int64 = 1_000_000_000

    private func world(_ change: (inout SimulationOptions) -> Void = { _ in }) -> SimulatedWorld {
        var options = SimulationOptions()
        options.partitions = 2
        options.configuration.retry = RetryPolicy()
        options.configuration.concurrency = 8
        options.sessionTimeout = { _ in 100_000_000 }
        options.maximumSteps = 20_000_000
        options.pace = { world, _, _ in .suspend(world.milliseconds(1, 10), isCooperative: true) }
        change(&options)
        return SimulatedWorld(seed: 1, options: options)
    }

    private func closings(_ engine: SimulatedEngine) -> [Int64] {
        engine.notices.compactMap { notice in
            if case .gateClosed = notice.notice { notice.time } else { nil }
        }
    }

    // MARK: Outages

    @Test(
        "an outage of five minutes that begins while 96 retries wait and main is quiet: no dead letter, no more charged than a row",
        arguments: zip([SimulatedEvent.Plan.transient(1), .unexpected(1), .later(1, milliseconds: 10_000)], [0, 3, 1]))
    func waitingRetries(plan: SimulatedEvent.Plan, retries: Int) throws {
        let policy = OutagePolicy()
        let world = world { options in
            options.configuration.outage = policy
            // Retries that are all the last one, or not.
            options.configuration.retry = RetryPolicy(retries: 1 + retries, base: .seconds(10))
        }
        // One in five fails at first, in both partitions: no outage.
        for number in 0..<480 { world.publish(number, plan: number % 5 == 0 ? plan : .succeed) }
        let engine = world.startEngine()
        world.pass(7 * second)
        #expect(closings(engine).isEmpty)
        let begin = world.now
        world.outageEnd = begin + 300 * second
        world.pass(299 * second)
        let closed = try #require(closings(engine).first)
        let charged = world.transcript.filter { $0.what == .sent && $0.time >= begin }
        #expect(charged.count { $0.time <= closed } <= policy.failuresInRow + engine.configuration.concurrency)
        #expect(charged.count { $0.time > closed } == 0)
        world.finish(within: 900)
        #expect(closings(engine).count == 1)
        // Only those that closed it, if they had no further retry.
        #expect(world.referee.deadLetters <= (retries == 0 ? policy.failuresInRow + engine.configuration.concurrency : 0))
        #expect(world.referee.events.allSatisfy { $0.ends.count == 1 })
    }

    @Test("30 patients in each burst whose events always fail, their retries due side by side: others succeed, it stays open")
    func poison() throws {
        let world = world { options in
            options.configuration.outage = OutagePolicy()
            options.configuration.retry = RetryPolicy(jitter: 0)
            options.configuration.storm = nil
            options.pace = { _, _, _ in .instant }
        }
        var patient = 0
        for burst in 0..<20 {
            world.after(Int64(burst) * 300_000_000) {
                for number in 0..<300 {
                    world.publish(patient, plan: number % 10 == 0 ? .unexpected(.max) : .succeed)
                    patient += 1
                }
            }
        }
        // Little else comes later, but something does.
        for number in 0..<60 {
            world.after(6 * second + Int64(number) * 300_000_000) { world.publish(100_000 + number) }
        }
        let engine = world.startEngine()
        world.pass(30 * second)
        world.finish(within: 900)
        #expect(closings(engine).isEmpty)
        #expect(world.referee.deadLetters == 600)
    }

    @Test("patients whose events always fail and nothing else to do look like an outage: they wait until something succeeds")
    func poisonAlone() throws {
        let world = world { options in options.configuration.outage = OutagePolicy() }
        for number in 0..<200 { world.publish(number, plan: number % 5 == 0 ? .unexpected(.max) : .succeed) }
        let engine = world.startEngine()
        world.pass(60 * second)
        #expect(closings(engine).count == 1 && world.referee.deadLetters == 0)
        // With traffic they are given up.
        for number in 0..<1000 { world.after(Int64(number) * second / 10) { world.publish(1000 + number) } }
        world.pass(150 * second)
        world.finish(within: 900)
        #expect(closings(engine).count == 1)
        #expect(world.referee.deadLetters == 40)
    }

    // MARK: Hot patients

    @Test(
        "a handler that hangs for a minute with 2,000 events of its patient behind it: other partitions go on meanwhile",
        arguments: [64 << 20, 32 << 10])
    func hungPatient(bytes: Int) throws {
        let world = world { options in
            options.configuration.maximumInFlight = 400
            options.configuration.maximumBytesInFlight = bytes
            options.configuration.pollSize = 20
            options.configuration.commitInterval = .seconds(1)
            options.configuration.attemptTimeout = nil
            options.pace = { _, _, event in event == 0 ? .suspend(60_000_000_000, isCooperative: true) : .instant }
        }
        for _ in 0..<2000 { world.publish(0) }
        let engine = world.startEngine()
        world.pass(10 * second)
        let inFlight = engine.engine?.inFlight ?? .max
        #expect(inFlight <= engine.configuration.maximumInFlight / LaneShare.part + engine.configuration.pollSize + 1)
        #expect((engine.engine?.load.bytes ?? .max) <= bytes / 2)
        world.publish(2)
        for number in 0..<500 { world.publish(1 + number * 2) }
        world.pass(20 * second)
        let events = world.referee.events
        #expect(events[2001...].allSatisfy { $0.isFinished })
        // Its own partition waits.
        #expect(!events[2000].isFinished && !events[1].isFinished)
        world.finish(within: 900)
        #expect(world.referee.deadLetters == 0)
        #expect(world.referee.events.allSatisfy { $0.ends.count == 1 })
    }

    @Test(
        "an outage's probes fetch events that haven't failed yet, although a lane has its share and its first event always fails")
    func crowdedOutage() {
        let world = world { options in
            options.partitions = 1
            options.configuration.pollSize = 5
            options.configuration.maximumInFlight = 40
            options.configuration.outage = OutagePolicy(failuresInRow: 1, failureRatio: 0)
        }
        // It fails as often as it may be probed with within the time.
        world.publish(0, plan: .unexpected(20))
        for _ in 0..<25 { world.publish(0) }
        for patient in 1...10 { world.publish(patient) }
        let engine = world.startEngine()
        world.pass(100 * second)
        #expect(!closings(engine).isEmpty && !world.referee.events[0].isFinished)
        #expect(world.referee.events.suffix(10).allSatisfy { $0.isFinished })
        world.finish(within: 900)
        #expect(world.referee.deadLetters == 0)
    }
}

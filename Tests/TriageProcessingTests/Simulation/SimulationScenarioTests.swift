import TestSupport
import Testing
import TriageEvents

@testable import TriageProcessing

/// What the simulation does at random, once each by name; and what takes minutes, in virtual time.
@Suite("Simulation: scenarios", .apart, .timeLimit(.minutes(5)))
struct SimulationScenarioTests {
    private let second: Int64 = 1_000_000_000

    private func world(_ change: (inout SimulationOptions) -> Void = { _ in }) -> SimulatedWorld {
        var options = SimulationOptions()
        options.configuration.commitInterval = .milliseconds(50)
        options.configuration.retry = RetryPolicy(base: .milliseconds(300), jitter: 0)
        options.sessionTimeout = { _ in 100_000_000 }
        change(&options)
        return SimulatedWorld(seed: 1, options: options)
    }

    private func began(_ world: SimulatedWorld, _ event: Int) -> [TranscriptEntry] {
        world.transcript.filter { $0.what == .began && $0.one == event }
    }

    private func count(_ world: SimulatedWorld, _ what: TranscriptEntry.What, _ event: Int) -> Int {
        world.transcript.count { $0.what == what && $0.one == event }
    }

    // MARK: The world itself

    @Test(
        "a stall of a thread ends no wait early that nobody can wake: what it sent first is done first",
        arguments: [(false, 10, 50), (false, 90, 95), (true, 10, 15)])
    func stalled(isWakeable: Bool, nanoseconds: Int64, end: Int64) {
        let world = world()
        let seat = SimulatedSeat(number: 1)
        world.after(5) { world.stall(seat, nanoseconds) }
        world.block(seat, for: 50, isWakeable: isWakeable)
        #expect(world.now - world.start == end)
        world.destroy()
    }

    // MARK: Restarts

    @Test(
        "a restart in the middle of retries with auto.offset.reset=latest: neither they nor what came meanwhile is skipped",
        arguments: [true, false])
    func restartAtLatest(isCrash: Bool) {
        let world = world { $0.configuration.startsAtEnd = true }
        for event in 0..<3 {
            world.publish(9)
            world.referee.compacted(event)
        }
        let first = world.startEngine()
        world.pass(second)
        // What was there before the group's first assignment is what `latest` leaves out.
        #expect((0..<3).allSatisfy { began(world, $0).isEmpty })
        for patient in 0..<4 { world.publish(patient, plan: .later(1, milliseconds: 5000)) }
        for patient in 0..<4 { world.publish(patient) }
        world.pass(second)
        if isCrash { first.crash() } else { first.stop() }
        world.pass(second)
        for patient in 2..<6 { world.publish(patient) }
        world.startEngine()
        world.finish()
        #expect((3..<15).allSatisfy { count(world, .succeeded, $0) == 1 })
    }

    @Test("a retry partition that was never committed is read from its beginning, whatever auto.offset.reset says")
    func retryNeverCommitted() {
        let world = world { $0.configuration.startsAtEnd = true }
        let first = world.startEngine()
        world.pass(second)
        for patient in 0..<3 { world.publish(patient, plan: .later(1, milliseconds: 4000)) }
        world.pass(second)
        first.crash()
        world.broker.logs[1].forgetCommit()
        #expect(world.broker.logs[0].committed?.offset == 3)
        world.startEngine()
        world.finish()
        #expect((0..<3).allSatisfy { count(world, .succeeded, $0) == 1 })
    }

    @Test("a revoked member's retry record that lands late has no effect", arguments: [true, false])
    func lateProduce(isAfterAssignment: Bool) {
        let world = world()
        let first = world.startEngine()
        world.pass(second)
        world.broker.produceFates.late = 100
        world.publish(0, plan: .transient(1))
        world.publish(0)
        world.pass(20_000_000)
        #expect(count(world, .sent, 0) == 1)
        world.broker.produceFates.late = 0
        if isAfterAssignment {
            // The successor has worked for long when it lands: it comes in the middle of its own retries.
            world.broker.evict(first.consumer)
            world.startEngine()
        }
        world.pass(until: 10 * second, step: 1_000_000) { count(world, .landed, 0) > (isAfterAssignment ? 1 : 0) }
        if !isAfterAssignment {
            world.broker.evict(first.consumer)
            world.startEngine()
        }
        first.crash()
        world.finish()
        #expect(count(world, .succeeded, 0) == 1)
        #expect(count(world, .succeeded, 1) == 1)
    }

    @Test("a crash between an acknowledged retry record and the commit: the record is void, and the event ends once, in order")
    func crashBeforeCommit() {
        let world = world()
        world.publish(0, plan: .transient(1))
        world.publish(0)
        world.publish(1)
        world.armed = .acknowledged
        let first = world.startEngine()
        world.pass(until: 10 * second, step: 1_000_000) { first.isDead }
        #expect(count(world, .acknowledged, 0) == 1)
        world.startEngine()
        world.finish()
        #expect(began(world, 0).map(\.two) == [1, 1, 2])
        #expect(count(world, .succeeded, 0) == 1)
        #expect(count(world, .succeeded, 1) == 1)
    }

    // MARK: An outage

    @Test("an outage of five minutes: no dead letters, no attempt charged once the gate is closed, and it goes on by itself")
    func fiveMinutes() throws {
        let policy = OutagePolicy()
        let world = world { options in
            options.partitions = 2
            options.configuration.outage = policy
            options.configuration.retry = RetryPolicy()
            options.configuration.concurrency = 8
            options.configuration.attemptTimeout = .seconds(60)
            options.pace = { world, _, _ in .suspend(world.milliseconds(1, 40), isCooperative: true) }
        }
        for number in 0..<2000 {
            world.after(Int64(number / 50) * 15 * second) { world.publish(number % 50) }
        }
        world.after(60 * second) { world.outageEnd = world.now + 300 * second }
        let engine = world.startEngine()
        world.pass(601 * second)
        world.finish()

        func time(_ isRight: (EngineNotice) -> Bool) -> Int64? {
            engine.notices.first { isRight($0.notice) }.map { $0.time - world.start }
        }
        let closed = try #require(time { if case .gateClosed = $0 { true } else { false } })
        let opened = try #require(time { if case .gateOpened = $0 { true } else { false } })
        #expect(world.referee.deadLetters == 0)
        let charged = world.transcript.filter { $0.what == .sent }.map(\.time)
        #expect(charged.count { $0 <= closed } <= policy.failuresInRow + engine.configuration.concurrency)
        #expect(charged.count { $0 > closed && $0 <= opened } == 0)
        #expect(closed > 60 * second)
        #expect(opened > 360 * second && opened < 400 * second)
        #expect(world.referee.events.allSatisfy { $0.ends.count == 1 })
    }

    // MARK: Waiting

    @Test(
        "a retry of 1 s behind 10,000 records that wait 60 s begins within 250 ms of its time, however few fit into memory",
        arguments: [64 << 20, 256 << 10])
    func shortBehindLong(bytes: Int) throws {
        let count = 10_000
        let world = world { options in
            options.configuration.maximumBytesInFlight = bytes
            options.configuration.commitInterval = .seconds(5)
            options.maximumSteps = 4_000_000
        }
        for patient in 0..<count { world.publish(patient, plan: .later(1, milliseconds: 60_000)) }
        world.publish(count, plan: .later(1, milliseconds: 1000))
        world.startEngine()
        #expect(world.pass(until: 50 * second) { began(world, count).count == 2 })
        let failed = try #require(world.transcript.first { $0.what == .failedAttempt && $0.one == count })
        let again = try #require(began(world, count).last)
        let late = again.time - failed.time - second
        #expect(late < 250_000_000, "\(late) ns")
        world.finish()
        #expect(world.transcript.count { $0.what == .succeeded } == count + 1)
    }
}

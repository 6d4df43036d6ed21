import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Canaries of a replay")
struct DeadLetterCanaryTests {
    @Test("canaries: the others follow when all are completed, and none otherwise", arguments: [0, 1, 2])
    func canary(kind: Int) async throws {
        let world = DeskWorld()
        let letters = (0..<9).map { world.deadLetter(Int64($0)) }
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.canary = 3
        options.canaryTimeout = .seconds(20)
        options.target = kind == 0 ? .origin : .retry
        let waits = Mutex(0)
        world.meanwhile.withLock {
            $0 = {
                guard
                    waits.withLock({ waits in
                        waits += 1
                        return waits == 3
                    })
                else { return }
                if kind == 0 {
                    // Another group sees it as well, and what that makes of it is its own.
                    for letter in letters.prefix(3) {
                        for (group, status) in [("other", DeadLetterState.Status.failedAgain), ("care", .completed)] {
                            let state = DeadLetterState(
                                status, time: world.clock.now(), by: group,
                                replay: world.replayID(of: letter, in: DeskWorld.topic))
                            world.write(
                                TopicName.deadLetterState, key: "\(group)/\(letter)", value: state.json.utf8Text)
                        }
                    }
                } else {
                    world.process { $0 == letters[1] ? kind == 1 ? .failedAgain : nil : .completed }
                }
            }
        }
        let report = try await desk.replay(letters, options: options)
        switch kind {
        case 0:
            #expect(report.canary == .completed && report.replayed == 9 && report.left == 0)
            #expect(world.replays(in: DeskWorld.topic).count == 9)
        case 1:
            #expect(report.canary == .failedAgain([letters[1]]) && report.replayed == 3 && report.left == 6)
            #expect(world.replays().count == 3)
        default:
            #expect(report.canary == .timedOut([letters[1]]) && report.replayed == 3 && report.left == 6)
            #expect(world.slept.withLock { $0 } == .seconds(20))
            // The rest is still open: a second run takes it up, and the canary that never ended isn't one again.
            options.canary = 0
            let rest = try await desk.replay(letters, options: options)
            #expect(rest.replayed == 6 && rest.unchanged == [.completed: 2, .replayed: 1])
        }
    }

    @Test("fewer than the canaries asked for are all canaries")
    func fewCanaries() async throws {
        let world = DeskWorld()
        let letters = (0..<2).map { world.deadLetter(Int64($0)) }
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.canary = 5
        world.meanwhile.withLock { $0 = { world.process { _ in .completed } } }
        let report = try await desk.replay(letters, options: options)
        #expect(report.canary == .completed && report.replayed == 2)
        let none = try await desk.replay(letters, options: options)
        #expect(none.canary == nil && none.replayed == 0 && none.unchanged == [.completed: 2])
    }

    @Test("somebody who takes over while canaries are waited for is told at once")
    func fencedWhileWaiting() async throws {
        let world = DeskWorld()
        let letters = (0..<2).map { world.deadLetter(Int64($0)) }
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.canary = 1
        let lease = DeadLetterLease(by: "bob", time: world.clock.now(), id: "x")
        world.meanwhile.withLock {
            $0 = { world.write(TopicName.deadLetterState, key: DeadLetterLease.key, value: lease.json.utf8Text) }
        }
        let chosen = options
        await #expect(throws: OperatorError.fenced(by: "bob", since: lease.time)) {
            try await desk.replay(letters, options: chosen)
        }
    }

    @Test("how another replay of a canary ended says nothing of this one")
    func anotherReplay() async throws {
        let world = DeskWorld()
        let letters = (0..<3).map { world.deadLetter(Int64($0)) }
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.canary = 1
        options.canaryTimeout = .seconds(20)
        // An earlier replay, whose record was handled late, is told of while this one is waited for.
        let waits = Mutex(0)
        world.meanwhile.withLock {
            $0 = {
                let count = waits.withLock { waits in
                    waits += 1
                    return waits
                }
                let isOwn = count >= 5
                let state = DeadLetterState(
                    isOwn ? .failedAgain : .completed, time: world.clock.now(), by: "care",
                    replay: isOwn ? world.replayID(of: letters[0]) : "0af76519-16cd-43dd-8448-eb211c80319d")
                world.write(TopicName.deadLetterState, key: "care/\(letters[0])", value: state.json.utf8Text)
            }
        }
        let report = try await desk.replay(letters, options: options)
        #expect(report.canary == .failedAgain([letters[0]]) && report.replayed == 1 && report.left == 2)
        #expect(waits.withLock { $0 } == 5)
    }
}

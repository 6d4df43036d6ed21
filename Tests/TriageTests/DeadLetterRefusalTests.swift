import Testing
import TriageEvents
import TriageProcessing
import TriageTestKit

@testable import Triage

@Suite("Dead letters that can't be written anew")
struct DeadLetterRefusalTests {
    @Test("what was refused is no canary: the next ones are")
    func canary() async throws {
        let world = DeskWorld()
        let letters = (0..<6).map { world.deadLetter(Int64($0), value: $0 < 2 ? String(repeating: "x", count: 5000) : "{}") }
        world.broker.setMaximumRecordSize(2000, of: DeskWorld.retry)
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.canary = 2
        options.canaryTimeout = .seconds(20)
        // Nobody handles them: only the canaries are written, and the others stay.
        let report = try await desk.replay(letters, options: options)
        #expect(report.canary == .timedOut([letters[2], letters[3]]) && report.replayed == 2 && report.left == 2)
        #expect(report.refusals.map(\.position) == [letters[0], letters[1]])
        #expect(world.status(letters[4]) == nil && world.status(letters[5]) == nil)
    }

    @Test("one whose partition doesn't exist holds up nobody")
    func partition() async throws {
        let world = DeskWorld()
        let before = world.deadLetter(1)
        let strange = world.write(
            DeskWorld.dlq, key: "p",
            [Header("triage-origin", text: "\(DeskWorld.topic)/77/1"), Header("triage-group", text: "care")])
        let after = world.deadLetter(2)
        let desk = world.desk()
        try await desk.begin()
        let report = try await desk.replay([before, strange, after])
        #expect(report.replayed == 2 && report.refusals.map(\.refusal) == [.noPartition(DeskWorld.retry, 77)])
        #expect(world.status(strange) == nil && world.status(before) == .replayed && world.status(after) == .replayed)
    }

    @Test("one that is too large for the brokers is refused alone, whoever refuses it")
    func tooLarge() async throws {
        let world = DeskWorld()
        let letters = (0..<5).map { world.deadLetter(Int64($0), value: $0 == 2 ? String(repeating: "x", count: 5000) : "{}") }
        world.broker.setMaximumRecordSize(2000, of: DeskWorld.retry)
        let desk = world.desk()
        try await desk.begin()
        let report = try await desk.replay(letters)
        #expect(report.replayed == 4 && report.refusals.map(\.refusal) == [.tooLarge])
        #expect(report.refusals.map(\.position) == [letters[2]] && world.replays().count == 4)
    }
}

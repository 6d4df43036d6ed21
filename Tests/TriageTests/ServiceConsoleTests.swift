import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("A service's console over the broker in memory")
struct ServiceConsoleTests {
    /// Does something when an order begins; remembers that something happened.
    private final class Gate: Sendable {
        let act = Mutex<(@Sendable () -> Void)?>(nil)
        let isOpen = Mutex(false)
        func open() { isOpen.withLock { $0 = true } }
    }

    private func makeDesk(_ world: DeskWorld, _ gate: Gate = Gate()) -> (LetterReader, ConsoleDesk) {
        let access = world.access()
        let reader = LetterReader(access, clock: world.clock)
        return (
            reader,
            ConsoleDesk(
                access, clock: world.clock,
                makeOperator: {
                    gate.act.withLock { $0 }?()
                    return world.desk($0, access)
                }, changed: { await reader.changed() })
        )
    }

    @Test("What is replayed shows as replayed, and nobody is kept out afterwards")
    func replay() async throws {
        let world = DeskWorld()
        let letters = (0..<6).map { world.deadLetter(Int64($0), fingerprint: $0 < 4 ? "00000000000000aa" : "00000000000000bb") }
        let (reader, desk) = makeDesk(world)
        #expect(await reader.current().index.groups(LetterQuery()).map(\.count) == [4, 2])
        let bob = world.desk("bob")
        try await bob.begin()
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        let id = try desk.start(ConsoleOrder(kind: .replay, choice: .query(query)), by: "ann (console)")
        await desk.settle(.seconds(60))
        let task = try #require(desk.tasks.first)
        #expect(task.id == id && task.state == .done(["4 dead letters replayed."], isWell: true))
        #expect(world.replays().sorted() == Array(letters[..<4]).sorted())
        #expect(await reader.current().index.groups(LetterQuery()).map(\.count) == [2])
        #expect(world.states().lease?.by == "ann (console)")
        await #expect(throws: OperatorError.self) { try await bob.replay([letters[5]]) }
        try await bob.begin()
        #expect(try await bob.replay([letters[5]]).replayed == 1)
        // What somebody else did shows as soon as it is looked at again.
        world.clock.advance(by: .seconds(11))
        _ = await reader.current()
        await reader.changed()
        #expect(await reader.current().index.groups(LetterQuery()).map(\.count) == [1])
    }

    @Test("Discarding and opening again; a second order waits for the first one to end")
    func discard() async throws {
        let world = DeskWorld()
        let letter = world.deadLetter(1)
        let gate = Gate()
        let (reader, desk) = makeDesk(world, gate)
        var order = ConsoleOrder(kind: .discard, choice: .some([letter]))
        order.reason = "made up"
        let refused = Gate()
        gate.act.withLock {
            $0 = { [order] in
                // Before anything has been written.
                do { _ = try desk.start(order, by: "bob") } catch { refused.open() }
            }
        }
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        gate.act.withLock { $0 = nil }
        #expect(refused.isOpen.withLock { $0 })
        #expect(desk.tasks.first?.state == .done(["1 dead letter discarded."], isWell: true))
        #expect(world.status(letter) == .discarded)
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        #expect(
            desk.tasks.first?.state
                == .done(["0 dead letters discarded.", "1 dead letter left alone: discarded already."], isWell: true))
        _ = try desk.start(ConsoleOrder(kind: .reopen, choice: .some([letter])), by: "ann")
        await desk.settle(.seconds(60))
        #expect(world.status(letter) == .open)
        #expect(await reader.current().index.rows.map(\.status) == [.open])
    }

    @Test("A canary that fails again keeps the others back")
    func canary() async throws {
        let world = DeskWorld()
        for offset in 0..<5 { world.deadLetter(Int64(offset)) }
        world.meanwhile.withLock { $0 = { world.process { _ in .failedAgain } } }
        let (_, desk) = makeDesk(world)
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        var order = ConsoleOrder(kind: .replay, choice: .query(query))
        order.canary = 1
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        guard case .done(let lines, let isWell)? = desk.tasks.first?.state else {
            Issue.record("not done: \(String(describing: desk.tasks.first))")
            return
        }
        #expect(!isWell && lines.first == "1 dead letter replayed." && lines.contains { $0.contains("so 4 were left alone") })
        #expect(world.replays().count == 1)
    }

    @Test("A dead letter that isn't there fails the order, and says so")
    func missing() async throws {
        let world = DeskWorld()
        world.deadLetter(1)
        let (_, desk) = makeDesk(world)
        _ = try desk.start(
            ConsoleOrder(kind: .replay, choice: .some([RecordPosition(topic: DeskWorld.dlq, partition: 0, offset: 9)])), by: "ann"
        )
        await desk.settle(.seconds(60))
        #expect(
            desk.tasks.first?.state
                == .failed(
                    "fhir.Patient.created.dlq/0/9: the last offset of the partition is 0",
                    nameless: "fhir.Patient.created.dlq/0/9: the last offset of the partition is 0"))
    }
}

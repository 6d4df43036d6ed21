import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Operating dead letters")
struct DeadLetterOperatorTests {
    @Test("a replay writes each dead letter once, with its state; a second one does nothing, a forced one does it again")
    func replay() async throws {
        let world = DeskWorld()
        let letters = (0..<250).map { world.deadLetter(Int64($0), partition: Int32($0 % 3)) }
        let desk = world.desk()
        try await desk.begin()
        #expect(world.states().lease?.by == "ann")
        var options = ReplayOptions()
        options.reason = "schema mended"
        let told = Mutex(0)
        let report = try await desk.replay(
            try await DeadLetterBrowser(world.access()).select(DeadLetterFilter()), options: options
        ) {
            if case .replayed(_, let place) = $0, place.topic == DeskWorld.retry { told.withLock { $0 += 1 } }
        }
        #expect(report.replayed == 250 && report.unchanged.isEmpty && report.refused == 0 && report.canary == nil)
        #expect(told.withLock { $0 } == 250)
        #expect(world.replays().sorted() == letters.sorted())
        for record in world.broker.records(in: DeskWorld.retry) {
            #expect(record.headers.text(HeaderName.replay)?.hasPrefix(report.id) == true)
            #expect(record.headers.text("my-own") == "kept" && record.headers.text(HeaderName.retryCount) == "0")
            #expect(record.headers.text(HeaderName.errorFingerprint) == nil)
            let mark = try #require(ReplayMark(record.headers.text(HeaderName.replay) ?? ""))
            let state = try #require(world.states()[DeadLetterKey(group: "care", position: mark.deadLetter)])
            #expect(state.status == .replayed && state.successor == record.position && state.replay == report.id)
            #expect(state.by == "ann" && state.reason == "schema mended" && state.origin?.topic == DeskWorld.topic)
            #expect(state.lane == record.key.map { DeadLetterState.lane(of: $0) })
        }
        let second = try await desk.replay(letters)
        #expect(second.replayed == 0 && second.unchanged == [.replayed: 250] && world.replays().count == 250)
        var forced = ReplayOptions()
        forced.force = true
        #expect(try await desk.replay([letters[0], letters[0]], options: forced).replayed == 1)
        #expect(world.replays().count == 251)
        await desk.end()
        await #expect(throws: OperatorError.notBegun) { try await desk.replay([letters[0]]) }
    }

    @Test("whoever begins later goes on; the other is told who it is and since when")
    func fenced() async throws {
        let world = DeskWorld()
        let letters = (0..<5).map { world.deadLetter(Int64($0)) }
        let (ann, bob) = (world.desk("ann"), world.desk("bob"))
        try await ann.begin()
        #expect(try await ann.replay([letters[0]]).replayed == 1)
        world.clock.advance(by: .seconds(5))
        let since = world.clock.now()
        try await bob.begin()
        await #expect(throws: OperatorError.fenced(by: "bob", since: since)) { try await ann.replay(letters) }
        await #expect(throws: OperatorError.notBegun) { try await ann.replay(letters) }
        let report = try await bob.replay(letters)
        #expect(report.replayed == 4 && report.unchanged == [.replayed: 1])
        #expect(world.replays().sorted() == letters)
        #expect(
            "\(OperatorError.fenced(by: "bob", since: Timestamp(milliseconds: 0)))"
                == "bob operates the dead letters of this cluster now, since 1970-01-01T00:00:00.000Z: "
                + "nothing of what was under way was written"
        )
    }

    @Test("who took over is looked for until it has said so, and not for ever")
    func fencedByASilentOne() async throws {
        let world = DeskWorld()
        let letter = world.deadLetter(1)
        let ann = world.desk("ann")
        try await ann.begin()
        let other = world.broker.transactions(id: DeadLetterAccess.transactionalID)
        try await other.initialise()
        await #expect(throws: OperatorError.fenced(by: nil, since: nil)) { try await ann.replay([letter]) }
        #expect(world.slept.withLock { $0 } == DeadLetterOperator.searchTimeout)
        // It says so while it is looked for.
        try await ann.begin()
        try await other.initialise()
        let said = DeadLetterLease(by: "bob", time: world.clock.now(), id: "x")
        world.meanwhile.withLock {
            $0 = { world.write(TopicName.deadLetterState, key: DeadLetterLease.key, value: said.json.utf8Text) }
        }
        await #expect(throws: OperatorError.fenced(by: "bob", since: said.time)) { try await ann.discard([letter], reason: "x") }
    }

    @Test("two at once replay nothing twice and lose nothing", arguments: 0..<20)
    func atOnce(round: Int) async throws {
        let world = DeskWorld()
        let letters = (0..<60).map { world.deadLetter(Int64($0), partition: Int32($0 % 3)) }
        var options = ReplayOptions()
        options.batchRecords = 7
        let chosen = options
        await withTaskGroup(of: Void.self) { group in
            for name in ["ann", "bob", "eve"] {
                group.addTask {
                    let desk = world.desk(name)
                    do {
                        try await desk.begin()
                        _ = try await desk.replay(letters, options: chosen)
                    } catch {
                        #expect(error is OperatorError, "\(error)")
                    }
                }
            }
        }
        // Whoever began last wasn't fenced, unless it was while it began.
        let last = world.desk("last")
        try await last.begin()
        _ = try await last.replay(letters)
        #expect(world.replays().sorted() == letters.sorted())
    }

    @Test("killed at any step, the next one goes on: each dead letter has one replay", arguments: 0..<60)
    func killed(step: Int) async throws {
        let world = DeskWorld()
        let letters = (0..<12).map { world.deadLetter(Int64($0), partition: Int32($0 % 3)) }
        var options = ReplayOptions()
        options.batchRecords = 5
        let steps = Mutex(step)
        let broker = world.broker
        let dying = world.access {
            MortalTransactions(broker.transactions(id: DeadLetterAccess.transactionalID)) {
                steps.withLock { left in
                    left -= 1
                    return left < 0
                }
            }
        }
        let first = world.desk("ann", dying)
        do {
            try await first.begin()
            _ = try await first.replay(letters, options: options)
            #expect(steps.withLock { $0 } >= 0)
        } catch {
            #expect(steps.withLock { $0 } < 0)
        }
        let partial = world.replays().count
        let second = world.desk("bob")
        try await second.begin()
        let report = try await second.replay(letters, options: options)
        #expect(report.replayed == 12 - partial && world.replays().sorted() == letters.sorted())
        #expect([0, 5, 10, 12].contains(partial))
        for letter in letters { #expect(world.status(letter) == .replayed) }
    }

    @Test("copies of a dead letter are one: replayed once, closed together, however they are named")
    func copies() async throws {
        let world = DeskWorld()
        let first = world.deadLetter(1)
        let other = world.deadLetter(2)
        let copy = world.deadLetter(1)
        let desk = world.desk()
        try await desk.begin()
        #expect(try await desk.replay([copy, first]).replayed == 1)
        #expect(world.replays() == [copy] && world.status(first) == .replayed && world.status(copy) == .replayed)
        let far = world.deadLetter(1)
        let report = try await desk.replay(try await DeadLetterBrowser(world.access()).select(DeadLetterFilter()))
        #expect(report.replayed == 1 && report.unchanged == [.replayed: 1] && world.replays() == [copy, other])
        // One that came later is known by its state, and by those alone that follow the same replay.
        #expect(try await DeadLetterBrowser(world.access()).find(far).entry.status == .replayed)
        let again = world.deadLetter(1, extra: [Header("triage-replay", text: "\(report.id) \(first)")])
        #expect(try await DeadLetterBrowser(world.access()).find(again).entry.status == .open)
        #expect(try await desk.replay([again]).replayed == 1)
    }

    @Test("no more go out in a second than are allowed, however many there are")
    func rate() async throws {
        let world = DeskWorld()
        let letters = (0..<95).map { world.deadLetter(Int64($0)) }
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.rate = 10
        let start = world.clock.now()
        _ = try await desk.replay(letters, options: options)
        #expect(world.slept.withLock { $0 } == .seconds(9))
        var times = world.broker.records(in: DeskWorld.retry).compactMap { $0.timestamp.map { ($0 - start).inSeconds } }
        times.sort()
        for (index, time) in times.enumerated() { #expect(time + 0.01 >= Double(index / 10), "\(index)") }
        // Less than one in a second.
        var pacer = ReplayPacer(rate: 0.5, from: start)
        #expect(pacer.pause(before: 1, at: start) == .zero && pacer.pause(before: 1, at: start) == .seconds(2))
        // Rates of any size end nothing.
        for rate in [Double.leastNonzeroMagnitude, 1e-12, 1e300, .greatestFiniteMagnitude, .infinity] {
            var pacer = ReplayPacer(rate: rate, from: start)
            for _ in 0..<3 { _ = pacer.pause(before: .max, at: start) }
            #expect(pacer.pause(before: 1, at: start) <= .seconds(3 * 86_400))
        }
        var atOnce = ReplayOptions()
        atOnce.rate = 1e300
        let fast = DeskWorld()
        let letter = fast.deadLetter(0)
        let other = fast.desk()
        try await other.begin()
        #expect(try await other.replay([letter], options: atOnce).replayed == 1)
        await other.end()
    }

    @Test("a transaction that fails is told, and nothing of it counts")
    func aborted() async throws {
        let world = DeskWorld()
        let letters = (0..<3).map { world.deadLetter(Int64($0)) }
        let desk = world.desk()
        try await desk.begin()
        let error = BrokerError("_MSG_TIMED_OUT", operation: "produce")
        world.broker.failNextProduces(1, with: error)
        await #expect(throws: OperatorError.aborted(error)) { try await desk.replay(letters) }
        #expect(world.replays().isEmpty && world.status(letters[0]) == nil)
        try await desk.begin()
        #expect(try await desk.replay(letters).replayed == 3)
    }

    @Test("the state topic is made if it is missing, and missed if that doesn't help")
    func stateTopic() async throws {
        let world = DeskWorld(hasStateTopic: false)
        let letter = world.deadLetter(1)
        #expect(try await DeadLetterBrowser(world.access()).list().entries.map(\.status) == [.open])
        let desk = world.desk()
        try await desk.begin()
        #expect(try await desk.replay([letter]).replayed == 1 && world.status(letter) == .replayed)
        let bare = DeskWorld(hasStateTopic: false)
        let broker = bare.broker
        let access = DeadLetterAccess(
            topics: [DeskWorld.dlq], group: "care", scanner: broker.scanner(), transactions: { broker.transactions(id: "x") })
        await #expect(throws: OperatorError.noStateTopic) { try await bare.desk("ann", access).begin() }
    }
}

/// A producer of transactions whose process is killed at some step: from then on nothing that it does reaches the broker.
final class MortalTransactions: TransactionalProducer {
    struct Killed: Error {}
    private let producer: any TransactionalProducer
    private let isKilled: @Sendable () -> Bool
    private let isDead = Mutex(false)

    init(_ producer: any TransactionalProducer, isKilled: @escaping @Sendable () -> Bool) {
        self.producer = producer
        self.isKilled = isKilled
    }

    private func step() throws(BrokerError) {
        let dies = isDead.withLock { isDead in
            isDead = isDead || isKilled()
            return isDead
        }
        if dies { throw BrokerError("_DESTROY", operation: "killed") }
    }

    func initialise() async throws(BrokerError) {
        try step()
        try await producer.initialise()
    }
    func begin() async throws(BrokerError) {
        try step()
        try await producer.begin()
    }
    func commit() async throws(BrokerError) {
        try step()
        try await producer.commit()
        // The answer doesn't come any more.
        try step()
    }
    func abort() async throws(BrokerError) {
        try step()
        try await producer.abort()
    }
    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        try step()
        try producer.produce(record, completion: completion)
    }
    func whenWritable(_ body: @escaping @Sendable () -> Void) { producer.whenWritable(body) }
    func flush(timeout: Duration) async -> Bool { await producer.flush(timeout: timeout) }
    func close() {}
}

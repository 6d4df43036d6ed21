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
                            let state = DeadLetterState(status, time: world.clock.now(), by: group)
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
    }

    @Test("discards close, forced ones also what was replayed; taking one back opens it again")
    func discards() async throws {
        let world = DeskWorld()
        let letters = (0..<3).map { world.deadLetter(Int64($0)) }
        let copy = world.deadLetter(0)
        let desk = world.desk()
        try await desk.begin()
        _ = try await desk.replay([letters[2]])
        let gone = RecordPosition("\(DeskWorld.dlq)/0/99")!
        let report = try await desk.discard(letters + [gone], reason: "test data")
        #expect(report.changed == 2 && report.unchanged == [.replayed: 1] && report.refusals.map(\.position) == [gone])
        #expect(world.status(letters[0]) == .discarded && world.status(copy) == .discarded)
        #expect(world.states()[DeadLetterKey(group: "care", position: letters[1])]?.reason == "test data")
        #expect(try await desk.replay(letters).replayed == 0)
        #expect(try await desk.discard(letters, reason: "again").changed == 0)
        #expect(try await desk.discard([letters[2]], reason: "really", force: true).changed == 1)
        let back = try await desk.reopen(letters)
        #expect(back.changed == 3 && world.status(letters[0]) == .open && world.status(copy) == .open)
        #expect(try await desk.reopen(letters).unchanged == [.open: 3])
        #expect(try await desk.replay([copy]).replayed == 1 && world.replays().count == 2)
    }

    @Test("an edit is written, and what the event said before is kept with who changed it and why")
    func edits() async throws {
        let world = DeskWorld()
        let letters = (0..<3).map { world.deadLetter(Int64($0), value: $0 == 2 ? nil : "{\"n\":\($0)}") }
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.reason = "birth date \"repaired\""
        options.edit = ReplayOptions.edit([letters[0]: ByteSlice("{\"n\":10}"), letters[2]: ByteSlice("{}")])
        let report = try await desk.replay(letters, options: options)
        #expect(report.replayed == 3)
        #expect(
            world.broker.records(in: DeskWorld.retry).map { $0.value?.utf8Text } == ["{\"n\":10}", "{\"n\":1}", "{}"])
        let audits = world.broker.records(in: TopicName.deadLetterState).compactMap { DeadLetterAudit($0) }
        #expect(audits.map(\.mark.deadLetter) == [letters[0], letters[2]])
        #expect(audits.map { $0.original?.utf8Text } == ["{\"n\":0}", nil])
        #expect(audits.allSatisfy { $0.by == "ann" && $0.reason == options.reason && $0.mark.id == report.id })
        #expect(world.states().malformed == 0)
        // An edit that fails refuses its dead letter alone.
        struct Broken: Error, CustomStringConvertible { let description = "no such path" }
        let more = (10..<12).map { world.deadLetter(Int64($0)) }
        options.edit = { entry, _, _ in
            if entry.letter.position == more[0] { throw Broken() }
            return nil
        }
        let second = try await desk.replay(more, options: options)
        #expect(second.replayed == 1 && second.refusals.map(\.refusal) == [.notEdited("no such path")])
    }

    struct Reversing: DeadLetterOpening {
        struct WrongKey: Error, CustomStringConvertible { let description = "no key k2" }
        func open(_ record: Record) throws -> ByteSlice? {
            guard let text = record.headers.text(HeaderName.encryption) else { return nil }
            if text == "k2" { throw WrongKey() }
            return record.value.map { ByteSlice(Array($0.reversed())) }
        }
    }

    @Test("what is encrypted is replayed in the clear with the key, and refused without")
    func encrypted() async throws {
        let world = DeskWorld()
        let letter = world.deadLetter(1, value: "}1{", extra: [Header("triage-encryption", text: "k1")])
        let other = world.deadLetter(2, value: "}2{", extra: [Header("triage-encryption", text: "k2")])
        let plain = world.deadLetter(3, value: "{3}")
        let without = world.desk()
        try await without.begin()
        let refused = try await without.replay([letter])
        #expect(refused.replayed == 0 && refused.refusals.map(\.refusal) == [.encrypted])
        let desk = world.desk("bob", world.access(cipher: Reversing()))
        try await desk.begin()
        var options = ReplayOptions()
        let seen = Mutex<[String?]>([])
        options.edit = { entry, _, value in
            seen.withLock { $0.append(value?.utf8Text) }
            return entry.letter.position == letter ? ByteSlice("{repaired}") : nil
        }
        let report = try await desk.replay([letter, other, plain], options: options)
        #expect(report.replayed == 2 && report.refusals.map(\.refusal) == [.notOpened("no key k2")])
        #expect(seen.withLock { $0 } == ["{1}", "{3}"])
        let written = world.broker.records(in: DeskWorld.retry)
        #expect(written.map { $0.value?.utf8Text } == ["{repaired}", "{3}"])
        #expect(written.allSatisfy { $0.headers.last(HeaderName.encryption) == nil })
        // What is kept of it stays as it was: encrypted.
        let audit = try #require(world.broker.records(in: TopicName.deadLetterState).compactMap { DeadLetterAudit($0) }.first)
        #expect(audit.original?.utf8Text == "}1{" && audit.encryption == "k1")
    }

    @Test("bytes that were refused are taken from the origin, if the same event still stands there")
    func pointers() async throws {
        let world = DeskWorld()
        for number in 0..<3 { world.write(DeskWorld.topic, key: "p\(number)", value: "{\"large\":\(number)}") }
        let pointer = [Header("triage-pointer", text: "MSG_SIZE_TOO_LARGE 12")]
        let there = world.deadLetter(1, value: nil, extra: pointer)
        let another = world.deadLetter(2, key: "px", value: nil, extra: pointer)
        let gone = world.deadLetter(0, value: nil, extra: pointer)
        world.broker.trim(TopicPartition(DeskWorld.topic, 0), before: 1)
        let desk = world.desk()
        try await desk.begin()
        let report = try await desk.replay([there, another, gone])
        #expect(report.replayed == 1 && world.broker.records(in: DeskWorld.retry).map { $0.value?.utf8Text } == ["{\"large\":1}"])
        #expect(world.broker.records(in: DeskWorld.retry).first?.headers.last(HeaderName.pointer) == nil)
        #expect(
            report.refusals.map(\.refusal)
                == [2, 0].map { .valueGone(RecordPosition(topic: DeskWorld.topic, partition: 0, offset: $0)) })
    }

    @Test("another's dead letters go to the group that is given, from topics of any name")
    func foreign() async throws {
        let world = DeskWorld()
        for name in ["orders.DLT", "orders.retry", "things-dlt"] { world.broker.createTopic(name, partitions: 1) }
        let place = world.write(
            "orders.DLT",
            [
                Header("kafka_dlt-original-topic", text: "orders"), Header("kafka_dlt-original-consumer-group", text: "billing"),
                Header("kafka_dlt-original-partition", ByteSlice([0, 0, 0, 0])),
                Header("kafka_dlt-original-offset", ByteSlice([0, 0, 0, 0, 0, 0, 0, 42])),
                Header("kafka_dlt-exception-fqcn", text: "java.lang.IllegalStateException"),
            ])
        let nameless = world.write("things-dlt", [Header("reason_poisoned", text: "whatever")])
        let access = world.access(topics: ["orders.DLT", "things-dlt"], isNamed: true)
        let desk = world.desk("ann", access)
        try await desk.begin()
        let report = try await desk.replay([place, nameless])
        #expect(report.replayed == 1 && report.refusals.map(\.refusal) == [.noTopic])
        let written = try #require(world.broker.records(in: "orders.retry").first)
        #expect(written.headers.text(HeaderName.group) == "care" && written.headers.text(HeaderName.origin) == "orders/0/42")
        #expect(world.states()[DeadLetterKey(group: "care", position: place)]?.status == .replayed)
        #expect(try await DeadLetterBrowser(access).find(place).entry.status == .replayed)
        // By whatever group one looks.
        let billing = DeadLetterBrowser(world.access(topics: ["orders.DLT"], isNamed: true, group: "billing"))
        #expect(try await billing.find(place).entry.status == .replayed)
        var options = ReplayOptions()
        options.topic = "orders"
        #expect(try await desk.replay([nameless], options: options).replayed == 1)
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

import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Edited dead letters")
struct DeadLetterEditTests {
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

    @Test("what an event said before its edits is found from each dead letter that it was, and from no other event's")
    func originals() async throws {
        let world = DeskWorld()
        let browser = DeadLetterBrowser(world.access())
        let written = Header("triage-origin-timestamp", text: "1764000000000")
        let first = world.deadLetter(7, value: "{\"n\":0}", extra: [written])
        #expect(try await browser.edits(of: browser.find(first).entry.letter).isEmpty)
        let desk = world.desk()
        try await desk.begin()
        var options = ReplayOptions()
        options.reason = "once"
        options.edit = ReplayOptions.edit([first: ByteSlice("{\"n\":1}")])
        let one = try await desk.replay([first], options: options)
        // It failed again, was edited again, and failed once more.
        let second = world.deadLetter(
            7, value: "{\"n\":1}", extra: [written, Header("triage-replay", text: "\(one.id) \(first)")])
        options.edit = ReplayOptions.edit([second: ByteSlice("{\"n\":2}")])
        let two = try await desk.replay([second], options: options)
        let third = world.deadLetter(
            7, value: "{\"n\":2}", extra: [written, Header("triage-replay", text: "\(two.id) \(second)")])
        for letter in [first, second, third] {
            let edits = try await browser.edits(of: browser.find(letter).entry.letter)
            #expect(edits.map { $0.original?.utf8Text } == ["{\"n\":0}", "{\"n\":1}"], "\(letter)")
            #expect(edits.map(\.mark) == [ReplayMark(id: one.id, deadLetter: first), ReplayMark(id: two.id, deadLetter: second)])
            #expect(edits.allSatisfy { $0.by == "ann" && $0.reason == "once" && !$0.isElsewhere })
            #expect(edits.first?.event?.origin == RecordPosition(topic: DeskWorld.topic, partition: 0, offset: 7))
        }
        // Another patient's event, a later one of the same patient, and another group's work, each of the same place.
        let others = [
            world.deadLetter(7, key: "other", extra: [written]),
            world.deadLetter(7, extra: [Header("triage-origin-timestamp", text: "1764000000001")]),
            world.deadLetter(7, extra: [written, Header("triage-group", text: "else")]), world.deadLetter(8, extra: [written]),
        ]
        for letter in others {
            let entry = try await browser.find(letter).entry
            #expect(try await browser.edits(of: entry.letter).isEmpty, "\(letter)")
        }
        // A replay to the main topic is a new event, whose mark leads back.
        let anew = world.deadLetter(99, key: "p7", extra: [Header("triage-replay", text: "\(two.id) \(second)")])
        #expect(try await browser.edits(of: browser.find(anew).entry.letter).map { $0.original?.utf8Text } == ["{\"n\":1}"])
        // Looks at what dead letters hold are put on record beside the edits, and are none.
        let reveal = DeadLetterReveal(world.access(), clock: world.clock) { world.broker.producer() }
        try await reveal.record(third, as: .original, by: "eve")
        #expect(try await browser.edits(of: browser.find(third).entry.letter).count == 2)
        #expect(world.broker.records(in: TopicName.deadLetterState).last?.value?.utf8Text?.contains("\"original\"") == true)
        #expect(world.states().malformed == 0)
    }
}

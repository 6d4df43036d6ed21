import Logging
import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("What a service's console shows of contents, and what it puts on record before")
struct ConsoleRevealTests {
    private static let event = #"{"type":"PatientCreated","data":{"resourceType":"Patient","id":"p1","gender":"marker"}}"#
    private let world = DeskWorld()

    private func console(cipher: (any DeadLetterOpening)? = nil) -> ServiceConsole {
        let access = world.access(cipher: cipher)
        let broker = world.broker
        let reveals = DeadLetterReveal(access, clock: world.clock) { broker.producer() }
        return ServiceConsole(
            ServiceConsole.Parts(access: access, reveals: reveals), telemetry: makeTelemetry(), logger: quiet())
    }

    private func patch(_ text: String) throws -> JSONPatch { try JSONPatch(ByteSlice(text)) }

    /// What is on record, and who did it.
    private func audits() throws -> [String] {
        try world.broker.records(in: TopicName.deadLetterState).map { record in
            let value = try #require(record.value.flatMap { JSONValue($0) })
            return "\(value["action"]?.string ?? "-") \(value["by"]?.string ?? "-") \(value["reason"]?.string ?? "-")"
        }
    }

    @Test("A reveal shows all headers; of a sealed dead letter the producer's own, opened, as the command does")
    func reveal() async throws {
        let plain = world.deadLetter(1, key: "p1", value: "{\"a\":1}", extra: [Header("nothing", nil)])
        let shown = try await console().reveal(plain, by: "ann")
        #expect(shown.key == "p1" && shown.value == "{\"a\":1}" && shown.problem == nil)
        #expect(
            shown.headers.contains { $0 == ("my-own", "kept") }
                && shown.headers.contains { $0.name == "nothing" && $0.value == nil })
        let key = try DeadLetterSealKey(repeatElement(1, count: 32))
        let place = RecordPosition(topic: DeskWorld.topic, partition: 0, offset: 7)
        var block = TextBytes()
        block.append(base64: try #require(key.seal(HeaderBlock.bytes([Header("theirs", text: "Zoë")]), as: .headers, of: place)))
        let body = try #require(key.seal(ByteSlice(Self.event), as: .body, of: place))
        let sealed = try write(
            body,
            [
                Header("triage-origin", text: "\(place)"), Header("triage-encryption", text: key.name),
                Header("triage-sealed-headers", block.slice),
            ])
        let opened = try await console(cipher: DeadLetterCipher(keys: [key])).reveal(sealed, by: "ann")
        #expect(opened.value == Self.event && opened.problem == nil && opened.headers.contains { $0 == ("theirs", "Zoë") })
        #expect(!opened.headers.contains { $0.name == "triage-sealed-headers" })
        let closed = try await console().reveal(sealed, by: "ann")
        #expect(closed.problem == "It is encrypted, and this service has no key.")
        #expect(try audits() == Array(repeating: "reveal ann -", count: 3))
    }

    private func write(_ value: ByteSlice, _ headers: [Header]) throws -> RecordPosition {
        try world.broker.producer().produce(
            OutboundRecord(topic: DeskWorld.dlq, partition: 0, key: ByteSlice("p1"), value: value, headers: Headers(headers))
        ) { _ in }
        let offset = try #require(world.broker.records(in: DeskWorld.dlq).map(\.offset).max())
        return RecordPosition(topic: DeskWorld.dlq, partition: 0, offset: offset)
    }

    @Test("A preview tells paths and types; one that compares values is on record, since it tells what they are")
    func preview() async throws {
        let id = world.deadLetter(1, value: Self.event)
        let console = console()
        let preview = try await console.preview(try patch(#"[{"op":"remove","path":"/data/gender"}]"#), of: id, by: "ann")
        #expect(preview.changes == [LetterPreview.Line(path: "data.gender", kind: .string, before: 1, after: 0)])
        #expect(try audits().isEmpty)
        let test = try patch(#"[{"op":"test","path":"/data/gender","value":"male"}]"#)
        await #expect(throws: JSONPatchError.self) { _ = try await console.preview(test, of: id, by: "ann") }
        #expect(try audits() == ["reveal ann a patch that compares values"])
        let error = await #expect(throws: LetterRepair.Fault.self) {
            _ = try await console.preview(try patch(#"[{"op":"remove","path":"/data/id"}]"#), of: id, by: "ann")
        }
        #expect(error?.description.hasPrefix("what it would be is no event: ") == true && "\(error!)".contains("marker") == false)
        world.broker.failNextProduces(1, with: BrokerError("TOPIC_AUTHORIZATION_FAILED", operation: "produce"))
        await #expect(throws: DeadLetterReveal.NotRecorded.self) { _ = try await console.preview(test, of: id, by: "ann") }
    }

    @Test("An export is what the command writes, in the order of their names or of the topic; on record before it is handed over")
    func export() async throws {
        let ids = (0..<4).map { world.deadLetter(Int64($0), value: "{\"n\":\($0)}") }
        let console = console()
        let some = try await console.export(.some([ids[2], ids[0]]), by: "ann", reason: "a <reason>")
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        let all = try await console.export(.query(query), by: "ann", reason: nil)
        func values(_ lines: [UInt8]) throws -> [String] {
            try lines.split(separator: UInt8(ascii: "\n")).map { line in
                let record = try DeadLetterArchive.record(ByteSlice(line), decoder: EventDecoder())
                return try #require(record.value?.utf8Text)
            }
        }
        #expect(try values(some) == ["{\"n\":2}", "{\"n\":0}"] && values(all) == (0..<4).map { "{\"n\":\($0)}" })
        #expect(try audits() == ["export ann a <reason>", "export ann -"])
        let gone = RecordPosition(topic: DeskWorld.dlq, partition: 0, offset: 9)
        await #expect(throws: NoSuchDeadLetter.self) {
            _ = try await console.export(.some([ids[0], gone]), by: "ann", reason: nil)
        }
        let main = RecordPosition(topic: DeskWorld.topic, partition: 0, offset: 0)
        await #expect(throws: NoSuchDeadLetter.self) { _ = try await console.export(.some([main]), by: "ann", reason: nil) }
        for choice in [ConsoleOrder.Choice.some(ids), .query(query)] {
            await #expect(throws: ConsoleTooMuch.self) {
                _ = try await ConsoleExport(world.access(), maximumBytes: some.count).lines(choice)
            }
        }
        world.broker.failNextProduces(1, with: BrokerError("TOPIC_AUTHORIZATION_FAILED", operation: "produce"))
        await #expect(throws: DeadLetterReveal.NotRecorded.self) {
            _ = try await console.export(.some(ids), by: "ann", reason: nil)
        }
        #expect(try audits().count == 2)
    }

    @Test("A patched replay writes what the patch makes, keeps what it was, and is remembered without the patch")
    func patched() async throws {
        let id = world.deadLetter(1, value: Self.event)
        let access = world.access()
        let desk = ConsoleDesk(access, clock: world.clock, makeOperator: { world.desk($0, access) }, changed: {})
        var order = ConsoleOrder(kind: .replay, choice: .some([id]))
        order.patch = try patch(#"[{"op":"replace","path":"/data/gender","value":"other"}]"#)
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        let task = try #require(desk.tasks.first)
        #expect(task.state == .done(["1 dead letter replayed."], isWell: true) && task.isPatched && task.order.patch == nil)
        #expect(world.broker.records(in: DeskWorld.retry).first?.value?.utf8Text?.contains(#""gender":"other""#) == true)
        let audit = try #require(world.broker.records(in: TopicName.deadLetterState).compactMap { DeadLetterAudit($0) }.first)
        #expect(audit.original?.utf8Text == Self.event && audit.by == "ann")
        // Once more, by force; and never what isn't one of the dead letters.
        order.force = true
        order.patch = nil
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        #expect(world.replays() == [id, id])
        _ = try desk.start(
            ConsoleOrder(kind: .discard, choice: .some([RecordPosition(topic: DeskWorld.retry, partition: 0, offset: 0)])),
            by: "ann")
        await desk.settle(.seconds(60))
        guard case .failed(let text, _)? = desk.tasks.first?.state else {
            Issue.record("\(String(describing: desk.tasks.first))")
            return
        }
        #expect(text.contains("isn't a dead letter topic by its name"))
    }

    @Test("No more than the limit is replayed, the oldest; slowly if that is asked for")
    func limit() async throws {
        let ids = (0..<5).map { world.deadLetter(Int64($0)) }
        let access = world.access()
        let desk = ConsoleDesk(access, clock: world.clock, makeOperator: { world.desk($0, access) }, changed: {})
        var query = LetterQuery()
        query.fingerprint = "00000000000000aa"
        var order = ConsoleOrder(kind: .replay, choice: .query(query))
        order.limit = 3
        order.rate = 1
        _ = try desk.start(order, by: "ann")
        await desk.settle(.seconds(60))
        #expect(desk.tasks.first?.state == .done(["3 dead letters replayed."], isWell: true))
        #expect(world.replays() == Array(ids[..<3]) && world.slept.withLock { $0 } >= .seconds(2))
    }
}

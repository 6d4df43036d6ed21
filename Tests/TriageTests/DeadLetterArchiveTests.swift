import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Dead letters exported and imported")
struct DeadLetterArchiveTests {
    static let odd = Record(
        topic: DeskWorld.dlq, partition: 2, offset: 7, timestamp: Timestamp(milliseconds: 1_764_000_000_123),
        key: ByteSlice([0xFF, 0x00, 0x22]), value: nil,
        headers: [
            Header("triage-origin", text: "fhir.Patient.created/2/1"), Header("n", nil), Header("n", ByteSlice("")),
            Header("n\u{0}\"ü", ByteSlice([0, 1, 2, 255])),
        ])

    @Test("every byte comes back", arguments: [nil, "", "{\"a\":1}", "\u{0}\n\"ü"])
    func roundTrip(value: String?) throws {
        let record = Record(
            topic: Self.odd.topic, partition: 2, offset: 7, timestamp: Self.odd.timestamp, key: Self.odd.key,
            value: value.map { ByteSlice($0) }, headers: Self.odd.headers)
        let line = DeadLetterArchive.line(record, DeadLetter(record), state: nil)
        #expect(!line.contains(UInt8(ascii: "\n")))
        let back = try DeadLetterArchive.record(line, decoder: EventDecoder())
        #expect(back.position == record.position && back.timestamp == record.timestamp)
        #expect(back.key == record.key && back.value == record.value && back.headers == record.headers)
    }

    @Test("all bytes of random records come back")
    func randomRoundTrips() throws {
        let seed = UInt64.random(in: .min ... .max)
        var random = Seeded(seed)
        func bytes() -> ByteSlice? {
            Bool.random(using: &random)
                ? ByteSlice((0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
                : nil
        }
        for _ in 0..<300 {
            let headers = Headers((0..<Int.random(in: 0...5, using: &random)).map { Header("h\($0 % 2)", bytes()) })
            let record = Record(
                topic: "a.dlq", partition: 0, offset: 1, timestamp: nil, key: bytes(), value: bytes(), headers: headers)
            let line = DeadLetterArchive.line(record, DeadLetter(record), state: nil)
            let back = try DeadLetterArchive.record(line, decoder: EventDecoder())
            #expect(back.key == record.key && back.value == record.value && back.headers == headers, "seed \(seed)")
        }
    }

    @Test(
        "what is no line of ours is refused, and nothing of it is told",
        arguments: [
            ("", DeadLetterArchiveError.noJSON), ("secret", .noJSON), ("[]", .noJSON), ("{}", .noPosition),
            (#"{"topic":"a.dlq","partition":-1,"offset":0}"#, .noPosition),
            (#"{"topic":"secret","partition":0,"offset":0,"key":null,"value":null,"headers":[]}"#, .noDeadLetterTopic),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":null,"value":null}"#, .noHeaders),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":null,"value":null,"headers":[["YQ=="]]}"#, .noHeaders),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":null,"value":null,"headers":[["YQ==",1]]}"#, .noHeaders),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":null,"value":null,"headers":[["secret!",null]]}"#, .noHeaders),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"value":null,"headers":[]}"#, .noBytes),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":null,"headers":[]}"#, .noBytes),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":"secret","value":null,"headers":[]}"#, .noBytes),
            (#"{"topic":"a.dlq","partition":0,"offset":0,"key":7,"value":null,"headers":[]}"#, .noBytes),
        ])
    func refused(line: String, expected: DeadLetterArchiveError) {
        let error = #expect(throws: DeadLetterArchiveError.self) {
            try DeadLetterArchive.record(ByteSlice(line), decoder: EventDecoder())
        }
        #expect(error == expected && error?.description.contains("secret") == false)
    }

    // MARK: Import

    func imported(_ records: [Record], into world: DeskWorld, execute: Bool = true) async throws -> DeadLetterImporter.Report {
        let importer = DeadLetterImporter(world.access(), desk: world.desk(), execute: execute)
        try await importer.begin()
        for record in records { try await importer.add(record) }
        let report = try await importer.finish()
        await importer.end()
        return report
    }

    @Test("written back byte for byte, each once, however often")
    func twiceIsOnce() async throws {
        let source = DeskWorld()
        for origin in 0..<1200 { source.deadLetter(Int64(origin), partition: Int32(origin % 3)) }
        // Of another system, without an origin: told apart by its bytes.
        source.write(DeskWorld.dlq, key: "p", value: "x", [Header("traceparent", text: "00-strange-01")])
        source.write(DeskWorld.dlq, key: "p", value: "y", [Header("traceparent", text: "00-strange-01")])
        let records = source.broker.records(in: DeskWorld.dlq)
        let target = DeskWorld()
        let looked = try await imported(records, into: target, execute: false)
        #expect(looked.written == 1202 && target.broker.records(in: DeskWorld.dlq).isEmpty)
        let first = try await imported(records + records.prefix(5), into: target)
        #expect(first.written == 1202 && first.present == 5)
        let second = try await imported(records, into: target)
        #expect(second.written == 0 && second.present == 1202)
        func content(_ records: [Record]) -> [[ByteSlice?]] {
            records.sorted { $0.position < $1.position }.map { record in
                [ByteSlice("\(record.partition)"), record.key, record.value]
                    + record.headers.flatMap { [ByteSlice($0.name), $0.value] }
            }
        }
        #expect(content(target.broker.records(in: DeskWorld.dlq)) == content(records))
    }

    @Test("a copy of a dead letter is the same dead letter; one after a replay is another")
    func identities() {
        var presence = DeadLetterPresence()
        func record(_ offset: Int64, _ extra: [Header]) -> Record {
            Record(
                topic: DeskWorld.dlq, partition: 0, offset: offset, timestamp: nil, key: ByteSlice("p"), value: ByteSlice("{}"),
                headers: Headers(
                    [Header("triage-origin", text: "fhir.Patient.created/0/1"), Header("triage-group", text: "care")] + extra))
        }
        let isNew = presence.insert(record(0, []))
        let isNewAgain = presence.insert(record(1, [Header("failedAt", text: "2026-01-01T00:00:00Z")]))
        #expect(isNew && !isNewAgain)
        let mark = ReplayMark(id: "0af76519-16cd-43dd-8448-eb211c80319c", deadLetter: record(0, []).position)
        let isOther = presence.insert(record(2, [Header("triage-replay", text: mark.description)]))
        #expect(isOther && presence.count == 2)
    }

    @Test("a topic or partition that isn't there is named")
    func noPartition() async throws {
        let world = DeskWorld(partitions: 1)
        let record = Record(
            topic: DeskWorld.dlq, partition: 2, offset: 0, timestamp: nil, key: nil, value: nil, headers: [])
        let error = await #expect(throws: DeadLetterImporter.NoSuchPartition.self) { try await imported([record], into: world) }
        #expect(error?.description.contains("\(DeskWorld.dlq)/2") == true)
    }

    // MARK: Reveals

    @Test("a reveal is on record before anything is shown, and spoils no state")
    func reveals() async throws {
        let world = DeskWorld(hasStateTopic: false)
        let id = world.deadLetter(1)
        let broker = world.broker
        let reveal = DeadLetterReveal(world.access(), clock: world.clock) { broker.producer() }
        try await reveal.record(id, by: "ana \"x\"", reason: "INC-1")
        try await reveal.recordExport(of: [], by: "ana")
        let records = world.broker.records(in: TopicName.deadLetterState)
        #expect(records.count == 2)
        let value = try #require(records[0].value.flatMap { JSONValue($0) })
        #expect(value["action"]?.string == "reveal" && value["by"]?.string == "ana \"x\"" && value["reason"]?.string == "INC-1")
        #expect(value["of"]?.elements.map(\.string) == [id.description])
        #expect(Set(records.map(\.key)).count == 2)
        #expect(world.states().malformed == 0 && world.status(id) == nil)
    }

    @Test("what can't be put on record isn't revealed")
    func notRecorded() async {
        let world = DeskWorld()
        let id = world.deadLetter(1)
        let broker = world.broker
        broker.failNextProduces(1, with: BrokerError("TOPIC_AUTHORIZATION_FAILED", operation: "produce"))
        let reveal = DeadLetterReveal(world.access(), clock: world.clock) { broker.producer() }
        let error = await #expect(throws: DeadLetterReveal.NotRecorded.self) { try await reveal.record(id, by: "ana") }
        #expect(error?.description.contains("nothing is revealed") == true)
    }
}

import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Replays of sealed dead letters")
struct SealedReplayTests {
    private let broker = InMemoryBroker(clock: ManualClock())
    private let key: DeadLetterSealKey

    init() throws {
        key = try DeadLetterSealKey(repeatElement(1, count: 32))
        for topic in ["t", "t.retry", "t.dlq"] { broker.createTopic(topic, partitions: 1) }
        broker.createTopic(TopicName.deadLetterState, partitions: 1)
    }

    private func write(_ origin: Int64, _ value: String?, pointer: Bool = false) throws -> RecordPosition {
        let place = RecordPosition(topic: "t", partition: 0, offset: origin)
        let theirs = try #require(key.seal(HeaderBlock.bytes([Header("theirs", text: "Zoë")]), as: .headers, of: place))
        var block = TextBytes()
        block.append(base64: theirs)
        let headers =
            [
                Header("triage-origin", text: "\(place)"), Header("triage-group", text: "care"),
                Header("triage-error-class", text: "persistent"), Header("triage-error-fingerprint", text: "00000000000000aa"),
                Header("triage-encryption", text: key.name), Header("triage-shape", text: "object"),
            ]
            + (pointer
                ? [Header("triage-pointer", text: "MSG_SIZE_TOO_LARGE 9")] : [Header("triage-sealed-headers", block.slice)])
        let answer = Mutex<Acknowledgement?>(nil)
        try broker.producer().produce(
            OutboundRecord(
                topic: "t.dlq", partition: 0, key: ByteSlice("p\(origin)"),
                value: pointer ? nil : value.flatMap { key.seal(ByteSlice($0), as: .body, of: place) }, headers: Headers(headers))
        ) { result in answer.withLock { $0 = try? result.get() } }
        return RecordPosition(topic: "t.dlq", partition: 0, offset: try #require(answer.withLock { $0 }).offset)
    }

    private func desk(_ keys: [DeadLetterSealKey]) -> DeadLetterOperator {
        let broker = broker
        let access = DeadLetterAccess(
            topics: ["t.dlq"], group: "care", cipher: keys.isEmpty ? nil : DeadLetterCipher(keys: keys),
            scanner: broker.scanner(),
            transactions: { broker.transactions(id: DeadLetterAccess.transactionalID) })
        return DeadLetterOperator(
            access, by: "ann", tracer: Tracer(sampler: .alwaysOff, clock: SystemClock(), processors: []),
            meter: Meter(clock: SystemClock()),
            clock: SystemClock()
        ) { _ in await Task.yield() }
    }

    @Test("with the key an event goes on as it was, its producer's headers too; without it nothing is written")
    func replay() async throws {
        let letters = [try write(0, "{\"a\":1}"), try write(1, nil)]
        let without = desk([])
        try await without.begin()
        let refused = try await without.replay(letters)
        #expect(refused.replayed == 0 && refused.refusals.allSatisfy { $0.refusal == .encrypted } && refused.refused == 2)
        let other = desk([try DeadLetterSealKey(repeatElement(2, count: 32))])
        try await other.begin()
        let wrong = try await other.replay(letters)
        #expect(wrong.replayed == 0 && "\(wrong.refusals.map(\.refusal))".contains(key.id))
        #expect(broker.records(in: "t.retry").isEmpty)
        let right = desk([try DeadLetterSealKey(repeatElement(2, count: 32)), key])
        try await right.begin()
        #expect(try await right.replay(letters).replayed == 2)
        let written = broker.records(in: "t.retry")
        #expect(written.map { $0.value?.utf8Text } == ["{\"a\":1}", nil])
        for record in written {
            #expect(record.headers.text("theirs") == "Zoë")
            #expect(HeaderName.ofSeals.allSatisfy { record.headers.last($0) == nil })
            #expect(record.headers.text(HeaderName.group) == "care" && record.headers.text(HeaderName.replay) != nil)
        }
    }

    @Test("an edit sees the clear value; what it replaces is kept sealed, of a pointer nothing")
    func edit() async throws {
        let letter = try write(0, "{\"a\":1}")
        var options = ReplayOptions()
        options.edit = { _, record, value in
            #expect(record.headers.text("theirs") == "Zoë")
            return ByteSlice((value?.utf8Text ?? "").replacing("1", with: "2"))
        }
        let desk = desk([key])
        try await desk.begin()
        #expect(try await desk.replay([letter], options: options).replayed == 1)
        #expect(broker.records(in: "t.retry").first?.value?.utf8Text == "{\"a\":2}")
        let audit = try #require(broker.records(in: TopicName.deadLetterState).compactMap { DeadLetterAudit($0) }.first)
        #expect(audit.encryption == key.name)
        #expect(audit.original == broker.records(in: "t.dlq").first?.value)
        // It can be read back, by whoever has the key.
        #expect(try audit.opened(DeadLetterCipher(keys: [key]))?.utf8Text == "{\"a\":1}")
        #expect(throws: OperatorRefusal.encrypted) { try audit.opened(nil) }
        let other = try DeadLetterSealKey(repeatElement(2, count: 32))
        let refusal = #expect(throws: OperatorRefusal.self) { try audit.opened(DeadLetterCipher(keys: [other])) }
        #expect(refusal.map { "\($0)".contains(key.id) } == true)
        // Of a pointer the bytes stand at the origin.
        try broker.producer().produce(OutboundRecord(topic: "t", partition: 0, key: ByteSlice("p0"), value: ByteSlice("clear"))) {
            _ in
        }
        let pointer = try write(0, nil, pointer: true)
        options.force = true
        options.edit = { _, _, value in ByteSlice("mended " + (value?.utf8Text ?? "")) }
        #expect(try await desk.replay([pointer], options: options).replayed == 1)
        #expect(broker.records(in: "t.retry").last?.value?.utf8Text == "mended clear")
        let audits = broker.records(in: TopicName.deadLetterState).compactMap { DeadLetterAudit($0) }
        #expect(audits.count == 2 && audits.last?.original == nil && audits.last?.encryption == nil)
        #expect(audits.map(\.isElsewhere) == [false, true] && audits.last?.event?.origin == RecordPosition("t/0/0"))
    }
}

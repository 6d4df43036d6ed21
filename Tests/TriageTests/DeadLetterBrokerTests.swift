import Glibc
import TestSupport
import Testing
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// The brokers that dead letters are operated on over a socket: the embedded one, and a real one when
/// `TRIAGE_TEST_BROKERS` names it.
enum DeskBroker: String, CaseIterable, CustomTestStringConvertible {
    case embedded, real

    static let address = getenv("TRIAGE_TEST_BROKERS").map { String(cString: $0) }
    static var available: [DeskBroker] { address == nil ? [.embedded] : [.embedded, .real] }
    var testDescription: String { rawValue }
}

@Suite("Operating dead letters over the network", .serialized, .timeLimit(.minutes(3)))
struct DeadLetterBrokerTests {
    /// Main topic, configuration, and what keeps the broker alive.
    private struct World {
        let topic = "fhir.desk-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        let configuration: Configuration
        let cluster: EmbeddedCluster?
        var dlq: String { TopicName.deadLetter(of: topic) }
        var retry: String { TopicName.retry(of: topic) }

        init(_ kind: DeskBroker) async throws {
            cluster = kind == .embedded ? try EmbeddedCluster() : nil
            let servers = try cluster?.bootstrapServers ?? #require(DeskBroker.address)
            var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: servers))
            configuration.topics = [topic]
            configuration.group = "care"
            self.configuration = configuration
            if let cluster {
                for name in [topic, dlq, retry, TopicName.deadLetter(of: TopicName.commands)] {
                    try cluster.createTopic(name, partitions: 2)
                }
                try cluster.createTopic(TopicName.deadLetterState, partitions: 1)
            } else {
                // All but the state topic, which the operator makes if it is the first one here.
                let admin = try KafkaAdmin(configuration.kafka)
                defer { admin.close() }
                _ = try await admin.createTopics([topic, dlq, retry].map { NewTopic($0, partitions: 2) })
            }
        }

        func deadLetters(_ count: Int) async throws -> [RecordPosition] {
            let producer = try KafkaProducer(configuration.kafka)
            defer { producer.close() }
            let telemetry = makeTelemetry()
            let sink = TracedSink(producer: producer, tracer: telemetry.tracer, meter: telemetry.meter, clientID: nil)
            var places: [RecordPosition] = []
            for number in 0..<count {
                let record = OutboundRecord(
                    topic: dlq, partition: Int32(number % 2), key: ByteSlice("p\(number)"), value: ByteSlice("{\"n\":\(number)}"),
                    headers: [
                        Header("triage-origin", text: "\(topic)/\(number % 2)/\(number)"), Header("triage-group", text: "care"),
                        Header("triage-error-fingerprint", text: "00000000000000aa"),
                    ])
                let (place, _) = try await sink.send(record, parent: nil)
                places.append(RecordPosition(topic: dlq, partition: place.partition, offset: place.offset))
            }
            return places
        }

        func access() throws -> DeadLetterAccess { try DeadLetterAccess(configuration, logger: quiet()) }

        func desk(_ name: String, _ access: DeadLetterAccess) -> DeadLetterOperator {
            DeadLetterOperator(access, by: name, telemetry: makeTelemetry())
        }

        /// What was replayed, read from the beginning.
        func replays(_ access: DeadLetterAccess) async throws -> [RecordPosition] {
            let marks = try await access.scanner.watermarks(of: [retry])
            return try await access.scanner.scan(marks, into: [RecordPosition]()) { found, record in
                if let mark = record.headers.text(HeaderName.replay).flatMap({ ReplayMark($0) }) { found.append(mark.deadLetter) }
                return true
            }
        }
    }

    @Test("listed, replayed once, discarded; a second run finds nothing to do", arguments: DeskBroker.available)
    func operates(_ kind: DeskBroker) async throws {
        let world = try await World(kind)
        defer { world.cluster?.close() }
        let letters = try await world.deadLetters(12)
        let access = try world.access()
        defer { access.close() }
        let browser = DeadLetterBrowser(access)
        let listing = try await browser.list(limit: 5)
        #expect(
            listing.entries.count == 5 && listing.isCut && listing.entries.allSatisfy { letters.contains($0.letter.position) })
        #expect(try await browser.groups().total == 12)
        let desk = world.desk("ann", access)
        try await desk.begin()
        var options = ReplayOptions()
        options.batchRecords = 5
        let selection = try await browser.select(DeadLetterFilter())
        #expect(selection.positions.sorted() == letters.sorted())
        #expect(try await desk.replay(selection.prefix(11), options: options).replayed == 11)
        #expect(try await desk.discard([selection[11]], reason: "not needed").changed == 1)
        #expect(try await desk.replay(selection, options: options).replayed == 0)
        await desk.end()
        #expect(try await world.replays(access).sorted() == selection.prefix(11).positions.sorted())
        let states = try await browser.states()
        for position in letters {
            let expected: DeadLetterState.Status = position == selection[11] ? .discarded : .replayed
            #expect(states[DeadLetterKey(group: "care", position: position)]?.status == expected)
        }
        #expect(try await browser.find(letters[3]).entry.state?.by == "ann")
        await #expect(throws: NoSuchDeadLetter.self) { try await browser.find(RecordPosition("\(world.dlq)/1/6")!) }
    }

    /// Not on the embedded cluster, which fences nobody and shows what was aborted.
    @Test(
        "who begins later goes on, also after one that ended in the middle of a transaction",
        arguments: DeskBroker.available.filter { $0 != .embedded })
    func takesOver(_ kind: DeskBroker) async throws {
        let world = try await World(kind)
        let letters = try await world.deadLetters(6)
        let access = try world.access()
        defer { access.close() }
        let (ann, bob) = (world.desk("ann", access), world.desk("bob", access))
        try await ann.begin()
        #expect(try await ann.replay(Array(letters.prefix(1))).replayed == 1)
        try await bob.begin()
        let error = await #expect(throws: OperatorError.self) { try await ann.replay(letters) }
        guard case .fenced(by: "bob", .some) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        await bob.end()
        // One that writes a replay and is gone before it commits.
        let dead = try access.transactions()
        try await dead.initialise()
        try await dead.begin()
        let found = try await DeadLetterBrowser(access).find(letters[1]).record
        let replay = try DeadLetterReplay(to: .retry, id: randomUUID()).outbound(found, at: SystemClock().now())
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            do {
                try dead.produce(replay) { continuation.resume(with: $0.map { _ in }.mapError { $0 as any Error }) }
            } catch {
                continuation.resume(throwing: error)
            }
        }
        let eve = world.desk("eve", access)
        try await eve.begin()
        #expect(try await eve.replay(letters).replayed == 5)
        dead.close()
        #expect(try await world.replays(access).sorted() == letters.sorted())
        await eve.end()
    }
}

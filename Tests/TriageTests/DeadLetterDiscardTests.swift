import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Discarded and foreign dead letters")
struct DeadLetterDiscardTests {
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
}

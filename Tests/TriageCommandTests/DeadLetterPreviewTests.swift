import Foundation
import Testing
import Triage
import TriageEvents
import TriageProcessing
import TriageTestKit

@testable import TriageCommand

@Suite("Dry runs of dead-letters")
struct DeadLetterPreviewTests {
    static let now = Timestamp(milliseconds: 1_790_000_000_000)
    let broker = InMemoryBroker(clock: ManualClock(Self.now))

    init() {
        for topic in ["t", "t.retry", "t.dlq"] { broker.createTopic(topic, partitions: 3) }
        broker.createTopic(TopicName.deadLetterState, partitions: 1)
    }

    private func access(_ topics: [String] = ["t.dlq"]) -> DeadLetterAccess {
        let broker = broker
        return DeadLetterAccess(
            topics: topics, isNamed: true, group: "care", scanner: broker.scanner(),
            transactions: { broker.transactions(id: "x") })
    }

    @discardableResult
    private func write(_ origin: String, to topic: String = "t.dlq", partition: Int32 = 0, more: [Header] = []) -> RecordPosition
    {
        let offset = broker.end(of: TopicPartition(topic, partition))
        try? broker.producer().produce(
            OutboundRecord(
                topic: topic, partition: partition, key: ByteSlice("p"), value: ByteSlice("{}"),
                headers: Headers(
                    [
                        Header("triage-origin", text: origin), Header("triage-group", text: "care"),
                        Header("triage-error-class", text: "persistent"),
                    ] + more))
        ) { _ in }
        return RecordPosition(topic: topic, partition: partition, offset: offset)
    }

    private func preview(
        _ which: DeadLetterWhich.Resolved, topics: [String] = ["t.dlq"], targets: [String] = ["t.retry"],
        _ options: ReplayOptions = ReplayOptions()
    ) async throws -> DeadLetterPreview {
        let access = access(topics)
        return try await which.preview(
            DeadLetterBrowser(access), targets: targets, DeadLettersCommand.Replay.plan(access, options))
    }

    private let all = DeadLetterWhich.Resolved.filter(DeadLetterFilter(), limit: nil, everywhere: true)

    @Test("what has no partition to go to is named, like in the replay itself; the others are counted")
    func partitions() async throws {
        write("t/1/1", partition: 1)
        let strange = [write("t/77/2", partition: 2), write("t/78/3", partition: 0)]
        let preview = try await preview(all)
        #expect(preview.groups.total == 1 && preview.targets == ["t.retry, for the group care": 1] && !preview.isRefused)
        let output = DeadLetterPreview.Output(preview, verb: "replay", command: "x")
        #expect(output.refused == 2 && output.refusals.map(\.id) == ["\(strange[1])", "\(strange[0])"])
        #expect(output.refusals.map(\.reason) == [Int32(78), 77].map { "\(OperatorRefusal.noPartition("t.retry", $0))" })
        let text = preview.text(verb: "replay", command: "x", now: Self.now, width: nil)
        #expect(text.contains("Can't replay 2:\n  \(strange[1]): there is no partition 78 of t.retry to write it to"), "\(text)")
        // By name, in any order, they are told in the order of their places.
        let named = try await self.preview(.ids(strange))
        #expect(
            named.isRefused && named.text(verb: "replay", command: "x", now: Self.now, width: nil).contains("Nothing to replay."))
        #expect(DeadLetterPreview.Output(named, verb: "replay", command: "x").refusals.map(\.id) == output.refusals.map(\.id))
    }

    @Test("topics that weren't thought of are asked for")
    func unlikelyTopics() async throws {
        broker.createTopic("others-dead", partitions: 1)
        broker.createTopic("orders.retry", partitions: 1)
        write("orders/0/1", to: "others-dead")
        write("orders/4/1", to: "others-dead")
        write("nowhere/0/1", to: "others-dead")
        let preview = try await preview(all, topics: ["others-dead"], targets: [])
        #expect(
            preview.targets == ["orders.retry, for the group care": 1] && preview.problemCount == 2 && preview.groups.total == 1)
        #expect(preview.problems.map(\.reason).contains("there is no partition 0 of nowhere.retry to write it to"))
    }

    @Test("with a limit the oldest are told with their groups and targets, and no others")
    func limit() async throws {
        for offset in 0..<4 { write("t/0/\(offset)", more: [Header("triage-error-fingerprint", text: "00000000000000aa")]) }
        for offset in 0..<4 { write("t/1/\(offset)", partition: 1) }
        let limited = DeadLetterWhich.Resolved.filter(DeadLetterFilter(), limit: 3, everywhere: true)
        let preview = try await preview(limited)
        #expect(preview.groups.total == 3 && preview.targets == ["t.retry, for the group care": 3])
        #expect(preview.groups.groups.map(\.fingerprint) == ["00000000000000aa"])
        #expect(DeadLetterPreview.Output(preview, verb: "replay", command: "x").count == 3)
        let text = preview.text(verb: "replay", command: "x", now: Self.now, width: nil)
        #expect(text.hasPrefix("Would replay 3 dead letters, the oldest of 8:") && text.contains("care: 3"), "\(text)")
        let enough = try await self.preview(.filter(DeadLetterFilter(), limit: 8, everywhere: true))
        #expect(enough.text(verb: "replay", command: "x", now: Self.now, width: nil).hasPrefix("Would replay 8 dead letters:"))
    }

    @Test("a dry run that finds nothing isn't refused; one of which nothing can be done is")
    func refused() async throws {
        #expect(try await !preview(all).isRefused)
        for offset in 0..<30 { write("t/9/\(offset)") }
        let preview = try await preview(all)
        #expect(preview.isRefused && preview.problemCount == 30 && preview.problems.count == DeadLetterPreview.toldProblems)
        #expect(preview.text(verb: "replay", command: "x", now: Self.now, width: nil).contains("  and 20 more"))
    }

    @Test("what was typed in place of a topic can't move the cursor")
    func typed() {
        let position = RecordPosition(topic: "a\u{1B}[2J", partition: 0, offset: 1)
        for reason in [
            NoSuchDeadLetter.Reason.noTopic, .notDeadLetters, .noPartition(count: 3), .beforeStart(4), .behindEnd(0), .noRecord,
        ] {
            let text = "\(NoSuchDeadLetter(position, reason))"
            #expect(text.contains("a?[2J/0/1") && !text.contains("\u{1B}"), "\(text)")
        }
        #expect(!"\(NoSuchDeadLetterTopic(topic: "a\u{1B}"))".contains("\u{1B}"))
    }
}

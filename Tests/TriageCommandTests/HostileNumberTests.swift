import Testing
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage
@testable import TriageCommand

@Suite("Numbers from outside, as large as they can be written, end nothing")
struct HostileNumberTests {
    static let largest = Int64.max

    /// Headers in which every number is the largest or the smallest.
    static func headers(_ number: Int64) -> [Header] {
        [
            Header("triage-origin", text: "\(ExplainWorld.topic)/0/\(number)"),
            Header("triage-origin-timestamp", text: "\(number)"), Header("retryCount", text: "\(number)"),
            Header("triage-due-at", text: "\(number)"), Header("triage-group", text: "clinic"),
            Header("triage-error-class", text: "transient"), Header("error", text: "RetryableError http_503"),
            Header("triage-attempts", text: "\(ExplainWorld.ledger([1]));~\(number);~\(number);\(ExplainWorld.ledger([2]))"),
            Header("triage-replay", text: "6f1c7a52-6f5e-4f0e-9d53-3a0b7f8f2b11 \(ExplainWorld.topic).dlq/0/\(number)"),
            Header("triage-parked-behind", text: "\(ExplainWorld.topic)/0/\(number)"),
        ]
    }

    @Test(
        "dead letters, retries and states with such numbers: explained, listed, found and selected", arguments: [largest, .min])
    func tools(_ number: Int64) async throws {
        let world = ExplainWorld()
        world.write()
        let retry = world.write("\(ExplainWorld.topic).retry", Self.headers(number))
        let letter = world.write("\(ExplainWorld.topic).dlq", Self.headers(number))
        for offset in [letter.offset, Self.largest] {
            let place = RecordPosition(topic: letter.topic, partition: 0, offset: offset)
            world.state(
                DeadLetterState(
                    .replayed, time: Timestamp(milliseconds: number), by: "ann",
                    successor: RecordPosition(topic: retry.topic, partition: 0, offset: Self.largest),
                    origin: RecordPosition(topic: ExplainWorld.topic, partition: 0, offset: Self.largest)), of: place)
        }
        for position in [letter, retry] { _ = try await world.page("\(position)") }
        await #expect(throws: (any Error).self) { try await world.page("\(letter.topic)/0/\(Self.largest)") }

        let browser = DeadLetterBrowser(
            DeadLetterAccess(
                topics: [letter.topic], group: "clinic", scanner: world.broker.scanner(),
                transactions: { world.broker.transactions(id: "unused") }))
        #expect(try await browser.list(limit: .max).entries.map(\.letter.position) == [letter])
        #expect(try await browser.find(letter).entry.letter.position == letter)
        #expect(try await browser.select(DeadLetterFilter(), limit: .max).count <= 1)
        _ = try await browser.groups()
        await #expect(throws: NoSuchDeadLetter.self) {
            try await browser.find(RecordPosition(topic: letter.topic, partition: 0, offset: Self.largest))
        }
    }

    @Test("a report about a patient with such numbers is printed", arguments: [largest, .min])
    func patient(_ number: Int64) throws {
        let record = Record(
            topic: "t.dlq", partition: 0, offset: Self.largest, timestamp: Timestamp(milliseconds: number), key: nil, value: nil,
            headers: Headers(Self.headers(number)))
        let state = DeadLetterState(.discarded, time: Timestamp(milliseconds: number), by: "ann\u{1B}")
        let report = PatientReport(
            id: "p", group: "clinic", now: Timestamp(milliseconds: 1), policies: RetryPolicies(),
            queue: [], unread: 0, lastDeadLetter: .init(DeadLetter(record), state), places: [], notes: [])
        let text = PatientOutput.text(report, everywhere: true)
        #expect(text.contains("status") && text.contains("discarded ") && text.contains(" by ann?"))
        #expect(try Output.encoded(PatientOutput(report)).contains(#""status":"discarded""#))
    }
}

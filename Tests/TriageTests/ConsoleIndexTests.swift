import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry

@testable import Triage

@Suite("What a console knows of dead letters")
struct ConsoleIndexTests {
    private let partition = TopicPartition("fhir.Patient.created.dlq", 0)

    @Test("Only what came since is read, of each partition the newest, and what retention took is forgotten")
    func survey() {
        var index = LetterIndex(group: nil)
        let other = TopicPartition("fhir.Patient.created.dlq", 1)
        let first = index.survey([partition: 0..<10, other: 0..<0])
        #expect(first == [partition: 0..<10])
        for offset in 0..<10 as Range<Int64> { index.add(deadLetter(offset)) }
        index.settle(DeadLetterStates())
        #expect(index.rows.map(\.offset) == Array((0..<10).reversed()) && !index.isCut && index.total == 10)
        let second = index.survey([partition: 0..<10, other: 0..<0])
        #expect(second.isEmpty)
        let third = index.survey([partition: 4..<12, other: 0..<3])
        #expect(third == [partition: 10..<12, other: 0..<3])
        #expect(index.rows.map(\.offset) == [9, 8, 7, 6, 5, 4])
        // Deleted and made anew.
        let fourth = index.survey([partition: 0..<2])
        #expect(fourth == [partition: 0..<2] && index.rows.isEmpty)
        var large = LetterIndex(group: nil)
        let ranges = large.survey([partition: 0..<1_000_000, other: 5..<9])
        #expect(ranges == [partition: 950_000..<1_000_000, other: 5..<9])
        #expect(large.total == 1_000_004 && large.isCut)
    }

    @Test("Copies of a dead letter count once; states are those of the group")
    func copies() {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<4])
        for (offset, origin) in [(0, 7), (1, 8), (2, 7), (3, 7)] as [(Int64, Int64)] {
            index.add(deadLetter(offset, origin: origin))
        }
        var states = DeadLetterStates()
        let place = RecordPosition(topic: partition.topic, partition: 0, offset: 1)
        states.set(
            DeadLetterKey(group: "care", position: place),
            DeadLetterState(.discarded, time: Timestamp(milliseconds: 0), by: "ann"))
        states.set(
            DeadLetterKey(group: "other", position: index.position(index.rows[0])),
            DeadLetterState(.completed, time: Timestamp(milliseconds: 0), by: "x"))
        index.settle(states)
        #expect(
            index.rows.map(\.offset) == [1, 0] && index.rows.map(\.copies) == [0, 2]
                && index.rows.map(\.status) == [.discarded, .open])
        #expect(!index.isCut)
        #expect(index.list(LetterQuery(), from: 0, limit: 10).rows.map(\.offset) == [0])
    }

    @Test("Groups by fingerprint: counts, patients, times, the newest as example; filters and pages")
    func groups() throws {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<30])
        for offset in 0..<30 as Range<Int64> {
            let isOdd = offset % 3 == 0
            index.add(
                deadLetter(
                    offset, key: "p\(offset % 5)", fingerprint: isOdd ? "00000000000000bb" : "00000000000000aa",
                    error: isOdd ? "RetryableError http_503" : "RejectedError no_id",
                    errorClass: isOdd ? "transient" : "persistent"))
        }
        index.settle(DeadLetterStates())
        let groups = index.groups(LetterQuery())
        #expect(groups.map(\.count) == [20, 10] && groups.map(\.cause.fingerprint) == ["00000000000000aa", "00000000000000bb"])
        let first = try #require(groups.first)
        #expect(first.patients.count == 5 && first.example.offset == 29 && first.topics == ["fhir.Patient.created": 20])
        #expect(first.first == 1_700_000_001_000 && first.last == 1_700_000_029_000)
        var query = LetterQuery()
        query.errorClass = .transient
        let page = index.list(query, from: 8, limit: 5)
        #expect(page.count == 10 && page.rows.map(\.offset) == [3, 0])
        query.fingerprint = "00000000000000aa"
        #expect(index.list(query, from: 0, limit: 5).count == 0)
        query = LetterQuery()
        query.since = Timestamp(milliseconds: 1_700_000_028_000)
        #expect(index.list(query, from: 0, limit: 5).count == 2)
        query.topic = "other.dlq"
        #expect(index.list(query, from: 0, limit: 5).count == 0)
    }

    @Test("Made-up fingerprints and groups are bounded")
    func bounds() {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<12_000])
        for offset in 0..<12_000 as Range<Int64> {
            let digits = String(offset, radix: 16)
            index.add(
                deadLetter(
                    offset, fingerprint: String(repeating: "0", count: 16 - digits.count) + digits,
                    more: [Header("triage-group", text: "g\(offset)")]))
        }
        index.settle(DeadLetterStates())
        #expect(index.causes.count == LetterIndex.maximumCauses + 1)
        #expect(index.groups(LetterQuery()).first?.cause.fingerprint == "other")
        #expect(index.group(index.rows[0]) == "-")
    }
}

@Suite("A console's figures")
struct ConsoleFiguresTests {
    private func sample(_ seconds: Int64, _ completed: Int64, _ counts: [UInt64]) -> FiguresSample {
        var sample = FiguresSample(time: Timestamp(milliseconds: seconds * 1000))
        sample.completed = completed
        sample.handling = FiguresSample.Buckets(boundaries: [0.1, 1, 10], counts: counts)
        return sample
    }

    @Test("Rates and quantiles are of the last minute, or of what there is")
    func window() throws {
        var figures = ConsoleFigures()
        #expect(figures.rate { $0.completed } == nil && figures.throughput.isEmpty)
        figures.add(sample(0, 0, [0, 0, 0, 0]))
        #expect(figures.rate { $0.completed } == nil)
        figures.add(sample(10, 100, [100, 0, 0, 0]))
        #expect(figures.rate { $0.completed } == 10)
        figures.add(sample(70, 100, [100, 0, 0, 0]))
        #expect(figures.rate { $0.completed } == 0)
        #expect(figures.recent(0.5) { $0.handling } == nil)
        figures.add(sample(72, 104, [100, 4, 0, 0]))
        #expect(figures.recent(0.5) { $0.handling }.map { ($0 * 1000).rounded() } == 550)
        #expect(try #require(figures.last).handling.quantile(0.5).map { ($0 * 1000).rounded() } == 52)
        #expect(figures.throughput == [10, 0, 2])
        for second in 0..<200 { figures.add(sample(100 + Int64(second) * 2, 104, [100, 4, 0, 0])) }
        #expect(figures.throughput.count == ConsoleFigures.bars)
        figures.add(sample(600, 0, [0, 0, 0, 9]))
        #expect(figures.rate { $0.completed } == 0 && figures.recent(0.99) { $0.handling } == 10)
    }

    @Test("A snapshot's points are added up, states by the worst")
    func snapshot() {
        let meter = Meter(clock: FixedClock())
        let names: (SafeText) -> MetricAttributes = { ["messaging.destination.name": $0, "triage.outcome": "completed"] }
        meter.counter(.eventsProcessed, names("a")).add(3)
        meter.counter(.eventsProcessed, names("b")).add(4)
        meter.counter(.eventsProcessed, ["triage.outcome": "dead_lettered"]).add(2)
        meter.histogram(.processDuration, ["messaging.destination.name": "a"]).record(0.02)
        meter.histogram(.processDuration, ["messaging.destination.name": "b"]).record(0.02)
        meter.observe(.gateState) {
            [
                (["triage.gate.state": "open", "messaging.consumer.group.name": "a"], .int(1)),
                (["triage.gate.state": "closed", "messaging.consumer.group.name": "a"], .int(0)),
                (["triage.gate.state": "closed", "messaging.consumer.group.name": "b"], .int(1)),
            ]
        }
        let sample = FiguresSample(meter.collect(at: Timestamp(milliseconds: 0)))
        #expect(sample.completed == 7 && sample.deadLettered == 2 && sample.gate == .closed && sample.handling.total == 2)
        var figures = ConsoleFigures()
        figures.add(sample)
        let shown = OverviewFigures(figures)
        #expect(shown["gate"] == "closed" && shown.tone("gate") == "bad" && shown["handled"] == "7 completed since the start")
        #expect(shown.bars.count == ConsoleFigures.bars && shown["rate"] == "–")
    }

    @Test("Numbers as people read them")
    func texts() {
        #expect(
            [0, 0.04, 12.34, 99.96, 123.4, 1_234_567].map(ConsoleTexts.number) == [
                "0", "0.0", "12.3", "100.0", "123", "1,234,567",
            ])
        #expect(
            [nil, 0, 0.000_034, 0.0014, 0.0123, 0.5, 12.34, 75].map { ConsoleTexts.seconds($0) }
                == ["–", "0 ms", "34 µs", "1.4 ms", "12 ms", "500 ms", "12.3 s", "1 min 15 s"])
        #expect(
            ConsoleTexts.indented(#"{"a":[1,{"b":"x{,]\"}"}],"c":{},"d":[]}"#) == """
                {
                  "a": [
                    1,
                    {
                      "b": "x{,]\\"}"
                    }
                  ],
                  "c": {},
                  "d": []
                }
                """)
        #expect(ConsoleTexts.indented("}}}{") == "}}}{" && ConsoleTexts.indented("no JSON") == "no JSON")
    }
}

private struct FixedClock: EventClock {
    func now() -> Timestamp { Timestamp(milliseconds: 0) }
}

import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry

@testable import Triage

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

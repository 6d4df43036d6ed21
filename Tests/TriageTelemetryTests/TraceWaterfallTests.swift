import Testing
import TriageEvents

@testable import TriageTelemetry

@Suite("The layout of traces")
struct TraceWaterfallTests {
    static func id(_ number: UInt64) -> TraceID { TraceID(high: 1, low: number) }

    static func span(
        _ number: UInt64, under parent: UInt64? = nil, trace: UInt64 = 1, _ name: String = "s", from start: Int64 = 0,
        to end: Int64 = 0,
        fails: Bool = false, links: [UInt64] = []
    ) -> TraceSpan {
        TraceSpan(
            traceID: id(trace), spanID: SpanID(number), parentSpanID: parent.map { SpanID($0) }, name: name,
            start: Timestamp(nanoseconds: start), end: Timestamp(nanoseconds: end), status: fails ? .error("") : .unset,
            links: links.map { .init(id($0), SpanID(9)) })
    }

    /// `name@depth offset+width flags`.
    static func lines(_ waterfall: TraceWaterfall) -> [String] {
        waterfall.rows.map { row in
            let names: [(TraceWaterfall.Flags, String)] = [
                (.failed, "failed"), (.orphan, "orphan"), (.linked, "linked"), (.last, "last"),
            ]
            let flags = names.filter { row.flags.contains($0.0) }.map(\.1).joined(separator: " ")
            return "\(row.span.name)@\(row.depth) \(row.offset)+\(row.width) \(flags)"
        }
    }

    @Test("parents before children, siblings by their begin, places as fractions of the whole")
    func layout() {
        let waterfall = TraceWaterfall(spans: [
            Self.span(4, under: 1, "late", from: 50, to: 100), Self.span(3, under: 2, "below", from: 10, to: 20, fails: true),
            Self.span(1, "root", from: 0, to: 80), Self.span(2, under: 1, "early", from: 10, to: 30, links: [7]),
        ])
        #expect(
            Self.lines(waterfall) == [
                "root@0 0.0+0.8 last", "early@1 0.1+0.2 linked", "below@2 0.1+0.1 failed last", "late@1 0.5+0.5 last",
            ])
        #expect(waterfall.rows.map(\.continues) == [[], [], [true], []])
        #expect(waterfall.linkedTraces == [Self.id(7)] && waterfall.isFailed && waterfall.duration == .nanoseconds(100))
    }

    @Test(
        "several of one id count once, a missing parent makes an orphan, a circle is drawn all the same, links within aren't told"
    )
    func oddities() {
        let waterfall = TraceWaterfall(spans: [
            Self.span(1, under: 9, "orphan", from: 5, to: 5), Self.span(1, under: 9, "copy", from: 6, to: 6),
            Self.span(2, under: 3, "circle", from: 1, to: 2), Self.span(3, under: 2, "of two", from: 2, to: 3),
            Self.span(4, under: 4, "own parent", from: 4, to: 4, links: [1]),
            Self.span(1, trace: 2, "another trace", from: 9, to: 9),
        ])
        #expect(waterfall.rows.map(\.span.name) == ["own parent", "orphan", "another trace", "circle", "of two"])
        #expect(waterfall.rows.map(\.depth) == [0, 0, 0, 0, 1])
        #expect(waterfall.rows[1].flags == [.orphan, .last] && !waterfall.rows[0].flags.contains(.linked))
        #expect(waterfall.linkedTraces.isEmpty)
        #expect(TraceWaterfall(spans: []).rows.isEmpty && TraceWaterfall(spans: []).duration == .zero)
        #expect(Self.lines(TraceWaterfall(spans: [Self.span(1, "point", from: 5, to: 5)])) == ["point@0 0.0+0.0 last"])
    }

    @Test("a chain of 100,000 is laid out without recursion, beyond the bound it is only counted")
    func deep() {
        let spans = (1...100_000).map { Self.span(UInt64($0), under: UInt64($0 - 1), from: Int64($0), to: Int64($0)) }
        let waterfall = TraceWaterfall(spans: spans.shuffled(), maximumRows: 500)
        #expect(waterfall.rows.count == 500 && waterfall.hidden == 99_500)
        #expect(waterfall.rows.map(\.span.spanID.value) == Array(1...500))
        #expect(waterfall.rows.allSatisfy { $0.depth <= 101 && $0.continues.count <= 101 })
    }

    @Test("whatever the spans: each is drawn once, within the whole, below its parent", arguments: 0..<200)
    func anything(seed: UInt64) {
        var generator = TestGenerator(seed: seed)
        let spans = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
            let start = Int64.random(in: -5...50, using: &generator)
            return Self.span(
                .random(in: 0...20, using: &generator),
                under: Bool.random(using: &generator) ? .random(in: 0...20, using: &generator) : nil,
                trace: .random(in: 1...2, using: &generator), from: Bool.random(using: &generator) ? start : .min,
                to: .random(in: -9...90, using: &generator))
        }
        let waterfall = TraceWaterfall(spans: spans)
        #expect(waterfall.rows.count == Set(spans.map { [$0.traceID.low, $0.spanID.value] }).count, "seed \(seed)")
        #expect(
            waterfall.rows.allSatisfy { $0.offset >= 0 && $0.width >= 0 && $0.offset + $0.width <= 1.0000001 && $0.depth >= 0 },
            "seed \(seed)")
        #expect(waterfall.rows.first.map { $0.depth == 0 } ?? true, "seed \(seed)")
    }

    @Test("links to Jaeger and to Grafana's Explore, whatever stands at the end of the base")
    func links() {
        let trace = TraceID(high: 0x4BF9_2F35_77B3_4DA6, low: 0xA3CE_929D_0E0E_4736)
        let links = TraceLinks(jaeger: "http://localhost:16686/", grafana: "https://g.test/graf", grafanaTempoUID: "t-1")
        let found = links.links(for: trace)
        #expect(found.map(\.name) == ["Jaeger", "Grafana"])
        #expect(found[0].url == "http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(
            found[1].url == "https://g.test/graf/explore?schemaVersion=1&orgId=1&panes="
                + "%7B%22trace%22%3A%7B%22datasource%22%3A%22t-1%22%2C%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22datasource%22%3A"
                + "%7B%22type%22%3A%22tempo%22%2C%22uid%22%3A%22t-1%22%7D%2C%22queryType%22%3A%22traceql%22%2C%22query%22%3A"
                + "%224bf92f3577b34da6a3ce929d0e0e4736%22%7D%5D%2C%22range%22%3A%7B%22from%22%3A%22now-7d%22%2C%22to%22%3A%22now%22%7D%7D%7D"
        )
        #expect(TraceLinks().isEmpty && TraceLinks().links(for: trace).isEmpty)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed.
struct TestGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}

import Glibc
import Testing
import TriageEvents

@testable import TriageTelemetry

/// OpenMetrics 1.0 (reference §7), and what it has in common with text 0.0.4.
@Suite struct OpenMetricsTests {
    private static let scope = [("otel.scope.name", "triage"), ("otel.scope.version", "1")]

    private func text(
        _ metrics: [MetricData], as format: ExpositionFormat = .openMetrics, resource: [(key: String, value: String)] = [],
        scope: [(key: String, value: String)] = [], created: Bool = false
    ) -> String {
        let writer = PrometheusText(resource: resource, scope: scope, writesCreated: created)
        let snapshot = MetricSnapshot(timestamp: Timestamp(nanoseconds: 0), metrics: metrics)
        return String(decoding: writer.write(snapshot, as: format), as: UTF8.self)
    }

    private func point(
        _ attributes: MetricAttributes, _ value: MetricData.Value, exemplars: [Exemplar] = []
    ) -> MetricData.Point {
        MetricData.Point(
            attributes: attributes, start: Timestamp(milliseconds: 1_700_000_000_005), value: value, exemplars: exemplars)
    }

    private func exemplar(_ value: Double, span: UInt64 = 1, at milliseconds: Int64 = 1_700_000_000_123) -> Exemplar {
        Exemplar(
            value: value, timestamp: Timestamp(milliseconds: milliseconds), traceID: TraceID(high: 0x0af7, low: 0x319c),
            spanID: SpanID(span))
    }

    private func labels(_ span: Int) -> String {
        "{trace_id=\"0000000000000af7000000000000319c\",span_id=\"000000000000000\(span)\"}"
    }

    private let histogram = Metric(
        "messaging.process.duration", .histogram, unit: "s", "Duration.", attributes: ["k"], boundaries: [0.25, 1, 10])
    private let counter = Metric("sent", .counter, unit: "{message}", "Sent \"so\" far.")

    /// The text that Tests/Integration hands to other implementations' parsers and to Prometheus.
    private static func golden() throws -> String {
        let folder = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
        let file = try #require(fopen("/\(folder)/Integration/openmetrics.txt", "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    @Test("the golden text, with each part in its place") func golden() throws {
        let metrics = [
            MetricData(
                metric: histogram,
                points: [
                    point(
                        ["k": "v"], .histogram(counts: [2, 1, 0, 4], sum: 12.5, count: 7, minimum: 0, maximum: 99),
                        exemplars: [exemplar(0.2), exemplar(0.25, span: 2), exemplar(99.5, span: 3)])
                ]),
            MetricData(metric: counter, points: [point([:], .sum(42), exemplars: [exemplar(1)])]),
            MetricData(metric: .processCPUTime, points: [point([:], .doubleSum(0.5))]),
            MetricData(metric: .processThreadCount, points: [point([:], .sum(4))]),
            MetricData(
                metric: Metric("process.cpu.utilization", .gauge, unit: "1", "Share."), points: [point([:], .gauge(.infinity))]),
        ]
        let written = text(metrics, resource: [("service.name", "triage")], scope: OpenMetricsTests.scope)
        #expect(written == (try OpenMetricsTests.golden()))
    }

    @Test func nothingAtAllStillHasAnEnd() {
        #expect(text([]) == "# EOF\n")
    }

    @Test("of several exemplars in a bucket the latest is written, and each only in its bucket")
    func exemplarsInTheirBuckets() {
        let value = MetricData.Value.histogram(counts: [1, 2, 0, 0], sum: 1.5, count: 3, minimum: 0, maximum: 1)
        let written = text([
            MetricData(
                metric: histogram,
                points: [
                    point(
                        [:], value,
                        exemplars: [
                            exemplar(1, at: 1_700_000_000_001), exemplar(0.5, span: 2, at: 1_700_000_000_002),
                            exemplar(.nan, span: 3), exemplar(.infinity, span: 4), exemplar(10, span: 0),
                        ])
                ])
        ])
        #expect(written.contains("le=\"0.25\"} 1\n") && written.contains("le=\"10.0\"} 3 # {} 10.0 1700000000.123\n"))
        #expect(written.contains("le=\"1.0\"} 3 # \(labels(2)) 0.5 1700000000.002\n") && written.contains("le=\"+Inf\"} 3\n"))
    }

    @Test("exemplars stand on buckets and counters alone, and never in text 0.0.4")
    func exemplarsWhereAllowed() {
        let value = MetricData.Value.histogram(counts: [1, 0, 0, 0], sum: 0.2, count: 1, minimum: 0, maximum: 1)
        let metrics = [
            MetricData(metric: histogram, points: [point([:], value, exemplars: [exemplar(0.2)])]),
            MetricData(
                metric: Metric("g", .gauge, unit: "", "G."), points: [point([:], .gauge(1), exemplars: [exemplar(1)])]),
            MetricData(
                metric: Metric("u", .upDownCounter, unit: "", "U."), points: [point([:], .sum(1), exemplars: [exemplar(1)])]),
            MetricData(metric: counter, points: [point([:], .sum(1), exemplars: [exemplar(1)])]),
        ]
        let withExemplar = text(metrics).split(separator: "\n").filter { $0.contains(" # ") }
        #expect(
            withExemplar.map { $0.prefix { $0 != " " && $0 != "{" } } == [
                "messaging_process_duration_seconds_bucket", "sent_total",
            ])
        #expect(!text(metrics, as: .text).contains("trace_id"))
    }

    @Test("`_created` stands on counters and histograms if asked for, never in text 0.0.4 or without a time")
    func created() {
        let value = MetricData.Value.histogram(counts: [1, 0, 0, 0], sum: 0.2, count: 1, minimum: 0, maximum: 1)
        let unknown = MetricData.Point(attributes: ["k": "w"], start: Timestamp(nanoseconds: 0), value: value)
        let metrics = [
            MetricData(metric: histogram, points: [point(["k": "v"], value), unknown]),
            MetricData(metric: counter, points: [point([:], .sum(1))]),
            MetricData(metric: .processThreadCount, points: [point([:], .sum(1))]),
        ]
        let lines = text(metrics, created: true).split(separator: "\n").filter { $0.contains("_created") }
        #expect(
            lines == [
                "messaging_process_duration_seconds_created{k=\"v\"} 1700000000.005", "sent_created 1700000000.005",
            ])
        #expect(!text(metrics).contains("_created") && !text(metrics, as: .text, created: true).contains("_created"))
    }

    @Test("a histogram of values that may be negative has neither sum nor count")
    func negativeBoundaries() {
        let metric = Metric("h", .histogram, unit: "", "H.", boundaries: [-1, 0])
        let value = MetricData.Value.histogram(counts: [1, 2, 3], sum: -4, count: 6, minimum: -9, maximum: 1)
        #expect(
            text([MetricData(metric: metric, points: [point([:], value)])])
                == "# TYPE h histogram\n# HELP h H.\nh_bucket{le=\"-1.0\"} 1\nh_bucket{le=\"0.0\"} 3\nh_bucket{le=\"+Inf\"} 6\n# EOF\n"
        )
    }

    @Test("what a scraper would refuse is left out of both formats", arguments: ExpositionFormat.allCases)
    func unfitPoints(format: ExpositionFormat) {
        let value = MetricData.Value.histogram(counts: [1, 0], sum: 0.2, count: 1, minimum: 0, maximum: 1)
        let written = text(
            [
                MetricData(metric: counter, points: [point([:], .sum(-1)), point([:], .doubleSum(.nan)), point([:], .gauge(1))]),
                MetricData(metric: histogram, points: [point([:], value), point([:], .sum(1))]),
                MetricData(metric: .processUptime, points: [point([:], value)]),
            ], as: format)
        #expect(written.split(separator: "\n").allSatisfy { $0.hasPrefix("#") })
    }

    @Test("a label that the scope or a histogram has already gives way", arguments: ExpositionFormat.allCases)
    func reservedLabels(format: ExpositionFormat) {
        let attributes: MetricAttributes = ["le": "mine", "otel.scope.name": "other", "__name__": "x"]
        let value = MetricData.Value.histogram(counts: [1], sum: 0.2, count: 1, minimum: 0, maximum: 1)
        let written = text(
            [
                MetricData(metric: Metric("h", .histogram, unit: "", "H."), points: [point(attributes, value)]),
                MetricData(metric: Metric("g", .gauge, unit: "", "G."), points: [point(attributes, .gauge(1))]),
            ], as: format, scope: OpenMetricsTests.scope)
        let tags = "otel_scope_name=\"triage\",otel_scope_version=\"1\""
        #expect(written.contains("h_bucket{_name_=\"x\",exported_le=\"mine\",\(tags),le=\"+Inf\"} 1\n"))
        #expect(written.contains("g{_name_=\"x\",le=\"mine\",\(tags)} 1.0\n"))
    }

    @Test("both formats have the same samples for the whole catalogue")
    func sameSamples() {
        let meter = Meter()
        for metric in Metric.all {
            switch metric.instrument {
            case .counter: meter.counter(metric).add(3)
            case .upDownCounter: meter.upDownCounter(metric).add(1)
            case .gauge: meter.gauge(metric).set(1.5)
            case .histogram: for value in [0.001, 0.2, 1, 7, 1e6] { meter.histogram(metric).record(value) }
            }
        }
        let snapshot = meter.collect(at: Timestamp(nanoseconds: 0))
        let writer = PrometheusText(resource: [("service.name", "t")], scope: OpenMetricsTests.scope)
        let samples = ExpositionFormat.allCases.map { format in
            String(decoding: writer.write(snapshot, as: format), as: UTF8.self).split(separator: "\n")
                .filter { !$0.hasPrefix("#") }.map { line in
                    // What differs: `le="1.0"` in OpenMetrics is `le="1"` in 0.0.4.
                    line.contains("_bucket{") ? String(line).replacing(".0\"} ", with: "\"} ") : String(line)
                }
        }
        #expect(samples[0] == samples[1] && samples[0].count > Metric.all.count)
        let units = Metric.all.map { ExpositionFamily($0) }.filter { $0.unit != nil }
        #expect(!units.isEmpty && units.allSatisfy { $0.name.hasSuffix("_" + ($0.unit ?? "?")) })
    }
}

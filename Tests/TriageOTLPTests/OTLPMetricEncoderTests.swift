import COTLP
import CProtobufC
import Glibc
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

private typealias WireMetric = Opentelemetry__Proto__Metrics__V1__Metric

@Suite("Encoding metrics")
struct OTLPMetricEncoderTests {
    let resource = OTLPResource(attributes: [("service.name", "triage")], version: "1.2.3")
    let exemplar = Exemplar(
        value: 0.2, timestamp: Timestamp(nanoseconds: t0.nanoseconds + 5),
        traceID: TraceID(high: 0x0AF7_6519_16CD_43DD, low: 0x8448_EB21_1C80_319C), spanID: SpanID(0xB7AD_6B71_6920_3331))

    private func encode(_ metrics: [MetricData], at time: Timestamp) -> [UInt8] {
        OTLPMetricEncoder(resource).encode(MetricSnapshot(timestamp: time, metrics: metrics)).body
    }

    /// The bytes of the first metric of a request, changed by `change` before.
    private func firstMetric(_ body: [UInt8], _ change: (inout WireMetric) -> Void = { _ in }) -> [UInt8]? {
        unpacked(body, as: Descriptors.metricsRequest, WireMetricsRequest.self) { request in
            request.pointee.resource_metrics[0]?.pointee.scope_metrics[0]?.pointee.metrics[0].map { metric in
                change(&metric.pointee)
                return packed(metric)
            }
        } ?? nil
    }

    @Test("A histogram, an exponential histogram and a sum from the encoder are the golden ones")
    func golden() {
        let histogram = MetricData(
            metric: Metric("messaging.process.duration", .histogram, unit: "s", "", boundaries: [0.1, 0.25]),
            points: [
                MetricData.Point(
                    attributes: [:], start: t0,
                    value: .histogram(counts: [1, 2, 0], sum: 0.5, count: 3, minimum: 0.05, maximum: 0.2), exemplars: [exemplar])
            ])
        let later = Timestamp(nanoseconds: t0.nanoseconds + 1_000_000_000)
        #expect(firstMetric(encode([histogram], at: later)) == firstMetric(Golden.histogram))

        let data = ExponentialHistogramData(
            scale: -1, zeroCount: 1, positive: .init(offset: -2, counts: [1, 0, 300]), negative: .init(offset: 0, counts: []),
            sum: 7, count: 4, minimum: 0, maximum: 3)
        let exponential = MetricData(
            metric: Metric("x", .histogram, unit: "", "", boundaries: [1]), temporality: .delta,
            points: [
                MetricData.Point(attributes: [:], start: Timestamp(nanoseconds: 0), value: .exponentialHistogram(data))
            ])
        // The golden one has no extremes; ours always has. Nor has it a time.
        let one = Timestamp(nanoseconds: 1)
        let mine = firstMetric(encode([exponential], at: Timestamp(nanoseconds: 0))) { metric in
            guard let point = metric.exponential_histogram.pointee.data_points[0] else { return }
            #expect(point.pointee.min == 0 && point.pointee.max == 3)
            point.pointee.optional_min_case = .init(0)
            point.pointee.optional_max_case = .init(0)
        }
        #expect(mine == firstMetric(Golden.exponential))

        let sum = MetricData(
            metric: Metric("c", .counter, unit: "", ""),
            points: [MetricData.Point(attributes: [:], start: Timestamp(nanoseconds: 0), value: .sum(-1))])
        #expect(firstMetric(encode([sum], at: one)) == firstMetric(Golden.sum))
    }

    /// Every point kind there is, with exemplars inside and outside of spans, the overflow, and numbers of every length.
    private var everything: [MetricData] {
        let start = Timestamp(nanoseconds: t0.nanoseconds - 5)
        let outside = Exemplar(value: 3, timestamp: t0, traceID: TraceID(high: 0, low: 0), spanID: SpanID(0))
        func data(
            _ name: String, _ instrument: Instrument, _ values: [MetricData.Value],
            temporality: Temporality = .cumulative, boundaries: [Double] = [], exemplars: [Exemplar] = []
        ) -> MetricData {
            MetricData(
                metric: Metric(name, instrument, unit: "s", "Help über alles.", attributes: [], boundaries: boundaries),
                temporality: temporality,
                points: values.enumerated().map { index, value in
                    MetricData.Point(
                        attributes: index == 0 ? ["a": "Ä", "b": ""] : [:],
                        start: instrument == .gauge ? Timestamp(nanoseconds: 0) : start, value: value, exemplars: exemplars)
                })
        }
        let long = ExponentialHistogramData(
            scale: 20, zeroCount: .max, positive: .init(offset: .max, counts: (0..<64).map { 1 << $0 }),
            negative: .init(offset: .min, counts: [0, 0, 1]), sum: -1e300, count: 5, minimum: -.greatestFiniteMagnitude,
            maximum: .leastNonzeroMagnitude)
        let nothing = ExponentialHistogramData(
            scale: 0, zeroCount: 0, positive: .init(offset: 0, counts: []), negative: .init(offset: 0, counts: []), sum: 0,
            count: 0, minimum: 0, maximum: 0)
        let meter = Meter(cardinalityLimit: 1)
        let metric = Metric("overflow", .counter, unit: "1", "Help.", attributes: ["k"])
        for value: SafeText in ["a", "b"] { meter.counter(metric, ["k": value]).add(7) }
        return [
            data("gauge.int", .gauge, [.intGauge(0), .intGauge(.min), .intGauge(.max)]),
            data("gauge.double", .gauge, [.gauge(0), .gauge(-1.5), .gauge(.infinity), .gauge(.nan)]),
            data("sum", .counter, [.sum(0), .sum(.max)], exemplars: [exemplar, outside]),
            data("sum.delta", .counter, [.sum(1), .doubleSum(0.1)], temporality: .delta, exemplars: [outside]),
            data("updown", .upDownCounter, [.sum(-3), .doubleSum(-0.0)]),
            data(
                "histogram", .histogram,
                [
                    .histogram(counts: [1, 0, .max], sum: 3.5, count: 3, minimum: 0, maximum: 3),
                    .histogram(counts: [0, 0, 0], sum: 0, count: 0, minimum: 0, maximum: 0),
                ], boundaries: [0.5, 1], exemplars: [exemplar, outside]),
            data(
                "histogram.one", .histogram, [.histogram(counts: [4], sum: 2, count: 4, minimum: 0.5, maximum: 0.5)],
                temporality: .delta),
            data(
                "exponential", .histogram, [.exponentialHistogram(long), .exponentialHistogram(nothing)],
                temporality: .delta, boundaries: [1], exemplars: [exemplar]),
        ] + meter.collect(at: t0).metrics
    }

    @Test("The overflow's attribute is a truth value, other text stays text")
    func overflow() {
        let body = encode(everything.filter { $0.metric.name == "overflow" }, at: t0)
        let isRead: Void? = unpacked(body, as: Descriptors.metricsRequest, WireMetricsRequest.self) { request in
            let sum = request.pointee.resource_metrics[0]?.pointee.scope_metrics[0]?.pointee.metrics[0]?.pointee.sum
            let points = (0..<(sum?.pointee.n_data_points ?? 0)).compactMap { sum?.pointee.data_points[$0]?.pointee }
            let values = points.compactMap { $0.attributes[0]?.pointee.value.pointee }
            #expect(
                values.map(\.value_case) == [
                    OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE,
                    OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_BOOL_VALUE,
                ])
            #expect(values.last?.bool_value == 1)
        }
        #expect(isRead != nil)
    }

    @Test("Every point kind is read back, and written anew in the same bytes")
    func roundTrip() {
        let body = encode(everything, at: t0)
        let again = unpacked(body, as: Descriptors.metricsRequest, WireMetricsRequest.self) { request in
            #expect(request.pointee.resource_metrics[0]?.pointee.scope_metrics[0]?.pointee.n_metrics == 9)
            return packed(request)
        }
        #expect(again == body)
    }

    /// Where the official classes aren't installed this checks nothing; continuous integration, which sets
    /// `TRIAGE_WARNINGS`, must have them.
    @Test("The official Python classes write every point kind in the same bytes")
    func officialClasses() throws {
        let tests = #filePath.split(separator: "/").dropLast(2).map(String.init)
        let root = "/" + tests.dropLast().joined(separator: "/")
        let own = root + "/.build/python/bin/python"
        let python = access(own, X_OK) == 0 ? own : "python3"
        guard run("'\(python)' -c 'import opentelemetry.proto.metrics.v1.metrics_pb2' 2>&1").status == 0 else {
            #expect(getenv("TRIAGE_WARNINGS") == nil, "the package opentelemetry-proto is missing")
            return
        }
        var path = Array("/tmp/triage-metrics-XXXXXX".utf8CString)
        let file = mkstemp(&path)
        try #require(file >= 0)
        let name = path.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        defer {
            close(file)
            unlink(name)
        }
        let body = encode(everything, at: t0)
        try #require(write(file, body, body.count) == body.count)
        let script = "/" + tests.joined(separator: "/") + "/Integration/decode_otlp.py"
        let (status, text) = run(
            "PYTHONDONTWRITEBYTECODE=1 '\(python)' '\(script)' --signal metrics --identical '\(name)' 2>&1")
        #expect(status == 0, "\(text)")
        let expected = [
            "\"asInt\": \"-9223372036854775808\"", "\"scale\": 20", "\"boolValue\": true", "AGGREGATION_TEMPORALITY_DELTA",
            "\"isMonotonic\": true", "\"explicitBounds\"", "\"offset\": -2147483648", "\"exemplars\"",
        ]
        for part in expected { #expect(text.contains(part), "\(part)") }
    }

    /// Runs a command and gives its status and what it printed.
    private func run(_ command: String) -> (status: Int32, output: String) {
        guard let pipe = popen(command, "r") else { return (-1, "") }
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = fread(&buffer, 1, buffer.count, pipe)
            if count == 0 { break }
            output += buffer[..<count]
        }
        return (pclose(pipe), String(decoding: output, as: UTF8.self))
    }
}

import COTLP
import CProtobufC
import CZlib
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

@Suite("Request bodies and answers")
struct RequestTests {
    let resource = OTLPResource(
        attributes: [
            ("service.name", "first"), ("process.pid", 42), ("process.command_args", ["triage", "run"]), ("", "no key"),
            ("service.name", "triage"), ("empty", []),
        ], version: "1.2.3")

    func span(_ number: UInt64) -> [UInt8] {
        let template = SpanTemplate(name: "s\(number)", kind: .internal, attributes: [], packed: ByteSlice(""))
        return entry(SpanData(template: template, context: context(number), parent: nil, start: t0, isRecording: true))
    }

    @Test("A body holds resource, scope, both schema URLs and every span", arguments: [1, 2, 3000])
    func traces(count: Int) throws {
        var body: [UInt8] = [1, 2, 3]
        TraceRequest(resource).write(batch((1...count).map { span(UInt64($0)) }), to: &body)
        let isRead: Void? = try unpacked(body, as: Descriptors.traceRequest, WireTraceRequest.self) { request in
            #expect(request.pointee.n_resource_spans == 1)
            let resourceSpans = try #require(request.pointee.resource_spans[0]).pointee
            #expect(String(cString: resourceSpans.schema_url) == "https://opentelemetry.io/schemas/1.44.0")
            #expect(resourceSpans.base.n_unknown_fields == 0)
            let attributes = try #require(resourceSpans.resource).pointee
            #expect(attributes.n_attributes == 4)
            #expect(String(cString: try #require(attributes.attributes[0]).pointee.value.pointee.string_value) == "triage")
            #expect(try #require(attributes.attributes[1]).pointee.value.pointee.int_value == 42)
            let list = try #require(attributes.attributes[2]).pointee.value.pointee.array_value.pointee
            #expect(
                (0..<list.n_values).compactMap { list.values[$0].map { String(cString: $0.pointee.string_value) } } == [
                    "triage", "run",
                ])
            #expect(try #require(attributes.attributes[3]).pointee.value.pointee.array_value.pointee.n_values == 0)
            let scopeSpans = try #require(resourceSpans.scope_spans[0]).pointee
            #expect(String(cString: scopeSpans.scope.pointee.name) == "triage")
            #expect(String(cString: scopeSpans.scope.pointee.version) == "1.2.3")
            #expect(String(cString: scopeSpans.schema_url) == "https://opentelemetry.io/schemas/1.44.0")
            #expect(scopeSpans.n_spans == count)
            #expect(scopeSpans.base.n_unknown_fields == 0)
            for index in 0..<scopeSpans.n_spans {
                #expect(String(cString: try #require(scopeSpans.spans[index]).pointee.name) == "s\(index + 1)")
            }
        }
        #expect(isRead != nil)
    }

    @Test("Metrics become cumulative sums, gauges and histograms")
    func metrics() throws {
        let start = Timestamp(nanoseconds: t0.nanoseconds - 5)
        func data(_ name: String, _ instrument: Instrument, _ points: [MetricData.Value], boundaries: [Double] = []) -> MetricData
        {
            MetricData(
                metric: Metric(name, instrument, unit: "s", "Help.", boundaries: boundaries),
                points: points.map { MetricData.Point(attributes: ["b": "2", "a": "1"], start: start, value: $0) })
        }
        let histogram = MetricData.Value.histogram(counts: [1, 0, 2], sum: 3.5, count: 3, minimum: 0.1, maximum: 3)
        let empty = MetricData.Value.histogram(counts: [0, 0, 0], sum: 0, count: 0, minimum: .infinity, maximum: -.infinity)
        let wrong = MetricData.Value.histogram(counts: [1], sum: 1, count: 1, minimum: 1, maximum: 1)
        let snapshot = MetricSnapshot(
            timestamp: t0,
            metrics: [
                data("counter", .counter, [.sum(0), .sum(7)]), data("cpu", .counter, [.doubleSum(1.5)]),
                data("size", .upDownCounter, [.sum(-3)]), data("gauge", .gauge, [.gauge(0.5), histogram]),
                data("duration", .histogram, [histogram, wrong, .sum(1), empty], boundaries: [0.5, 1]),
                data("none", .histogram, [.sum(1)], boundaries: [1]),
            ])
        let (body, points) = OTLPMetricEncoder(resource).encode(snapshot)
        #expect(points == 7)
        let isRead: Void? = try unpacked(body, as: Descriptors.metricsRequest, WireMetricsRequest.self) { request in
            let resourceMetrics = try #require(request.pointee.resource_metrics[0]).pointee
            #expect(resourceMetrics.resource.pointee.n_attributes == 4)
            #expect(String(cString: resourceMetrics.schema_url) == "https://opentelemetry.io/schemas/1.44.0")
            let scope = try #require(resourceMetrics.scope_metrics[0]).pointee
            #expect(String(cString: scope.scope.pointee.name) == "triage")
            #expect(scope.n_metrics == 5)
            let metrics = (0..<scope.n_metrics).compactMap { scope.metrics[$0]?.pointee }
            #expect(metrics.map { String(cString: $0.name) } == ["counter", "cpu", "size", "gauge", "duration"])
            #expect(metrics.allSatisfy { String(cString: $0.unit) == "s" && String(cString: $0.description) == "Help." })

            let counter = try #require(metrics[0].sum).pointee
            #expect(counter.is_monotonic == 1 && counter.aggregation_temporality.rawValue == 2)
            let zero = try #require(counter.data_points[0]).pointee
            #expect(zero.value_case == OPENTELEMETRY__PROTO__METRICS__V1__NUMBER_DATA_POINT__VALUE_AS_INT && zero.as_int == 0)
            #expect(zero.start_time_unix_nano == UInt64(start.nanoseconds) && zero.time_unix_nano == UInt64(t0.nanoseconds))
            #expect(zero.n_attributes == 2)
            #expect(String(cString: try #require(zero.attributes[0]).pointee.key) == "a")
            #expect(String(cString: try #require(zero.attributes[1]).pointee.value.pointee.string_value) == "2")
            #expect(try #require(counter.data_points[1]).pointee.as_int == 7)
            #expect(metrics[1].sum?.pointee.data_points[0]?.pointee.as_double == 1.5)
            let size = try #require(metrics[2].sum).pointee
            #expect(size.is_monotonic == 0 && size.aggregation_temporality.rawValue == 2)
            #expect(try #require(size.data_points[0]).pointee.as_int == -3)
            let gauge = try #require(metrics[3].gauge).pointee
            #expect(gauge.n_data_points == 1)
            #expect(try #require(gauge.data_points[0]).pointee.as_double == 0.5)

            let duration = try #require(metrics[4].histogram).pointee
            #expect(duration.aggregation_temporality.rawValue == 2 && duration.n_data_points == 2)
            let point = try #require(duration.data_points[0]).pointee
            #expect((0..<point.n_bucket_counts).map { point.bucket_counts[$0] } == [1, 0, 2])
            #expect((0..<point.n_explicit_bounds).map { point.explicit_bounds[$0] } == [0.5, 1])
            #expect(point.count == 3 && point.sum == 3.5 && point.min == 0.1 && point.max == 3)
            let none = try #require(duration.data_points[1]).pointee
            #expect(none.count == 0 && none.optional_sum_case.rawValue == 5)
            #expect(none.optional_min_case.rawValue == 0 && none.optional_max_case.rawValue == 0)
        }
        #expect(isRead != nil)
    }

    @Test("A snapshot without points makes no body")
    func noPoints() {
        let (body, points) = OTLPMetricEncoder(resource).encode(MetricSnapshot(timestamp: t0, metrics: []))
        #expect(body.isEmpty && points == 0)
    }

    @Test("Answers: nothing, set but empty, partial, a warning, garbage")
    func answers() {
        #expect(OTLPResponse(traces: []) == .full)
        #expect(OTLPResponse(traces: bytes("0a00")) == .full)
        #expect(OTLPResponse(traces: bytes("0a0708031203626164")) == .partial(rejected: 3, message: "bad"))
        #expect(OTLPResponse(metrics: bytes("0a0708031203626164")) == .partial(rejected: 3, message: "bad"))
        #expect(OTLPResponse(traces: bytes("0a051203626164")) == .partial(rejected: 0, message: "bad"))
        #expect(OTLPResponse(traces: Array("<html>".utf8)) == .unreadable)
        #expect(OTLPResponse(metrics: Array("{}".utf8)) == .unreadable)
    }

    @Test("gzip comes back whole, twice from one compressor", arguments: [1, 100, 300_000])
    func compression(count: Int) throws {
        let compressor = GzipCompressor()
        for salt in 0..<2 {
            let body = (0..<count).map { UInt8(truncatingIfNeeded: $0 / 7 + salt) }
            let small = try #require(compressor.compress(body))
            #expect(gunzip(small) == body)
        }
    }
}

/// Inflates a gzip body (window bits 15 + 16, zlib.h inflateInit2); nil if it is none.
func gunzip(_ body: [UInt8]) -> [UInt8]? {
    var stream = z_stream()
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
    defer { inflateEnd(&stream) }
    var result: [UInt8] = []
    var source = body
    return source.withUnsafeMutableBufferPointer { source in
        stream.next_in = source.baseAddress
        stream.avail_in = UInt32(source.count)
        while true {
            var status = Z_OK
            let part = [UInt8](unsafeUninitializedCapacity: 65_536) { target, count in
                stream.next_out = target.baseAddress
                stream.avail_out = 65_536
                status = inflate(&stream, Z_NO_FLUSH)
                count = 65_536 - Int(stream.avail_out)
            }
            result += part
            if status == Z_STREAM_END { return result }
            guard status == Z_OK else { return nil }
        }
    }
}

import COTLP
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

@Suite("Requests within a limit", .timeLimit(.minutes(1)))
struct RequestSizeTests {
    let resource = OTLPResource(attributes: [("service.name", "triage")], version: "9.9")
    let warnings = Warnings()

    /// An entry of about so many bytes.
    func entry(_ id: UInt64, bytes: Int = 0) -> [UInt8] {
        let template = SpanTemplate(name: "attempt", kind: .internal, attributes: [], packed: ByteSlice(""))
        let context = TraceContext(traceID: TraceID(high: 1, low: id), spanID: SpanID(id), flags: .sampled)
        var span = SpanData(template: template, context: context, parent: nil, start: t0, isRecording: true)
        span.append("x", .text(SafeText(stringInterpolation: padding(bytes))))
        return TriageOTLPTests.entry(span)
    }

    private func padding(_ bytes: Int) -> SafeText.Interpolation {
        var text = SafeText.Interpolation(literalCapacity: bytes, interpolationCount: 0)
        for _ in 0..<bytes { text.appendLiteral("x") }
        return text
    }

    /// A limit that two entries of 200 fit in, and three don't.
    var two: Int { TraceRequest(resource).size(spanBytes: 2 * entry(1, bytes: 200).count + 10) }

    func signal(_ receiver: StubReceiver, limit: Int) -> OTLPConfiguration.Signal {
        var signal = OTLPConfiguration.Signal(.traces, endpoint: receiver.url)
        signal.maximumRequestBytes = limit
        signal.timeout = .seconds(30)
        return signal
    }

    @Test("Whatever the sizes, every span is in one part or alone too large, in order, and no request is over the limit")
    func parts() {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededGenerator(seed)
        let request = TraceRequest(resource)
        for round in 0..<200 {
            let entries = (0..<Int.random(in: 1...20, using: &random)).map {
                entry(UInt64($0 + 1), bytes: Int.random(in: 0...400, using: &random))
            }
            let limit = request.size(spanBytes: Int.random(in: 50...1200, using: &random))
            let bytes = entries.flatMap { $0 }
            bytes.withUnsafeBytes { raw in
                let place = "seed \(seed), round \(round)"
                let (parts, tooLarge) = request.parts(raw, count: entries.count, limit: limit)
                #expect(parts.reduce(tooLarge) { $0 + $1.spans } == entries.count, "\(place)")
                var body: [UInt8] = []
                for part in parts {
                    request.write(UnsafeRawBufferPointer(rebasing: raw[part.range]), to: &body)
                    #expect(body.count <= limit && body.count == request.size(spanBytes: part.range.count), "\(place)")
                }
                let kept = parts.flatMap { Array(raw[$0.range]) }
                let fitting = entries.filter { request.size(spanBytes: $0.count) <= limit }.flatMap { $0 }
                #expect(kept == fitting, "\(place)")
            }
        }
    }

    @Test(
        "Bytes that aren't entries are dropped when they would have to be cut, and don't trap",
        arguments: [
            [0x12], [0x12, 0x80], [0x12, 0x05, 1], [0x0A, 0x00], [0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
            [0x12, 0x01, 7, 0x12],
        ] as [[UInt8]])
    func garbage(bytes: [UInt8]) {
        bytes.withUnsafeBytes { raw in
            let (parts, tooLarge) = TraceRequest(resource).parts(raw, count: 3, limit: 1)
            #expect(parts.isEmpty && tooLarge == 3)
        }
    }

    @Test("A batch over the limit goes out in several requests; one span too large alone is dropped and counted")
    func split() throws {
        let receiver = try StubReceiver([.reply(200)])
        defer { receiver.stop() }
        let meter = Meter()
        let warnings = warnings
        let exporter = OTLPSpanExporter(
            signal(receiver, limit: 1000), resource: resource, meter: meter, warnings: OTLPWarnings { warnings.add($0) })
        let entries = (1...10).map { entry(UInt64($0), bytes: $0 == 4 ? 2000 : 200) }
        #expect(exporter.export(batch(entries)) == .mixed(rejected: 0, failed: 1))
        #expect(receiver.requests.count >= 3)
        #expect(receiver.requests.allSatisfy { $0.body.count <= 1000 })
        let ids: [UInt8] = receiver.requests.flatMap { request -> [UInt8] in
            unpacked(request.body, as: Descriptors.traceRequest, WireTraceRequest.self) { message -> [UInt8] in
                let scope = message.pointee.resource_spans[0]!.pointee.scope_spans[0]!.pointee
                return (0..<scope.n_spans).map { scope.spans[$0]!.pointee.span_id.data[7] }
            } ?? []
        }
        #expect(ids == [1, 2, 3, 5, 6, 7, 8, 9, 10])
        #expect(warnings.all.count == 1 && warnings.all[0].contains("1000 bytes"))
        let points = points(of: "otel.sdk.exporter.span.exported", meter)
        #expect(points[""] == 9 && points["too_large"] == 1 && points["timeout"] == 0)
        #expect(self.points(of: "otel.sdk.exporter.span.inflight", meter)[""] == 0)
        #expect(exporter.export(batch([entry(4, bytes: 2000)])) == .failed)
    }

    @Test("A batch of log records over the limit is cut like one of spans")
    func splitLogs() throws {
        let receiver = try StubReceiver([.reply(200)])
        defer { receiver.stop() }
        let exporter = OTLPLogExporter(
            signal(receiver, limit: 500), resource: resource, meter: Meter(), warnings: OTLPWarnings { _ in })
        let encoder = OTLPLogEncoder(identifiers: .omitted)
        let entries = (0..<12).map { number in
            var bytes: [UInt8] = []
            let record = LogRecord(.info, "a line of some length, number \(number)", at: t0)
            encoder.withEncoded(record, valueLength: nil) { bytes = Array($0) }
            return bytes
        }
        #expect(exporter.export(EncodedLogs(batch(entries))) == .exported)
        #expect(receiver.requests.count >= 2 && receiver.requests.allSatisfy { $0.body.count <= 500 })
        let lines: [String] = receiver.requests.flatMap { request -> [String] in
            unpacked(request.body, as: Descriptors.logsRequest, WireLogsRequest.self) { message -> [String] in
                let scope = message.pointee.resource_logs[0]!.pointee.scope_logs[0]!.pointee
                return (0..<scope.n_log_records).map { String(cString: scope.log_records[$0]!.pointee.body.pointee.string_value) }
            } ?? []
        }
        #expect(lines == (0..<12).map { "a line of some length, number \($0)" })
    }

    @Test("Of a split batch, what one request brought there counts although the next fails; 413 isn't tried again")
    func partly() throws {
        let receiver = try StubReceiver([.reply(200), .reply(413), .reply(200, body: bytes("0a0708031203626164"))])
        defer { receiver.stop() }
        let meter = Meter()
        let exporter = OTLPSpanExporter(
            signal(receiver, limit: two), resource: resource, meter: meter, warnings: OTLPWarnings { _ in })
        // Two spans fit into a request.
        let entries = (1...6).map { entry(UInt64($0), bytes: 200) }
        #expect(exporter.export(batch(entries)) == .mixed(rejected: 2, failed: 2))
        #expect(receiver.requests.count == 3)
        let points = points(of: "otel.sdk.exporter.span.exported", meter)
        #expect(points[""] == 2 && points["413"] == 2 && points["rejected"] == 2)
        let durations = meter.collect(at: t0).metrics.filter { $0.metric.name == "otel.sdk.exporter.operation.duration" }
        #expect(durations.flatMap(\.points).count == 1)
        let attributes = durations.first?.points.first?.attributes.pairs.map { "\($0.key)=\($0.value)" } ?? []
        #expect(attributes.contains("http.response.status_code=200") && attributes.contains("error.type=413"))
        #expect(attributes.contains("server.address=127.0.0.1") && attributes.contains("server.port=\(receiver.port)"))
    }

    @Test("All requests of an export share its time-out")
    func sharedDeadline() throws {
        let receiver = try StubReceiver([.hang])
        defer { receiver.stop() }
        var signal = signal(receiver, limit: two)
        signal.timeout = .milliseconds(200)
        let meter = Meter()
        let exporter = OTLPSpanExporter(signal, resource: resource, meter: meter, warnings: OTLPWarnings { _ in })
        #expect(exporter.export(batch((1...6).map { entry(UInt64($0), bytes: 200) })) == .failed)
        #expect(receiver.requests.count == 1)
        #expect(points(of: "otel.sdk.exporter.span.exported", meter)["timeout"] == 6)
    }

    @Test("Metrics over the limit go out in several requests, each point once")
    func metrics() throws {
        let receiver = try StubReceiver([.reply(200)])
        defer { receiver.stop() }
        let meter = Meter()
        let exporter = OTLPMetricExporter(
            signal(receiver, limit: 600), resource: resource, meter: meter, warnings: OTLPWarnings { _ in })
        let many = (0..<20).map { number in
            MetricData.Point(attributes: MetricAttributes([("a", "\(number)")]), start: t0, value: .sum(Int64(number)))
        }
        let metrics = [
            MetricData(metric: Metric("one", .counter, unit: "1", "Help."), points: many),
            MetricData(metric: Metric("two", .counter, unit: "1", "Help."), points: Array(many.prefix(1))),
        ]
        #expect(exporter.export(MetricSnapshot(timestamp: t0, metrics: metrics)) == .exported)
        #expect(receiver.requests.count > 2)
        var found: [String] = []
        for request in receiver.requests {
            #expect(request.body.count <= 600)
            found += names(in: request.body)
        }
        #expect(found.sorted() == (0..<20).map { "one \($0)" }.sorted() + ["two 0"])
        #expect(points(of: "otel.sdk.exporter.metric_data_point.exported", meter)[""] == 21)
        let long = MetricData(
            metric: Metric("three", .counter, unit: "1", String(repeating: "x", count: 900)), points: Array(many.prefix(2)))
        #expect(exporter.export(MetricSnapshot(timestamp: t0, metrics: [long])) == .failed)
        #expect(points(of: "otel.sdk.exporter.metric_data_point.exported", meter)["too_large"] == 2)
    }

    @Test("An endpoint that is dead for spans and metrics is complained about once")
    func sharedWarning() throws {
        let receiver = try StubReceiver([], isDeaf: true)
        defer { receiver.closeDeaf() }
        let warnings = warnings
        let shared = OTLPWarnings { warnings.add($0) }
        var policy = ExportRetry.Policy()
        policy.tries = 1
        let base = "http://127.0.0.1:\(receiver.port)"
        let spans = OTLPSpanExporter(
            OTLPConfiguration.Signal(.traces, endpoint: base + "/v1/traces"), resource: resource, retry: policy, warnings: shared)
        let metrics = OTLPMetricExporter(
            OTLPConfiguration.Signal(.metrics, endpoint: base + "/v1/metrics"), resource: resource, retry: policy,
            warnings: shared)
        #expect(spans.export(batch([entry(1)])) == .failed)
        let point = MetricData.Point(attributes: [:], start: t0, value: .sum(1))
        let data = MetricData(metric: Metric("a", .counter, unit: "1", "Help."), points: [point])
        #expect(metrics.export(MetricSnapshot(timestamp: t0, metrics: [data])) == .failed)
        #expect(warnings.all.count == 1)
    }

    /// Values of a metric's points by `error.type`.
    func points(of name: String, _ meter: Meter) -> [String: Int64] {
        var found: [String: Int64] = [:]
        for data in meter.collect(at: t0).metrics where data.metric.name == name {
            for point in data.points {
                guard case .sum(let value) = point.value else { continue }
                found[point.attributes.pairs.first { $0.key == "error.type" }?.value ?? ""] = value
            }
        }
        return found
    }

    /// Metric names with their points' attribute, as they stand in a request.
    func names(in body: [UInt8]) -> [String] {
        unpacked(body, as: Descriptors.metricsRequest, WireMetricsRequest.self) { message -> [String] in
            let scope = message.pointee.resource_metrics[0]!.pointee.scope_metrics[0]!.pointee
            return (0..<scope.n_metrics).flatMap { index -> [String] in
                let metric = scope.metrics[index]!.pointee
                let sum = metric.sum.pointee
                return (0..<sum.n_data_points).map { point in
                    let value = sum.data_points[point]!.pointee.attributes[0]!.pointee.value.pointee
                    return "\(String(cString: metric.name)) \(String(cString: value.string_value))"
                }
            }
        } ?? []
    }
}

import Glibc
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

/// Collects warnings.
final class Warnings: Sendable {
    private let list = Mutex<[String]>([])
    var all: [String] { list.withLock { $0 } }
    func add(_ text: String) { list.withLock { $0.append(text) } }
}

@Suite("Posting over HTTP", .timeLimit(.minutes(1)))
struct OTLPTransportTests {
    let resource = OTLPResource(attributes: [("service.name", "triage")], version: "9.9")
    let warnings = Warnings()

    /// Retries after a millisecond.
    var quick: ExportRetry.Policy {
        var policy = ExportRetry.Policy()
        policy.initial = .milliseconds(1)
        policy.tries = 4
        return policy
    }

    func spans(_ count: Int = 1) -> EncodedSpans {
        let template = SpanTemplate(name: "attempt", kind: .internal, attributes: [], packed: ByteSlice(""))
        let span = SpanData(template: template, context: context(1), parent: nil, start: t0, isRecording: true)
        return batch(Array(repeating: entry(span), count: count))
    }

    func exporter(_ url: String, _ change: (inout OTLPConfiguration.Signal) -> Void = { _ in }) -> OTLPSpanExporter {
        var signal = OTLPConfiguration.Signal(.traces, endpoint: url)
        signal.timeout = .seconds(30)
        change(&signal)
        let warnings = warnings
        return OTLPSpanExporter(signal, resource: resource, retry: quick) { warnings.add($0) }
    }

    @Test("Success: path, headers and body are right, and the connection is kept")
    func success() throws {
        let receiver = try StubReceiver([.reply(200), .reply(202, body: bytes("0a00"))])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url) {
            $0.headers = [.init(name: "Authorization", value: "Bearer x"), .init(name: "X-Empty", value: "")]
        }
        #expect(exporter.export(spans(3)) == .exported)
        #expect(exporter.export(spans(2)) == .exported)
        let requests = receiver.requests
        #expect(requests.count == 2)
        #expect(receiver.connections == 1)
        let first = try #require(requests.first)
        #expect(first.head.first == "POST /v1/traces HTTP/1.1")
        #expect(first.header("Content-Type") == "application/x-protobuf")
        #expect(first.header("User-Agent") == "OTel-OTLP-Exporter-Swift/9.9")
        #expect(first.header("Authorization") == "Bearer x")
        #expect(first.header("X-Empty") == "")
        #expect(first.header("Expect") == nil)
        #expect(first.header("Content-Encoding") == nil)
        var body: [UInt8] = []
        TraceRequest(resource).write(spans(3), to: &body)
        #expect(first.body == body)
        #expect(warnings.all.isEmpty)
        #expect(exporter.counts.requests == 2 && exporter.counts.retries == 0)
    }

    @Test("gzip is announced and decodes to the same body")
    func gzip() throws {
        let receiver = try StubReceiver([.reply(200)])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url) { $0.compression = .gzip }
        for count in [500, 1] {
            #expect(exporter.export(spans(count)) == .exported)
            let request = try #require(receiver.requests.last)
            #expect(request.header("Content-Encoding") == "gzip")
            var body: [UInt8] = []
            TraceRequest(resource).write(spans(count), to: &body)
            #expect(gunzip(request.body) == body)
        }
    }

    @Test("Told to wait a second, it does, then succeeds")
    func retryAfterSeconds() throws {
        let receiver = try StubReceiver([.reply(429, headers: ["Retry-After: 1"]), .reply(200)])
        defer { receiver.stop() }
        #expect(exporter(receiver.url).export(spans()) == .exported)
        let times = receiver.requests.map(\.seconds)
        #expect(times.count == 2 && times[1] - times[0] >= 1)
        #expect(warnings.all.isEmpty)
    }

    @Test("Told to wait until a date that is too far off, it gives up at once")
    func retryAfterDate() throws {
        var now = time(nil) + 3600
        var parts = tm()
        gmtime_r(&now, &parts)
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let date =
            "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) \(parts.tm_year + 1900)"
            + " \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
        let receiver = try StubReceiver([.reply(503, headers: ["Retry-After: \(date)"]), .reply(200)])
        defer { receiver.stop() }
        #expect(exporter(receiver.url).export(spans()) == .failed)
        #expect(receiver.requests.count == 1)
        #expect(warnings.all.count == 1 && warnings.all[0].contains("503"))
    }

    @Test("Unavailable twice, then well")
    func unavailable() throws {
        let receiver = try StubReceiver([.reply(503), .reply(502), .reply(200)])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url)
        #expect(exporter.export(spans()) == .exported)
        #expect(receiver.requests.count == 3)
        #expect(Set(receiver.requests.map(\.body)).count == 1)
        #expect(exporter.counts.retries == 2 && exporter.counts.requests == 3)
    }

    @Test("A lost connection is tried again")
    func closed() throws {
        let receiver = try StubReceiver([.close, .reply(200)])
        defer { receiver.stop() }
        #expect(exporter(receiver.url).export(spans()) == .exported)
        #expect(receiver.requests.count == 2)
    }

    @Test(
        "Refused for good: one request, one warning, and none for the next batch", arguments: [500, 400, 401, 404, 408, 413, 301])
    func refused(status: Int) throws {
        let receiver = try StubReceiver([.reply(status, headers: ["Location: /elsewhere"], body: Array("secret".utf8))])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url)
        #expect(exporter.export(spans()) == .failed)
        #expect(receiver.requests.count == 1)
        #expect(exporter.export(spans()) == .failed)
        #expect(receiver.requests.count == 2)
        #expect(warnings.all.count == 1)
        #expect(warnings.all[0].contains("\(status)") && !warnings.all[0].contains("secret"))
    }

    @Test("A partial success counts the rejected, says why, and isn't sent again")
    func partialSuccess() throws {
        let receiver = try StubReceiver([
            .reply(200, body: bytes("0a0708031203626164")), .reply(200, body: bytes("0a0708031203626164")),
            .reply(200, body: bytes("0a051203626164")),
        ])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url)
        #expect(exporter.export(spans(5)) == .partial(rejected: 3))
        #expect(exporter.export(spans(5)) == .partial(rejected: 3))
        #expect(exporter.export(spans(5)) == .exported)
        #expect(receiver.requests.count == 3)
        #expect(warnings.all.count == 2)
        #expect(warnings.all[0].contains("rejected 3 spans") && warnings.all[0].contains("bad"))
    }

    @Test("An answer that is no OTLP is still a success, and counted")
    func garbage() throws {
        let receiver = try StubReceiver([.reply(200, body: Array("<html>hello</html>".utf8))])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url)
        #expect(exporter.export(spans()) == .exported)
        #expect(exporter.export(spans()) == .exported)
        #expect(exporter.counts.unreadableResponses == 2)
        #expect(warnings.all.count == 1)
    }

    @Test("An answer over 4 MiB ends the export")
    func oversizedAnswer() throws {
        let receiver = try StubReceiver([.reply(200, body: [UInt8](repeating: 0, count: OTLPTransport.maximumResponse + 1))])
        defer { receiver.stop() }
        #expect(exporter(receiver.url).export(spans()) == .failed)
        #expect(receiver.requests.count == 1)
        #expect(warnings.all.count == 1 && warnings.all[0].contains("4 MiB"))
    }

    @Test("An answer in small pieces is read to its end")
    func slowAnswer() throws {
        let head = Array("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".utf8)
        let receiver = try StubReceiver([.pieces((head + bytes("0a0708031203626164")).map { [$0] })])
        defer { receiver.stop() }
        #expect(exporter(receiver.url).export(spans(5)) == .partial(rejected: 3))
    }

    @Test("A receiver that never answers costs the time-out, once")
    func hang() throws {
        let receiver = try StubReceiver([.hang])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url) { $0.timeout = .milliseconds(200) }
        #expect(exporter.export(spans()) == .failed)
        #expect(receiver.requests.count == 1)
        #expect(warnings.all.count == 1)
    }

    @Test("Nobody listens: all tries fail, with one warning that names the endpoint without its password")
    func refusedConnection() throws {
        let receiver = try StubReceiver([], isDeaf: true)
        let port = receiver.port
        defer { receiver.closeDeaf() }
        let exporter = exporter("http://user:secret@127.0.0.1:\(port)/v1/traces?token=secret")
        #expect(exporter.export(spans()) == .failed)
        #expect(exporter.export(spans()) == .failed)
        #expect(exporter.counts.requests == 8)
        #expect(warnings.all.count == 1)
        #expect(warnings.all[0].contains("http://127.0.0.1:\(port)/v1/traces") && !warnings.all[0].contains("secret"))
    }

    @Test(
        "Cancelling ends a request that hangs, and a wait between tries; later exports fail without a request",
        arguments: [true, false])
    func cancel(hanging: Bool) async throws {
        let receiver = try StubReceiver([hanging ? .hang : .reply(429, headers: ["Retry-After: 3600"])])
        defer { receiver.stop() }
        let exporter = exporter(receiver.url) { $0.timeout = nil }
        let spans = spans()
        async let result = withCheckedContinuation { continuation in
            Thread.start { continuation.resume(returning: exporter.export(spans)) }
        }
        await withCheckedContinuation { continuation in
            Thread.start {
                receiver.waitForRequests(1)
                exporter.cancel()
                continuation.resume()
            }
        }
        #expect(await result == .failed)
        #expect(exporter.export(spans) == .failed)
        #expect(receiver.requests.count == 1)
        // What was dropped is said, though the end came before the time was up.
        let expected = hanging ? "until the end came" : "answers with status 429"
        #expect(warnings.all.count == 1 && warnings.all[0].contains(expected))
    }

    @Test("Metrics go the same way; an empty snapshot isn't sent")
    func metrics() throws {
        let receiver = try StubReceiver([.reply(200, body: bytes("0a0708031203626164"))])
        defer { receiver.stop() }
        let warnings = warnings
        let signal = OTLPConfiguration.Signal(.metrics, endpoint: "http://127.0.0.1:\(receiver.port)/v1/metrics")
        let exporter = OTLPMetricExporter(signal, resource: resource) { warnings.add($0) }
        #expect(exporter.export(MetricSnapshot(timestamp: t0, metrics: [])) == .exported)
        #expect(receiver.requests.isEmpty)
        let data = MetricData(
            metric: Metric("a", .counter, unit: "1", "Help."),
            points: [MetricData.Point(attributes: [:], start: t0, value: .sum(1))])
        // It rejects three, but there was one.
        #expect(exporter.export(MetricSnapshot(timestamp: t0, metrics: [data])) == .partial(rejected: 1))
        #expect(receiver.requests.map { $0.head.first } == ["POST /v1/metrics HTTP/1.1"])
        #expect(warnings.all.count == 1 && warnings.all[0].contains("data points"))
    }
}

/// A thread for what blocks, so that the cooperative pool stays free.
enum Thread {
    static func start(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
                return nil
            }, Unmanaged.passRetained(Box(body)).toOpaque())
        pthread_detach(thread)
    }
}

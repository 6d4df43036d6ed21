import Foundation
import Logging
import Metrics
import Synchronization
import Testing
import Tracing
import TriageEvents
import TriageOTLP
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import TriageBridges

private let parent = "0af7651916cd43dd8448eb211c80319c"

private func headers(sampled: Bool) -> Headers {
    [Header("traceparent", text: "00-\(parent)-b7ad6b7169203331-0\(sampled ? 1 : 0)")]
}

/// What a handler under test found out while it ran.
private struct Seen: Sendable {
    var attempt: TraceContext?
    var span: TraceContext?
    var published: TraceContext?
}

@Suite("A handler's own telemetry", .timeLimit(.minutes(2)))
struct EngineTests {
    @Test("withSpan, Counter, log lines and nested tasks join the event's trace, the meter and the span's ids")
    func joins() async throws {
        Bridges.installLookup()
        let bench = Bench()
        let lines = KeepingLogHandler.Lines()
        let logger = KeepingLogHandler.logger(lines)
        let seen = Mutex(Seen())
        // A span around the whole run isn't the parent of what handlers do.
        let around = bench.bridges.tracer.startSpan("around")
        try await ServiceContext.withValue(around.context) {
            try await bench.run([("p-a", headers(sampled: true))]) { _, context in
                seen.withLock { $0.attempt = context.span.context }
                logger.info("before")
                await withTracer(bench.bridges.tracer) {
                    await withSpan("index.update") { _ in
                        logger.info("inside")
                        seen.withLock {
                            $0.span = ServiceContext.currentTraceContext
                            $0.published = currentTraceContext()
                        }
                        await withTaskGroup(of: Void.self) { group in
                            for number in 0..<3 {
                                group.addTask {
                                    await withSpan("child") { span in
                                        span.attributes["thread.id"] = number
                                        await Task.yield()
                                    }
                                }
                            }
                        }
                        await Task { withSpan("unstructured") { _ in } }.value
                    }
                    await Task.detached { withSpan("alone") { _ in } }.value
                }
                Counter(label: "clinic.indexed", factory: bench.bridges.metricsFactory).increment()
            }
        }
        around.end()
        let attempt = try #require(bench.span("attempt"))
        let span = try #require(bench.span("index.update"))
        #expect(attempt.context.traceID.description == parent)
        #expect(span.parentSpanID == attempt.context.spanID && span.context.traceID == attempt.context.traceID)
        let children = bench.recorder.spans.filter { $0.name == "child" }
        #expect(children.count == 3 && children.allSatisfy { $0.parentSpanID == span.context.spanID })
        #expect(bench.span("unstructured")?.parentSpanID == span.context.spanID)
        #expect(bench.recorder.spans.filter { $0.context.traceID == attempt.context.traceID }.count == 7)
        let found = seen.withLock { $0 }
        #expect(found.attempt?.spanID == attempt.context.spanID && found.span == span.context && found.published == span.context)
        let expected = [attempt.context, span.context].map { context in
            [
                "trace_id": Logger.MetadataValue.string(context.traceID.description),
                "span_id": .string(context.spanID.description),
                "trace_flags": .string("0\(context.flags.rawValue)"),
            ]
        }
        #expect(lines.all.map(\.metadata) == expected)
        #expect(bench.points("clinic.indexed").map(\.value) == [.sum(1)])
        #expect(Logger.MetadataProvider.triage.get().isEmpty)
    }

    @Test("an event that isn't sampled: the same trace and ids on log lines, counted all the same, nothing exported")
    func unsampled() async throws {
        let bench = Bench()
        let lines = KeepingLogHandler.Lines()
        let logger = KeepingLogHandler.logger(lines)
        try await bench.run([("p-a", headers(sampled: false))]) { _, _ in
            bench.bridges.tracer.withSpan("index.update") { _ in logger.info("inside") }
            Counter(label: "clinic.indexed", factory: bench.bridges.metricsFactory).increment()
        }
        #expect(lines.all.map { $0.metadata["trace_id"] } == [.string(parent)])
        #expect(bench.span("index.update") == nil && bench.span("attempt") == nil)
        #expect(bench.points("clinic.indexed").map(\.value) == [.sum(1)])
    }

    @Test("an event that isn't sampled and fails: the handler's own spans are exported with the rest of its trace")
    func unsampledFailure() async throws {
        struct Unavailable: Error {}
        let bench = Bench()
        try await bench.run([("p-a", headers(sampled: false))], retries: RetryPolicy(retries: 0)) { _, _ in
            try bench.bridges.tracer.withSpan("index.update") { _ in throw Unavailable() }
        }
        let attempt = try #require(bench.span("attempt"))
        let span = try #require(bench.span("index.update"))
        #expect(span.context.traceID.description == parent && span.parentSpanID == attempt.context.spanID)
        #expect(span.context.isSampled && span.status == .error("Unavailable"))
    }

    @Test("patient data in names, attributes, labels, dimensions, errors and messages is nowhere in what leaves")
    func canaries() async throws {
        let id = "p-4711-Canary"
        let canaries = [id, "Zebrowska", "Zebrowska Ada", "1970-02-03", "ada@example.org", "+48 600 700 800", "Złota 12"]
        struct Leak: Error, CustomStringConvertible, LocalizedError {
            let text: String
            var description: String { text }
            var errorDescription: String? { text }
        }
        enum LeakyCase: Error { case failed(String) }
        for rule in [BridgePolicy.NameRule.codeLike, .listed] {
            var policy = BridgePolicy()
            policy.nameRule = rule
            let bench = Bench(policy: policy)
            try await bench.run([(id, headers(sampled: true))], retries: RetryPolicy(retries: 0)) { _, _ in
                for text in canaries {
                    let factory = bench.bridges.metricsFactory
                    try? bench.bridges.tracer.withSpan("load \(text)") { span in
                        span.operationName = text
                        span.attributes["patient"] = text
                        span.attributes["http.request.method"] = text
                        span.attributes["http.route"] = "/Patient/\(text)"
                        span.attributes["error.type"] = text
                        span.attributes[text] = 1
                        span.attributes.set("rpc.method", value: .stringConvertible(Leak(text: text)))
                        span.addEvent(
                            .init(
                                name: text, attributes: ["exception.message": .string(text), "code.function.name": .string(text)])
                        )
                        span.addLink(.init(context: span.context, attributes: [text: .string(text)]))
                        span.setStatus(.init(code: .error, message: text))
                        span.recordError(LeakyCase.failed(text), attributes: ["exception.stacktrace": .string(text)])
                        throw Leak(text: text)
                    }
                    let dimensions = [
                        (text, "x"), ("http.request.method", text), ("error.type", text), ("db.operation.name", text),
                    ]
                    Counter(label: text, dimensions: dimensions, factory: factory).increment()
                    Counter(label: "loads", dimensions: dimensions, factory: factory).increment()
                    Metrics.Timer(label: "load.\(text)", dimensions: dimensions, factory: factory).recordSeconds(1)
                    Gauge(label: "load.time", dimensions: dimensions, factory: factory).record(1)
                }
                throw Leak(text: id)
            }
            func leaving(_ identifiers: IdentifierPolicy) -> [UInt8] {
                let snapshot = bench.meter.collect(at: bench.tracer.clock.now())
                var bytes =
                    OTLPMetricEncoder(OTLPResource(attributes: [], version: "1")).encode(snapshot).body
                    + PrometheusText().write(snapshot)
                let encoder = OTLPSpanEncoder(identifiers: identifiers)
                for span in bench.recorder.spans { encoder.withEncoded(span) { bytes.append(contentsOf: $0) } }
                return bytes
            }
            let output = leaving(.omitted)
            for canary in canaries { #expect(find(canary, in: output).isEmpty, "\(rule): \(canary)") }
            // The spans and metrics themselves are there, and the search finds what is there.
            #expect(bench.recorder.spans.count { $0.name == "_OTHER" } == canaries.count)
            #expect(!find("_OTHER", in: output).isEmpty && !find("exception", in: output).isEmpty)
            #expect(!find(id, in: leaving(.plain)).isEmpty)
            #expect((bench.refused["span_attribute"] ?? 0) > 40 && (bench.refused["metric_name"] ?? 0) >= 14)
        }
    }

    /// The forms of `text` that are found: as it is, percent-encoded, and in base64 wherever it begins.
    private func find(_ text: String, in bytes: [UInt8]) -> [String] {
        var forms = [text, text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text]
        for shift in 0..<3 {
            let encoded = Data([UInt8](repeating: 0, count: shift) + Array(text.utf8)).base64EncodedString()
            // Without the characters that also depend on what stands before and behind.
            forms.append(String(encoded.dropFirst(shift == 0 ? 0 : shift + 1).dropLast(4)))
        }
        let data = Data(bytes)
        return forms.filter { $0.utf8.count >= 4 && data.range(of: Data($0.utf8)) != nil }
    }
}

import Foundation
import Logging
import Metrics
import Synchronization
import Testing
import Tracing
import Triage
import TriageBridges
import TriageEvents
import TriageTelemetry
import TriageTestKit

// The lines between the two marks are the README's example, word for word; the test below compares them.
// README ↓
struct Indexer {
    let index: any PatientIndex
    let logger: Logger
    let indexed = Counter(label: "clinic.indexed")  // made behind the bootstrap: `clinic_indexed_total` in Prometheus

    func handle(_ event: PatientEvent, _ context: HandlerContext) async throws {
        try await withSpan("index.update") { span in  // a child of the attempt; ERROR if it throws
            logger.info("updating the index")  // has the span's trace_id and span_id
            span.attributes["http.response.status_code"] = try await index.update(event)
        }
        indexed.increment()
    }
}

func install(_ telemetry: Telemetry) {
    var policy = BridgePolicy()
    policy.allow("clinic.ward", .oneOf(["icu", "er"]))  // an attribute of your own, and what it may be
    Bridges(telemetry, policy: policy).bootstrap()  // once, before the first Counter is made
    LoggingSystem.bootstrap(StreamLogHandler.standardError, metadataProvider: .triage)
}
// README ↑

/// What the example calls: the reader's own service.
protocol PatientIndex: Sendable {
    func update(_ event: PatientEvent) async throws -> Int
}

@Suite("The README's example of bridges", .timeLimit(.minutes(1)))
struct READMEExampleTests {
    @Test("it is the code that is compiled here")
    func compiled() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let source = try String(contentsOf: URL(filePath: #filePath), encoding: .utf8)
        let begin = try #require(source.range(of: "// README ↓\n"))
        let end = try #require(source.range(of: "// README ↑"))
        let imports = ["Logging", "Metrics", "Tracing", "Triage", "TriageBridges"].map { "import \($0)\n" }.joined()
        let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
        #expect(readme.contains("```swift\n\(imports)\n\(source[begin.upperBound..<end.lowerBound])```\n"))
    }

    @Test("and does what its comments say")
    func works() async throws {
        final class Index: PatientIndex {
            let calls = Mutex(0)
            struct Unavailable: Error {}

            func update(_ event: PatientEvent) async throws -> Int {
                let call = calls.withLock { calls in
                    calls += 1
                    return calls
                }
                if call == 1 { throw Unavailable() }
                return 200
            }
        }
        let bench = Bench()
        let lines = KeepingLogHandler.Lines()
        let index = Index()
        let indexer = withMetricsFactory(bench.bridges.metricsFactory) {
            Indexer(index: index, logger: KeepingLogHandler.logger(lines))
        }
        try await bench.run([("p-a", [])]) { event, context in
            try await withTracer(bench.bridges.tracer) { () async throws in try await indexer.handle(event, context) }
        }
        let attempts = bench.recorder.spans.filter { $0.name == "attempt" }
        let updates = bench.recorder.spans.filter { $0.name == "index.update" }
        #expect(updates.map(\.parentSpanID) == attempts.map(\.context.spanID) && updates.count == 2)
        #expect(updates.first?.status == .error("Unavailable") && updates.last?.status == .unset)
        #expect(updates.last?.value("http.response.status_code") == .int(200))
        #expect(lines.all.map { $0.metadata["span_id"] } == updates.map { .string($0.context.spanID.description) })
        #expect(bench.points("clinic.indexed").map(\.value) == [.sum(1)])
    }
}

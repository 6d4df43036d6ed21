import Foundation
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Telemetry as it is wired", .timeLimit(.minutes(2)))
struct TelemetryTests {
    @Test("With OTEL_PROPAGATORS=none no context is written, and none is read", arguments: [true, false])
    func propagators(isNone: Bool) async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let recorder = SpanRecorder()
        let settings = TelemetryConfiguration(
            environment: isNone ? ["OTEL_PROPAGATORS": "none"] : [:], exportsByDefault: false)
        let telemetry = Telemetry(settings, processors: [recorder])
        // What the publisher writes is for the consumer alone: an ordinary one, so that there is something to read.
        try await publish(
            [#"{"resourceType":"Patient","id":"a"}"#], action: .created, to: cluster,
            telemetry: isNone ? makeTelemetry() : telemetry)
        try await publish(
            [#"{"resourceType":"Patient","id":"b"}"#], action: .deleted, to: cluster, telemetry: telemetry)
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        configuration.topics = ["fhir.Patient.created"]
        let processor = try Processor(configuration, telemetry: telemetry, logger: quiet()) { _, _ in }
        try await processor.run()
        let written = try await records(of: ["fhir.Patient.deleted"], in: cluster)
        #expect(written.count == 1 && (written[0].headers.last("traceparent") == nil) == isNone)
        let process = recorder.spans.filter { $0.template.name == "process fhir.Patient.created" }
        #expect(process.count == 1 && (process[0].parentSpanID == SpanID(0)) == isNone)
    }

    @Test("A dead endpoint is complained about once, for spans and metrics, and the shutdown ends all the same")
    func deadEndpoint() async {
        let warnings = Collected<String>()
        // Port 9 of this host, discard: nobody listens.
        let settings = TelemetryConfiguration(
            environment: ["OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "300"],
            exportsByDefault: false)
        let telemetry = Telemetry(settings) { warnings.append($0) }
        let template = telemetry.tracer.template("x", kind: .internal, [])
        let now = telemetry.tracer.clock.now()
        telemetry.tracer.end(telemetry.tracer.start(template, parent: nil, at: now), at: now)
        #expect(await telemetry.flush(timeout: .seconds(30)) == false)
        telemetry.tracer.end(telemetry.tracer.start(template, parent: nil, at: now), at: now)
        await telemetry.shutdown(timeout: .seconds(3600))
        #expect(warnings.all.count == 1)
        let counts = telemetry.spanCounts
        #expect(counts.ended == 2 && counts.failed + counts.droppedShutdownTimeout == 2)
        telemetry.tracer.end(telemetry.tracer.start(template, parent: nil, at: now), at: now)
        #expect(telemetry.spanCounts.droppedAlreadyShutdown == 1)
    }

    @Test("OTEL_LOG_LEVEL=error silences it")
    func silent() async {
        let warnings = Collected<String>()
        let settings = TelemetryConfiguration(
            environment: [
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_LOG_LEVEL": "error",
            ], exportsByDefault: false)
        let telemetry = Telemetry(settings) { warnings.append($0) }
        await telemetry.shutdown(timeout: .seconds(30))
        #expect(warnings.all.isEmpty)
    }

    @Test("What telemetry tells about itself is there from the start")
    func selfMetrics() {
        let settings = TelemetryConfiguration(
            environment: ["OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_MAX_QUEUE_SIZE": "77"],
            exportsByDefault: false)
        let telemetry = Telemetry(settings)
        _ = telemetry.scrape()
        let text = String(decoding: telemetry.scrape(), as: UTF8.self)
        let lines = text.split(separator: "\n").filter { $0.hasPrefix("otel_sdk_") || $0.hasPrefix("triage_span_queue") }
        func value(_ name: String, _ parts: String...) -> String? {
            let found = lines.filter { line in line.hasPrefix(name + "{") && parts.allSatisfy { line.contains($0) } }
            return found.count == 1 ? found[0].split(separator: " ").last.map(String.init) : nil
        }
        #expect(value("otel_sdk_processor_span_queue_capacity") == "77")
        #expect(value("otel_sdk_processor_span_queue_size", #"otel_component_name="batching_span_processor/0""#) == "0")
        for reason in ["queue_full", "already_shutdown", "shutdown_timeout"] {
            #expect(value("otel_sdk_processor_span_processed_total", #"error_type="\#(reason)""#) == "0")
        }
        for reason in ["rejected", "too_large", "timeout", "no_answer"] {
            #expect(value("otel_sdk_exporter_span_exported_total", #"error_type="\#(reason)""#, #"server_port="9""#) == "0")
            #expect(value("otel_sdk_exporter_metric_data_point_exported_total", #"error_type="\#(reason)""#) == "0")
        }
        #expect(value("otel_sdk_exporter_span_inflight", #"server_address="127.0.0.1""#) == "0")
        let timer = #"otel_component_type="prometheus_http_text_metric_exporter""#
        #expect(value("otel_sdk_metric_reader_collection_duration_seconds_count", timer) == "1")
        #expect(value("otel_sdk_metric_reader_collection_duration_seconds_bucket", timer, #"le="+Inf""#) == "1")
        #expect(value("triage_span_queue_limit_bytes") == "33554432" && value("triage_span_queue_usage_bytes") == "0")
    }
}

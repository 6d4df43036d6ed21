import Foundation
import Triage
import TriageTelemetry

/// The retry path of a whole processor: each event is consumed, fails once, and its retry record is acknowledged.
///
///     Benchmarks retry-path BROKERS TOPIC GROUP COUNT
///
/// prints what `triage run -o json` prints of it. Telemetry is as the `OTEL_*` variables say. The retries are due in an hour, so
/// none is taken up: three spans an event, process, attempt and send.
enum RetryPath {
    private struct Unavailable: Error {}

    static func run(_ arguments: [String]) async throws {
        guard arguments.count == 4, let count = Int(arguments[3]) else {
            print("usage: Benchmarks retry-path BROKERS TOPIC GROUP COUNT")
            exit(64)
        }
        let (configuration, telemetry) = setup(arguments)
        let processor = try Processor(configuration, telemetry: telemetry) { _, _ in throw Unavailable() }
        let start = ContinuousClock.now
        let running = Task { try await processor.run() }
        while processor.summary.retries + processor.summary.parked < count, !Task.isCancelled {
            try await Task.sleep(for: .milliseconds(20))
        }
        let wall = ContinuousClock.now - start
        processor.stop()
        try await running.value
        await telemetry.shutdown(timeout: .seconds(30))
        let usage = ResourceUsage.now()
        let cpu = usage.cpuSeconds - processor.summary.cpuSecondsAtFirstRecord
        let summary = processor.summary
        let counts = telemetry.spanCounts
        print(
            """
            {"completed":\(summary.retries + summary.parked),"parked":\(summary.parked),"cpu_seconds":\(cpu),\
            "duration_seconds":\(Double(wall.components.seconds) + Double(wall.components.attoseconds) / 1e18),\
            "max_rss_bytes":\(usage.maximumResidentBytes),"spans_exported":\(counts.exported),"spans_dropped":\(counts.dropped)}
            """)
    }

    /// A processor of BROKERS TOPIC GROUP whose retries are due in an hour, with telemetry as the `OTEL_*` variables say.
    static func setup(_ arguments: [String]) -> (Configuration, Telemetry) {
        var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: arguments[0]))
        configuration.topics = [arguments[1]]
        configuration.group = arguments[2]
        configuration.retry = RetryPolicy(base: .seconds(3600), cap: .seconds(3600))
        configuration.newTraceAfter = nil
        configuration.outage = nil
        configuration.http = nil
        let telemetry = Telemetry(
            TelemetryConfiguration(environment: ProcessInfo.processInfo.environment, exportsByDefault: true),
            identifiers: .omitted)
        return (configuration, telemetry)
    }
}

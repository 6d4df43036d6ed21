import Foundation
import Triage
import TriageTelemetry

/// Many patients, and many records parked behind the first events of a few, which fail.
///
///     Benchmarks parked BROKERS TOPIC GROUP COUNT
///
/// Events of keys that begin with `blocked` fail and are due again in an hour, so that everything behind them is parked; all others
/// are completed. Ends when COUNT events are completed, parked or wait, and prints what that took.
enum ParkedRecords {
    private struct Unavailable: Error {}

    static func run(_ arguments: [String]) async throws {
        guard arguments.count == 4, let count = Int(arguments[3]) else {
            print("usage: Benchmarks parked BROKERS TOPIC GROUP COUNT")
            exit(64)
        }
        let (configuration, telemetry) = RetryPath.setup(arguments)
        let blocked = Array("blocked".utf8)
        let processor = try Processor(configuration, telemetry: telemetry) { _, context in
            if let key = context.record.key, key.starts(with: blocked) { throw Unavailable() }
        }
        let running = Task { try await processor.run() }
        var done = 0
        while done < count, !Task.isCancelled {
            try await Task.sleep(for: .milliseconds(100))
            done = processor.summary.completed + processor.summary.retries + processor.summary.parked
        }
        let usage = ResourceUsage.now()
        let summary = processor.summary
        processor.stop()
        try await running.value
        await telemetry.shutdown(timeout: .seconds(30))
        print(
            "\(summary.completed) completed, \(summary.retries) wait, \(summary.parked) parked:",
            "\(usage.maximumResidentBytes >> 20) MiB at most,",
            "\(Int((usage.cpuSeconds - summary.cpuSecondsAtFirstRecord) / Double(count) * 1e9)) ns of CPU time an event")
    }
}

import Triage
import UnixSignals

/// SIGUSR1: export what telemetry there is at once, and go on.
enum FlushSignal {
    /// How long a flush may take. An endpoint that doesn't answer costs the exporter's time-out, 10 s by default.
    private static let timeout: Duration = .seconds(30)

    /// Flushes `telemetry` whenever the signal comes, until the task is cancelled.
    ///
    /// - Parameter tell: gets one line when a flush is done, and whether everything went out.
    static func watch(_ telemetry: Telemetry, tell: @escaping @Sendable (Bool, String) -> Void) async -> Task<Void, Never> {
        let signals = await UnixSignalsSequence(trapping: .sigusr1)
        return Task {
            for await _ in signals {
                let isComplete = await telemetry.flush(timeout: timeout)
                let counts = telemetry.spanCounts
                let spans = "\(counts.exported) spans exported, \(counts.failed + counts.rejected + counts.dropped) lost so far"
                tell(isComplete, "SIGUSR1: telemetry \(isComplete ? "flushed" : "could not all be exported"); \(spans)")
            }
        }
    }
}

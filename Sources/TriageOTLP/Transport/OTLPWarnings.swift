internal import Synchronization
internal import TriageTelemetry

/// Passes warnings on, each kind at most once in five minutes. One for all exporters of a process, so that an endpoint that
/// is dead for spans, metrics and logs alike is complained about once.
public final class OTLPWarnings: Sendable {
    private let limiter = Mutex(WarningLimiter())
    private let receive: @Sendable (String) -> Void

    /// - Parameter receive: gets a sentence, on the exporting thread.
    public init(_ receive: @escaping @Sendable (String) -> Void) { self.receive = receive }

    /// Passes `text` on unless one of its kind was passed on in the last five minutes. Kinds must be few.
    func warn(_ kind: String, _ text: String) {
        let now = MonotonicClock.now
        if limiter.withLock({ $0.allows(kind, at: now) }) { receive(text) }
    }
}

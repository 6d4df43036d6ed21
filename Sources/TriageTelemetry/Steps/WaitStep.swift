public import TriageEvents

/// Why a retry record waited.
public enum WaitReason: String, Sendable, CaseIterable {
    /// For its backoff.
    case backoff
    /// For a time that the error named.
    case scheduled
    /// Behind an earlier event of the same patient.
    case parked
    /// For an outage to end.
    case outage
}

/// The step *waiting*: an INTERNAL span from the retry record's Kafka timestamp to its hand-over, made at hand-over.
public enum WaitStep {
    /// The template for waits in a retry topic.
    public static func template(retryTopic: String, tracer: Tracer) -> SpanTemplate {
        tracer.template(
            "wait \(retryTopic)", kind: .internal,
            [
                Attribute("messaging.system", .literal("kafka")),
                Attribute("messaging.destination.name", .text(SafeText(vetted: retryTopic))),
            ]
        )
    }

    /// Records a whole wait and returns its context, to be linked to; nil if there is nothing to belong to.
    ///
    /// - Parameters:
    ///   - sent: the context of the retry's send span, which the record carries.
    ///   - lateness: actual minus due time.
    ///   - process: the process span after it, which it follows: sampled, recorded or neither as that is.
    public static func record(
        template: SpanTemplate, sent: TraceContext?, reason: WaitReason, from start: Timestamp, to end: Timestamp,
        lateness: Duration, process: ProcessStep, tracer: Tracer
    ) -> TraceContext? {
        guard let sent else { return nil }
        var span = process.begin(template, parent: sent, at: min(start, end), tracer: tracer)
        guard span.isRecording else { return nil }
        span.append("triage.wait.reason", .text(SafeText(reason)))
        span.append("triage.retry.lateness", .double(max(0, lateness.inSeconds)))
        let context = span.context
        tracer.end(span, at: end)
        return context
    }
}

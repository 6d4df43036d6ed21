public import TriageEvents

/// The step *attempt*: an INTERNAL span over one call of the handler, which may annotate it.
public struct AttemptStep: Sendable {
    /// What the handler gets.
    public let span: Span

    /// Begins an attempt under its process span, sampled or recorded as that is.
    ///
    /// - Parameters:
    ///   - number: 1 for the first attempt of the event, over all its deliveries.
    ///   - previous: the context of the attempt before it, linked to.
    public init(
        template: SpanTemplate, number: Int, process: TraceContext, previous: TraceContext?, tracer: Tracer, at start: Timestamp
    ) {
        guard tracer.isEnabled else {
            span = Span(passing: Tracer.passed(process), clock: tracer.clock)
            return
        }
        var span = tracer.start(template, parent: process, at: start)
        span.append("triage.attempt", .int(Int64(number)))
        if let previous { span.add(SpanLink(previous)) }
        self.span = Span(consume span, clock: tracer.clock)
    }

    /// The template of all attempts.
    public static func template(tracer: Tracer) -> SpanTemplate { tracer.template("attempt", kind: .internal, []) }

    /// Ends the attempt; a failure leaves status, type and an exception event, and has an unsampled trace exported.
    public func end(_ failure: Failure?, tracer: Tracer, at time: Timestamp) {
        guard var span = span.take() else { return }
        if let failure {
            tracer.fail(&span, fingerprint: failure.fingerprint)
            FailureAttributes.note(failure, on: &span, tracer: tracer, at: time)
        }
        tracer.end(consume span, at: time)
    }
}

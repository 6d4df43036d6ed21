internal import TriageEvents
internal import TriageTelemetry

extension Engine {
    /// What the send of a retry record links to if its wait is so long that it begins a new trace: the previous attempt and the
    /// context that the event was first created under. Nil if it belongs under its process span.
    ///
    /// A trace that stays open for hours is cut short by most back ends, and one that is sampled at its tail is decided on before.
    func linksOfNewTrace(
        _ delivery: Delivery, attempts: AttemptLedger, step: ProcessStep, due: Timestamp, at now: Timestamp
    ) -> [SpanLink]? {
        guard let limit = configuration.newTraceAfter, tracer.isEnabled, step.context.isValid, due - now > limit else {
            return nil
        }
        if makes(.newTraceUnlinked) { return [] }
        let previous = attempts.last ?? step.context
        let origin = delivery.history.originTraceparent.flatMap { TraceContext(traceparent: $0) } ?? step.context
        return previous.spanID == origin.spanID ? [SpanLink(previous)] : [SpanLink(previous), SpanLink(origin)]
    }
}

public import TriageEvents

/// The step *consume*: a CONSUMER span over one delivery, from taking it up to its outcome.
///
/// An object rather than a value, since it goes from hand to hand: through the handler's call to the produce that decides. Of one
/// thread at a time, which guards it.
public final class ProcessStep {
    /// The span until it ends, if it is recorded; a handler never sees it, its attempts do.
    @exclusivity(unchecked) private var span: SpanData?
    /// The span's context: the parent of attempts and of what is sent on behalf of the delivery.
    @exclusivity(unchecked) public private(set) var context: TraceContext
    /// When it began.
    public let start: Timestamp

    /// Begins the span under the context that the record carries, which it links to as well, first.
    ///
    /// - Parameters:
    ///   - template: ``template(topic:partition:group:clientID:tracer:)`` of the record's partition.
    ///   - context: the record's context; nil begins a new trace.
    ///   - continuesFailure: whether the record is a retry of ours after a failure. If its context is sampled, so is the span
    ///     whatever the sampler says, so that a failed event's trace is whole to its end.
    public init(
        template: SpanTemplate, offset: Int64, key: @autoclosure () -> ByteSlice?, isTombstone: Bool, context: TraceContext?,
        continuesFailure: Bool = false, tracer: Tracer, at start: Timestamp
    ) {
        self.start = start
        guard tracer.isEnabled else {
            self.context = Tracer.passed(context)
            return
        }
        let isSampled: Bool? = continuesFailure && context?.isSampled == true ? true : nil
        var span = tracer.start(template, parent: context, at: start, isSampled: isSampled)
        self.context = span.context
        guard span.isRecording else { return }
        if let context { span.add(SpanLink(context)) }
        span.reserveAttributes(8)
        span.append("messaging.kafka.offset", .int(offset))
        if let key = key() { span.append("messaging.kafka.message.key", .identifier(key)) }
        if isTombstone { span.append("messaging.kafka.message.tombstone", .bool(true)) }
        self.span = span
    }

    /// The template of the spans of one partition.
    public static func template(
        topic: String, partition: Int32, group: String, clientID: String?, tracer: Tracer
    ) -> SpanTemplate {
        tracer.template(
            "process \(topic)", kind: .consumer,
            MessagingAttributes.common(
                operation: "process", type: "process", destination: topic, partition: partition, group: group, clientID: clientID
            )
        )
    }

    /// Whether the span is recorded, and hasn't ended.
    public var isRecording: Bool { span != nil }

    /// Begins a span that is recorded as this one is, and belongs to its local trace, though its parent is elsewhere.
    func begin(_ template: SpanTemplate, parent: TraceContext, at start: Timestamp, tracer: Tracer) -> SpanData {
        guard let span else { return tracer.start(template, parent: parent, at: start, isSampled: false) }
        return tracer.start(template, parent: parent, at: start, beside: span)
    }

    /// Puts the guide's attributes on the span.
    @inline(__always)
    public func describe(_ event: borrowing PatientEvent) {
        guard span != nil else { return }
        describeRecorded(event)
    }

    private func describeRecorded(_ event: borrowing PatientEvent) {
        guard var live = span.take() else { return }
        EventAttributes.describe(event, on: &live)
        span = live
    }

    /// Says that the delivery is a retry, with links to the previous attempt and to the wait before it.
    public func continues(retry count: Int, previousAttempt: TraceContext?, wait: TraceContext?) {
        span?.append("triage.retry.count", .int(Int64(count)))
        if let previousAttempt { span?.add(SpanLink(previousAttempt)) }
        if let wait { span?.add(SpanLink(wait)) }
    }

    /// Says that an attempt of this very delivery was made before and deferred: a link to it.
    public func follows(_ attempt: TraceContext) { span?.add(SpanLink(attempt)) }

    /// Says that the delivery waits behind another one of its patient: which, and a link to the send of the retry waited for.
    public func parked(behind origin: SafeText, waitingFor context: TraceContext?) {
        span?.append("triage.parked.behind", .text(origin))
        if let context, context.isValid { span?.add(SpanLink(context)) }
    }

    /// Says that an event with the same id was completed before, with a link to the span that did it.
    ///
    /// - Parameter origin: where that event was delivered first.
    public func duplicates(_ first: TraceContext, origin: SafeText) {
        span?.append("triage.duplicate", .bool(true))
        span?.append("triage.duplicate.origin", .text(origin))
        if first.isValid { span?.add(SpanLink(first)) }
    }

    /// Says that the record tells of nothing to handle, and which of its members told so.
    public func passedOver(_ member: SafeText) { span?.append("triage.skip.reason", .text(member)) }

    /// Says that a higher version of the resource was handled before.
    public func markStale() { span?.append("triage.stale", .bool(true)) }

    /// Notes something that this delivery brought about beside its own outcome.
    public func add(_ event: SpanEvent) { span?.add(event) }

    /// Notes a failure that happened outside an attempt (decoding): attributes, and an exception event.
    ///
    /// An unsampled span is exported for it, and ``context`` is sampled from then on, unless the rate limit refuses.
    public func failed(_ failure: Failure, tracer: Tracer, at time: Timestamp) {
        change { span in tracer.fail(&span, fingerprint: failure.fingerprint) }
        if let logs = tracer.logs { FailureLog.process(failure, to: logs, at: time, in: context) }
        change { span in FailureAttributes.note(failure, on: &span, at: time) }
    }

    /// Notes that the last attempt failed: error status and type, without repeating its exception.
    ///
    /// If the attempt had its unsampled trace exported, ``context`` is sampled from then on.
    public func lastAttemptFailed(_ failure: Failure, tracer: Tracer) {
        change { span in
            FailureAttributes.mark(failure, on: &span)
            tracer.fail(&span, fingerprint: failure.fingerprint)
        }
    }

    private func change(_ body: (inout SpanData) -> Void) {
        guard var live = span.take() else { return }
        body(&live)
        context = live.context
        span = live
    }

    /// Ends the span with its outcome. To be called once; later calls do nothing.
    public func end(_ outcome: Outcome, tracer: Tracer, at time: Timestamp) {
        guard var span = span.take() else { return }
        span.append("triage.outcome", .literal(ProcessStep.name(of: outcome)))
        tracer.end(span, at: time)
    }

    private static func name(of outcome: Outcome) -> StaticText {
        switch outcome {
        case .completed: "completed"
        case .retryScheduled: "retry_scheduled"
        case .parked: "parked"
        case .deadLettered: "dead_lettered"
        case .deferred: "deferred"
        case .abandoned: "abandoned"
        case .skipped: "skipped"
        }
    }
}

/// How a failure shows on a span.
enum FailureAttributes {
    /// `error.type`, class, fingerprint and the status.
    static func mark(_ failure: Failure, on span: inout SpanData) {
        guard span.isRecording else { return }
        span.set("error.type", .text(failure.type))
        span.set("triage.error.class", .text(SafeText(failure.errorClass)))
        span.set("triage.error.fingerprint", .text(SafeText(vetted: failure.fingerprint)))
        span.set(.error(failure.message))
    }

    /// What failed at the broker or in its client: status, `error.type` and an `exception` event, all by the error's name.
    static func note(_ error: BrokerError, on span: inout SpanData, at time: Timestamp) {
        guard span.isRecording else { return }
        let name = SafeText(vetted: error.name)
        span.append("error.type", .text(name))
        span.set(.error(name))
        add(type: name, message: name, to: &span, at: time)
    }

    /// What ``mark(_:on:)`` does and an `exception` event, and the same event as a log record where logs are exported.
    ///
    /// The one place where a failure of processing is recorded, so that each is recorded once; equal to `logs/dup` of
    /// `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`, since most trace viewers show only span events.
    static func note(_ failure: Failure, on span: inout SpanData, tracer: Tracer, at time: Timestamp) {
        if let logs = tracer.logs { FailureLog.process(failure, to: logs, at: time, in: span.context) }
        note(failure, on: &span, at: time)
    }

    /// The same without the log record.
    static func note(_ failure: Failure, on span: inout SpanData, at time: Timestamp) {
        guard span.isRecording else { return }
        mark(failure, on: &span)
        add(type: failure.type, message: failure.message, to: &span, at: time)
    }

    private static func add(type: SafeText, message: SafeText, to span: inout SpanData, at time: Timestamp) {
        span.add(
            SpanEvent(
                "exception", at: time,
                [Attribute("exception.type", .text(type)), Attribute("exception.message", .text(message))]
            )
        )
    }
}

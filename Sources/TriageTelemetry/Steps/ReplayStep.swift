public import TriageEvents

/// The step *replay*: an INTERNAL span over the replay of one dead letter, a root that links to the dead letter and its origin.
///
/// What is written for it — the record, its state — are `send` spans under ``context``. When that counts, the old trace gets
/// a span `replayed` that links to the new one. Both are always exported: traces of failures are kept.
public struct ReplayStep: Sendable {
    private var span: SpanData
    private let deadLetter: TraceContext?

    /// What the spans of the replays from one dead letter topic share.
    public struct Templates: Sendable {
        fileprivate let replay: SpanTemplate
        fileprivate let replayed: SpanTemplate

        /// The templates for dead letters of `topic`.
        public init(topic: String, clientID: String?, tracer: Tracer) {
            var attributes = [
                Attribute("messaging.system", .literal("kafka")),
                Attribute("messaging.destination.name", .text(SafeText(vetted: topic))),
            ]
            if let clientID { attributes.append(Attribute("messaging.client.id", .text(SafeText(vetted: clientID)))) }
            replay = tracer.template("replay \(topic)", kind: .internal, attributes)
            replayed = tracer.template("replayed", kind: .internal, attributes)
        }
    }

    /// What there is to know about a dead letter that is replayed.
    public struct Subject: Sendable {
        /// The partition that it stands in.
        public var partition: Int32
        /// Its offset there.
        public var offset: Int64
        /// Its key, exported as the identifier policy says.
        public var key: ByteSlice?
        /// The context of the span that sent it.
        public var context: TraceContext?
        /// The context that the event was first created under.
        public var origin: TraceContext?
        /// The consumer group that gave it up.
        public var group: String?
        /// The failure's class, a name of the vocabulary of classes.
        public var errorClass: SafeText?
        /// The failure's fingerprint: sixteen hexadecimal digits.
        public var fingerprint: String?
        /// Whether an operator changed its value.
        public var isEdited = false

        /// A dead letter at this place.
        public init(partition: Int32, offset: Int64) {
            self.partition = partition
            self.offset = offset
        }
    }

    /// Begins the replay of a dead letter.
    ///
    /// - Parameter target: where it goes: `retry` or `origin`.
    public init(_ subject: Subject, target: SafeText, templates: Templates, tracer: Tracer) {
        var span = tracer.start(templates.replay, parent: nil, at: tracer.clock.now(), isSampled: true)
        deadLetter = subject.context.flatMap { $0.isValid ? $0 : nil }
        if let deadLetter { span.add(SpanLink(deadLetter)) }
        if let origin = subject.origin, origin.isValid, origin != deadLetter { span.add(SpanLink(origin)) }
        if span.isRecording {
            span.append("messaging.destination.partition.id", .text("\(subject.partition)"))
            span.append("messaging.kafka.offset", .int(subject.offset))
            if let key = subject.key { span.append("messaging.kafka.message.key", .identifier(key)) }
            if let group = subject.group { span.append("messaging.consumer.group.name", .text(SafeText(vetted: group))) }
            if let errorClass = subject.errorClass { span.append("triage.error.class", .text(errorClass)) }
            if let fingerprint = subject.fingerprint {
                span.append("triage.error.fingerprint", .text(SafeText(vetted: fingerprint)))
            }
            span.append("triage.replay.target", .text(target))
            if subject.isEdited { span.append("triage.replay.edited", .bool(true)) }
        }
        self.span = span
    }

    /// The parent of what is written for it.
    public var context: TraceContext { span.context }

    /// Ends it when what was written counts, and tells the old trace.
    public consuming func end(_ templates: Templates, tracer: Tracer) {
        let now = tracer.clock.now()
        if let deadLetter, tracer.isEnabled {
            var replayed = tracer.start(templates.replayed, parent: deadLetter, at: span.start, isSampled: true)
            replayed.add(SpanLink(span.context))
            tracer.end(replayed, at: now)
        }
        tracer.end(span, at: now)
    }

    /// Ends it when nothing of what was written counts.
    public consuming func fail(_ error: BrokerError, tracer: Tracer) {
        let now = tracer.clock.now()
        FailureAttributes.note(error, on: &span, at: now)
        tracer.end(span, at: now)
    }
}

public import TriageEvents

/// The step *poll*: a CLIENT span over a poll that brought records, linked to what it brought.
public struct PollStep {
    /// Links that a poll span carries at most; a poll brings up to 500 records, the specification's limit is 128 links.
    public static let maximumLinks = 128

    private let group: String
    private let clientID: String?
    private let tracer: Tracer
    private let mixed: SpanTemplate
    private var templates: [String: SpanTemplate] = [:]

    /// Makes poll spans for one consumer.
    public init(group: String, clientID: String?, tracer: Tracer) {
        self.group = group
        self.clientID = clientID
        self.tracer = tracer
        mixed = tracer.template(
            "poll", kind: .client,
            MessagingAttributes.common(operation: "poll", type: "receive", destination: nil, group: group, clientID: clientID)
        )
    }

    /// Records a poll. It is sampled if any of its records is, so that no sampled record lacks it.
    ///
    /// - Parameters:
    ///   - topic: the topic if all records came from one, else nil.
    ///   - contexts: the contexts of the sampled records.
    public mutating func record(
        topic: String?, count: Int, contexts: [TraceContext], from start: Timestamp, to end: Timestamp
    ) {
        guard tracer.isEnabled, !contexts.isEmpty else { return }
        let template = topic.map { self.template(for: $0) } ?? mixed
        var span = tracer.start(template, parent: nil, at: start, isSampled: true)
        span.append("messaging.batch.message_count", .int(Int64(count)))
        for context in contexts.prefix(PollStep.maximumLinks) { span.add(SpanLink(context)) }
        span.countDroppedLinks(max(0, contexts.count - PollStep.maximumLinks))
        tracer.end(span, at: end)
    }

    private mutating func template(for topic: String) -> SpanTemplate {
        if let known = templates[topic] { return known }
        let made = tracer.template(
            "poll \(topic)", kind: .client,
            MessagingAttributes.common(operation: "poll", type: "receive", destination: topic, group: group, clientID: clientID)
        )
        templates[topic] = made
        return made
    }
}

/// The step *commit*: a CLIENT span from asking for a commit to the coordinator's answer.
public struct CommitStep: Sendable {
    private var span: SpanData

    /// Begins a commit of `partitions` partitions.
    public init(template: SpanTemplate, partitions: Int, tracer: Tracer, at start: Timestamp) {
        span = tracer.start(template, parent: nil, at: start)
        span.append("triage.commit.partitions", .int(Int64(partitions)))
    }

    /// The template of a consumer's commits.
    public static func template(group: String, clientID: String?, tracer: Tracer) -> SpanTemplate {
        tracer.template(
            "commit", kind: .client,
            MessagingAttributes.common(operation: "commit", type: "settle", destination: nil, group: group, clientID: clientID)
        )
    }

    /// When it was asked for.
    public var start: Timestamp { span.start }

    /// Ends it with the coordinator's answer.
    public consuming func end(_ error: BrokerError?, tracer: Tracer, at time: Timestamp) {
        if let error, let logs = tracer.logs { FailureLog.settle(error, to: logs, at: time, of: span) }
        guard span.isRecording else { return }
        if let error { FailureAttributes.note(error, on: &span, at: time) }
        tracer.end(span, at: time)
    }
}

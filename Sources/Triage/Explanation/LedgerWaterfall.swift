internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// A waterfall made up from records and their attempt ledgers, for where nobody has the spans.
///
/// What is known are points of time: when a record was written, when an attempt failed, when one was due. Sends and attempts are
/// drawn as points therefore, and only waits as bars.
enum LedgerWaterfall {
    /// The layout of one story; nil if nothing is known of it but that the event was written.
    static func make(_ story: EventStory, written: Timestamp?, context: TraceContext?, now: Timestamp) -> TraceWaterfall? {
        guard !story.runs.isEmpty else { return nil }
        var spans: [TraceSpan] = []
        var next: UInt64 = 0
        let noTrace = TraceID(high: 0, low: 0)
        func add(
            _ name: String, _ kind: SpanKind, under parent: SpanID?, trace: TraceID? = nil, span: SpanID? = nil,
            from start: Timestamp,
            to end: Timestamp? = nil, status: TraceSpan.Status = .unset, _ attributes: [TraceSpan.Attribute] = []
        ) -> SpanID {
            next += 1
            // Ids are only to be different here; where the true one is known, it is told.
            let id = SpanID(next)
            var attributes = attributes
            if let trace, trace.isValid { attributes.append(.init("trace", "\(trace)")) }
            if let span, span.isValid { attributes.append(.init("span", "\(span)")) }
            spans.append(
                TraceSpan(
                    traceID: noTrace, spanID: id, parentSpanID: parent, name: name, kind: kind, start: start, end: end ?? start,
                    status: status, attributes: attributes))
            return id
        }
        var root: SpanID?
        if let written {
            root = add(
                "send \(story.origin.topic)", .producer, under: nil, trace: context?.traceID, span: context?.spanID,
                from: written,
                attributes(story.origin))
        }
        for run in story.runs {
            for attempt in run.attempts {
                let error = attempt.error ?? attempt.entry.errorClass.rawValue
                _ = add(
                    "attempt \(attempt.number)", .internal, under: root, trace: attempt.entry.traceID, span: attempt.entry.spanID,
                    from: attempt.entry.time, status: .error(error))
            }
            for wait in run.waits {
                guard let from = wait.from else { continue }
                _ = add(
                    "wait \(wait.record.topic)", .internal, under: root, from: from,
                    to: wait.until ?? (wait.isOpen ? now : wait.due), [.init("triage.wait.reason", wait.reason.rawValue)])
            }
            if let letter = run.letter, let written = letter.letter.written {
                _ = add(
                    "send \(letter.letter.position.topic)", .producer, under: root, trace: letter.letter.context?.traceID,
                    span: letter.letter.context?.spanID, from: written, attributes(letter.letter.position))
            }
        }
        return TraceWaterfall(spans: spans)
    }

    private static func attributes(_ position: RecordPosition) -> [TraceSpan.Attribute] {
        [
            .init("messaging.destination.name", position.topic),
            .init("messaging.destination.partition.id", "\(position.partition)"),
            .init("messaging.kafka.offset", "\(position.offset)"),
        ]
    }
}

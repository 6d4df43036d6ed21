internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// The traces of an event: which there are, what their spans say, and what those lead to.
struct EventTraces: Sendable {
    /// The ids that the records name, with what each has to do with the event, in that order.
    private(set) var known: [(id: TraceID, meaning: String)] = []
    private var ids: Set<TraceID> = []

    /// Traces that are asked for at most, those that links lead to included.
    static let maximumTraces = 8

    mutating func add(_ id: TraceID?, _ meaning: String) {
        guard let id, id.isValid, ids.insert(id).inserted else { return }
        known.append((id, meaning))
    }

    mutating func add(_ story: EventStory) {
        for run in story.runs {
            let kind = run.replay == nil ? "a retry's" : "the replay's"
            for wait in run.waits { add(wait.context?.traceID, kind) }
            for attempt in run.attempts { add(attempt.entry.traceID, run.replay == nil ? "attempt \(attempt.number)'s" : kind) }
            if let letter = run.letter?.letter {
                add(letter.originContext?.traceID, "the event's own")
                add(letter.context?.traceID, "the dead letter's")
            }
        }
    }

    /// Asks for the spans of each, and of those that their links lead to.
    ///
    /// - Returns: the traces in the order in which they were found, and what kept places from answering, each once.
    func fetch(from fetcher: TraceFetcher) async -> (traces: [Explanation.Trace], problems: [String]) {
        var waiting = known
        var asked: Set<TraceID> = []
        var traces: [Explanation.Trace] = []
        var problems: [String] = []
        while !waiting.isEmpty, traces.count < EventTraces.maximumTraces {
            let next = waiting.removeFirst()
            guard asked.insert(next.id).inserted else { continue }
            let answer = fetcher.isEmpty ? TraceFetcher.Answer() : await fetcher.spans(of: next.id)
            for problem in answer.problems where !problems.contains(problem) { problems.append(problem) }
            guard let source = answer.source else {
                // A link to what nobody has leads nowhere.
                if next.meaning != EventTraces.linked {
                    traces.append(Explanation.Trace(id: next.id, meaning: next.meaning, source: nil, waterfall: nil))
                }
                continue
            }
            let waterfall = TraceWaterfall(spans: answer.spans.filter { $0.traceID == next.id })
            traces.append(Explanation.Trace(id: next.id, meaning: next.meaning, source: source, waterfall: waterfall))
            waiting += EventTraces.followed(waterfall).filter { !asked.contains($0) }.map { ($0, EventTraces.linked) }
        }
        return (traces, problems)
    }

    /// Traces that links lead to from one and that are of the same event: before or after a long wait, or a replay. Those of an event
    /// that it was parked behind, or a duplicate of, are another's.
    static func followed(_ waterfall: TraceWaterfall) -> [TraceID] {
        let strangers = waterfall.rows.map(\.span)
            .filter {
                $0["triage.parked.behind"] != nil || $0["triage.duplicate"] != nil || $0["messaging.operation.name"] == "poll"
            }
            .flatMap(\.links).map(\.traceID)
        return waterfall.linkedTraces.filter { !strangers.contains($0) }
    }

    static let linked = "linked"
}

extension EventStory {
    /// Puts in what only spans know: why it waited, and until when.
    mutating func learn(from traces: [Explanation.Trace]) {
        let spans = traces.filter { $0.source != nil }.flatMap { $0.waterfall?.rows ?? [] }.map(\.span)
        if fate == .completed {
            completedAt =
                spans.last { span in
                    span["triage.outcome"] == "completed"
                        && (span.record == origin || self.waits.contains { $0.record == span.record })
                        && (group == nil || span["messaging.consumer.group.name"] == nil
                            || span["messaging.consumer.group.name"] == group)
                }?.end
        }
        let waits = spans.filter { $0["triage.wait.reason"] != nil }
        guard !waits.isEmpty else { return }
        for run in runs.indices {
            for index in runs[run].waits.indices {
                let wait = runs[run].waits[index]
                // The span begins at the record's timestamp, which brokers keep in milliseconds.
                guard
                    let span = waits.first(where: { span in
                        span.name == "wait \(wait.record.topic)" && span.start.milliseconds == wait.from?.milliseconds
                    })
                else { continue }
                if let reason = span["triage.wait.reason"].flatMap({ WaitReason(rawValue: $0) }) {
                    runs[run].waits[index].reason = reason
                }
                runs[run].waits[index].until = span.end
                runs[run].waits[index].isMeasured = true
            }
        }
    }
}

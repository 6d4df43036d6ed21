public import TriageEvents
public import TriageProcessing
public import TriageTelemetry

/// One event explained: what it is, what was tried, where it waited and why, what became of it, what its patient's other events did
/// around it, and its traces. Nothing in it is payload, a key or foreign text.
public struct Explanation: Sendable {
    /// What a record is.
    public enum Role: String, Sendable, Hashable, CaseIterable {
        /// The event's first delivery, in a main topic.
        case main
        /// It waits to be handled again.
        case retry
        /// It was given up.
        case deadLetter = "dead_letter"
    }

    /// The record that was asked about, and the event that it stands for.
    public struct Subject: Sendable {
        /// Where the record stands.
        public let position: RecordPosition
        /// What it is.
        public let role: Role
        /// Whose headers it carries; nil for a first delivery.
        public let dialect: DeadLetterDialect?
        /// When it was written.
        public let written: Timestamp?
        /// The event's first delivery; nil if the record doesn't say.
        public let origin: RecordPosition?
        /// Whether that record is still there.
        public let hasOrigin: Bool
        /// When the event was first written.
        public let originWritten: Timestamp?
        /// Bytes of its value; nil for a null value.
        public let valueBytes: Int?
        /// `PatientCreated` or its like; nil if it can't be decoded.
        public let eventType: String?
        /// How its value is written: `envelope`, `resource` or another form.
        public let form: EventForm?
        /// The rule that its value breaks, if it can't be decoded, with an index-free path.
        public let invalid: String?
        /// The event's id, if it is a UUID.
        public let eventID: String?
        /// The patient as telemetry shows them; nil if that leaves it out.
        public let patient: String?
        /// Whether it has no value since its bytes were refused.
        public let isPointer: Bool
        /// Whether its body is encrypted.
        public let isEncrypted: Bool
        /// The replay that wrote it.
        public let replay: ReplayMark?
        /// What went wrong, as its own headers tell; nil if they don't.
        public let failure: DeadLetter?
    }

    /// Another event of the same patient in the same partition.
    public struct Neighbour: Sendable, Hashable {
        /// Where it stands in the main topic.
        public let position: RecordPosition
        /// When it was written.
        public let written: Timestamp?
        /// What the same group did with it.
        public let story: EventStory
        /// Whether it comes before the one that is explained.
        public let isBefore: Bool
    }

    /// A trace of the event.
    public struct Trace: Sendable, Hashable {
        /// Its id; nil of what was put together from several, or from none.
        public let id: TraceID?
        /// What it has to do with the event: `the event's own`, `attempt 3`, `linked`.
        public let meaning: String
        /// Where its spans come from: `Jaeger`, `Tempo`, `the console`; nil if they are made up from the records and their attempt
        /// ledgers, where what the work itself took isn't known.
        public let source: String?
        /// Its spans, laid out; nil if nobody has any.
        public let waterfall: TraceWaterfall?
    }

    /// How far a partition was looked through.
    public struct Look: Sendable, Hashable {
        /// The partition.
        public let partition: TopicPartition
        /// The offsets that were read; an empty range if none.
        public let read: Range<Int64>
        /// The offsets that there are.
        public let all: Range<Int64>
    }

    /// When it was looked.
    public let now: Timestamp
    /// How it was found, if not by its place: `by its trace id, among dead letters`.
    public let foundBy: String?
    /// What it is.
    public let subject: Subject
    /// What each group did with it; the one that was asked about first.
    public let stories: [EventStory]
    /// What the groups' last commits said about how they were doing, by group.
    let commits: [String: CommittedPartition]
    /// Its patient's events around it, in the order of their offsets.
    public let neighbours: [Neighbour]
    /// Its traces, the one it was created under first.
    public let traces: [Trace]
    /// Where its traces can be looked at in a browser.
    public let links: TraceLinks
    /// Other events that fit what was asked: of a trace with several.
    public let others: [RecordPosition]
    /// What was looked at.
    public let looks: [Look]
    /// Whether there was anywhere to ask for spans.
    public let asksForSpans: Bool
    /// Why there are no spans from where they were asked for, in words.
    public let traceProblems: [String]
    /// What else one should know, in words.
    public let notes: [String]

    /// The story to tell first.
    public var story: EventStory? { stories.first }
}

extension Explanation {
    /// What became of it, in a sentence or two.
    public var headline: String {
        guard let story else { return "a record that doesn't say which event it is about" }
        var text = fate(story)
        let attempts = story.attempts
        if let failure = story.lastFailure {
            let what = failure.summary
            switch story.fate {
            case .completed: text += " after \(PlainText.count(attempts.count, "failed attempt")): \(what)"
            case .deadLettered:
                let count = max(attempts.last?.number ?? 0, failure.dialect == .triage ? 0 : failure.retries + 1)
                let tries =
                    story.runs.count > 1
                    ? " after \(PlainText.count(attempts.count, "attempt")) and a replay"
                    : count > 1 ? " after \(count) attempts\(span(attempts))" : count == 1 ? " at the first attempt" : ""
                text += tries + ": \(what)"
            default: text += "; the last attempt failed with \(what)"
            }
        }
        if case .deadLettered(let letter, let state) = story.fate { text += ". " + acted(letter, state) }
        if let hindrance = hindrance(story) { text += ". " + hindrance }
        return text
    }

    private func span(_ attempts: [EventStory.Attempt]) -> String {
        guard let first = attempts.first?.entry.time, let last = attempts.last?.entry.time, last > first else { return "" }
        return " in \(PlainText.span(last - first))"
    }

    private func ago(_ time: Timestamp) -> String { "\(PlainText.clock(time, now: now)) (\(PlainText.span(now - time)) ago)" }

    private func fate(_ story: EventStory) -> String {
        let group = story.group.map { " by group \($0)" } ?? ""
        let ofGroup = story.group.map { " of group \($0)" } ?? ""
        switch story.fate {
        case .unread:
            return "not handled yet\(group): it is unread, or at the handler right now"
        case .completed: return story.runs.isEmpty ? "handled\(group) without a failure" : "handled\(group)"
        case .waiting(let due):
            return
                "waits until \(PlainText.clock(due, now: now)) (in \(PlainText.span(due - now))) for its next attempt\(ofGroup)"
        case .due(let since):
            let time = since.map { " since \(PlainText.clock($0, now: now)) (\(PlainText.span(now - $0)))" } ?? ""
            return "its next attempt\(ofGroup) has been due\(time)"
        case .parked(let behind):
            let head = behind.map { "\($0), an earlier event of the same patient" } ?? "an earlier event of the same patient"
            return "waits behind \(head)\(behind.flatMap(standing) ?? "")"
        case .deadLettered:
            let letter = story.lastLetter?.letter
            let written = letter?.written.map { " at \(ago($0))" } ?? ""
            return "dead-lettered\(letter?.dialect == .triage ? group : letter?.group.map { " by \($0)" } ?? "")\(written)"
        case .unknown:
            return "never seen\(group): that has committed nothing of this partition (-g names another group)"
        }
    }

    /// How the event stands that another waits for, if it was looked at.
    private func standing(_ head: RecordPosition) -> String? {
        guard let story = neighbours.first(where: { $0.position == head })?.story else { return nil }
        switch story.fate {
        case .waiting(let due):
            return ", which itself waits until \(PlainText.clock(due, now: now)) (in \(PlainText.span(due - now)))"
        case .due: return ", whose next attempt is due"
        case .parked: return ", which is parked itself"
        case .unread: return ", which isn't handled yet"
        case .completed: return ", which is handled: this one is next"
        case .deadLettered(let letter, let state):
            return state?.status.isOpen ?? true ? ", which is dead letter \(letter), open" : ", which is dead letter \(letter)"
        case .unknown: return nil
        }
    }

    private func acted(_ letter: RecordPosition, _ state: DeadLetterState?) -> String {
        guard let state, state.status != .open else { return "Nobody has acted on it" }
        let when = ago(state.time)
        let reason = state.reason.map { " (\(PlainText.printable($0)))" } ?? ""
        let by = PlainText.printable(state.by)
        switch state.status {
        case .open: return "Nobody has acted on it"
        case .replayed: return "Replayed by \(by) at \(when)\(reason); how that ended isn't known yet"
        case .completed: return "Its replay was handled by group \(by) at \(when): nothing is left to do"
        case .failedAgain:
            let next = state.successor.map { ": \($0) stands for it now" } ?? ""
            return "Its replay failed again at \(when)\(next)"
        case .discarded: return "Discarded by \(by) at \(when)\(reason): nothing is left to do"
        }
    }

    /// What keeps it from being handled now, as far as the last commit tells.
    private func hindrance(_ story: EventStory) -> String? {
        switch story.fate {
        case .unread, .waiting, .due, .parked: break
        case .completed, .deadLettered, .unknown: return nil
        }
        guard let flags = story.group.flatMap({ commits[$0] })?.metadata.flags else { return nil }
        if flags.contains(.isGateClosed) { return "The outage gate is closed: nothing but probes is handled until one succeeds" }
        if flags.contains(.isStormy) { return "The storm breaker has stopped intake: too many events were dead-lettered" }
        if flags.contains(.isPaused) { return "The partition is paused" }
        return nil
    }

    /// The commands that come next, each with what it does.
    public var nextSteps: [(command: String, does: String)] {
        guard let story else { return [] }
        let group = story.group.map { " -g \($0)" } ?? ""
        var steps: [(String, String)] = []
        switch story.fate {
        case .deadLettered(let letter, let state):
            let ours = TopicName.isDeadLetter(letter.topic)
            switch state?.status {
            case nil, .open:
                guard ours else { break }
                steps.append(("triage dead-letters show\(group) \(letter)", "its headers and the shape of its payload"))
                steps.append(("triage dead-letters replay\(group) \(letter)", "what a replay would do; --execute does it"))
            case .failedAgain:
                if let next = state?.successor { steps.append(("triage explain\(group) \(next)", "what became of its replay")) }
            case .replayed, .completed, .discarded: break
            }
        case .parked(let behind):
            if let behind { steps.append(("triage explain\(group) \(behind)", "the event that it waits for")) }
        case .due, .unread: steps.append(("triage status\(group)", "who reads the partition, and what holds it up"))
        case .unknown, .completed, .waiting: break
        }
        for other in others.prefix(3) { steps.append(("triage explain\(group) \(other)", "another event of this trace")) }
        return steps
    }
}

extension DeadLetter {
    /// `transient RetryableError http_503`, from what may be shown of the error.
    package var summary: String {
        let parts = [errorClass?.rawValue, error].compactMap { $0 }
        return parts.isEmpty ? "a failure that it doesn't name" : parts.joined(separator: " ")
    }
}

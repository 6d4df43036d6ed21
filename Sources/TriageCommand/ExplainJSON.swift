import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

/// What `triage explain -o json` prints; times in ISO 8601, what isn't known is left out.
struct ExplainJSON: Encodable {
    struct Event: Encodable {
        let record: String
        let role: String
        let dialect: String?
        let written: String?
        let origin: String?
        let originIsThere: Bool
        let originWritten: String?
        let bytes: Int?
        let type: String?
        let form: String?
        let invalid: String?
        let eventId: String?
        let patient: String?
        let isPointer: Bool
        let isEncrypted: Bool
        let replayOf: String?
        let group: String?
        let error: String?
        let errorClass: String?
        let fingerprint: String?

        init(_ subject: Explanation.Subject) {
            record = "\(subject.position)"
            role = subject.role.rawValue
            dialect = subject.dialect?.rawValue
            written = subject.written?.iso8601
            origin = subject.origin.map { "\($0)" }
            originIsThere = subject.hasOrigin
            originWritten = subject.originWritten?.iso8601
            bytes = subject.valueBytes
            type = subject.eventType
            form = subject.form?.rawValue
            invalid = subject.invalid
            eventId = subject.eventID
            patient = subject.patient
            isPointer = subject.isPointer
            isEncrypted = subject.isEncrypted
            replayOf = subject.replay.map { "\($0.deadLetter)" }
            group = subject.failure?.group
            error = subject.failure?.error
            errorClass = subject.failure?.errorClass?.rawValue
            fingerprint = subject.failure?.fingerprint
        }
    }

    struct Attempt: Encodable {
        let number: Int
        let time: String
        let errorClass: String
        let error: String?
        let fingerprint: String
        let traceId: String?
        let spanId: String?

        init(_ attempt: EventStory.Attempt) {
            number = attempt.number
            time = attempt.entry.time.iso8601
            errorClass = attempt.entry.errorClass.rawValue
            error = attempt.error
            fingerprint = attempt.entry.fingerprint
            traceId = attempt.entry.traceID.isValid ? "\(attempt.entry.traceID)" : nil
            spanId = attempt.entry.spanID.isValid ? "\(attempt.entry.spanID)" : nil
        }
    }

    struct Wait: Encodable {
        let record: String
        let reason: String
        let from: String?
        let due: String?
        let until: String?
        let untilIsMeasured: Bool
        let behind: String?
        let isOpen: Bool
        let copies: Int

        init(_ wait: EventStory.Wait) {
            record = "\(wait.record)"
            reason = wait.reason.rawValue
            from = wait.from?.iso8601
            due = wait.due?.iso8601
            until = wait.until?.iso8601
            untilIsMeasured = wait.isMeasured
            behind = wait.behind.map { "\($0)" }
            isOpen = wait.isOpen
            copies = wait.copies
        }
    }

    struct Letter: Encodable {
        let record: String
        let copies: [String]
        let written: String?
        let error: String?
        let errorClass: String?
        let fingerprint: String
        let status: String
        let statusTime: String?
        let statusBy: String?
        let statusReason: String?
        let replayedBy: String?
        let replayedAt: String?
        let successor: String?

        init(_ letter: EventStory.Letter) {
            record = "\(letter.letter.position)"
            copies = letter.copies.dropFirst().map { "\($0)" }
            written = letter.letter.written?.iso8601
            error = letter.letter.error
            errorClass = letter.letter.errorClass?.rawValue
            fingerprint = letter.letter.fingerprint
            status = (letter.state?.status ?? .open).rawValue
            statusTime = letter.state?.time.iso8601
            statusBy = letter.state?.by
            statusReason = letter.state?.reason
            replayedBy = letter.state?.replayedBy
            replayedAt = letter.state?.replayedAt?.iso8601
            successor = letter.state?.successor.map { "\($0)" }
        }
    }

    struct Run: Encodable {
        let replay: String?
        let replayOf: String?
        let attempts: [Attempt]
        let waits: [Wait]
        let deadLetter: Letter?

        init(_ run: EventStory.Run) {
            replay = run.replay?.id
            replayOf = run.replay.map { "\($0.deadLetter)" }
            attempts = run.attempts.map { Attempt($0) }
            waits = run.waits.map { Wait($0) }
            deadLetter = run.letter.map { Letter($0) }
        }
    }

    struct Story: Encodable {
        let group: String?
        let state: String
        let runs: [Run]

        init(_ story: EventStory) {
            group = story.group
            state = story.fate.name
            runs = story.runs.map { Run($0) }
        }
    }

    struct Neighbour: Encodable {
        let record: String
        let written: String?
        let isBefore: Bool
        let state: String
        let deadLetter: String?
        let failedAttempts: Int

        init(_ neighbour: Explanation.Neighbour) {
            record = "\(neighbour.position)"
            written = neighbour.written?.iso8601
            isBefore = neighbour.isBefore
            state = neighbour.story.fate.name
            deadLetter = neighbour.story.lastLetter.map { "\($0.letter.position)" }
            failedAttempts = neighbour.story.attempts.count
        }
    }

    struct Span: Encodable {
        let traceId: String
        let spanId: String
        let parentSpanId: String?
        let name: String
        let kind: String
        let service: String?
        let start: String
        let durationMs: Double
        let depth: Int
        let status: String
        let errorType: String?
        let isOrphan: Bool
        let attributes: [String: String]

        init(_ row: TraceWaterfall.Row) {
            let span = row.span
            traceId = "\(span.traceID)"
            spanId = "\(span.spanID)"
            parentSpanId = span.parentSpanID.map { "\($0)" }
            name = span.name
            kind = span.kind.name
            service = span.service
            start = span.start.iso8601
            durationMs = span.duration.inSeconds * 1000
            depth = row.depth
            status = span.isFailed ? "error" : span.status == .ok ? "ok" : "unset"
            errorType = span.errorType
            isOrphan = row.flags.contains(.orphan)
            attributes = Dictionary(span.attributes.map { ($0.key, $0.value) }) { first, _ in first }
        }
    }

    struct Trace: Encodable {
        let traceId: String?
        let meaning: String
        let source: String?
        let isReconstructed: Bool
        let links: [String: String]
        let spans: [Span]

        init(_ trace: Explanation.Trace, _ links: TraceLinks) {
            traceId = trace.id.map { "\($0)" }
            meaning = trace.meaning
            source = trace.source
            isReconstructed = trace.waterfall != nil && trace.source == nil
            self.links = Dictionary((trace.id.map { links.links(for: $0) } ?? []).map { ($0.name, $0.url) }) { first, _ in first }
            spans = trace.waterfall?.rows.map { Span($0) } ?? []
        }
    }

    struct Next: Encodable {
        let command: String
        let does: String
    }

    struct Look: Encodable {
        let topic: String
        let partition: Int32
        let from: Int64
        let to: Int64
        let begin: Int64
        let end: Int64
    }

    let at: String
    let headline: String
    let foundBy: String?
    let event: Event
    let groups: [Story]
    let neighbours: [Neighbour]
    let traces: [Trace]
    let otherEvents: [String]
    let next: [Next]
    let lookedAt: [Look]
    let notes: [String]

    init(_ explanation: Explanation) {
        at = explanation.now.iso8601
        headline = explanation.headline
        foundBy = explanation.foundBy
        event = Event(explanation.subject)
        groups = explanation.stories.map { Story($0) }
        neighbours = explanation.neighbours.map { Neighbour($0) }
        traces = explanation.traces.map { Trace($0, explanation.links) }
        otherEvents = explanation.others.map { "\($0)" }
        next = explanation.nextSteps.map { Next(command: $0.command, does: $0.does) }
        lookedAt = explanation.looks.map {
            Look(
                topic: $0.partition.topic, partition: $0.partition.partition, from: $0.read.lowerBound, to: $0.read.upperBound,
                begin: $0.all.lowerBound, end: $0.all.upperBound)
        }
        notes = explanation.notes
    }
}

extension EventStory.Fate {
    /// Its name in JSON.
    var name: String {
        switch self {
        case .unread: "unread"
        case .completed: "completed"
        case .waiting: "waiting"
        case .due: "due"
        case .parked: "parked"
        case .deadLettered: "dead_lettered"
        case .unknown: "unknown"
        }
    }
}

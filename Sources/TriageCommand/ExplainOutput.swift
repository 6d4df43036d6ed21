import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

/// The page of `triage explain`.
struct ExplainOutput {
    let explanation: Explanation
    let style: PageStyle

    init(_ explanation: Explanation, style: PageStyle) {
        self.explanation = explanation
        self.style = style
    }

    /// The page: what became of it first, then what it is, what happened, what is around it, its traces, and what comes next.
    var text: String {
        var lines = style.wrapped("\(explanation.subject.position): \(explanation.headline).", rest: "  ")
        lines[0] = style.coloured(lines[0], .heading)
        if let foundBy = explanation.foundBy { lines += style.wrapped("Found \(foundBy).", rest: "  ") }
        lines += subject
        for (index, story) in explanation.stories.enumerated() {
            lines += happened(story, isOnly: explanation.stories.count == 1, isFirst: index == 0)
        }
        lines += neighbours
        lines += traces
        lines += next
        lines += looked
        return lines.joined(separator: "\n")
    }

    private func heading(_ text: String, _ more: String = "") -> [String] {
        ["", style.coloured(text, .heading) + (more.isEmpty ? "" : "  \(more)")]
    }

    private func aligned(_ pairs: [(String, String)]) -> [String] {
        let width = pairs.map(\.0.count).max() ?? 0
        return pairs.flatMap { name, value in
            style.wrapped(
                value, first: "  " + name + String(repeating: " ", count: width - name.count) + "  ",
                rest: String(repeating: " ", count: width + 4))
        }
    }

    // MARK: What it is

    private var subject: [String] {
        let subject = explanation.subject
        var pairs = [("record", "\(subject.position), \(what(subject))")]
        if subject.role != .main {
            if let written = subject.written { pairs.append(("written", written.iso8601)) }
            if let origin = subject.origin {
                pairs.append(("event", "\(origin)\(subject.hasOrigin ? "" : " (no longer there)")"))
            } else {
                pairs.append(("event", "its headers don't say where it was first delivered"))
            }
        }
        if let written = subject.originWritten, subject.origin != nil {
            pairs.append((subject.role == .main ? "written" : "first written", "\(written.iso8601), \(ago(written))"))
        }
        if let type = subject.eventType { pairs.append(("type", "\(type)\(subject.form.map { ", as \(form($0))" } ?? "")")) }
        if let invalid = subject.invalid { pairs.append(("type", "it can't be decoded: \(invalid)")) }
        if let id = subject.eventID { pairs.append(("event id", id)) }
        if let patient = subject.patient { pairs.append(("patient", "\(patient) (hashed)")) }
        if let failure = subject.failure, failure.dialect != .triage {
            if let group = failure.group { pairs.append((failure.dialect == .connect ? "connector" : "group", group)) }
            if let error = failure.error { pairs.append(("error", error)) }
            pairs.append(("fingerprint", failure.fingerprint))
            if let due = failure.dueAt { pairs.append(("due", due.iso8601)) }
        }
        if let replay = subject.replay { pairs.append(("replay of", "\(replay.deadLetter), replay \(replay.id)")) }
        return heading("WHAT IT IS") + aligned(pairs)
    }

    private func what(_ subject: Explanation.Subject) -> String {
        var parts: [String] = []
        switch (subject.role, subject.dialect) {
        case (.main, _): parts.append("a first delivery")
        case (.retry, .triage?): parts.append("a retry")
        case (.deadLetter, .triage?): parts.append("a dead letter")
        case (.retry, let dialect): parts.append("a retry \(dialect.map(Self.writer) ?? "")")
        case (.deadLetter, let dialect): parts.append("a dead letter \(dialect.map(Self.writer) ?? "")")
        }
        if subject.isPointer {
            parts.append("without its value, which was too large and stands at the event")
        } else if let bytes = subject.valueBytes {
            parts.append(PlainText.count(bytes, "byte") + (subject.isEncrypted ? ", encrypted" : ""))
        } else {
            parts.append("no value")
        }
        return parts.joined(separator: ", ")
    }

    /// Who wrote a record, as its headers tell.
    static func writer(_ dialect: DeadLetterDialect) -> String {
        switch dialect {
        case .triage: "of Triage"
        case .spring, .springRetry: "of Spring for Apache Kafka"
        case .connect: "of a Kafka Connect sink"
        case .streams: "of Kafka Streams"
        case .shareGroup: "of a share group"
        case .karafka: "of Karafka"
        case .watermill: "of Watermill"
        case .nServiceBus: "of NServiceBus"
        case .unknown: "whose headers nobody is known to write"
        }
    }

    private func form(_ form: EventForm) -> String {
        switch form {
        case .envelope: "an envelope"
        case .flat: "a flat event"
        case .resource: "a bare resource"
        case .tombstone: "a tombstone"
        case .command: "a command"
        case .changeData: "a change record"
        case .notification: "a notification"
        case .cloudEvent: "a CloudEvent"
        }
    }

    private func ago(_ time: Timestamp) -> String { "\(PlainText.span(explanation.now - time)) ago" }

    // MARK: What happened

    private struct Step {
        let time: Timestamp?
        let text: String
        var tone: PageStyle.Tone?
    }

    private func happened(_ story: EventStory, isOnly: Bool, isFirst: Bool) -> [String] {
        var steps: [Step] = []
        if explanation.subject.origin != nil, let written = explanation.subject.originWritten {
            steps.append(Step(time: written, text: "written to \(story.origin)"))
        }
        for run in story.runs {
            for attempt in run.attempts {
                let error = attempt.error.map { " \($0)" } ?? ""
                steps.append(
                    Step(
                        time: attempt.entry.time,
                        text: "attempt \(attempt.number) failed: \(attempt.entry.errorClass.rawValue)\(error)",
                        tone: .failure))
            }
            for wait in run.waits { steps.append(Step(time: wait.from, text: text(wait, replay: run.replay))) }
            if let letter = run.letter { steps += self.steps(letter, isTold: run.attempts.last?.error == letter.letter.error) }
        }
        // What has no time stands where it was told; a stable order for what happened at once.
        var last = Timestamp(nanoseconds: .min)
        let timed = steps.enumerated().map { index, step -> (Timestamp, Int, Step) in
            last = step.time ?? last
            return (last, index, step)
        }
        steps = timed.sorted { ($0.0, $0.1) < ($1.0, $1.1) }.map(\.2)
        if let end = ending(story) { steps.append(end) }
        let days = Set(steps.compactMap(\.time).map { $0.iso8601.prefix(10) })
        let who = story.group.map { "by group \($0), " } ?? ""
        let day = days.count == 1 ? "\(days.first ?? ""), UTC" : "UTC"
        let begin = steps.compactMap(\.time).min()
        let rows = steps.map { step -> (clock: String, after: String, step: Step) in
            let clock = step.time.map { days.count == 1 ? String($0.iso8601.dropFirst(11).dropLast()) : $0.iso8601 } ?? ""
            let after = step.time.flatMap { time in begin.map { time - $0 } }.map { $0 > .zero ? "+" + Self.brief($0) : "" } ?? ""
            return (clock, after, step)
        }
        let clockWidth = rows.map(\.clock.count).max() ?? 0
        let afterWidth = rows.map(\.after.count).max() ?? 0
        var lines = heading("WHAT HAPPENED", isOnly && story.group == nil ? day : who + day)
        for row in rows {
            let lead =
                "  " + row.clock + String(repeating: " ", count: clockWidth - row.clock.count) + "  "
                + String(repeating: " ", count: afterWidth - row.after.count) + row.after + "  "
            lines += style.wrapped(row.step.text, first: lead, rest: String(repeating: " ", count: lead.count + 2))
                .map { style.coloured($0, row.step.tone) }
        }
        return lines + attempts(story, isOneDay: days.count == 1)
    }

    /// `40 ms`, `7.2 s`, `4 min 5 s`.
    static func brief(_ duration: Duration) -> String {
        let milliseconds = duration.wholeNanoseconds / 1_000_000
        return milliseconds >= 1000 && milliseconds < 60_000
            ? "\(milliseconds / 1000).\(milliseconds % 1000 / 100) s" : PlainText.span(duration)
    }

    private func text(_ wait: EventStory.Wait, replay: ReplayMark?) -> String {
        var text: String
        let span = wait.until.flatMap { until in wait.from.map { until - $0 } }.map(Self.brief)
        let verb = wait.isOpen ? "waits" : span.map { wait.isMeasured ? "waited \($0)" : "waited up to \($0)" } ?? "waited"
        switch wait.reason {
        case .backoff:
            text = replay != nil && wait.due.map { $0 == wait.from } ?? true ? "\(verb) for its turn" : "\(verb) for its backoff"
        case .scheduled: text = "\(verb) for the time that the error named"
        case .parked: text = "\(verb) behind \(wait.behind.map { "\($0)" } ?? "an earlier event of its patient")"
        case .outage: text = "\(verb) for an outage to end"
        }
        // Of a wait that ended when it was to end, that is said already.
        let isPunctual = wait.until.flatMap { until in wait.due.map { until - $0 < .seconds(1) } } ?? false
        if wait.reason != .parked, !isPunctual, let due = wait.due, due.milliseconds != wait.from?.milliseconds {
            text += ", due \(due.iso8601.dropFirst(11).dropLast())"
        }
        text += ", as \(wait.record)"
        if let lateness = wait.lateness, lateness >= .seconds(1) { text += ", handed over \(Self.brief(lateness)) late" }
        if wait.copies > 0 { text += " and \(PlainText.count(wait.copies, "copy"))" }
        return text
    }

    /// - Parameter isTold: whether the last attempt has said why.
    private func steps(_ letter: EventStory.Letter, isTold: Bool) -> [Step] {
        let copies = letter.copies.dropFirst().map { "\($0)" }
        let also = copies.isEmpty ? "" : " (and \(copies.count == 1 ? "a copy" : "copies"): \(copies.joined(separator: ", ")))"
        var steps = [
            Step(
                time: letter.letter.written,
                text: "dead-lettered as \(letter.letter.position)\(also)\(isTold ? "" : ": \(letter.letter.summary)")",
                tone: .failure)
        ]
        guard let state = letter.state, state.status != .open else { return steps }
        let by = PlainText.printable(state.by)
        let reason = state.reason.map { ": \(PlainText.printable($0))" } ?? ""
        let text: String
        switch state.status {
        case .open: text = ""
        case .replayed: text = "replayed by \(by)\(state.successor.map { ", as \(PlainText.printable("\($0)"))" } ?? "")\(reason)"
        case .completed: text = "its replay was handled, by group \(by)"
        case .failedAgain: text = "its replay failed again\(state.successor.map { ", as \(PlainText.printable("\($0)"))" } ?? "")"
        case .discarded: text = "discarded by \(by)\(reason)"
        }
        // The outcome has taken the place of the state that said who replayed it.
        if state.status == .completed || state.status == .failedAgain, let operatorName = state.replayedBy {
            steps.append(Step(time: state.replayedAt, text: "replayed by \(PlainText.printable(operatorName))\(reason)"))
        }
        steps.append(Step(time: state.time, text: text, tone: state.status == .completed ? .success : nil))
        return steps
    }

    /// How it stands, where that isn't a step already.
    private func ending(_ story: EventStory) -> Step? {
        switch story.fate {
        case .completed:
            let isTold = story.lastLetter?.state?.status == .completed
            return isTold ? nil : Step(time: story.completedAt, text: "handled: its offset is committed", tone: .success)
        case .unread: return Step(time: nil, text: "not handled yet: its offset isn't committed")
        case .due: return Step(time: explanation.now, text: "now: due, and not handled yet")
        case .waiting(let due): return Step(time: due, text: "its next attempt is due")
        case .parked, .deadLettered, .unknown: return nil
        }
    }

    /// - Parameter isOneDay: whether the day stands above.
    private func attempts(_ story: EventStory, isOneDay: Bool) -> [String] {
        guard !story.attempts.isEmpty else { return [] }
        var rows: [[String]] = []
        for attempt in story.attempts {
            if attempt.dropped > 0 { rows.append(["", "(\(attempt.dropped) left out)"]) }
            let entry = attempt.entry
            rows.append([
                "\(attempt.number)", isOneDay ? String(entry.time.iso8601.dropFirst(11).dropLast()) : entry.time.iso8601,
                entry.errorClass.rawValue, entry.fingerprint,
                entry.spanID.isValid ? "\(entry.spanID)" : "-", entry.traceID.isValid ? "\(entry.traceID)" : "-",
            ])
        }
        // One trace is told below; the column is there if attempts are in several.
        let traces = Set(story.attempts.map(\.entry.traceID)).count
        var header = ["ATTEMPT", "FAILED AT", "CLASS", "FINGERPRINT", "SPAN", "TRACE"]
        if traces == 1 || style.width < 130 {
            header.removeLast()
            rows = rows.map { Array($0.prefix(5)) }
        }
        return [""] + Table.columns(header, rows, right: [0]).split(separator: "\n").map { "  \($0)" }
    }

    // MARK: Around it

    private var neighbours: [String] {
        guard let origin = explanation.subject.origin, let story = explanation.story, !explanation.neighbours.isEmpty else {
            return []
        }
        var rows: [[String]] = []
        func row(_ mark: String, _ position: RecordPosition, _ written: Timestamp?, _ story: EventStory) {
            rows.append([mark, "\(position.offset)", written?.iso8601 ?? "-", state(story)])
        }
        for other in explanation.neighbours where other.isBefore { row("", other.position, other.written, other.story) }
        row(">", origin, explanation.subject.originWritten, story)
        for other in explanation.neighbours where !other.isBefore { row("", other.position, other.written, other.story) }
        let table = Table.columns(["", "OFFSET", "WRITTEN", "STATE"], rows, right: [1]).split(separator: "\n")
        return heading("THE SAME PATIENT", "events of \(origin.topicPartition) around it")
            + table.map { style.coloured(String($0.prefix(style.width)), $0.hasPrefix(">") ? .heading : nil) }
    }

    private func state(_ story: EventStory) -> String {
        let retries = story.attempts.isEmpty ? "" : " after \(PlainText.count(story.attempts.count, "failed attempt"))"
        switch story.fate {
        case .unread: return "not handled yet"
        case .completed:
            let parked = story.waits.first { $0.reason == .parked }
            let waited = parked.map { " after it was parked behind \($0.behind.map { "\($0.offset)" } ?? "another")" } ?? ""
            return "handled" + (retries.isEmpty ? waited : retries)
        case .waiting(let due): return "waits until \(PlainText.clock(due, now: explanation.now))\(retries)"
        case .due: return "due\(retries)"
        case .parked(let behind):
            let offset = behind.map { $0.topicPartition == story.origin.topicPartition ? "\($0.offset)" : "\($0)" }
            return "parked behind \(offset ?? "an earlier one")"
        case .deadLettered(let letter, let state):
            switch state?.status ?? .open {
            case .open: return "open dead letter \(letter)"
            case .replayed: return "replayed dead letter \(letter)"
            case .completed: return "handled by a replay of \(letter)"
            case .failedAgain: return "failed again: dead letter \(letter)"
            case .discarded: return "discarded dead letter \(letter)"
            }
        case .unknown: return "unknown: the group has committed nothing here"
        }
    }

    // MARK: Traces

    private var traces: [String] {
        var lines: [String] = []
        var legend: String?
        for trace in explanation.traces {
            guard let waterfall = trace.waterfall, !waterfall.rows.isEmpty else { continue }
            let drawn = WaterfallText(waterfall: waterfall, style: style, showsPoints: trace.source != nil)
            if let source = trace.source {
                let failed = waterfall.rows.count { $0.flags.contains(.failed) }
                var facts = "\(trace.meaning), from \(source): \(WaterfallText.duration(waterfall.duration))"
                facts += ", \(PlainText.count(waterfall.rows.count, "span"))" + (failed > 0 ? ", \(failed) failed" : "")
                lines += heading("TRACE \(trace.id.map { "\($0)" } ?? "")") + style.wrapped(facts, first: "  ", rest: "  ")
                lines += trace.id.map(addresses) ?? []
            } else {
                lines += heading("TRACE, RECONSTRUCTED")
                let why =
                    !explanation.asksForSpans
                    ? "no place to ask for spans is named (--jaeger-url, --tempo-url, --console)"
                    : explanation.traceProblems.isEmpty
                        ? "nobody has spans of it" : "there are no spans (\(explanation.traceProblems.joined(separator: "; ")))"
                lines += style.wrapped(
                    "From the records and their attempt ledger, as \(why): attempts are points in time, what the work itself took isn't known.",
                    first: "  ", rest: "  ")
            }
            lines += drawn.lines
            legend = legend ?? drawn.legend
        }
        if let legend { lines.append(style.coloured("  \(legend)", .quiet)) }
        let others = explanation.traces.filter { $0.source == nil && $0.id != nil }
        guard !others.isEmpty else { return lines }
        lines += heading("TRACES", "whose spans aren't here")
        for trace in others {
            guard let id = trace.id else { continue }
            lines.append("  \(id)  \(trace.meaning)")
            lines += addresses(id)
        }
        return lines
    }

    /// Not broken, however long: they are to be clicked.
    private func addresses(_ id: TraceID) -> [String] {
        explanation.links.links(for: id).map { "  \($0.name): \($0.url)" }
    }

    // MARK: What comes next

    private var next: [String] {
        let steps = explanation.nextSteps
        guard !steps.isEmpty else { return [] }
        let width = steps.map(\.command.count).max() ?? 0
        return heading("NEXT")
            + steps.flatMap { command, does in
                width + does.count + 6 <= style.width
                    ? ["  \(command)\(String(repeating: " ", count: width - command.count))   \(does)"]
                    : ["  \(command)", "      \(does)"]
            }
    }

    private var looked: [String] {
        var lines = heading("LOOKED AT")
        for look in explanation.looks {
            let part =
                look.read.count == look.all.count
                ? "all \(PlainText.count(look.read.count, "offset"))"
                : "\(look.read.count) of \(PlainText.count(look.all.count, "offset"))"
            lines.append("  \(look.partition): \(part) (\(look.read.lowerBound) to \(look.read.upperBound - 1))")
        }
        if explanation.looks.isEmpty { lines.append("  the record alone") }
        for note in explanation.notes { lines += style.wrapped("note: \(note)", first: "  ", rest: "    ") }
        return lines
    }
}

import Triage
import TriageEvents
import TriageProcessing

/// What `triage patient -o json` prints; times in ISO 8601, what isn't known is left out.
struct PatientOutput: Encodable {
    struct Attempt: Encodable {
        let time: String
        let errorClass: String
        let fingerprint: String
        let traceId: String?
        let spanId: String?

        init(_ entry: AttemptLedger.Entry) {
            time = entry.time.iso8601
            errorClass = entry.errorClass.rawValue
            fingerprint = entry.fingerprint
            traceId = entry.traceID.isValid ? "\(entry.traceID)" : nil
            spanId = entry.spanID.isValid ? "\(entry.spanID)" : nil
        }
    }

    struct Failure: Encodable {
        let error: String?
        let errorClass: String?
        let fingerprint: String?
        let failedAt: String?
        let retries: Int
        let attempts: [Attempt]
        let attemptsLeftOut: Int
        let traceId: String?

        init?(_ note: FailureNote?) {
            guard let note else { return nil }
            error = note.error
            errorClass = note.errorClass?.rawValue
            fingerprint = note.fingerprint
            failedAt = note.failedAt
            retries = note.retries
            attempts = note.attempts.entries.map { Attempt($0) }
            attemptsLeftOut = note.attempts.dropped
            traceId = note.context.map { "\($0.traceID)" }
        }
    }

    struct Item: Encodable {
        let state: String
        let origin: String
        let originTimestamp: String?
        let retryRecord: String?
        let dueAt: String?
        let waitReason: String?
        let parkedBehind: String?
        let failure: Failure?

        init(_ item: PatientReport.Item) {
            state = item.state.rawValue
            origin = "\(item.origin)"
            originTimestamp = item.originTimestamp?.iso8601
            retryRecord = item.retryRecord.map { "\($0)" }
            dueAt = item.dueAt?.iso8601
            waitReason = item.waitReason?.rawValue
            parkedBehind = item.parkedBehind
            failure = Failure(item.failure)
        }
    }

    struct DeadLetter: Encodable {
        let position: String
        let written: String?
        let origin: String?
        let status: String
        let since: String?
        let by: String?
        let failure: Failure?

        init(_ letter: PatientReport.DeadLetter) {
            position = "\(letter.position)"
            written = letter.written?.iso8601
            origin = letter.origin.map { "\($0)" }
            status = letter.status.rawValue
            since = letter.state?.time.iso8601
            by = letter.state?.by
            failure = Failure(letter.failure)
        }
    }

    struct Place: Encodable {
        let topic: String
        let partition: Int32
        let committed: Int64?
        let end: Int64
        let owner: String?
        let retriesRead: Int
        let deadLettersRead: Int
        let olderDeadLetters: Int64

        init(_ place: PatientReport.Place) {
            topic = place.main.topic
            partition = place.main.partition
            committed = place.committed
            end = place.end
            owner = place.owner.member?.id
            retriesRead = place.retries.count
            deadLettersRead = place.deadLetters.count
            olderDeadLetters = place.olderDeadLetters
        }
    }

    let id: String
    let group: String
    let at: String
    let explanation: String
    let head: Item?
    let queue: [Item]
    let unread: Int
    let lastDeadLetter: DeadLetter?
    let waitsForDeadLetter: String?
    let lookedAt: [Place]
    let notes: [String]

    init(_ report: PatientReport) {
        id = report.id
        group = report.group
        at = report.now.iso8601
        explanation = report.explanation
        queue = report.queue.map { Item($0) }
        head = queue.first
        unread = report.unread
        lastDeadLetter = report.lastDeadLetter.map { DeadLetter($0) }
        waitsForDeadLetter = report.held.map { "\($0.letter)" }
        lookedAt = report.places.map { Place($0) }
        notes = report.notes
    }

    /// Events behind the head that the text shows one by one.
    static let shownInText = 20

    /// What `triage patient` prints: why, then the head, what waits behind it, the last dead letter, and what was looked at.
    static func text(_ report: PatientReport, everywhere: Bool) -> String {
        var lines = ["Patient \(PlainText.printable(report.id)): \(report.explanation)"]
        if let head = report.head {
            lines += ["", "HEAD"]
            lines += details(head)
        }
        let rest = report.queue.dropFirst()
        if !rest.isEmpty {
            let rows = rest.prefix(shownInText).map { item in
                [
                    "\(item.origin)", item.state.rawValue, item.originTimestamp?.iso8601 ?? "-",
                    item.retryRecord.map { "\($0)" } ?? "-", item.dueAt?.iso8601 ?? "-",
                ]
            }
            lines += ["", Table.columns(["BEHIND IT", "STATE", "WRITTEN", "RETRY RECORD", "DUE"], rows)]
            let total = report.queue.count + max(0, report.unread - report.queue.count { $0.state == .unread })
            if total - 1 > rows.count { lines.append("… and \(total - 1 - rows.count) more") }
        }
        if let letter = report.lastDeadLetter {
            lines += ["", "LAST DEAD LETTER"]
            var pairs = [("record", "\(letter.position)"), ("status", status(letter))]
            if let written = letter.written { pairs.append(("written", written.iso8601)) }
            if let origin = letter.origin { pairs.append(("origin", "\(origin)")) }
            lines += aligned(pairs + failure(letter.failure))
        }
        lines += ["", "LOOKED AT"]
        lines += report.places.map { "  " + looked($0) }
        if report.queue.isEmpty, report.lastDeadLetter == nil, !everywhere {
            lines.append("  Keys of other partitioners and records without a key are found with --all-partitions.")
        }
        lines += report.notes.map { "  note: \($0)" }
        return lines.joined(separator: "\n")
    }

    /// `open`, `discarded 2026-11-23T10:00:00.000Z by ops`.
    private static func status(_ letter: PatientReport.DeadLetter) -> String {
        let name = letter.status == .failedAgain ? "failed again" : letter.status.rawValue
        guard let state = letter.state else { return name }
        return "\(name) \(state.time.iso8601) by \(PlainText.printable(state.by))"
    }

    private static func details(_ item: PatientReport.Item) -> [String] {
        var pairs = [("event", "\(item.origin)"), ("state", item.state.rawValue)]
        if let written = item.originTimestamp { pairs.append(("written", written.iso8601)) }
        if let record = item.retryRecord { pairs.append(("retry record", "\(record)")) }
        if let due = item.dueAt { pairs.append(("due", due.iso8601)) }
        if let reason = item.waitReason {
            pairs.append(("waits for", reason == .parked ? item.parkedBehind ?? "?" : reason.rawValue))
        }
        if let note = item.failure { pairs += failure(note) }
        return aligned(pairs)
    }

    private static func failure(_ note: FailureNote) -> [(String, String)] {
        var pairs: [(String, String)] = []
        let error = [note.errorClass?.rawValue, note.error].compactMap { $0 }.joined(separator: " ")
        if !error.isEmpty { pairs.append(("error", error)) }
        if let fingerprint = note.fingerprint { pairs.append(("fingerprint", fingerprint)) }
        if let failed = note.failedAt { pairs.append(("failed at", failed)) }
        if let context = note.context { pairs.append(("trace", "\(context.traceID)")) }
        for (index, entry) in note.attempts.entries.enumerated() {
            let number = index == 0 ? 1 : index + 1 + note.attempts.dropped
            let trace = entry.traceID.isValid ? "  trace \(entry.traceID) span \(entry.spanID)" : ""
            let text = "\(entry.time.iso8601)  \(entry.errorClass.rawValue)  \(entry.fingerprint)\(trace)"
            pairs.append(("attempt \(number)", text))
            if index == 0, note.attempts.dropped > 0 { pairs.append(("", "(\(note.attempts.dropped) left out)")) }
        }
        return pairs
    }

    private static func aligned(_ pairs: [(String, String)]) -> [String] {
        let width = pairs.map(\.0.count).max() ?? 0
        return pairs.map { "  " + $0.0 + String(repeating: " ", count: width - $0.0.count) + "  " + $0.1 }
    }

    private static func looked(_ place: PatientReport.Place) -> String {
        let unread = max(0, place.end - (place.committed ?? 0))
        var text = "\(place.main): \(place.committed.map { "committed \($0)" } ?? "nothing committed") of \(place.end)"
        text += unread == 0 ? "" : " (\(unread) unread)"
        text += "; \(PlainText.count(place.retries.count, "retry record"))"
        text += ", \(PlainText.count(place.deadLetters.count, "dead letter"))"
        if place.olderDeadLetters > 0 {
            text += " (\(place.olderDeadLetters) older \(place.olderDeadLetters == 1 ? "one" : "ones") not: --dead-letters)"
        }
        return text
    }
}

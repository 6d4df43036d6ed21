import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

/// A dead letter as `-o json` prints it; times in ISO 8601, what isn't known is left out. Nothing in it is the patient's but the
/// hash of the id, where a key is configured.
struct DeadLetterOutput: Encodable {
    /// What became of it.
    struct State: Encodable {
        let status: String
        let time: String
        let by: String
        /// Why, as whoever replayed or discarded it said.
        let reason: String?
        let replay: String?
        /// Who asked for that replay.
        let replayedBy: String?
        let replayedAt: String?
        let successor: String?

        init?(_ state: DeadLetterState?) {
            guard let state else { return nil }
            status = state.status.rawValue
            time = state.time.iso8601
            by = PlainText.printable(state.by)
            reason = state.reason.map(PlainText.printable)
            replay = state.replay.map(PlainText.printable)
            replayedBy = state.replayedBy.map(PlainText.printable)
            replayedAt = state.replayedAt?.iso8601
            successor = state.successor.map { PlainText.printable("\($0)") }
        }
    }

    let id: String
    let written: String?
    let group: String?
    let dialect: String
    let origin: String?
    let originTimestamp: String?
    let errorClass: String?
    let error: String?
    let fingerprint: String
    let failedAt: String?
    let retries: Int
    let status: String
    let state: State?
    let traceId: String?
    let spanId: String?
    /// The hash of the record's key, by the identifier policy.
    let key: String?
    let valueBytes: Int?
    let copies: [String]

    init(_ entry: DeadLetterEntry, identifiers: IdentifierPolicy) {
        let letter = entry.letter
        id = "\(letter.position)"
        written = letter.written?.iso8601
        group = letter.group
        dialect = letter.dialect.rawValue
        origin = letter.origin.map { "\($0)" }
        originTimestamp = letter.originTimestamp?.iso8601
        errorClass = letter.errorClass?.rawValue
        error = letter.error
        fingerprint = letter.fingerprint
        failedAt = letter.failedAt?.iso8601
        retries = letter.retries
        status = entry.status.rawValue
        state = State(entry.state)
        traceId = letter.context.map { "\($0.traceID)" }
        spanId = letter.context.map { "\($0.spanID)" }
        key = letter.key.flatMap { identifiers.text(for: $0) }.map(PlainText.printable)
        valueBytes = letter.valueBytes
        copies = entry.copies.map { "\($0)" }
    }

    /// What `list` prints, within the width of a terminal; without one the times and fingerprints are whole.
    static func table(_ entries: [DeadLetterEntry], now: Timestamp, width: Int?) -> String {
        let rows = entries.map { entry in
            let letter = entry.letter
            return [
                "\(letter.position)",
                letter.written.map { width == nil ? $0.iso8601 : PlainText.clock($0, now: now) } ?? "-",
                letter.errorClass?.rawValue ?? "-", letter.error ?? "-",
                width.map { $0 < 160 } == true ? String(letter.fingerprint.prefix(8)) : letter.fingerprint, "\(letter.retries)",
                entry.status.rawValue, letter.context.map { "\($0.traceID)" } ?? "-",
            ]
        }
        return FittedTable(
            columns: [
                .init(name: "ID"), .init(name: "WHEN", rank: 5), .init(name: "CLASS", rank: 3), .init(name: "ERROR", rank: 6),
                .init(name: "FINGERPRINT", rank: 4), .init(name: "RETRIES", isNumber: true, rank: 2), .init(name: "STATE"),
                .init(name: "TRACE", rank: 1),
            ], rows: rows, flexible: 3, least: 12
        ).text(width: width)
    }
}

/// Dead letters of one fingerprint, as `groups -o json` prints them.
struct DeadLetterGroupOutput: Encodable {
    let fingerprint: String
    let dialect: String
    let errorClass: String?
    let error: String?
    let count: Int
    /// Of all that were counted, 0 to 1.
    let share: Double
    let patients: Int
    let patientsEstimated: Bool
    let firstSeen: String?
    let lastSeen: String?
    let topics: [String: Int]
    let example: String

    init(_ group: DeadLetterGroups.Group, of total: Int) {
        fingerprint = group.fingerprint
        dialect = group.dialect.rawValue
        errorClass = group.errorClass?.rawValue
        error = group.error
        count = group.count
        share = total == 0 ? 0 : Double(group.count) / Double(total)
        patients = group.distinctPatients
        patientsEstimated = group.isEstimated
        firstSeen = group.firstSeen?.iso8601
        lastSeen = group.lastSeen?.iso8601
        topics = group.topics
        example = "\(group.example)"
    }

    /// What `groups` prints.
    static func table(_ groups: DeadLetterGroups, now: Timestamp, width: Int?) -> String {
        func when(_ time: Timestamp?) -> String {
            time.map { width == nil ? $0.iso8601 : PlainText.clock($0, now: now) } ?? "-"
        }
        let rows = groups.groups.map { group in
            [
                group.fingerprint, "\(group.count)", percent(group.count, of: groups.total),
                (group.isEstimated ? "~" : "") + "\(group.distinctPatients)", when(group.firstSeen), when(group.lastSeen),
                group.errorClass?.rawValue ?? "-", group.error ?? "-", "\(group.example)",
            ]
        }
        return FittedTable(
            columns: [
                .init(name: "FINGERPRINT"), .init(name: "COUNT", isNumber: true), .init(name: "SHARE", isNumber: true, rank: 4),
                .init(name: "PATIENTS", isNumber: true, rank: 3), .init(name: "FIRST SEEN", rank: 2),
                .init(name: "LAST SEEN", rank: 5),
                .init(name: "CLASS", rank: 1), .init(name: "ERROR"), .init(name: "EXAMPLE", rank: 6),
            ], rows: rows, flexible: 7, least: 16
        ).text(width: width)
    }

    /// `41.5 %`; less than a tenth of a per cent isn't nothing.
    static func percent(_ part: Int, of total: Int) -> String {
        guard total > 0 else { return "-" }
        let tenths = (part * 1000 + total / 2) / total
        if tenths == 0, part > 0 { return "<0.1 %" }
        return "\(tenths / 10).\(tenths % 10) %"
    }
}

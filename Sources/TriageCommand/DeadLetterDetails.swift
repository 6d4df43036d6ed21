import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

/// What `triage dead-letters show` prints.
struct DeadLetterDetails: Encodable {
    struct Header: Encodable {
        let name: String
        let bytes: Int?
        /// What it says, where that can't be the patient's.
        let value: String?
    }

    struct ShapeLine: Encodable {
        let path: String
        let type: String
        let count: Int
    }

    struct Link: Encodable {
        let name: String
        let url: String
    }

    let letter: DeadLetterOutput
    let attempts: [PatientOutput.Attempt]
    let attemptsLeftOut: Int
    let headers: [Header]
    /// How the value is encrypted, and with which key.
    let encryption: String?
    let shape: [ShapeLine]?
    let shapeCut: Bool
    let links: [Link]
    var revealed: DeadLetterRevealed?
    var originals: [DeadLetterOriginal]?

    private enum CodingKeys: String, CodingKey {
        case attempts, attemptsLeftOut, headers, encryption, shape, shapeCut, links, revealed, originals
    }

    /// The dead letter's own members stand beside these, as `list` has them.
    func encode(to encoder: any Encoder) throws {
        try letter.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(attempts, forKey: .attempts)
        if attemptsLeftOut > 0 { try container.encode(attemptsLeftOut, forKey: .attemptsLeftOut) }
        try container.encode(headers, forKey: .headers)
        try container.encodeIfPresent(encryption, forKey: .encryption)
        try container.encodeIfPresent(shape, forKey: .shape)
        if shapeCut { try container.encode(shapeCut, forKey: .shapeCut) }
        try container.encode(links, forKey: .links)
        try container.encodeIfPresent(revealed, forKey: .revealed)
        try container.encodeIfPresent(originals, forKey: .originals)
    }

    init(_ entry: DeadLetterEntry, _ record: Record, desk: DeadLetterDesk) {
        letter = DeadLetterOutput(entry, identifiers: desk.identifiers)
        attempts = entry.letter.attempts.entries.map { PatientOutput.Attempt($0) }
        attemptsLeftOut = entry.letter.attempts.dropped
        headers = ShownHeader.all(of: record.headers).map {
            Header(name: PlainText.printable($0.name), bytes: $0.bytes, value: $0.value)
        }
        encryption =
            entry.letter.isSealed
            ? entry.letter.keyID.map { "\(DeadLetter.sealAlgorithm) \($0)" } ?? ShownHeader.notShown : nil
        let shown = Self.shape(of: record)
        shape = shown?.lines
        shapeCut = shown?.isCut ?? false
        links =
            entry.letter.context.map { context in
                desk.configuration.traces.links.links(for: context.traceID).map { Link(name: $0.name, url: $0.url) }
            } ?? []
    }

    /// The shape of the value; nil if it has none, is no JSON, or is encrypted and says none.
    private static func shape(of record: Record) -> (lines: [ShapeLine], isCut: Bool)? {
        if record.headers.last(HeaderName.encryption) != nil { return sealed(record.headers) }
        guard let value = record.value, (try? EventDecoder().checkObject(value)) != nil, let json = JSONValue(value) else {
            return nil
        }
        return told(PayloadShape(of: json))
    }

    /// What the shape's header says.
    private static func sealed(_ headers: Headers) -> (lines: [ShapeLine], isCut: Bool)? {
        headers.text(HeaderName.shape).flatMap { PayloadShape(text: $0) }.map(told)
    }

    private static func told(_ shape: PayloadShape) -> (lines: [ShapeLine], isCut: Bool) {
        (shape.lines.map { ShapeLine(path: $0.path, type: "\($0.kind)", count: $0.count) }, shape.isCut)
    }

    // MARK: Text

    /// The page for a terminal or a log.
    func text(width: Int?) -> String {
        var lines = ["\(letter.id)  \(letter.status)"]
        lines += Self.aligned(facts)
        if let state = letter.state {
            lines += ["", "STATE"]
            lines += Self.aligned([
                (state.status, "\(state.time) by \(state.by)"), ("replayed", replayed(state)), ("reason", state.reason ?? ""),
                ("replay", state.replay ?? ""), ("went on as", state.successor ?? ""),
            ])
        }
        lines += ["", "ATTEMPTS"]
        if attempts.isEmpty {
            lines.append("  It tells none.")
        } else {
            let rows = attempts.enumerated().map { index, attempt in
                [
                    "  \(index == 0 ? 1 : index + 1 + attemptsLeftOut)", attempt.time, attempt.errorClass, attempt.fingerprint,
                    attempt.traceId ?? "-", attempt.spanId ?? "-",
                ]
            }
            lines.append(Table.columns(["  #", "WHEN", "CLASS", "FINGERPRINT", "TRACE", "SPAN"], rows))
            if attemptsLeftOut > 0 { lines.append("  \(attemptsLeftOut) between the first and the second aren't told") }
        }
        if !links.isEmpty {
            lines += ["", "LOOK AT"]
            lines += Self.aligned(links.map { ($0.name, $0.url) })
        }
        lines += ["", "HEADERS"]
        lines.append(
            Table.columns(
                ["  NAME", "BYTES", "VALUE"],
                headers.map {
                    ["  " + $0.name, $0.bytes.map { "\($0)" } ?? "null", $0.bytes == nil ? "" : $0.value ?? ShownHeader.notShown]
                }, right: [1]))
        lines += shapeText
        if let revealed { lines += revealed.text }
        if let originals { lines += DeadLetterOriginal.text(originals) }
        return lines.joined(separator: "\n")
    }

    /// When and by whom it was replayed, where its state tells of what came after that.
    private func replayed(_ state: DeadLetterOutput.State) -> String {
        guard state.status != DeadLetterState.Status.replayed.rawValue, let by = state.replayedBy else { return "" }
        return (state.replayedAt.map { "\($0) " } ?? "") + "by \(by)"
    }

    private var facts: [(String, String)] {
        [
            ("written", letter.written ?? ""), ("by", letter.dialect == "triage" ? "" : letter.dialect),
            ("group", letter.group ?? ""),
            ("event", letter.origin.map { $0 + (letter.originTimestamp.map { ", written \($0)" } ?? "") } ?? ""),
            ("error", [letter.errorClass, letter.error].compactMap { $0 }.joined(separator: " ")),
            ("fingerprint", letter.fingerprint), ("failed at", letter.failedAt ?? ""), ("retries", "\(letter.retries)"),
            ("trace", letter.traceId.map { $0 + (letter.spanId.map { " span \($0)" } ?? "") } ?? ""), ("key", letter.key ?? ""),
            ("value", letter.valueBytes.map { "\($0) bytes" } ?? "none"), ("encrypted", encryption ?? ""),
            ("copies", letter.copies.joined(separator: ", ")),
        ]
    }

    private var shapeText: [String] {
        guard let shape else {
            return [
                "", "PAYLOAD",
                letter.valueBytes == nil
                    ? "  There is none." : encryption == nil ? "  It is no JSON object." : "  It is encrypted.",
            ]
        }
        let rows = shape.map { ["  " + ($0.path.isEmpty ? "." : $0.path), $0.type, "\($0.count)"] }
        return ["", Table.columns(["  PAYLOAD", "TYPE", "COUNT"], rows, right: [2])] + (shapeCut ? ["  …"] : [])
    }

    private static func aligned(_ pairs: [(String, String)]) -> [String] {
        let told = pairs.filter { !$0.1.isEmpty }
        let width = told.map(\.0.count).max() ?? 0
        return told.map { "  " + $0.0 + String(repeating: " ", count: width - $0.0.count) + "  " + $0.1 }
    }
}

import Triage
import TriageEvents
import TriageTelemetry

/// Draws a waterfall for a terminal: names by depth, bars on one scale of time, durations, and what came of each.
struct WaterfallText {
    let waterfall: TraceWaterfall
    let style: PageStyle
    /// Whether a duration of zero is told: of spans that are made up nobody knows how long they were.
    var showsPoints = true
    /// Rows that are drawn at most, the first ones.
    var maximumRows = 60

    private struct Glyphs {
        let work: Character
        let failed: Character
        let waiting: Character
        let point: Character
        let failedPoint: Character
        let edge: Character

        static let unicode = Glyphs(work: "█", failed: "▓", waiting: "░", point: "▏", failedPoint: "✗", edge: "│")
        static let ascii = Glyphs(work: "#", failed: "x", waiting: "-", point: "|", failedPoint: "x", edge: ":")
    }
    private var glyphs: Glyphs { style.isUnicode ? .unicode : .ascii }

    /// What the bars' characters mean.
    var legend: String {
        "\(glyphs.work) work  \(glyphs.failed) failed  \(glyphs.waiting) waiting  \(glyphs.point) no time to speak of"
    }

    /// The rows, each line within the style's width.
    var lines: [String] {
        let rows = Array(waterfall.rows.prefix(maximumRows))
        let durations = rows.map { !showsPoints && $0.span.duration == .zero ? "" : Self.duration($0.span.duration) }
        let notes = rows.map { Self.note($0.span, flags: $0.flags) }
        let durationWidth = durations.map(\.count).max() ?? 0
        // Names first, then the bars; what came of a span is cut if it must be.
        let room = style.width - 2 - durationWidth - 6
        let names = names(rows, within: room * 45 / 100)
        let nameWidth = names.map(\.count).max() ?? 0
        let noteWidth = min(notes.map(\.count).max() ?? 0, room * 35 / 100)
        let barWidth = max(8, min(60, room - nameWidth - noteWidth))
        var lines = rows.indices.map { index in
            let row = rows[index]
            let text =
                "  " + names[index] + String(repeating: " ", count: nameWidth - names[index].count) + " " + bar(row, barWidth)
                + " "
                + String(repeating: " ", count: durationWidth - durations[index].count) + durations[index] + "  "
            let left = max(0, style.width - text.count)
            let note = notes[index].count <= left ? notes[index] : notes[index].prefix(max(0, left - 1)) + style.ellipsis
            var line = text + note
            while line.last == " " { line.removeLast() }
            return style.coloured(line, row.flags.contains(.failed) ? .failure : nil)
        }
        let hidden = waterfall.hidden + waterfall.rows.count - rows.count
        if hidden > 0 { lines.append("  \(style.ellipsis) and \(PlainText.count(hidden, "more span"))") }
        return lines
    }

    /// The names by depth. Where they don't fit, what a row's topic has in common with the first row's is left out; then the middle.
    private func names(_ rows: [TraceWaterfall.Row], within width: Int) -> [String] {
        let indent = rows.contains { $0.depth > 6 } ? " " : "  "
        func drawn(_ name: (TraceWaterfall.Row) -> String) -> [String] {
            rows.map { String(repeating: indent, count: min($0.depth, 16)) + name($0) }
        }
        let whole = drawn(\.span.name)
        guard whole.contains(where: { $0.count > width }) else { return whole }
        let topic = rows.lazy.compactMap { $0.span["messaging.destination.name"] }.first.map { TopicName.main(of: $0) }
        let short = drawn { row in
            guard let topic, row.depth > 0, let space = row.span.name.firstIndex(of: " ") else { return row.span.name }
            let rest = row.span.name[row.span.name.index(after: space)...]
            guard rest.hasPrefix(topic) else { return row.span.name }
            return row.span.name[...space] + style.ellipsis + rest.dropFirst(topic.count)
        }
        return short.map { style.fitted($0, to: max(20, width)) }
    }

    private func bar(_ row: TraceWaterfall.Row, _ width: Int) -> String {
        let first = min(width - 1, Int(row.offset * Double(width)))
        let end = Int(((row.offset + row.width) * Double(width)).rounded())
        let isFailed = row.flags.contains(.failed)
        var cells = [Character](repeating: " ", count: width)
        if end <= first || row.span.duration == .zero {
            cells[first] = isFailed ? glyphs.failedPoint : glyphs.point
        } else {
            let isWait = row.span["triage.wait.reason"] != nil
            for cell in first..<min(width, max(first + 1, end)) {
                cells[cell] = isFailed ? glyphs.failed : isWait ? glyphs.waiting : glyphs.work
            }
        }
        return String(glyphs.edge) + String(cells) + String(glyphs.edge)
    }

    /// `12 µs`, `1.0 ms`, `1.20 s`, from a minute on `4 min 5 s`.
    static func duration(_ duration: Duration) -> String {
        duration < .seconds(60) ? TraceTree.duration(duration) : PlainText.span(duration)
    }

    /// What came of a span: its outcome, why it waited, its error, where it wrote.
    static func note(_ span: TraceSpan, flags: TraceWaterfall.Flags = []) -> String {
        var parts: [String] = []
        if let outcome = span["triage.outcome"] { parts.append(outcome) }
        if let reason = span["triage.wait.reason"] { parts.append(reason) }
        // The attempt below a process span says the same.
        if case .error(let message) = span.status, span["triage.outcome"] == nil {
            let text = message.isEmpty ? span.errorType ?? "" : message
            parts.append(text.isEmpty ? "ERROR" : "ERROR \(text)")
        }
        if let offset = span["messaging.kafka.offset"] { parts.append("offset \(offset)") }
        if flags.contains(.linked) { parts.append("links to another trace") }
        if flags.contains(.orphan) { parts.append("its parent isn't here") }
        return parts.joined(separator: ", ")
    }
}

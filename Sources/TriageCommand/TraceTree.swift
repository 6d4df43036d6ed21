import TriageEvents
import TriageTelemetry

/// Draws the spans of one trace as a tree, by parents: the demonstration's, whose durations matter less than what led to what.
struct TraceTree {
    private let waterfall: TraceWaterfall

    /// A tree of these spans; one whose parent isn't among them is a root.
    init(_ spans: [SpanData]) {
        waterfall = TraceWaterfall(
            spans: spans.map { TraceSpan($0, identifiers: .omitted, service: nil) }, maximumRows: .max)
    }

    /// One line a span: name, duration, what came of it.
    var text: String {
        let lines = waterfall.rows.map { row in
            (
                tree: Self.lead(row) + row.span.name, duration: Self.duration(row.span.duration),
                outcome: Self.outcome(of: row.span)
            )
        }
        let width = lines.map(\.tree.count).max() ?? 0
        let durationWidth = lines.map(\.duration.count).max() ?? 0
        return lines.map { line in
            line.tree + String(repeating: " ", count: width - line.tree.count + 2)
                + String(repeating: " ", count: durationWidth - line.duration.count) + line.duration
                + (line.outcome.isEmpty ? "" : "  \(line.outcome)")
        }.joined(separator: "\n")
    }

    private static func outcome(of span: TraceSpan) -> String {
        var parts: [String] = []
        if let outcome = span["triage.outcome"] { parts.append(outcome) }
        if let reason = span["triage.wait.reason"] { parts.append(reason) }
        if case .error(let message) = span.status { parts.append(message.isEmpty ? "ERROR" : "ERROR \(message)") }
        if let partition = span["messaging.destination.partition.id"], let offset = span["messaging.kafka.offset"] {
            parts.append("partition \(partition) offset \(offset)")
        }
        return parts.joined(separator: "  ")
    }

    /// The lines that lead from its parents to a row.
    private static func lead(_ row: TraceWaterfall.Row) -> String {
        guard row.depth > 0 else { return "" }
        return row.continues.map { $0 ? "│  " : "   " }.joined() + (row.flags.contains(.last) ? "└─ " : "├─ ")
    }

    /// `12 µs`, `1.0 ms`, `1.20 s`.
    static func duration(_ duration: Duration) -> String {
        let microseconds = duration.wholeNanoseconds / 1000
        switch microseconds {
        case ..<1000: return "\(microseconds) µs"
        case ..<1_000_000: return "\(microseconds / 1000).\(microseconds % 1000 / 100) ms"
        default:
            let hundredths = microseconds % 1_000_000 / 10_000
            return "\(microseconds / 1_000_000).\(hundredths < 10 ? "0" : "")\(hundredths) s"
        }
    }
}

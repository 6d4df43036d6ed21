import TriageEvents
import TriageTelemetry

/// Draws the spans of one trace as a tree, by parents.
struct TraceTree {
    private let spans: [SpanData]

    /// A tree of these spans; one whose parent isn't among them is a root.
    init(_ spans: [SpanData]) { self.spans = spans.sorted { ($0.start, $0.end) < ($1.start, $1.end) } }

    /// One line a span: name, duration, what came of it.
    var text: String {
        let known = Set(spans.map(\.context.spanID))
        let children = Dictionary(grouping: spans.filter { known.contains($0.parentSpanID) }, by: \.parentSpanID)
        var lines: [(tree: String, duration: String, outcome: String)] = []
        func draw(_ span: SpanData, indent: String, connector: String, childIndent: String) {
            lines.append((indent + connector + span.template.name, Self.duration(span.end - span.start), Self.outcome(of: span)))
            let below = children[span.context.spanID] ?? []
            for (index, child) in below.enumerated() {
                let isLast = index == below.count - 1
                draw(
                    child, indent: indent + childIndent, connector: isLast ? "└─ " : "├─ ", childIndent: isLast ? "   " : "│  "
                )
            }
        }
        for root in spans where !known.contains(root.parentSpanID) {
            draw(root, indent: "", connector: "", childIndent: "")
        }
        let width = lines.map(\.tree.count).max() ?? 0
        let durationWidth = lines.map(\.duration.count).max() ?? 0
        return lines.map { line in
            line.tree + String(repeating: " ", count: width - line.tree.count + 2)
                + String(repeating: " ", count: durationWidth - line.duration.count) + line.duration
                + (line.outcome.isEmpty ? "" : "  \(line.outcome)")
        }.joined(separator: "\n")
    }

    private static func duration(_ duration: Duration) -> String {
        let microseconds = duration.wholeNanoseconds / 1000
        switch microseconds {
        case ..<1000: return "\(microseconds) µs"
        case ..<1_000_000: return "\(microseconds / 1000).\(microseconds % 1000 / 100) ms"
        default:
            let hundredths = microseconds % 1_000_000 / 10_000
            return "\(microseconds / 1_000_000).\(hundredths < 10 ? "0" : "")\(hundredths) s"
        }
    }

    private static func outcome(of span: SpanData) -> String {
        var parts: [String] = []
        if let outcome = span.text("triage.outcome") { parts.append(outcome) }
        if let reason = span.text("triage.wait.reason") { parts.append(reason) }
        if case .error(let message) = span.status { parts.append(message.text.isEmpty ? "ERROR" : "ERROR \(message)") }
        if let partition = span.text("messaging.destination.partition.id"), let offset = span.text("messaging.kafka.offset") {
            parts.append("partition \(partition) offset \(offset)")
        }
        return parts.joined(separator: "  ")
    }
}

extension SpanData {
    /// An attribute of its own or of its template, as text.
    func text(_ key: String) -> String? {
        guard let value = (attributes + template.attributes).first(where: { $0.key.description == key })?.value else {
            return nil
        }
        switch value {
        case .literal(let text): return text.description
        case .text(let text): return text.text
        case .int(let number): return "\(number)"
        case .double(let number): return "\(number)"
        case .bool(let flag): return "\(flag)"
        case .uuid, .identifier: return nil
        }
    }
}

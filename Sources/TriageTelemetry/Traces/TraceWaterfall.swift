public import TriageEvents

/// The layout of a trace: spans in, rows out, in the order and with the places in which they are drawn.
///
/// A pure value. It takes spans as they come from anywhere: several of one id, parents that are missing or in a circle, clocks
/// that disagree, spans of several traces.
public struct TraceWaterfall: Sendable, Hashable {
    /// What is special about a span.
    public struct Flags: OptionSet, Sendable, Hashable {
        /// One bit for each.
        public let rawValue: UInt8
        /// The flags of these bits.
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Its status is ERROR.
        public static let failed = Flags(rawValue: 1)
        /// Its parent isn't among the spans: it was not sampled, is still running, or is kept elsewhere.
        public static let orphan = Flags(rawValue: 2)
        /// It has a link to another trace.
        public static let linked = Flags(rawValue: 4)
        /// It is the last of its parent's children.
        public static let last = Flags(rawValue: 8)
    }

    /// One span and where it is drawn.
    public struct Row: Sendable, Hashable {
        /// The span.
        public let span: TraceSpan
        /// How many spans are above it: 0 for a root.
        public let depth: Int
        /// Where its bar begins, from 0 at the waterfall's start to 1 at its end.
        public let offset: Double
        /// How long its bar is, from 0 to 1; ``offset`` and this are at most 1 together.
        public let width: Double
        /// What is special about it.
        public let flags: Flags
        /// For each depth from 1 up to the row's own less one, whether a line goes on past this row to a later sibling.
        public let continues: [Bool]
    }

    /// The rows, parents before their children, siblings in the order in which they began.
    public let rows: [Row]
    /// When the first span began; of no spans the epoch.
    public let start: Timestamp
    /// When the last span ended.
    public let end: Timestamp
    /// Spans beyond the most rows that are laid out: the deepest and latest of them.
    public let hidden: Int
    /// Traces that links lead to and that none of the spans belongs to, each once, in the order of the rows.
    public let linkedTraces: [TraceID]

    /// From the first span's begin to the last one's end.
    public var duration: Duration { end - start }
    /// Whether any span failed.
    public var isFailed: Bool { rows.contains { $0.flags.contains(.failed) } }

    /// The layout of these spans.
    ///
    /// - Parameters:
    ///   - spans: spans of one trace, or of traces that are to be drawn on one scale of time.
    ///   - maximumRows: rows that are made at most.
    public init(spans: [TraceSpan], maximumRows: Int = 1000) {
        var seen: Set<Key> = []
        let spans = spans.filter { seen.insert(Key($0)).inserted }.sorted(by: TraceWaterfall.isBefore)
        var children: [Key: [Int]] = [:]
        var roots: [Int] = []
        for (index, span) in spans.enumerated() {
            let parent = span.parentSpanID.map { Key(trace: span.traceID, span: $0) }
            if let parent, seen.contains(parent), parent != Key(span) {
                children[parent, default: []].append(index)
            } else {
                roots.append(index)
            }
        }
        var layout = Layout(spans: spans, children: children, known: seen, maximumRows: max(0, maximumRows))
        layout.draw(roots)
        // What a circle of parents holds together no root leads to.
        for index in spans.indices where !layout.isDrawn[index] { layout.draw([index]) }
        let first = spans.map(\.start).min() ?? Timestamp(nanoseconds: 0)
        let last = spans.map(\.end).max() ?? first
        let whole = (last - first).inSeconds
        rows = layout.placed.map { placed in
            let span = spans[placed.index]
            let offset = whole > 0 ? min(1, max(0, (span.start - first).inSeconds / whole)) : 0
            let width = whole > 0 ? min(1 - offset, max(0, span.duration.inSeconds / whole)) : 0
            return Row(
                span: span, depth: placed.depth, offset: offset, width: width, flags: placed.flags, continues: placed.continues)
        }
        start = first
        end = last
        hidden = layout.hidden
        let traces = Set(spans.map(\.traceID))
        var told: Set<TraceID> = []
        linkedTraces = rows.flatMap(\.span.links).map(\.traceID).filter {
            $0.isValid && !traces.contains($0) && told.insert($0).inserted
        }
    }

    private struct Key: Hashable {
        let trace: TraceID
        let span: SpanID

        init(trace: TraceID, span: SpanID) {
            self.trace = trace
            self.span = span
        }

        init(_ span: TraceSpan) { self.init(trace: span.traceID, span: span.spanID) }
    }

    private static func isBefore(_ left: TraceSpan, _ right: TraceSpan) -> Bool {
        if left.start != right.start { return left.start < right.start }
        if left.end != right.end { return left.end < right.end }
        return (left.traceID.high, left.traceID.low, left.spanID.value)
            < (right.traceID.high, right.traceID.low, right.spanID.value)
    }

    /// Walks down from roots; without recursion, since a trace may be as deep as somebody made it.
    private struct Layout {
        struct Placed {
            let index: Int
            let depth: Int
            let flags: Flags
            let continues: [Bool]
        }
        /// Lines that are told of; deeper ones are drawn as if they were no deeper.
        static let maximumDepth = 100

        let spans: [TraceSpan]
        let children: [Key: [Int]]
        let known: Set<Key>
        let maximumRows: Int
        var placed: [Placed] = []
        var hidden = 0
        var isDrawn: [Bool]

        init(spans: [TraceSpan], children: [Key: [Int]], known: Set<Key>, maximumRows: Int) {
            self.spans = spans
            self.children = children
            self.known = known
            self.maximumRows = maximumRows
            isDrawn = Array(repeating: false, count: spans.count)
        }

        mutating func draw(_ roots: [Int]) {
            var waiting: [(index: Int, depth: Int, isLast: Bool, continues: [Bool])] = []
            for root in roots.reversed() { waiting.append((root, 0, true, [])) }
            while let next = waiting.popLast() {
                guard !isDrawn[next.index] else { continue }
                isDrawn[next.index] = true
                let span = spans[next.index]
                if placed.count < maximumRows {
                    placed.append(
                        Placed(
                            index: next.index, depth: next.depth, flags: flags(span, isLast: next.isLast, depth: next.depth),
                            continues: next.continues))
                } else {
                    hidden += 1
                }
                let below = children[Key(span)] ?? []
                let isDeep = next.depth >= Layout.maximumDepth
                let continues = next.depth == 0 || isDeep ? next.continues : next.continues + [!next.isLast]
                for (place, child) in below.enumerated().reversed() {
                    waiting.append((child, isDeep ? next.depth : next.depth + 1, place == below.count - 1, continues))
                }
            }
        }

        private func flags(_ span: TraceSpan, isLast: Bool, depth: Int) -> Flags {
            var flags: Flags = []
            if span.isFailed { flags.insert(.failed) }
            if let parent = span.parentSpanID, !known.contains(Key(trace: span.traceID, span: parent)) { flags.insert(.orphan) }
            if span.links.contains(where: { $0.traceID.isValid && $0.traceID != span.traceID }) { flags.insert(.linked) }
            if isLast { flags.insert(.last) }
            return flags
        }
    }
}

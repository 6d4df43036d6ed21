import Testing

@testable import TriageTelemetry

/// The machine written down as a list of spans, with everything searched for each time.
private struct NaiveTraces {
    struct Span {
        let id: Int
        let trace: Int
        var isLive = true
        var waits: Int?
    }
    struct Trace {
        var isFlagged = false
        var isLimited = false
        var isOver = false
        var hasLost = false
        /// When its first waiting span began to wait.
        var since = 0
    }

    let limits: FailureTraceLimits
    var limiter: TraceRateLimiter
    var spans: [Span] = []
    var traces: [Trace] = []
    var counts = FailureTraceCounts()
    var time = 0

    init(_ limits: FailureTraceLimits) {
        self.limits = limits
        limiter = TraceRateLimiter(limits)
    }

    func span(_ id: Int) -> Span? { spans.first { $0.id == id } }
    var live: Int { spans.count { $0.isLive } }
    func isRoot(_ span: Span) -> Bool { span.id == span.trace * 1000 }

    mutating func beginRoot() -> Int? {
        let trace = traces.count
        traces.append(Trace())
        guard live < limits.liveSpans else { return nil }
        spans.append(Span(id: trace * 1000, trace: trace))
        return trace * 1000
    }

    enum Begin: Equatable { case buffered, sampled, unknown }

    mutating func begin(_ id: Int, under other: Int) -> Begin {
        guard let parent = span(other) else { return .unknown }
        if traces[parent.trace].isFlagged { return .sampled }
        guard live < limits.liveSpans else { return .unknown }
        spans.append(Span(id: id, trace: parent.trace))
        return .buffered
    }

    enum End: Equatable { case kept, export, discarded }

    mutating func end(_ id: Int, bytes: Int) -> End {
        guard let index = spans.firstIndex(where: { $0.id == id }) else { return .discarded }
        counts.ended += 1
        spans[index].isLive = false
        let trace = spans[index].trace
        let isRoot = isRoot(spans[index])
        defer { tidy(trace) }
        if traces[trace].isFlagged {
            counts.exported += 1
            if isRoot { traces[trace].isOver = true } else { spans.remove(at: index) }
            return .export
        }
        if isRoot {
            let count = take(trace).count + 1
            traces[trace].isOver = true
            if traces[trace].isLimited {
                counts.rateLimited += count
                counts.limitedTraces += 1
            } else {
                counts.notFailed += count
            }
            return .discarded
        }
        if traces[trace].isOver {
            if traces[trace].isLimited { counts.rateLimited += 1 } else { counts.notFailed += 1 }
            spans.remove(at: index)
            return .discarded
        }
        time += 1
        if !spans.contains(where: { $0.trace == trace && $0.waits != nil }) { traces[trace].since = time }
        spans[index].waits = bytes
        counts.buffered += 1
        counts.bufferedBytes += bytes
        while counts.bufferedBytes > limits.bytes {
            let waiting = Set(spans.filter { $0.waits != nil }.map(\.trace))
            guard let oldest = waiting.min(by: { traces[$0].since < traces[$1].since }) else { break }
            counts.evicted += take(oldest).count
            traces[oldest].hasLost = true
        }
        return .kept
    }

    mutating func discard(_ id: Int) {
        guard let index = spans.firstIndex(where: { $0.id == id }) else { return }
        counts.discarded += 1
        let trace = spans[index].trace
        spans[index].isLive = false
        if isRoot(spans[index]) {
            let count = traces[trace].isFlagged ? 0 : take(trace).count
            traces[trace].isOver = true
            if traces[trace].isLimited { counts.rateLimited += count } else { counts.notFailed += count }
        } else {
            spans.remove(at: index)
        }
        tidy(trace)
    }

    /// What is exported; nil if the limit refuses.
    mutating func fail(_ id: Int, _ fingerprint: String, at now: Duration) -> [Int]? {
        guard let span = span(id) else { return nil }
        let trace = span.trace
        if traces[trace].isFlagged { return [] }
        guard limiter.admits(fingerprint, at: now) else {
            if traces[trace].isOver, !traces[trace].isLimited { counts.limitedTraces += 1 }
            traces[trace].isLimited = true
            return nil
        }
        if traces[trace].isOver, traces[trace].isLimited { counts.limitedTraces -= 1 }
        traces[trace].isFlagged = true
        counts.flaggedTraces += 1
        if traces[trace].hasLost { counts.incompleteTraces += 1 }
        let taken = take(trace)
        counts.exported += taken.count
        return taken
    }

    private mutating func take(_ trace: Int) -> [Int] {
        let taken = spans.filter { $0.trace == trace && $0.waits != nil }
        spans.removeAll { $0.trace == trace && $0.waits != nil }
        counts.buffered -= taken.count
        counts.bufferedBytes -= taken.reduce(0) { $0 + ($1.waits ?? 0) }
        return taken.map(\.id)
    }

    /// A root whose trace has nothing under way any more can't be found either.
    private mutating func tidy(_ trace: Int) {
        if traces[trace].isOver, !spans.contains(where: { $0.trace == trace && $0.isLive }) {
            spans.removeAll { $0.trace == trace }
        }
    }
}

@Suite("Failure traces: the machine and a naive model")
struct FailureTracesModelTests {
    @Test("they do the same, whatever happens", arguments: [UInt64.random(in: 1 ... .max), 1, 2, 3])
    func model(seed: UInt64) {
        var random = QueueRandom(seed)
        for round in 0..<150 {
            var limits = failureLimits(
                bytes: Int.random(in: 20...300, using: &random),
                perSecond: Bool.random(using: &random) ? 0 : Int.random(in: 1...5, using: &random),
                liveSpans: Bool.random(using: &random) ? 1000 : Int.random(in: 1...12, using: &random))
            limits.fingerprintInterval = .seconds(Int.random(in: 0...10, using: &random))
            var machine = FailureTraces<Int>(limits)
            var model = NaiveTraces(limits)
            var handles: [Int: BufferedSpanHandle] = [:]
            var ended: [Int] = []
            var next = 1
            var now = Duration.zero
            for step in 0..<300 {
                let place: Comment = "seed \(seed), round \(round), step \(step)"
                now += .milliseconds(Int.random(in: 0...300, using: &random))
                let live = model.spans.filter(\.isLive).map(\.id)
                switch Int.random(in: 0..<100, using: &random) {
                case 0..<15:
                    let id = model.traces.count * 1000
                    let handle = machine.beginRoot(trace: UInt64(model.traces.count), span: UInt64(id))
                    let expected = model.beginRoot()
                    #expect((expected == nil) == (handle == .none), place)
                    if handle != .none { handles[id] = handle }
                case 15..<45:
                    // Under anything that there ever was, spans that nobody knows any more included.
                    guard let parent = (live + ended).randomElement(using: &random) else { continue }
                    let trace = parent / 1000
                    let id = trace * 1000 + next % 1000
                    guard id % 1000 != 0, handles[id] == nil, !ended.contains(id) else { continue }
                    next += 1
                    let begun: FailureTraces<Int>.Begin
                    if Bool.random(using: &random), let handle = handles[parent] {
                        begun = machine.begin(trace: UInt64(trace), span: UInt64(id), beside: handle)
                    } else {
                        begun = machine.begin(trace: UInt64(trace), span: UInt64(id), under: UInt64(parent))
                    }
                    switch (begun, model.begin(id, under: parent)) {
                    case (.buffered(let handle), .buffered): handles[id] = handle
                    case (.sampled, .sampled), (.unknown, .unknown): break
                    default: Issue.record(place)
                    }
                case 45..<85:
                    guard let id = live.randomElement(using: &random), let handle = handles[id] else { continue }
                    let bytes = Int.random(in: 1...60, using: &random)
                    let expected = model.end(id, bytes: bytes)
                    var payload: Int? = id
                    switch machine.end(handle, &payload, bytes: { _ in bytes }) {
                    case .kept: #expect(expected == .kept && payload == nil, place)
                    case .export: #expect(expected == .export && payload == id, place)
                    case .discarded: #expect(expected == .discarded, place)
                    case .ignored: Issue.record(place)
                    }
                    ended.append(id)
                case 85..<96:
                    guard let id = live.randomElement(using: &random), let handle = handles[id] else { continue }
                    let fingerprint = "\(Int.random(in: 0..<3, using: &random))"
                    let expected = model.fail(id, fingerprint, at: now)
                    switch machine.fail(handle, fingerprint: fingerprint, at: now) {
                    case .flagged(let payloads, _): #expect(payloads == expected, place)
                    case .sampled: #expect(expected == [], place)
                    case .limited: #expect(expected == nil, place)
                    case .ignored: Issue.record(place)
                    }
                default:
                    guard let id = live.randomElement(using: &random), let handle = handles[id] else { continue }
                    machine.discard(handle)
                    model.discard(id)
                    ended.append(id)
                }
                for id in ended.suffix(3) {
                    guard let handle = handles[id] else { continue }
                    var payload: Int? = id
                    let second = machine.end(handle, &payload) { _ in 1 }
                    #expect(second == .ignored, place)
                }
                let counts = machine.counts
                #expect(counts == model.counts, place)
                #expect(
                    counts.ended
                        == counts.exported + counts.notFailed + counts.rateLimited + counts.evicted + counts.buffered, place)
                #expect(counts.bufferedBytes <= limits.bytes, place)
            }
            for span in model.spans.filter(\.isLive) {
                var payload: Int? = span.id
                if let handle = handles[span.id] { _ = machine.end(handle, &payload) { _ in 1 } }
            }
            #expect(machine.counts.buffered == 0 && machine.counts.bufferedBytes == 0, "seed \(seed), round \(round)")
        }
    }
}

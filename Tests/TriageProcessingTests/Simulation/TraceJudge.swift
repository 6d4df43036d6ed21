import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

extension SpanData {
    fileprivate func value(_ key: StaticString) -> AttributeValue? {
        let key = StaticText(key)
        return attributes.last { $0.key == key }?.value ?? template.attributes.last { $0.key == key }?.value
    }
    fileprivate func text(_ key: StaticString) -> String? {
        switch value(key) {
        case .literal(let text): text.description
        case .text(let text): text.text
        default: nil
        }
    }
    fileprivate func number(_ key: StaticString) -> Int64? { if case .int(let number) = value(key) { number } else { nil } }
    var isFailed: Bool { if case .error = status { true } else { false } }
    var id: SpanID { context.spanID }
    fileprivate var isProcess: Bool { template.kind == .consumer }
    fileprivate var isSend: Bool { template.kind == .producer }
    fileprivate var isRoot: Bool { !parentSpanID.isValid }
    fileprivate var exceptions: Int { events.count { $0.name == "exception" } }
}

/// Judges the traces of a world that has ended, by design §4: every step of every event has its span, where it belongs.
///
/// What may be missing: a span that was in progress when its engine ended, and what a crashed engine had not yet exported. For
/// each one that is missing it must be seen from outside that it can be one of these; everything else is judged all the same.
struct TraceJudge {
    private let world: SimulatedWorld
    private let witness: TraceWitness
    private var spans: [SpanID: SpanData] = [:]
    private var engines: [SpanID: SimulatedEngine] = [:]
    private var inOrder: [SpanData] = []
    private var children: [SpanID: [SpanData]] = [:]
    private var lost: Set<SpanID> = []
    /// Processes by the record that they are of, in the order in which they ended.
    private var processes: [RecordPosition: [SpanData]] = [:]
    /// The records that carry a span's context.
    private var carriers: [SpanID: Record] = [:]
    /// Dead letters whose chain was walked to its end, and others, whose chain a crash has cut.
    private(set) var whole = 0
    private(set) var cut = 0
    private(set) var longWaits = 0
    private(set) var parked = 0
    private var problem: String?

    init(_ world: SimulatedWorld) {
        self.world = world
        witness = world.witness
        for engine in witness.engines {
            lost.formUnion(engine.exporter.lost)
            for (_, span) in engine.exporter.spans {
                spans[span.id] = span
                engines[span.id] = engine
                inOrder.append(span)
                if !span.isRoot { children[span.parentSpanID, default: []].append(span) }
                if span.isProcess, let position = position(of: span) { processes[position, default: []].append(span) }
            }
        }
        for position in witness.order {
            guard let record = witness.records[position], let context = TraceContext(headers: record.headers) else { continue }
            carriers[context.spanID] = record
        }
    }

    /// - Returns: the first thing that is wrong.
    mutating func judge() -> String? {
        guard world.options.isTraced else { return judgeUntraced() }
        for span in inOrder where problem == nil {
            if span.isProcess {
                judge(process: span)
            } else if span.template.name == "attempt" {
                judge(attempt: span)
            } else if span.isSend {
                judge(send: span)
            } else if span.template.name.hasPrefix("wait ") {
                judge(wait: span)
            } else {
                judge(other: span)
            }
        }
        for (id, call) in witness.calls where problem == nil && call.hasFailed != nil && spans[id] == nil && !lost.contains(id) {
            wrong("\(world.referee.name(of: call.event)) attempt \(call.number) has no span")
        }
        for position in witness.order where problem == nil { judge(record: position) }
        for engine in witness.engines where problem == nil { judge(end: engine) }
        return problem
    }

    /// Without tracing there is no span, and what context an event came with stands on each record of it, byte for byte.
    private mutating func judgeUntraced() -> String? {
        if !inOrder.isEmpty { wrong("there are spans though nothing is traced") }
        for position in witness.order {
            guard let record = witness.records[position], let event = event(record),
                let origin = witness.records[world.referee.events[event].position]
            else { continue }
            if record.headers.last(HeaderName.traceparent) != origin.headers.last(HeaderName.traceparent) {
                wrong("\(position) carries another context than its event came with")
            }
        }
        return problem
    }

    private mutating func wrong(_ text: String) { if problem == nil { problem = "trace: \(text)" } }

    private func position(of process: SpanData) -> RecordPosition? {
        guard let topic = process.text("messaging.destination.name"), let offset = process.number("messaging.kafka.offset"),
            let partition = process.text("messaging.destination.partition.id").flatMap({ Int32($0) })
        else { return nil }
        return RecordPosition(topic: topic, partition: partition, offset: offset)
    }

    /// What the record says of its failed attempts.
    private func ledger(_ record: Record) -> AttemptLedger { AttemptLedger(record.headers.text(HeaderName.attempts) ?? "") }

    private func event(_ record: Record) -> Int? {
        world.referee.event(of: record.headers) ?? world.referee.event(at: record.position)
    }

    // MARK: What may be missing

    /// Whether a process that isn't there may have been in progress when its engine ended.
    private func mayLack(process id: SpanID, of engine: SimulatedEngine) -> Bool {
        if lost.contains(id) { return true }
        let below = children[id] ?? []
        if engine.hasCrashed {
            // It ends when the engine learns that its record was stored, or when the handler succeeds.
            return !below.contains { child in
                child.isSend
                    ? witness.sent[child.id].map { $0.isKnown && $0.answer?.isStored == true } == true
                    : witness.calls[child.id]?.hasFailed == false
            }
        }
        return false
    }

    /// Whether a send that isn't there may have been in progress when its engine ended.
    private func mayLack(send id: SpanID) -> Bool { lost.contains(id) || witness.sent[id].map { $0.answer == nil } ?? false }

    // MARK: Each kind of span

    private mutating func judge(process: SpanData) {
        guard let position = position(of: process), let record = witness.records[position], let event = event(record) else {
            return wrong("a process of nothing: \(process.template.name)")
        }
        let name = "the process of \(position)"
        let context = TraceContext(headers: record.headers)
        if let context {
            if process.parentSpanID != context.spanID || process.context.traceID != context.traceID || !process.parentIsRemote {
                return wrong("\(name) isn't under its record's context")
            }
            if process.links.first?.context.spanID != context.spanID { return wrong("\(name) doesn't link its record's context") }
        } else if !process.isRoot {
            return wrong("\(name) has a parent, its record no context")
        }
        if TopicName.isRetry(position.topic) { judge(retry: process, record, name) }
        let below = children[process.id] ?? []
        let attempts = below.filter { $0.template.name == "attempt" }
        let last = attempts.last
        for attempt in attempts.dropLast() where !attempt.isFailed { wrong("\(name) went on after an attempt that didn't fail") }
        if process.isFailed != (process.text("error.type") != nil) { wrong("\(name): status and error.type differ") }
        switch process.text("triage.outcome") {
        case "completed":
            if process.isFailed || last == nil || last?.isFailed == true {
                wrong("\(name) is completed without an attempt that is")
            }
        case "parked":
            parked += 1
            if !attempts.isEmpty || process.isFailed { wrong("\(name) was parked with an attempt or an error") }
            judge(parked: process, record, event, name)
        case "retry_scheduled", "deferred":
            if !process.isFailed || last?.isFailed != true { wrong("\(name) is to be tried again without a failed attempt") }
        case "dead_lettered":
            // What can't be decoded, and what was in flight at three crashes, has no attempt: its process tells the exception.
            if !process.isFailed || (last.map { !$0.isFailed } ?? (process.exceptions != 1)) {
                wrong("\(name) is dead-lettered without saying why")
            }
        case "abandoned": break
        default: wrong("\(name) has outcome \(process.text("triage.outcome") ?? "-")")
        }
        let expected = ["completed": 0, "parked": 1, "retry_scheduled": 1, "dead_lettered": 1, "deferred": 0]
        if let outcome = process.text("triage.outcome"), let count = expected[outcome] {
            let stored = below.count { $0.isSend && !$0.isFailed }
            // A retry that waits long is sent in a trace of its own.
            let mayBeElsewhere = outcome == "retry_scheduled" && world.options.configuration.newTraceAfter != nil
            if stored != count, !(mayBeElsewhere && stored == 0) { wrong("\(name) is \(outcome) with \(stored) records stored") }
        }
    }

    /// A process of a retry record: how many retries there were, which attempt it follows, and for what it waited.
    private mutating func judge(retry process: SpanData, _ record: Record, _ name: String) {
        let linked = process.links.map(\.context.spanID)
        let waits = linked.compactMap { spans[$0] }.filter { $0.template.name.hasPrefix("wait ") }
        let deferred = deferral(before: process, record)
        if process.number("triage.retry.count") != record.headers.text(HeaderName.retryCount).flatMap({ Int64($0) }) {
            wrong("\(name) has retry count \(process.number("triage.retry.count") ?? -1)")
        }
        let previous = deferred?.id ?? ledger(record).last?.spanID
        if let previous, !linked.dropFirst().contains(previous) { wrong("\(name) doesn't link the attempt before it") }
        if deferred != nil {
            if !waits.isEmpty { wrong("\(name) goes on after an outage and has a wait of its own") }
        } else if !waits.contains(where: { $0.parentSpanID == process.parentSpanID }) || waits.count != 1 {
            wrong("\(name) links \(waits.count) waits")
        }
    }

    /// The last attempt of the same delivery, if an outage deferred it.
    private func deferral(before process: SpanData, _ record: Record) -> SpanData? {
        let others = processes[record.position] ?? []
        let earlier = others.last {
            $0.end <= process.start && $0.id != process.id && $0.text("triage.outcome") == "deferred"
                && engines[$0.id] === engines[process.id]
        }
        guard let earlier, process.links.contains(where: { spans[$0.context.spanID]?.parentSpanID == earlier.id }) else {
            return nil
        }
        return children[earlier.id]?.last { $0.template.name == "attempt" }
    }

    private mutating func judge(parked process: SpanData, _ record: Record, _ event: Int, _ name: String) {
        guard let behind = process.text("triage.parked.behind").flatMap({ RecordPosition($0) }),
            let head = world.referee.event(at: behind), head != event
        else { return wrong("\(name) is parked behind \(process.text("triage.parked.behind") ?? "nothing")") }
        let (one, other) = (world.referee.events[head], world.referee.events[event])
        if one.lane != other.lane { wrong("\(name) is parked behind another patient's \(behind)") }
        if one.log === other.log, one.offset > other.offset { wrong("\(name) is parked behind \(behind), which came later") }
        let sends = (children[process.id] ?? []).filter(\.isSend)
        if sends.contains(where: { $0.text("triage.parked.behind") != behind.description }) {
            wrong("\(name): its send says something else than it is parked behind")
        }
        // The send of the retry that it waits for; there is none yet while the producer has no room.
        let links = process.links.dropFirst(TraceContext(headers: record.headers) == nil ? 0 : 1)
        guard let link = links.first, links.count == 1 else {
            if !links.isEmpty || world.options.producerCapacity > 10_000 {
                wrong("\(name) links \(links.count) sends of what it is parked behind")
            }
            return
        }
        let sender = witness.sent[link.context.spanID]
        if sender?.event != head || sender?.kind != .retry { wrong("\(name) links something else than a retry of \(behind)") }
    }

    private mutating func judge(attempt: SpanData) {
        guard let call = witness.calls[attempt.id], let engine = engines[attempt.id] else {
            return wrong("an attempt that nobody was called for")
        }
        let name = "\(world.referee.name(of: call.event)) attempt \(call.number)"
        if attempt.number("triage.attempt") != Int64(call.number) { wrong("\(name) says that it is another") }
        guard let process = spans[attempt.parentSpanID] else {
            if !mayLack(process: attempt.parentSpanID, of: engine) { wrong("\(name) has no process") }
            return
        }
        guard process.isProcess, position(of: process) == call.record, let record = witness.records[call.record] else {
            return wrong("\(name) is under \(process.template.name), called for \(call.record)")
        }
        let isAbandoned = process.text("triage.outcome") == "abandoned"
        if let failed = call.hasFailed, attempt.isFailed != failed, !(isAbandoned && failed) {
            wrong("\(name): its status isn't what the handler said")
        }
        if attempt.exceptions != (attempt.isFailed ? 1 : 0) { wrong("\(name) has \(attempt.exceptions) exceptions") }
        let siblings = children[process.id]?.filter { $0.template.name == "attempt" } ?? []
        let before = siblings.last {
            $0.end <= attempt.start && $0.id != attempt.id && (witness.calls[$0.id]?.number ?? 0) < call.number
        }
        let previous = before?.id ?? deferral(before: process, record)?.id ?? ledger(record).last?.spanID
        if let previous {
            if attempt.links.map(\.context.spanID) != [previous] { wrong("\(name) doesn't link the attempt before it") }
        } else if !attempt.links.isEmpty, call.number == 1, deferral(before: process, record) == nil {
            wrong("\(name) links something")
        }
    }

    private mutating func judge(send: SpanData) {
        guard let sent = witness.sent[send.id], let engine = engines[send.id] else { return wrong("a send of nothing") }
        let name = "the send of \(world.referee.name(of: sent.event))'s \(sent.kind)"
        if sent.answer?.isStored == send.isFailed { wrong("\(name): its status isn't the answer") }
        if send.isRoot {
            longWaits += 1
            if send.links.isEmpty || world.options.configuration.newTraceAfter == nil { wrong("\(name) is a root without links") }
        } else if let parent = spans[send.parentSpanID] {
            if send.value("triage.retry.rewritten") != nil {
                if !parent.isSend || send.links.first?.context.spanID != parent.id {
                    wrong("\(name), rewritten, has lost the first")
                }
            } else if !parent.isProcess || send.parentIsRemote || send.context.traceID != parent.context.traceID {
                wrong("\(name) is under \(parent.template.name)")
            } else if let of = position(of: parent).flatMap({ witness.records[$0] }), event(of) != sent.event {
                wrong("\(name) is under the process of another event")
            }
        } else if send.value("triage.retry.rewritten") != nil {
            if !mayLack(send: send.parentSpanID) { wrong("\(name), rewritten, has lost the first") }
        } else if !mayLack(process: send.parentSpanID, of: engine) {
            wrong("\(name) has no process")
        }
    }

    private mutating func judge(wait: SpanData) {
        guard let record = carriers[wait.parentSpanID], TopicName.isRetry(record.topic) else {
            return wrong("a wait under something that is no retry record")
        }
        let isParked = record.headers.text(HeaderName.parkedBehind) != nil
        let isScheduled = record.headers.text(HeaderName.waitReason) != nil
        let reason = wait.text("triage.wait.reason")
        let expected = isParked ? "parked" : isScheduled ? "scheduled" : "backoff"
        if reason != expected, !(reason == "outage" && world.options.configuration.outage != nil) {
            wrong("the wait of \(record.position) is \(reason ?? "-"), expected \(expected)")
        }
        if wait.start != record.timestamp { wrong("the wait of \(record.position) doesn't begin when it was written") }
    }

    /// Polls and commits are roots; a poll links what its records carry.
    private mutating func judge(other span: SpanData) {
        if !span.isRoot || span.template.kind != .client { wrong("\(span.template.name) is no root") }
        for link in span.links where carriers[link.context.spanID] == nil {
            wrong("\(span.template.name) links what no record carries")
        }
    }

    // MARK: Each record

    private mutating func judge(record position: RecordPosition) {
        guard let record = witness.records[position], let event = event(record) else { return }
        let isRetry = TopicName.isRetry(position.topic)
        guard isRetry || TopicName.isDeadLetter(position.topic) else { return }
        let origin = record.headers.last(HeaderName.originTraceparent).flatMap { TraceContext(traceparent: $0) }
        let first = witness.records[world.referee.events[event].position].flatMap { TraceContext(headers: $0.headers) }
        if let first, origin?.spanID != first.spanID { return wrong("\(position) has forgotten the context of its origin") }
        guard let context = TraceContext(headers: record.headers), let origin else {
            return wrong("\(position) carries no context")
        }
        guard let send = spans[context.spanID] else {
            if !mayLack(send: context.spanID) { wrong("\(position) was sent and has no span") }
            if !isRetry { cut += 1 }
            return
        }
        if send.template.name != "send \(position.topic)" { wrong("\(position) carries the context of \(send.template.name)") }
        if isRetry { judge(wait: record, send, origin) } else { walk(position, record, send, origin, isGiven: first != nil) }
    }

    /// Whether a long wait begins a new trace, and a short one none: times are told in milliseconds, so within two.
    private mutating func judge(wait record: Record, _ send: SpanData, _ origin: TraceContext) {
        func milliseconds(_ name: StaticString) -> Int64? { record.headers.text(name).flatMap { Int64($0) } }
        guard let due = milliseconds(HeaderName.dueAt), let limit = world.options.configuration.newTraceAfter,
            send.value("triage.retry.rewritten") == nil, let failed = ledger(record).entries.last
        else {
            if send.isRoot { wrong("\(record.position) begins a new trace") }
            return
        }
        let excess = due - failed.time.milliseconds - limit.wholeNanoseconds / 1_000_000
        if abs(excess) > 2, send.isRoot != (excess > 0) {
            return wrong(
                "\(record.position) begins \(send.isRoot ? "a new" : "no new") trace for a wait of \(excess) ms beyond the limit")
        }
        if send.isRoot, !send.links.contains(where: { $0.context.spanID == origin.spanID }) {
            wrong("\(record.position) begins a new trace that doesn't link its origin")
        }
    }

    // MARK: Chains

    private enum End { case origin, crash, nowhere(String) }

    /// From a dead letter back to where its event came from, by parents, and by links where the step before was another process.
    ///
    /// - Parameter isGiven: the origin is what the event's producer gave, not its first process.
    private mutating func walk(
        _ position: RecordPosition, _ record: Record, _ send: SpanData, _ origin: TraceContext, isGiven: Bool
    ) {
        var visited: [SpanData] = []
        let byParents = walk(send, origin, isGiven) { span in
            visited.append(span)
            if !span.isRoot { return span.parentSpanID }
            // A long wait begins a new trace: there only links lead on.
            return span.isSend ? span.links.first?.context.spanID : nil
        }
        let byLinks = walk(send, origin, isGiven) { span in
            if span.isProcess { return span.links.first?.context.spanID }
            if let link = span.links.first, span.isSend { return link.context.spanID }
            return span.parentIsRemote ? nil : span.parentSpanID
        }
        switch (byParents, byLinks) {
        case (.origin, .origin):
            whole += 1
            judge(attemptsOf: position, record, visited)
        case (.crash, _), (_, .crash): cut += 1
        case (.nowhere(let text), _): wrong("\(position): its chain by parents ends at \(text), which isn't its origin")
        case (_, .nowhere(let text)): wrong("\(position): its chain by links ends at \(text), which isn't its origin")
        }
    }

    private func walk(_ send: SpanData, _ origin: TraceContext, _ isGiven: Bool, _ before: (SpanData) -> SpanID?) -> End {
        var span = send
        for _ in 0..<200 {
            let next = before(span)
            if span.id == origin.spanID { return .origin }
            guard let next, next.isValid else { return .nowhere(span.template.name) }
            guard let found = spans[next] else {
                // The producer's own span isn't exported here.
                if next == origin.spanID, isGiven { return .origin }
                // Whether it may be missing is judged with what names it.
                return witness.engines.contains { $0.hasCrashed } || mayLack(send: next) ? .crash : .nowhere("a missing span")
            }
            span = found
        }
        return .nowhere("a circle")
    }

    /// The attempts that a dead letter tells of are those of its chain: what an outage took back is in neither.
    private mutating func judge(attemptsOf position: RecordPosition, _ record: Record, _ chain: [SpanData]) {
        let told = ledger(record)
        guard told.dropped == 0 else { return }
        let found = chain.reversed().filter(\.isProcess).flatMap { process -> [SpanID] in
            let attempts = children[process.id]?.filter { $0.template.name == "attempt" && $0.isFailed } ?? []
            if attempts.isEmpty { return process.exceptions > 0 ? [process.id] : [] }
            return attempts.map(\.id)
        }
        if told.entries.map(\.spanID) != found {
            wrong("\(position) tells of \(told.entries.count) attempts, its chain has \(found.count)")
        }
    }

    // MARK: Ends

    /// An engine that ended in order has no span that it forgot to end, but of what its producer never answered.
    private mutating func judge(end engine: SimulatedEngine) {
        guard !engine.hasCrashed, engine.failure == nil, engine.busy.isEmpty else { return }
        let open = witness.sent.values.count { $0.engine == engine.number && $0.answer == nil }
        if engine.tracer.counts.live != open {
            wrong("engine \(engine.number) ends with \(engine.tracer.counts.live) spans, \(open) sends")
        }
    }
}

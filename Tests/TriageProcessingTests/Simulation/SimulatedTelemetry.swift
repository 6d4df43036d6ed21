import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

/// The exporter of an engine in a world: what ended is exported a while later, and what the process hadn't exported when it
/// crashed is lost, as with a batch processor. An engine that ends in order exports everything, and what ends after it nothing.
///
/// `@unchecked Sendable`: as the world.
final class SimulatedExporter: SpanProcessor, @unchecked Sendable {
    private unowned let seat: SimulatedEngine
    private(set) var spans: [(time: Int64, span: SpanData)] = []
    /// Ended and never exported.
    private(set) var lost: Set<SpanID> = []

    init(_ seat: SimulatedEngine) { self.seat = seat }

    func onEnd(_ span: borrowing SpanData) {
        let copy = copy span
        if seat.isDead { lost.insert(copy.context.spanID) } else { spans.append((seat.world.now, copy)) }
    }

    /// The process is gone, and with it what ended within the last `lag` nanoseconds.
    func crashed(lag: Int64) {
        while let last = spans.last, last.time > seat.world.now - lag {
            lost.insert(last.span.context.spanID)
            spans.removeLast()
        }
    }
}

/// What an outsider sees of a world beside the spans: what was written, who was called, what was answered.
///
/// From this and the spans alone ``TraceJudge`` tells whether they are right.
final class TraceWitness {
    /// A call of the handler.
    struct Call {
        let event: Int
        let engine: Int
        let number: Int
        /// The record that it was called for.
        let record: RecordPosition
        /// Nil while it is busy; what it returned later than its process's end doesn't count.
        var hasFailed: Bool?
    }
    /// A record that an engine handed to its producer.
    struct Sent {
        let engine: Int
        let kind: SimulatedLog.Kind
        let event: Int
        /// When the producer answered, and how.
        var answer: (time: Int64, isStored: Bool)?
        /// The engine has had a turn since.
        var isKnown = false
    }
    /// By the attempt's span.
    private(set) var calls: [SpanID: Call] = [:]
    /// By the send's span.
    private(set) var sent: [SpanID: Sent] = [:]
    /// Everything that was ever in a log, and in the order in which it came.
    private(set) var records: [RecordPosition: Record] = [:]
    private(set) var order: [RecordPosition] = []
    /// The size of the largest of them.
    private(set) var mostBytes = 0
    private(set) var engines: [SimulatedEngine] = []
    /// Answers that wait for the turn of their engine.
    private var waiting: [Int: [SpanID]] = [:]

    func started(_ engine: SimulatedEngine) { engines.append(engine) }

    func appended(_ record: Record) {
        records[record.position] = record
        order.append(record.position)
        mostBytes = max(mostBytes, record.size)
    }

    func began(_ context: HandlerContext, event: Int, in engine: SimulatedEngine) {
        guard context.span.context.isValid else { return }
        calls[context.span.context.spanID] = Call(
            event: event, engine: engine.number, number: context.attempt, record: context.record.position)
    }

    func returned(_ context: HandlerContext, failed: Bool) { calls[context.span.context.spanID]?.hasFailed = failed }

    /// - Returns: what the record's send is known by.
    func sent(_ record: OutboundRecord, _ kind: SimulatedLog.Kind, event: Int, by engine: SimulatedEngine) -> SpanID? {
        guard let context = TraceContext(headers: record.headers) else { return nil }
        sent[context.spanID] = Sent(engine: engine.number, kind: kind, event: event)
        return context.spanID
    }

    func answered(_ send: SpanID?, isStored: Bool, at time: Int64, by engine: SimulatedEngine) {
        guard let send else { return }
        sent[send]?.answer = (time, isStored)
        waiting[engine.number, default: []].append(send)
    }

    /// An engine has done everything that was asked of it.
    func caughtUp(_ engine: SimulatedEngine) {
        guard let done = waiting.removeValue(forKey: engine.number) else { return }
        for send in done { sent[send]?.isKnown = true }
    }

    func removeAll() {
        engines = []
        records = [:]
    }
}

extension SimulatedWorld {
    /// The context that an event's producer gives it; some give none, and some refused to be sampled.
    func producersContext() -> TraceContext? {
        guard chance(70) else { return nil }
        return TraceContext(
            traceID: TraceID(high: random.next() | 1, low: random.next()), spanID: SpanID(random.next() | 1),
            flags: chance(20) ? [.random] : [.sampled, .random])
    }
}

internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// Publishes captured events through the traced sink: one record each, counted by source and result.
///
/// Thread-safe. Records of concurrent callers share the producer's batches.
public final class CaptureSink: Sendable {
    /// How topics are named.
    public let pattern: TopicPattern
    /// How values are written.
    public let format: EventFormat
    /// Whether the brokers take nothing at the moment.
    public let trouble = SendTrouble()
    private let sink: TracedSink
    private let clock: any EventClock
    private let meter: Meter
    /// The topic of each action's events.
    private let topics: [ChangeAction: String]
    private let counters = Mutex<[CounterKey: Counter]>([:])

    private struct CounterKey: Hashable {
        let source: CaptureSource
        let result: SafeText
        let topic: String?
    }

    /// A sink; the caller closes `sink` when nobody uses it any more.
    public init(_ sink: TracedSink, tracer: Tracer, meter: Meter, pattern: TopicPattern, format: EventFormat) {
        self.sink = sink
        self.pattern = pattern
        self.format = format
        self.meter = meter
        clock = tracer.clock
        var topics: [ChangeAction: String] = [:]
        for action in ChangeAction.allCases { topics[action] = pattern.topic(resourceType: "Patient", action: action) }
        self.topics = topics
    }

    /// Publishes what one request or record brought, and waits until the brokers have answered for all of it.
    ///
    /// One event is sent under `cause`; of several each begins a trace that links to it (design §4, fan-out).
    ///
    /// - Parameters:
    ///   - cause: the span of what brought them; nil begins a trace for each.
    ///   - waitsForRoom: whether a full queue is waited for; else it is the result `_QUEUE_FULL`.
    /// - Returns: for each event, in order, what the broker answered.
    public func publish(
        _ events: [CapturedEvent], from source: CaptureSource, cause: TraceContext?, waitsForRoom: Bool = true
    ) async -> [Result<Acknowledgement, BrokerError>] {
        guard waitsForRoom else {
            return await withCheckedContinuation { continuation in
                publish(events, from: source, cause: cause) { continuation.resume(returning: $0) }
            }
        }
        let answers = Answers(count: events.count)
        for (index, event) in events.enumerated() {
            let outgoing = outgoing(event, cause, isOne: events.count == 1)
            do throws(BrokerError) {
                try await send(
                    outgoing.record, from: source, parent: outgoing.parent, traceID: outgoing.traceID, links: outgoing.links,
                    attributes: outgoing.attributes
                ) { answers.take($0, at: index) }
            } catch {
                answers.take(.failure(error), at: index)
            }
        }
        return await answers.all()
    }

    /// The same without waiting for anything: a full queue is the result `_QUEUE_FULL`.
    ///
    /// - Parameter completion: called once with what the broker answered for each event, in order: on a thread of the producer's, so it
    ///   must be quick, or before this returns.
    public func publish(
        _ events: [CapturedEvent], from source: CaptureSource, cause: TraceContext?,
        completion: @escaping @Sendable ([Result<Acknowledgement, BrokerError>]) -> Void
    ) {
        if events.count == 1 {
            send(outgoing(events[0], cause, isOne: true), from: source) { completion([$0]) }
            return
        }
        let answers = Answers(count: events.count)
        for (index, event) in events.enumerated() {
            send(outgoing(event, cause, isOne: false), from: source) { answers.take($0, at: index) }
        }
        answers.whenComplete(completion)
    }

    /// What is sent of one event.
    private struct Outgoing {
        let record: OutboundRecord
        let parent: TraceContext?
        let traceID: TraceID?
        let links: [SpanLink]
        let attributes: [Attribute]
    }

    /// One event is sent under `cause`; of several each begins a trace that links to it.
    private func outgoing(_ event: CapturedEvent, _ cause: TraceContext?, isOne: Bool) -> Outgoing {
        let eventID = event.eventID ?? randomUUID()
        let (value, headers) = format.value(of: event, eventID: eventID, now: clock.now())
        return Outgoing(
            record: OutboundRecord(
                topic: topics[event.action] ?? "", key: event.resourceID, value: value, headers: Headers(headers)),
            parent: isOne ? cause : nil, traceID: event.traceID, links: isOne ? [] : cause.map { [SpanLink($0)] } ?? [],
            attributes: CaptureSink.attributes(
                action: event.action, resourceID: event.resourceID, eventID: ByteSlice(eventID)))
    }

    /// Hands one over; `completion` is called in any case.
    private func send(
        _ outgoing: Outgoing, from source: CaptureSource,
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) {
        do throws(BrokerError) {
            try sendNow(
                outgoing.record, from: source, parent: outgoing.parent, traceID: outgoing.traceID, links: outgoing.links,
                attributes: outgoing.attributes, completion: completion)
        } catch {
            count(source, outgoing.record.topic, .failure(error))
            completion(.failure(error))
        }
    }

    /// Hands one record over; `completion` is called once with the brokers' answer.
    ///
    /// - Throws: a `BrokerError` if it was not taken; `completion` isn't called then.
    public func send(
        _ record: OutboundRecord, from source: CaptureSource, parent: TraceContext?, traceID: TraceID? = nil,
        links: [SpanLink] = [], attributes: [Attribute], waitsForRoom: Bool = true,
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) async throws(BrokerError) {
        while true {
            do throws(BrokerError) {
                return try sendNow(
                    record, from: source, parent: parent, traceID: traceID, links: links, attributes: attributes,
                    completion: completion)
            } catch {
                guard error.isQueueFull, waitsForRoom else {
                    count(source, record.topic, .failure(error))
                    throw error
                }
                await withUnsafeContinuation { continuation in sink.whenWritable { continuation.resume() } }
            }
        }
    }

    private func sendNow(
        _ record: OutboundRecord, from source: CaptureSource, parent: TraceContext?, traceID: TraceID?, links: [SpanLink],
        attributes: [Attribute], completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        let topic = record.topic
        try sink.send(record, parent: parent, traceID: traceID, links: links, attributes: attributes) { [self] result in
            count(source, topic, result)
            completion(result)
        }
    }

    /// Counts an event that was refused before it could be sent.
    public func countRefused(_ source: CaptureSource) { counter(source, "refused", topic: nil).add(1) }

    /// Counts what wasn't published and needn't be: `duplicate`, `ignored`.
    func countSkipped(_ source: CaptureSource, _ result: SafeText, _ count: Int) {
        counter(source, result, topic: nil).add(Int64(count))
    }

    /// What a send span says about its event: `event.id` only if it is a UUID.
    public static func attributes(action: ChangeAction, resourceID: ByteSlice?, eventID: ByteSlice?) -> [Attribute] {
        var attributes = [
            Attribute("event.type", .text(typeName(action))), Attribute("event.resource.type", .literal("Patient")),
        ]
        if let resourceID { attributes.append(Attribute("event.resource.id", .identifier(resourceID))) }
        if let eventID { attributes.append(Attribute("event.id", AttributeValue.uuid(eventID) ?? .literal("_OTHER"))) }
        return attributes
    }

    private static func typeName(_ action: ChangeAction) -> SafeText {
        switch action {
        case .created: "PatientCreated"
        case .updated: "PatientUpdated"
        case .deleted: "PatientDeleted"
        }
    }

    private func count(_ source: CaptureSource, _ topic: String, _ result: Result<Acknowledgement, BrokerError>) {
        trouble.note(result, at: clock.now())
        if case .success = result {
            counter(source, "published", topic: topic).add(1)
        } else {
            counter(source, "failed", topic: topic).add(1)
        }
    }

    private func counter(_ source: CaptureSource, _ result: SafeText, topic: String?) -> Counter {
        let key = CounterKey(source: source, result: result, topic: topic)
        return counters.withLock { counters in
            if let known = counters[key] { return known }
            var attributes: [(StaticString, SafeText)] = [
                ("triage.capture.source", SafeText(source)), ("triage.capture.result", result),
            ]
            if let topic { attributes.append(("messaging.destination.name", SafeText(vetted: topic))) }
            let made = meter.counter(Metric.eventsCaptured, MetricAttributes(attributes))
            counters[key] = made
            return made
        }
    }
}

/// Collects the brokers' answers to several records.
package final class Answers: Sendable {
    package typealias All = [Result<Acknowledgement, BrokerError>]

    private struct State {
        var answers: [Result<Acknowledgement, BrokerError>?]
        var missing: Int
        var completion: (@Sendable (All) -> Void)?
    }
    private let state: Mutex<State>

    /// For so many.
    package init(count: Int) { state = Mutex(State(answers: Array(repeating: nil, count: count), missing: count)) }

    /// The answer to one of them, to be taken once.
    package func take(_ answer: Result<Acknowledgement, BrokerError>, at index: Int) {
        complete { state in
            state.answers[index] = answer
            state.missing -= 1
        }
    }

    /// Calls `body` once with all of them, as soon as the last one is there; to be called once.
    package func whenComplete(_ body: @escaping @Sendable (All) -> Void) {
        complete { $0.completion = body }
    }

    /// All of them, as soon as the last one is there.
    package func all() async -> All {
        await withCheckedContinuation { continuation in whenComplete { continuation.resume(returning: $0) } }
    }

    private func complete(_ change: (inout State) -> Void) {
        let completed: (body: @Sendable (All) -> Void, all: All)? = state.withLock { state in
            change(&state)
            guard state.missing == 0, let completion = state.completion else { return nil }
            state.completion = nil
            return (completion, state.answers.compactMap { $0 })
        }
        if let completed { completed.body(completed.all) }
    }
}

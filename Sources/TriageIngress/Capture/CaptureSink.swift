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
    private let counters = Mutex<[String: Counter]>([:])

    /// A sink; the caller closes `sink` when nobody uses it any more.
    public init(_ sink: TracedSink, tracer: Tracer, meter: Meter, pattern: TopicPattern, format: EventFormat) {
        self.sink = sink
        self.pattern = pattern
        self.format = format
        self.meter = meter
        clock = tracer.clock
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
        let isOne = events.count == 1
        let answers = Answers(count: events.count)
        for (index, event) in events.enumerated() {
            let eventID = event.eventID ?? randomUUID()
            let (value, headers) = format.value(of: event, eventID: eventID, now: clock.now())
            let record = OutboundRecord(
                topic: pattern.topic(resourceType: "Patient", action: event.action), key: event.resourceID, value: value,
                headers: Headers(headers))
            do throws(BrokerError) {
                try await send(
                    record, from: source, parent: isOne ? cause : nil, traceID: event.traceID,
                    links: isOne ? [] : cause.map { [SpanLink($0)] } ?? [],
                    attributes: CaptureSink.attributes(
                        action: event.action, resourceID: event.resourceID, eventID: ByteSlice(eventID)),
                    waitsForRoom: waitsForRoom
                ) { answers.take($0, at: index) }
            } catch {
                answers.take(.failure(error), at: index)
            }
        }
        return await answers.all()
    }

    /// Hands one record over; `completion` is called once with the brokers' answer.
    ///
    /// - Throws: a `BrokerError` if it was not taken; `completion` isn't called then.
    public func send(
        _ record: OutboundRecord, from source: CaptureSource, parent: TraceContext?, traceID: TraceID? = nil,
        links: [SpanLink] = [], attributes: [Attribute], waitsForRoom: Bool = true,
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) async throws(BrokerError) {
        let topic = record.topic
        while true {
            do throws(BrokerError) {
                try sink.send(record, parent: parent, traceID: traceID, links: links, attributes: attributes) { [self] result in
                    count(source, topic, result)
                    completion(result)
                }
                return
            } catch {
                guard error.isQueueFull, waitsForRoom else {
                    count(source, topic, .failure(error))
                    throw error
                }
                await withUnsafeContinuation { continuation in sink.whenWritable { continuation.resume() } }
            }
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
        let key = "\(source.rawValue) \(result.text) \(topic ?? "")"
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
    private struct State {
        var answers: [Result<Acknowledgement, BrokerError>?]
        var missing: Int
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state: Mutex<State>

    /// For so many.
    package init(count: Int) { state = Mutex(State(answers: Array(repeating: nil, count: count), missing: count)) }

    /// The answer to one of them, to be taken once.
    package func take(_ answer: Result<Acknowledgement, BrokerError>, at index: Int) {
        let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
            state.answers[index] = answer
            state.missing -= 1
            guard state.missing == 0 else { return nil }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// All of them, as soon as the last one is there.
    package func all() async -> [Result<Acknowledgement, BrokerError>] {
        await withCheckedContinuation { continuation in
            let isComplete = state.withLock { state in
                if state.missing > 0 { state.waiter = continuation }
                return state.missing == 0
            }
            if isComplete { continuation.resume() }
        }
        return state.withLock { $0.answers.compactMap { $0 } }
    }
}

internal import Synchronization
public import TriageEvents

/// The only way to a producer: every record that goes through it is a `send` span whose context travels in its headers.
///
/// Thread-safe. The span ends, and the metrics count, when the broker has answered.
public final class TracedSink: Sendable {
    private let producer: any RecordProducer
    private let tracer: Tracer
    private let clientID: String?
    private let metrics: SendMetrics
    private let templates = Mutex<[String: SpanTemplate]>([:])

    /// A sink over `producer`.
    ///
    /// - Parameter clientID: the producer's `client.id`, for the attribute `messaging.client.id`.
    public init(producer: any RecordProducer, tracer: Tracer, meter: Meter, clientID: String?) {
        self.producer = producer
        self.tracer = tracer
        self.clientID = clientID
        metrics = SendMetrics(meter: meter)
    }

    /// Hands a record over under a `send` span of its own.
    ///
    /// - Parameters:
    ///   - record: its trace headers are replaced by the span's context; its other headers stay but for `replacing`.
    ///   - headers: headers to be replaced or, with a nil value, removed.
    ///   - parent: the span it belongs under; nil begins a new trace.
    ///   - traceID: the id of that new trace; nil draws one.
    ///   - isSampled: whether a span that begins a new trace is sampled; nil leaves it to the sampler.
    ///   - attributes: what else the span says.
    ///   - completion: called once, on a thread of the producer's, with the broker's answer.
    /// - Returns: the context that the record carries.
    /// - Throws: a ``BrokerError`` if the record was not taken; no span is made then and `completion` isn't called.
    @discardableResult
    public func send(
        _ record: OutboundRecord, replacing headers: [Header] = [], parent: TraceContext?, traceID: TraceID? = nil,
        links: [SpanLink] = [], isSampled: Bool? = nil, attributes: [Attribute] = [],
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) -> TraceContext {
        try send(
            record, edits: HeaderEdits(headers), parent: parent, traceID: traceID, links: links, isSampled: isSampled,
            attributes: attributes, completion: completion)
    }

    /// The same with what is to be changed in its headers packed in one block.
    @discardableResult
    public func send(
        _ record: OutboundRecord, edits: HeaderEdits, parent: TraceContext?, traceID: TraceID? = nil, links: [SpanLink] = [],
        isSampled: Bool? = nil, attributes: [Attribute] = [],
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) -> TraceContext {
        var step = SendStep(
            template: template(for: record.topic), parent: parent, traceID: traceID, isSampled: isSampled, tracer: tracer)
        for attribute in attributes { step.span.set(attribute.key.literal, attribute.value) }
        for link in links { step.span.add(link) }
        if record.value == nil { step.span.append("messaging.kafka.message.tombstone", .bool(true)) }
        if let key = record.key { step.span.append("messaging.kafka.message.key", .identifier(key)) }
        var record = record
        var injected = HeaderEdits(capacity: 128)
        tracer.propagators.inject(step.span.context, into: &injected)
        record.headers = record.headers.replacing(edits, injected)
        let topic = record.topic
        let context = step.span.context
        let finished = step
        do throws(BrokerError) {
            try producer.produce(record) { [tracer, metrics] result in
                let end = tracer.clock.now()
                metrics.sent(
                    topic: topic, duration: end - finished.span.start, error: result.failure, in: finished.span.context, at: end)
                finished.end(result, tracer: tracer, at: end)
                completion(result)
            }
        } catch {
            tracer.discard(finished.span)
            throw error
        }
        return context
    }

    /// Hands a record over and waits for the broker's answer, and for room in the producer's queue before that.
    public func send(
        _ record: OutboundRecord, replacing headers: [Header] = [], parent: TraceContext?, links: [SpanLink] = [],
        attributes: [Attribute] = []
    ) async throws(BrokerError) -> (Acknowledgement, TraceContext) {
        while true {
            let result = await withUnsafeContinuation { (continuation: UnsafeContinuation<SendResult, Never>) in
                // The context is only known when `send` returns, the answer may come before: whichever is last resumes.
                let pair = SendPair(continuation)
                do throws(BrokerError) {
                    let context = try send(record, replacing: headers, parent: parent, links: links, attributes: attributes) {
                        pair.answered($0)
                    }
                    pair.sent(context)
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            if case .failure(let error) = result, error.isQueueFull {
                await withUnsafeContinuation { continuation in producer.whenWritable { continuation.resume() } }
                continue
            }
            return try result.get()
        }
    }

    /// Calls `body` once, on any thread, as soon as the producer has room again.
    public func whenWritable(_ body: @escaping @Sendable () -> Void) { producer.whenWritable(body) }

    /// Waits until everything handed over is answered, at most `timeout`; tells whether it is.
    public func flush(timeout: Duration) async -> Bool { await producer.flush(timeout: timeout) }

    /// Whether a broker answers the producer within `timeout`; blocks the calling thread.
    public func isReachable(within timeout: Duration) -> Bool { producer.isReachable(within: timeout) }

    /// Ends the producer; what is not flushed fails.
    public func close() { producer.close() }

    private func template(for topic: String) -> SpanTemplate {
        templates.withLock { templates in
            if let template = templates[topic] { return template }
            let template = tracer.template(
                "send \(topic)", kind: .producer,
                MessagingAttributes.common(operation: "send", type: "send", destination: topic, clientID: clientID)
            )
            templates[topic] = template
            return template
        }
    }
}

private typealias SendResult = Result<(Acknowledgement, TraceContext), BrokerError>

/// Joins the two halves of an awaited send, whichever comes first.
private final class SendPair: Sendable {
    private struct State {
        var context: TraceContext?
        var result: Result<Acknowledgement, BrokerError>?
    }
    private let state = Mutex(State())
    private let continuation: UnsafeContinuation<SendResult, Never>

    init(_ continuation: UnsafeContinuation<SendResult, Never>) { self.continuation = continuation }

    func answered(_ result: Result<Acknowledgement, BrokerError>) { join { $0.result = result } }
    func sent(_ context: TraceContext) { join { $0.context = context } }

    private func join(_ change: (inout State) -> Void) {
        let joined: SendResult? = state.withLock { state in
            change(&state)
            guard let context = state.context, let result = state.result else { return nil }
            return result.map { ($0, context) }
        }
        if let joined { continuation.resume(returning: joined) }
    }
}

extension Result {
    var failure: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}

/// The step *produce*: a PRODUCER span from handing over to the broker's answer.
struct SendStep: Sendable {
    var span: SpanData

    init(
        template: SpanTemplate, parent: TraceContext?, traceID: TraceID? = nil, isSampled: Bool? = nil, tracer: Tracer
    ) {
        span = tracer.start(template, parent: parent, traceID: traceID, at: tracer.clock.now(), isSampled: isSampled)
    }

    func end(_ result: Result<Acknowledgement, BrokerError>, tracer: Tracer, at end: Timestamp) {
        var span = span
        if case .failure(let error) = result {
            // First, since it may have an unsampled span exported, which the event's flags then say.
            tracer.fail(&span, fingerprint: "produce \(error.name)")
            if let logs = tracer.logs { FailureLog.send(error, to: logs, at: end, of: span) }
        }
        guard span.isRecording else { return }
        switch result {
        case .success(let acknowledgement):
            span.append("messaging.destination.partition.id", .text("\(acknowledgement.partition)"))
            span.append("messaging.kafka.offset", .int(acknowledgement.offset))
        case .failure(let error): FailureAttributes.note(error, on: &span, at: end)
        }
        tracer.end(span, at: end)
    }
}

/// The metrics of sends, by destination.
private final class SendMetrics: Sendable {
    private struct Series {
        let messages: Counter
        let duration: Histogram
    }
    private let meter: Meter
    private let series = Mutex<[String: Series]>([:])

    init(meter: Meter) { self.meter = meter }

    func sent(topic: String, duration: Duration, error: BrokerError?, in context: TraceContext, at time: Timestamp) {
        let key = error.map { "\(topic)\u{1F}\($0.name)" } ?? topic
        let series = series.withLock { all in
            if let known = all[key] { return known }
            var attributes: [(StaticString, SafeText)] = [
                ("messaging.system", "kafka"), ("messaging.operation.name", "send"),
                ("messaging.destination.name", SafeText(vetted: topic)),
            ]
            if let error { attributes.append(("error.type", SafeText(vetted: error.name))) }
            let messages = meter.counter(Metric.sentMessages, MetricAttributes(attributes))
            attributes.append(("messaging.operation.type", "send"))
            let made = Series(
                messages: messages, duration: meter.histogram(Metric.clientOperationDuration, MetricAttributes(attributes))
            )
            all[key] = made
            return made
        }
        series.messages.add(1)
        series.duration.record(duration.inSeconds, in: context, at: time)
    }
}

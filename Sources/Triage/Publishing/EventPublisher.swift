public import Logging
internal import Synchronization
public import TriageEvents
public import TriageIngress
public import TriageKafka
internal import TriageTelemetry

/// Publishes Patient events, each under a `send` span of its own whose context travels in its headers.
public final class EventPublisher: Sendable {
    /// How topics are named.
    public let pattern: TopicPattern
    private let sink: TracedSink
    let capture: CaptureSink
    private let clock: any EventClock
    private let outstanding = Mutex(0)
    let decoder = Mutex(EventDecoder())

    /// A publisher; it connects in the background.
    ///
    /// - Parameters:
    ///   - kafka: the brokers; the group is ignored.
    ///   - telemetry: where its spans and metrics go.
    ///   - pattern: how topics are named; the default is the hybrid one.
    ///   - source: `metadata.source` of the events it makes.
    ///   - cloudEvents: whether the events it makes are CloudEvents; the default is envelopes.
    ///   - logger: told by the Kafka client what keeps it from reaching the brokers.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    public init(
        _ kafka: KafkaConfiguration, telemetry: Telemetry, pattern: TopicPattern = .hybrid, source: String = "triage",
        cloudEvents: CloudEventMode = .off, logger: Logger = Logger(label: "triage")
    ) throws(KafkaConfigurationError) {
        self.pattern = pattern
        clock = telemetry.tracer.clock
        sink = TracedSink(
            producer: try telemetry.producer(kafka, log: logger.kafkaLog), tracer: telemetry.tracer, meter: telemetry.meter,
            clientID: kafka.clientID
        )
        capture = CaptureSink(
            sink, tracer: telemetry.tracer, meter: telemetry.meter, pattern: pattern,
            format: EventFormat(source: source, cloudEvents: cloudEvents))
    }

    /// Validates one JSON text — a Patient resource, or an event as an envelope or in the flat form — and hands it over.
    ///
    /// A resource is wrapped in an envelope, its bytes inside `data` untouched; an event's bytes are sent as they are. A change record,
    /// a notification of one event and a CloudEvent are written anew, with what they say of themselves. The key is the resource's id, or null if a created resource has none. Waits while the producer's queue is full. The send is
    /// a child of the current span, such as the attempt of the handler that calls; else it begins a trace.
    ///
    /// - Parameters:
    ///   - json: the text, UTF-8.
    ///   - action: what happened to a bare resource; an event says so itself.
    ///   - decoder: the caller's, one for each thread.
    ///   - completion: called once with the broker's answer, on a thread of the producer's.
    /// - Throws: `InvalidEvent` if a FHIR server would refuse it; `BrokerError` if it was not taken.
    public func publish(
        _ json: ByteSlice, action: ChangeAction?, decoder: EventDecoder,
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) async throws {
        let event = try decoder.decode(value: json, key: nil, topicAction: action)
        try await send(event, as: EventPublisher.isWritten(event.form) ? nil : CapturedEvent(event), completion)
    }

    /// Whether a value of this form is sent as it is; what only other systems write is written anew.
    static func isWritten(_ form: EventForm) -> Bool { form == .envelope || form == .flat }

    /// Sends an event: written as this publisher writes if there is something `made` of it, else its own bytes.
    func send(
        _ event: PatientEvent, as made: CapturedEvent?,
        _ completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) async throws(BrokerError) {
        let eventID = made == nil ? event.eventIDBytes : ByteSlice(made?.eventID ?? randomUUID())
        let (value, headers) =
            made.map { capture.format.value(of: $0, eventID: eventID?.utf8Text ?? "", now: clock.now()) }
            ?? (event.value, [Header("content-type", text: "application/fhir+json")])
        let record = OutboundRecord(
            topic: pattern.topic(resourceType: event.resourceType, action: event.action), key: event.resourceIDBytes,
            value: value, headers: Headers(headers)
        )
        outstanding.withLock { $0 += 1 }
        do throws(BrokerError) {
            try await capture.send(
                record, from: .library, parent: currentTraceContext(),
                attributes: CaptureSink.attributes(action: event.action, resourceID: event.resourceIDBytes, eventID: eventID)
            ) { [self] result in
                outstanding.withLock { $0 -= 1 }
                completion(result)
            }
        } catch {
            outstanding.withLock { $0 -= 1 }
            throw error
        }
    }

    /// Waits until everything handed over is answered, at most `timeout`; tells whether it is.
    public func flush(timeout: Duration = .seconds(30)) async -> Bool {
        await sink.flush(timeout: timeout) && outstanding.withLock { $0 == 0 }
    }

    /// Ends the publisher; what is not flushed fails.
    public func close() { sink.close() }
}

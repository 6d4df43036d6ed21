internal import Synchronization
public import TriageEvents
public import TriageKafka
internal import TriageTelemetry

/// Publishes Patient events, each under a `send` span of its own whose context travels in its headers.
public final class EventPublisher: Sendable {
    /// How topics are named.
    public let pattern: TopicPattern
    private let sink: TracedSink
    private let tracer: Tracer
    private let source: String
    private let outstanding = Mutex(0)

    /// A publisher; it connects in the background.
    ///
    /// - Parameters:
    ///   - pattern: how topics are named; the default is the hybrid one.
    ///   - source: `metadata.source` of the events it makes.
    /// - Throws: ``KafkaConfigurationError`` naming the property that can't be used.
    public init(
        _ kafka: KafkaConfiguration, telemetry: Telemetry, pattern: TopicPattern = .hybrid, source: String = "triage"
    ) throws(KafkaConfigurationError) {
        self.pattern = pattern
        self.source = source
        tracer = telemetry.tracer
        sink = TracedSink(
            producer: try KafkaProducer(kafka), tracer: telemetry.tracer, meter: telemetry.meter, clientID: kafka.clientID
        )
    }

    /// Validates one JSON text — a Patient resource, or an event as an envelope or in the flat form — and hands it over.
    ///
    /// A resource is wrapped in an envelope, its bytes inside `data` untouched; an event's bytes are sent as they are. The
    /// key is the resource's id, or null if a created resource has none. Waits while the producer's queue is full.
    ///
    /// - Parameters:
    ///   - action: what happened to a bare resource; an event says so itself.
    ///   - decoder: the caller's, one for each thread.
    ///   - completion: called once with the broker's answer, on a thread of the producer's.
    /// - Throws: ``InvalidEvent`` if a FHIR server would refuse it; ``BrokerError`` if it was not taken.
    public func publish(
        _ json: ByteSlice, action: ChangeAction?, decoder: EventDecoder,
        completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) async throws {
        let event = try decoder.decode(value: json, key: nil, topicAction: action)
        let value = event.form == .resource ? envelope(event, data: json) : json
        let record = OutboundRecord(
            topic: pattern.topic(resourceType: event.resourceType, action: event.action), key: event.resourceIDBytes,
            value: value, headers: [Header("content-type", text: "application/fhir+json")]
        )
        var attributes = [Attribute("event.type", .text(SafeText(event.action)))]
        if let id = event.resourceIDBytes { attributes.append(Attribute("event.resource.id", .identifier(id))) }
        while true {
            outstanding.withLock { $0 += 1 }
            do throws(BrokerError) {
                try sink.send(record, parent: nil, attributes: attributes) { [self] result in
                    outstanding.withLock { $0 -= 1 }
                    completion(result)
                }
                return
            } catch {
                outstanding.withLock { $0 -= 1 }
                guard error.isQueueFull else { throw error }
                await withCheckedContinuation { continuation in sink.whenWritable { continuation.resume() } }
            }
        }
    }

    /// Waits until everything handed over is answered, at most `timeout`; tells whether it is.
    public func flush(timeout: Duration = .seconds(30)) async -> Bool {
        await sink.flush(timeout: timeout) && outstanding.withLock { $0 == 0 }
    }

    /// Ends the publisher; what is not flushed fails.
    public func close() { sink.close() }

    private func envelope(_ event: PatientEvent, data: ByteSlice) -> ByteSlice {
        let now = tracer.clock.now().iso8601
        let head = #"{"type":"\#(event.type)","data":"#
        let tail = #","metadata":{"eventId":"\#(randomUUID())","timestamp":"\#(now)","source":"\#(source)","correlationId":"\#(randomUUID())"}}"#
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.utf8.count + data.count + tail.utf8.count)
        bytes += head.utf8
        bytes += data
        bytes += tail.utf8
        return ByteSlice(bytes)
    }
}

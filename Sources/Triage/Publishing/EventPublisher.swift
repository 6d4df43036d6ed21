public import Logging
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
    private let source: JSONText
    private let outstanding = Mutex(0)

    /// A publisher; it connects in the background.
    ///
    /// - Parameters:
    ///   - kafka: the brokers; the group is ignored.
    ///   - telemetry: where its spans and metrics go.
    ///   - pattern: how topics are named; the default is the hybrid one.
    ///   - source: `metadata.source` of the events it makes.
    ///   - logger: told by the Kafka client what keeps it from reaching the brokers.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    public init(
        _ kafka: KafkaConfiguration, telemetry: Telemetry, pattern: TopicPattern = .hybrid, source: String = "triage",
        logger: Logger = Logger(label: "triage")
    ) throws(KafkaConfigurationError) {
        self.pattern = pattern
        self.source = JSONText(source)
        tracer = telemetry.tracer
        sink = TracedSink(
            producer: try telemetry.producer(kafka, log: logger.kafkaLog), tracer: telemetry.tracer, meter: telemetry.meter,
            clientID: kafka.clientID
        )
    }

    /// Validates one JSON text — a Patient resource, or an event as an envelope or in the flat form — and hands it over.
    ///
    /// A resource is wrapped in an envelope, its bytes inside `data` untouched; an event's bytes are sent as they are. The
    /// key is the resource's id, or null if a created resource has none. Waits while the producer's queue is full. The send is
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
        let made = event.form == .resource ? Metadata() : nil
        let value = made.map { envelope(event, data: json, metadata: $0) } ?? json
        let record = OutboundRecord(
            topic: pattern.topic(resourceType: event.resourceType, action: event.action), key: event.resourceIDBytes,
            value: value, headers: [Header("content-type", text: "application/fhir+json")]
        )
        var attributes = [
            Attribute("event.type", .text(SafeText(vetted: event.type))), Attribute("event.resource.type", .literal("Patient")),
        ]
        if let id = event.resourceIDBytes { attributes.append(Attribute("event.resource.id", .identifier(id))) }
        if let id = made.map({ ByteSlice($0.eventID) }) ?? event.eventIDBytes {
            attributes.append(Attribute("event.id", AttributeValue.uuid(id) ?? .literal("_OTHER")))
        }
        while true {
            outstanding.withLock { $0 += 1 }
            do throws(BrokerError) {
                try sink.send(record, parent: currentTraceContext(), attributes: attributes) { [self] result in
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

    /// The ids that an envelope is given.
    private struct Metadata {
        let eventID = randomUUID()
        let correlationID = randomUUID()
    }

    private func envelope(_ event: PatientEvent, data: ByteSlice, metadata: Metadata) -> ByteSlice {
        let head = #"{"type":"\#(event.type)","data":"#
        let tail = """
            ,"metadata":{"eventId":"\(metadata.eventID)","timestamp":"\(tracer.clock.now().iso8601)",\
            "source":\(source.quoted),"correlationId":"\(metadata.correlationID)"}}
            """
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.utf8.count + data.count + tail.utf8.count)
        bytes += head.utf8
        bytes += data
        bytes += tail.utf8
        return ByteSlice(bytes)
    }
}

/// A text as a JSON string (RFC 8259 §7).
struct JSONText: Sendable {
    /// The text between quotation marks, with what must not stand there escaped.
    let quoted: String

    init(_ text: String) {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case "\u{00}"..."\u{1F}":
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        self.quoted = quoted + "\""
    }
}

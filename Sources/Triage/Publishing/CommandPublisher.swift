public import Logging
internal import Synchronization
public import TriageEvents
public import TriageIngress
public import TriageKafka
internal import TriageTelemetry

/// Sends commands, each under a `send` span of its own, and waits for what becomes of them.
///
/// A command is carried out by a `triage run --commands` somewhere. Sending it again with the same request id does no harm.
public final class CommandPublisher: Sendable {
    private let sink: TracedSink
    private let capture: CaptureSink
    private let clock: any EventClock
    private let source: String
    private let kafka: KafkaConfiguration
    private let logger: Logger
    private let cipher: DeadLetterCipher?

    /// A publisher; it connects in the background.
    ///
    /// - Parameters:
    ///   - kafka: the brokers; the group is ignored.
    ///   - telemetry: where its spans and metrics go.
    ///   - source: `metadata.source` of the commands.
    ///   - cipher: opens dead letters, where they are sealed: without it nobody learns that a command failed.
    ///   - logger: told by the Kafka client what keeps it from reaching the brokers.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    public init(
        _ kafka: KafkaConfiguration, telemetry: Telemetry, source: String = "triage", cipher: DeadLetterCipher? = nil,
        logger: Logger = Logger(label: "triage")
    ) throws(KafkaConfigurationError) {
        self.kafka = kafka
        self.cipher = cipher
        self.source = source
        self.logger = logger
        clock = telemetry.tracer.clock
        sink = TracedSink(
            producer: try telemetry.producer(kafka, log: logger.kafkaLog), tracer: telemetry.tracer, meter: telemetry.meter,
            clientID: kafka.clientID)
        capture = CaptureSink(
            sink, tracer: telemetry.tracer, meter: telemetry.meter, pattern: .hybrid, format: EventFormat(source: source))
    }

    /// A command that asks for `action` with this Patient, validated.
    ///
    /// - Parameters:
    ///   - resource: the Patient, JSON, UTF-8; its bytes are sent as they are.
    ///   - requestID: what tells this command from others, 1 to 128 letters, digits or `-._~:`; nil draws one.
    /// - Throws: why it is refused.
    public func command(
        _ action: ChangeAction, resource: ByteSlice, requestID: String? = nil
    ) throws(CommandRecord.Refusal) -> CommandRecord {
        try CommandRecord(
            action, resource: resource, requestID: requestID, source: source, timestamp: clock.now(), decoder: EventDecoder())
    }

    /// Sends a command and waits until the brokers have it.
    ///
    /// - Throws: the `BrokerError` that they, or the client, answered with.
    public func publish(_ command: CommandRecord) async throws { _ = try await send(command) }

    private func send(_ command: CommandRecord) async throws -> Acknowledgement {
        let parent = currentTraceContext()
        let (answers, answer) = AsyncStream.makeStream(of: Result<Acknowledgement, BrokerError>.self)
        try await capture.send(command.record, from: .command, parent: parent, attributes: command.attributes) { result in
            answer.yield(result)
            answer.finish()
        }
        for await result in answers { return try result.get() }
        throw CancellationError()
    }

    /// Sends a command and waits for what becomes of it.
    ///
    /// A completion from before counts, since the command is then done; a failure from before doesn't.
    ///
    /// - Parameter limit: how long to wait after the brokers have it.
    /// - Returns: nil if nothing is known by then.
    /// - Throws: as ``publish(_:)``; a `KafkaConfigurationError` naming the property that can't be used.
    public func publish(_ command: CommandRecord, waitingFor limit: Duration) async throws -> CommandStatus? {
        let memory = CommandMemory(capacity: 1)
        let decoder = Mutex(EventDecoder())
        let (beginnings, began) = AsyncStream.makeStream(of: Void.self)
        let tail = try KafkaTail(
            kafka, topics: CommandNews.topics.filter { $0 != TopicName.commands }, last: 2000, log: logger.kafkaLog,
            ready: { began.finish() }
        ) { [cipher] record, isOld in
            guard let record = CommandFollower.opened(record, by: cipher),
                let news = decoder.withLock({ CommandNews(record, decoder: $0) }), news.requestID == command.requestID,
                !isOld || news.status.state == .completed
            else { return }
            memory.observe(news)
        }
        defer { tail.close() }
        // What it begins with must be known before there can be a new failure.
        for await _ in beginnings {}
        let acknowledgement = try await send(command)
        memory.accepted(
            command.requestID, contentHash: command.contentHash, at: acknowledgement.position(in: TopicName.commands))
        return await memory.outcome(of: command.requestID, within: limit)
    }

    /// Ends the publisher; what is not acknowledged fails.
    public func close() { sink.close() }
}

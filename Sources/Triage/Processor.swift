public import Logging
public import ServiceLifecycle
internal import Synchronization
public import TriageEvents
internal import TriageIngress
public import TriageKafka
public import TriageProcessing
internal import TriageTelemetry

/// Consumes Patient events and hands them to a handler: in order per patient, with retries, dead letters and a trace of every step.
///
/// ```swift
/// let processor = try Processor(configuration, telemetry: telemetry) { event, context in
///     guard let id = event.resourceID else { throw RejectedError("no_id") }
///     try await index.update(id, with: event.resource)
/// }
/// try await processor.run()
/// ```
///
/// Delivery is at-least-once: after a crash some events are handled again, after a clean stop none.
public final class Processor: Service, Sendable {
    /// What it was told.
    public let configuration: Configuration
    private let telemetry: Telemetry
    private let logger: Logger
    private let engine: Engine
    private let sink: TracedSink
    private let inspector: KafkaInspector
    private let reader: KafkaRecordReader
    private let follower: DeadLetterStateFollower
    private let onListening: @Sendable (Int) -> Void

    /// A processor that hasn't connected to anything yet.
    ///
    /// - Parameters:
    ///   - configuration: brokers, group, topics and the rest.
    ///   - telemetry: where spans and metrics go; the caller shuts it down after the processor has ended.
    ///   - logger: told what an operator should know.
    ///   - onListening: told the port that `/metrics` and `/health` are served on.
    ///   - handler: what is done with each event. Returning means done; ``RetryableError`` and ``RejectedError`` say what
    ///     kind of failure it is; any other error is *system* and retried.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    public convenience init(
        _ configuration: Configuration, telemetry: Telemetry, logger: Logger = Logger(label: "triage"),
        onListening: @escaping @Sendable (Int) -> Void = { _ in }, handler: @escaping EventHandler
    ) throws(KafkaConfigurationError) {
        try self.init(
            configuration, telemetry: telemetry, logger: logger, onListening: onListening, executor: PollingExecutor(),
            handler: handler)
    }

    /// The handler runs on `executor`, which is this processor's alone.
    init(
        _ configuration: Configuration, telemetry: Telemetry, logger: Logger, onListening: @escaping @Sendable (Int) -> Void,
        executor: PollingExecutor, handler: @escaping EventHandler
    ) throws(KafkaConfigurationError) {
        self.configuration = configuration
        self.telemetry = telemetry
        self.logger = logger
        self.onListening = onListening
        var kafka = configuration.kafka
        kafka.groupID = configuration.group
        let consumer = try KafkaConsumer(kafka, log: logger.kafkaLog)
        let producer = try telemetry.producer(kafka, splitsBatches: true, log: logger.kafkaLog)
        inspector = try KafkaInspector(kafka, log: logger.kafkaLog)
        reader = try KafkaRecordReader(kafka, log: logger.kafkaLog)
        follower = DeadLetterStateFollower(try KafkaRecordScanner(kafka, timeout: .seconds(10), log: logger.kafkaLog))
        sink = TracedSink(producer: producer, tracer: telemetry.tracer, meter: telemetry.meter, clientID: kafka.clientID)
        var settings = EngineConfiguration(group: configuration.group, topics: configuration.topics)
        settings.roles = configuration.roles
        settings.retries = configuration.retries
        settings.newTraceAfter = configuration.newTraceAfter
        settings.outage = configuration.outage
        settings.ordering = configuration.ordering
        settings.deadLetters = configuration.deadLetters
        settings.storm = configuration.storm
        settings.dedupeWindow = configuration.dedupeWindow
        settings.deadLetterSeal = configuration.deadLetterCipher?.seal
        settings.concurrency = configuration.concurrency
        settings.attemptTimeout = configuration.attemptTimeout
        settings.drainTimeout = configuration.gracePeriod
        settings.commitInterval = configuration.commitInterval
        let reset = kafka.additional["auto.offset.reset"] ?? kafka.autoOffsetReset.rawValue
        settings.startsAtEnd = ["latest", "largest", "end"].contains(reset)
        settings.endsWhenIdle = configuration.endsWhenIdle
        settings.clientID = kafka.clientID
        engine = Engine(
            settings, consumer: consumer, reader: reader, states: follower, sink: sink, tracer: telemetry.tracer,
            meter: telemetry.meter,
            executor: executor,
            log: { logger.log(level: Processor.level(of: $0.weight), safe: $0.text, in: $0.context) }, handler: handler
        )
    }

    private static func level(of weight: EngineNotice.Weight) -> Logger.Level {
        switch weight {
        case .information: .info
        case .notable: .notice
        case .warning: .warning
        }
    }

    /// Works until ``stop()``, graceful shutdown, cancellation or, with ``Configuration/endsWhenIdle``, until all is done.
    ///
    /// What is in flight is finished within ``Configuration/gracePeriod``, then offsets are committed.
    ///
    /// - Throws: `EngineError` if it can't go on; the admin server's error if its address can't be listened on.
    public func run() async throws {
        try await withGracefulShutdownHandler {
            try await withTaskCancellationHandler {
                try await work()
            } onCancel: {
                engine.stop()
            }
        } onGracefulShutdown: {
            self.engine.stop()
        }
    }

    /// Asks it to finish what is in flight and end; returns at once.
    public func stop() { engine.stop() }

    /// What has been done so far; renewed several times a second.
    public var summary: EngineSummary { engine.summary }

    /// Live and ready, as of now.
    func health(since start: Timestamp) -> Health { engine.health(since: start) }

    /// The next offset of each assigned partition that isn't complete; renewed several times a second.
    public var watermarks: [TopicPartition: Int64] { engine.watermarks }

    /// A dead letter goes to the partition with its event's number: a topic that lacks it could take none, for ever.
    ///
    /// Brokers that don't answer now are waited for by the consumer. A topic that is missing may be created later, which is
    /// worth waiting for unless the processor is to end at the topics' end.
    private func checkTopics() async throws {
        let admin = try KafkaAdmin(configuration.kafka)
        defer { admin.close() }
        guard !engine.isStopping, let found = try? await admin.describeTopics(timeout: .seconds(5)) else { return }
        let partitions = Dictionary(found.map { ($0.name, $0.partitions) }) { first, _ in first }
        for main in configuration.topics where partitions[main] == nil {
            if configuration.endsWhenIdle { throw MissingTopic(topic: main) }
            logger.warning("\(main) doesn't exist; it is read as soon as it does (`triage topics create` makes it)")
        }
        for main in configuration.topics {
            let deadLetter = TopicName.deadLetter(of: main)
            guard let needed = partitions[main], let there = partitions[deadLetter] else { continue }
            if there < needed {
                throw TopicMismatch(topic: deadLetter, partitions: there, main: main, needed: needed)
            }
            // One member has them all; with a second one, ranges of unequal numbers part a partition from its twin. Fewer are
            // noticed at the first assignment.
            let retry = TopicName.retry(of: main)
            if let there = partitions[retry], there > needed {
                throw TopicMismatch(topic: retry, partitions: there, main: main, needed: needed)
            }
        }
    }

    private func work() async throws {
        let start = telemetry.tracer.clock.now()
        let looking = Task { await lookNowAndThen() }
        defer { looking.cancel() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            if let http = configuration.http {
                let server = telemetry.adminServer(
                    at: http, logger: logger, health: { [engine] _ in [engine.health(since: start)] }, onListening: onListening
                )
                group.addTask {
                    do { try await server.run() } catch {
                        self.engine.stop()
                        throw error
                    }
                }
            }
            group.addTask {
                try await self.checkTopics()
                try await LoopThread.run("triage-loop") { try self.engine.run() }
            }
            // The loop's end ends everything; the server only ends early if it can't listen.
            var failure: (any Error)?
            do { try await group.next() } catch { failure = error }
            group.cancelAll()
            do { try await group.waitForAll() } catch { failure = failure ?? error }
            _ = await sink.flush(timeout: configuration.gracePeriod)
            sink.close()
            looking.cancel()
            await looking.value
            inspector.close()
            reader.close()
            await follower.close()
            if let failure { throw failure }
        }
    }
}

/// A topic that was to be worked to its end doesn't exist.
public struct MissingTopic: Error, Sendable, Hashable, CustomStringConvertible {
    let topic: String

    /// Which one and what to do.
    public var description: String { "\(topic) doesn't exist: create it (`triage topics create`), or name other topics" }
}

extension Processor {
    /// Has the engine look up every 15 s, and soon after partitions came, what its loop doesn't learn by itself: open dead
    /// letters and the ends of paused partitions. Until it is cancelled, which ends a look after the question under way.
    private func lookNowAndThen() async {
        var last = ContinuousClock.now
        while !Task.isCancelled {
            if engine.isLookDue || ContinuousClock.now - last >= .seconds(15) {
                last = ContinuousClock.now
                let isCancelled = Flag()
                await withTaskCancellationHandler {
                    try? await LoopThread.run("triage-look") { [engine, inspector] in
                        engine.look(by: inspector, timeout: .seconds(2)) { isCancelled.isSet }
                    }
                } onCancel: {
                    isCancelled.set()
                }
            }
            try? await Task.sleep(for: .milliseconds(500))
        }
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}

/// A dead letter topic has fewer partitions than the topic it stands beside.
public struct TopicMismatch: Error, Sendable, Hashable, CustomStringConvertible {
    let topic: String
    let partitions: Int
    let main: String
    let needed: Int

    /// What differs and what to do.
    public var description: String {
        if TopicName.isRetry(topic) {
            return
                "\(topic) has \(partitions) partitions, \(main) has \(needed): they need equal counts, so that one instance has both "
                + "of each number; give \(main) as many (`triage topics check` tells what else differs)"
        }
        return """
            \(topic) has \(partitions) partitions, \(main) has \(needed): a dead letter goes to the partition with its event's number; \
            give \(topic) as many (`triage topics check` tells what else differs)
            """
    }
}

extension Engine {
    /// Live and ready, judged from the loop's last poll and assignment.
    func health(since start: Timestamp) -> Health {
        var health = Health(start: start)
        if let lastPoll { health.polled(at: lastPoll) }
        health.assignmentChanged(hasPartitions: (assignedPartitions ?? 0) > 0)
        health.produceFailing(since: produceFailingSince)
        if isStopping { health.stopping() }
        return health
    }
}

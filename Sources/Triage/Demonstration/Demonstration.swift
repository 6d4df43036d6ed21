public import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
internal import TriageProcessing
public import TriageTelemetry

/// What a demonstration shall do.
public struct DemonstrationOptions: Sendable {
    /// Events to produce, 1 or more. Default 1,000.
    public var events = 1000
    /// Events to produce in a second, above 0; nil, the default, is as fast as they are handled.
    public var rate: Double?
    /// The seed of everything that is random in it. Default 1.
    public var seed: UInt64 = 1
    /// Share of events whose handler fails at first, 0 to 1. Default 0.05.
    public var transient = 0.05
    /// Share of events that are invalid or refused, 0 to 1. Default 0.01.
    public var persistent = 0.01
    /// Whether the processor goes on when the last event is done, until ``Demonstration/finish()``: what it shows of itself, such
    /// as lag and open dead letters, is gone with it. Default false.
    public var staysUp = false
    /// Partitions of each topic. Default 6, as `triage topics create` makes them.
    public var partitions = 6

    /// The defaults.
    public init() {}
}

/// How far a demonstration is.
public struct DemonstrationProgress: Sendable {
    /// Events acknowledged by the broker.
    public let produced: Int
    /// Events that the handler is done with.
    public let completed: Int
    /// Events that were dead-lettered.
    public let deadLettered: Int
    /// Retries so far.
    public let retries: Int
    /// Events that were put behind an earlier one of their patient that waits for its retry, so far.
    public let parked: Int
    /// Events that will be produced in all.
    public let total: Int
}

/// How a demonstration ended.
public struct DemonstrationReport: Sendable {
    /// Events acknowledged by the broker.
    public let produced: Int
    /// Distinct events that the handler is done with.
    public let completed: Int
    /// Dead letters: the sum of the dead letter topics' end offsets.
    public let deadLettered: Int
    /// Retries, in place or through the retry topics.
    public let retries: Int
    /// Events that were put behind an earlier one of their patient that waited for its retry.
    public let parked: Int
    /// Events that the handler was done with more than once.
    public let duplicates: Int
    /// Spans that a collector took; 0 if none is configured.
    public let spansExported: Int
    /// Spans that were dropped or that the collector didn't take.
    public let spansDropped: Int
    /// From the first event produced to the last one finished.
    public let duration: Duration
    /// The spans of one dead-lettered event's trace; empty if there was none.
    public let exampleTrace: [SpanData]
    /// Whether it was cancelled before the end: the numbers tell what was done until then.
    public let isInterrupted: Bool
    /// Whether nothing was lost and nothing doubled.
    public var isBalanced: Bool { produced == completed + deadLettered }
}

/// The whole of Triage on one machine: an embedded broker, synthetic patients, injected failures, retries, dead letters, traces.
public final class Demonstration: Sendable {
    /// The embedded broker's address.
    public let brokers: String
    private let options: DemonstrationOptions
    private let telemetry: Telemetry
    private let logger: Logger
    private let cluster: EmbeddedCluster
    private let recorder: TraceRecorder
    private let topics = TopicPattern.hybrid.patientTopics
    private let consuming = Mutex<(processor: Processor, task: Task<Void, any Error>)?>(nil)

    /// The consumer group that the demonstration works as.
    public static let group = "triage-demo"

    /// Starts the embedded broker and creates the topics.
    ///
    /// - Parameters:
    ///   - options: what it shall do.
    ///   - telemetry: one of whose processors is `recorder`.
    ///   - recorder: keeps the trace that is shown at the end.
    ///   - logger: told what an operator should know.
    public init(
        _ options: DemonstrationOptions, telemetry: Telemetry, recorder: TraceRecorder, logger: Logger
    ) throws {
        self.options = options
        self.telemetry = telemetry
        self.recorder = recorder
        self.logger = logger
        cluster = try EmbeddedCluster()
        brokers = cluster.bootstrapServers
        for topic in topics {
            for name in [topic, TopicName.retry(of: topic), TopicName.deadLetter(of: topic)] {
                try cluster.createTopic(name, partitions: options.partitions)
            }
        }
        // The embedded broker makes no topics when it is asked over the wire.
        try cluster.createTopic(TopicName.deadLetterState, partitions: 1)
    }

    /// Produces all events, waits until each is completed or dead-lettered, and reports.
    ///
    /// When its task is cancelled it ends early and reports what was done until then.
    ///
    /// - Parameter progress: told ten times a second how far it is.
    /// - Throws: what keeps the processor or the producer from going on, or ``DemonstrationStalled``.
    public func run(progress: @escaping @Sendable (DemonstrationProgress) -> Void) async throws -> DemonstrationReport {
        let handler = DemonstrationHandler()
        var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: brokers))
        configuration.kafka.additional = [
            // The embedded broker's group coordinator answers at once: no reason to wait as long as a real one needs.
            "topic.metadata.refresh.interval.ms": "1000", "fetch.wait.max.ms": "20", "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "500",
        ]
        configuration.group = Demonstration.group
        configuration.topics = topics
        configuration.retry = RetryPolicy(base: .milliseconds(200), cap: .seconds(2))
        // So many injected failures are no outage, and they heal by being tried again.
        if options.transient >= 0.25 { configuration.outage = nil }
        // Nor are so many rejections a storm that anybody would have to see to.
        if options.persistent >= 0.25 { configuration.storm = nil }
        configuration.commitInterval = .milliseconds(200)
        configuration.http = nil
        let processor = try Processor(configuration, telemetry: telemetry, logger: logger) { event, context in
            try handler.handle(event, context)
        }
        let producer = DemonstrationProducer(
            sink: TracedSink(
                producer: try KafkaProducer(configuration.kafka), tracer: telemetry.tracer, meter: telemetry.meter,
                clientID: "triage-demo"
            ),
            options: options, handler: handler, recorder: recorder
        )
        let begin = telemetry.tracer.clock.now()
        @Sendable func tell() {
            let summary = processor.summary
            progress(
                DemonstrationProgress(
                    produced: producer.produced, completed: handler.completed, deadLettered: summary.deadLettered,
                    retries: summary.retries, parked: summary.parked, total: options.events
                )
            )
        }
        let teller = Task {
            while !Task.isCancelled {
                tell()
                try await Task.sleep(for: .milliseconds(100))
            }
        }
        defer { teller.cancel() }
        var isInterrupted = false
        do {
            try await work(processor, producer, handler)
        } catch is CancellationError {
            isInterrupted = true
        }
        teller.cancel()
        let duration = telemetry.tracer.clock.now() - begin
        producer.close()
        tell()
        // The report counts what became of every span, so nothing may still be under way.
        if options.staysUp, !isInterrupted {
            _ = await telemetry.flush(timeout: .seconds(6))
        } else {
            await telemetry.shutdown(timeout: .seconds(6))
        }
        let counts = telemetry.spanCounts
        return DemonstrationReport(
            produced: producer.produced, completed: handler.completed, deadLettered: try await deadLettersByWatermark(),
            retries: processor.summary.retries, parked: processor.summary.parked, duplicates: handler.duplicates,
            spansExported: counts.exported, spansDropped: counts.dropped + counts.failed + counts.rejected, duration: duration,
            exampleTrace: recorder.example(),
            isInterrupted: isInterrupted
        )
    }

    private func work(
        _ processor: Processor, _ producer: DemonstrationProducer, _ handler: DemonstrationHandler
    ) async throws {
        let producing = Task {
            try await producer.run { processor.watermarks }
            try await Demonstration.waitForEnd(of: processor, expected: producer.produced, handler: handler)
        }
        let consuming = Task {
            do {
                try await processor.run()
            } catch {
                producing.cancel()
                throw error
            }
        }
        self.consuming.withLock { $0 = (processor, consuming) }
        try await withTaskCancellationHandler {
            do {
                try await producing.value
            } catch {
                // If the processor failed, that is why.
                try await finish()
                throw error
            }
            if !options.staysUp { try await finish() }
        } onCancel: {
            producing.cancel()
        }
    }

    /// Ends the processor and waits for that; does nothing if it has ended.
    ///
    /// - Throws: what kept the processor from going on.
    public func finish() async throws {
        guard let (processor, task) = consuming.withLock({ $0 }) else { return }
        processor.stop()
        // Its clients live as long as it does, and would complain that the cluster is gone.
        defer { consuming.withLock { $0 = nil } }
        try await task.value
    }

    /// Waits until every event is completed or dead-lettered; without any progress for a minute it gives up.
    private static func waitForEnd(
        of processor: Processor, expected: Int, handler: DemonstrationHandler
    ) async throws {
        var lastCount = -1
        var lastChange = ContinuousClock.now
        while true {
            let summary = processor.summary
            let count = handler.completed + summary.deadLettered
            if count >= expected { return }
            if count + summary.retries != lastCount {
                lastCount = count + summary.retries
                lastChange = ContinuousClock.now
            } else if ContinuousClock.now - lastChange > .seconds(60) {
                throw DemonstrationStalled(finished: count, expected: expected)
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    private func deadLettersByWatermark() async throws -> Int {
        let admin = try KafkaAdmin(KafkaConfiguration(bootstrapServers: brokers))
        defer { admin.close() }
        return try await admin.watermarks(of: topics.map(TopicName.deadLetter(of:))).values.reduce(0) { $0 + Int($1.upperBound) }
    }

    /// Serves `/metrics`, `/health` and `/console` until the task is cancelled; the embedded broker stays up as long.
    ///
    /// - Parameter settings: the console's token and names; nil for no console.
    public func serve(
        at address: Configuration.HTTPAddress, console settings: Configuration.Console? = nil, links: TraceLinks = TraceLinks(),
        onListening: @escaping @Sendable (Int) -> Void
    ) async throws {
        let begin = telemetry.tracer.clock.now()
        let console = try settings.map { try makeConsole($0, links) }
        async let _: Void? = console?.run()
        let server = telemetry.adminServer(
            at: address, logger: logger, console: console?.site,
            health: { _ in
                [self.consuming.withLock { $0?.processor.health(since: begin) } ?? Health(start: begin)]
            },
            onListening: onListening
        )
        try await server.run()
    }

    private func makeConsole(_ settings: Configuration.Console, _ links: TraceLinks) throws -> Console {
        let kafka = KafkaConfiguration(bootstrapServers: brokers)
        let access = DeadLetterAccess(
            topics: topics.map(TopicName.deadLetter(of:)), group: Demonstration.group, scanner: try KafkaRecordScanner(kafka),
            transactions: { try KafkaTransactions(kafka, id: DeadLetterAccess.transactionalID) }, clientID: kafka.clientID)
        return Console(
            ServiceConsole.Parts(access: access, reveals: DeadLetterReveal(access, kafka: kafka), links: links),
            token: settings.token, hosts: settings.hosts.compactMap { ConsoleHostName($0) }, telemetry: telemetry, logger: logger)
    }

    /// Ends the embedded broker.
    public func close() { cluster.close() }
}

/// The demonstration made no progress for a minute.
public struct DemonstrationStalled: Error, CustomStringConvertible {
    let finished: Int
    let expected: Int
    /// How far it came.
    public var description: String { "no progress for a minute: \(finished) of \(expected) events are finished" }
}

import Glibc
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// One call of a handler.
struct Handled: Sendable, Hashable {
    let key: String
    let version: Int
    let origin: RecordPosition
    let attempt: Int
    let isRetry: Bool
}

/// A broker with the topics of one resource pattern, and everything around an engine.
struct EngineBench: Sendable {
    static let topic = "fhir.Patient"
    let topic = EngineBench.topic
    let broker: InMemoryBroker
    let recorder = SpanRecorder()
    let tracer: Tracer
    let meter: Meter
    let sink: TracedSink
    let partitions: Int
    var configuration = EngineConfiguration(group: "workers", topics: [EngineBench.topic])
    /// Engines follow what became of dead letters.
    var followsStates = false
    private let publisher: any RecordProducer

    init(
        partitions: Int = 3, gapEvery: Int = 0, sampler: Sampler = .parentBased(root: .alwaysOn), isTracing: Bool = true,
        capacity: Int = 100_000, failureTraces: FailureTraceLimits? = FailureTraceLimits(),
        clock: any EventClock = SystemClock(), logs: LogEmitter? = nil, rebalancing: InMemoryBroker.Rebalancing = .eager
    ) {
        broker = InMemoryBroker(clock: clock, gapEvery: gapEvery, rebalancing: rebalancing)
        for suffix in ["", ".retry", ".dlq"] { broker.createTopic(topic + suffix, partitions: partitions) }
        tracer = Tracer(
            sampler: sampler, clock: clock, processors: [recorder], logs: logs, failureTraces: failureTraces, isEnabled: isTracing
        )
        meter = Meter(clock: clock)
        sink = TracedSink(producer: broker.producer(capacity: capacity), tracer: tracer, meter: meter, clientID: nil)
        publisher = broker.producer()
        self.partitions = partitions
        configuration.endsWhenIdle = true
        configuration.retry = RetryPolicy(base: .milliseconds(2), cap: .milliseconds(20))
        configuration.commitInterval = .milliseconds(2)
        configuration.produceRetryDelay = .milliseconds(2)
        configuration.seed = 42
        // Handlers here fail for their events' own reasons, many in a row.
        configuration.outage = nil
        configuration.storm = nil
    }

    var retryTopic: String { TopicName.retry(of: topic) }
    var deadLetterTopic: String { TopicName.deadLetter(of: topic) }

    /// Puts a record into the broker, past the sink.
    func put(
        _ value: ByteSlice?, key: ByteSlice? = nil, headers: Headers = [], to topic: String? = nil, partition: Int32? = nil
    ) throws {
        let record = OutboundRecord(topic: topic ?? self.topic, partition: partition, key: key, value: value, headers: headers)
        let answer = Mutex<BrokerError?>(nil)
        try publisher.produce(record) { result in
            if case .failure(let error) = result { answer.withLock { $0 = error } }
        }
        if let error = answer.withLock({ $0 }) { throw error }
    }

    /// Puts a valid event of the patient `id` into the broker.
    func put(_ id: String, version: Int, headers: Headers = [], partition: Int32? = nil) throws {
        try put(EngineBench.event(id, version: version), key: ByteSlice(id), headers: headers, partition: partition)
    }

    static func event(_ id: String?, version: Int, type: String = "PatientCreated") -> ByteSlice {
        let idMember = id.map { #","id":"\#($0)""# } ?? ""
        return ByteSlice(#"{"type":"\#(type)","data":{"resourceType":"Patient"\#(idMember),"meta":{"versionId":"\#(version)"}}}"#)
    }

    /// Starts an engine on a thread of its own.
    func start(
        _ configure: (inout EngineConfiguration) -> Void = { _ in }, executor: PollingExecutor = PollingExecutor(),
        prepare: (Engine) -> Void = { _ in }, handler: @escaping EventHandler
    ) -> RunningEngine {
        var configuration = configuration
        configure(&configuration)
        return RunningEngine(self, configuration, executor, prepare, handler)
    }

    /// Runs an engine until everything is done.
    @discardableResult
    func run(
        _ configure: (inout EngineConfiguration) -> Void = { _ in }, handler: @escaping EventHandler
    ) async throws -> EngineSummary {
        try await start(configure, handler: handler).finished()
    }

    func records(_ topic: String) -> [Record] { broker.records(in: topic) }
    var deadLetters: [Record] { records(deadLetterTopic) }
    var retries: [Record] { records(retryTopic) }

    /// Expects that the group has committed every main and retry partition to its end.
    func expectAllCommitted(group: String = "workers", sourceLocation: SourceLocation = #_sourceLocation) {
        let committed = broker.committed(group: group)
        for topic in [topic, retryTopic] {
            for partition in 0..<Int32(partitions) {
                let id = TopicPartition(topic, partition)
                #expect(committed[id]?.offset == broker.end(of: id), "\(id)", sourceLocation: sourceLocation)
            }
        }
    }

    /// The sum of a metric over the points that have all of these attributes.
    func total(_ metric: Metric, _ attributes: [String: String] = [:]) -> Int {
        let data = meter.collect(at: tracer.clock.now()).metrics.first { $0.metric.name == metric.name }
        return (data?.points ?? []).reduce(0) { sum, point in
            let pairs = Dictionary(uniqueKeysWithValues: point.attributes.pairs.map { ($0.key, $0.value) })
            guard attributes.allSatisfy({ pairs[$0.key] == $0.value }) else { return sum }
            switch point.value {
            case .sum(let value): return sum + Int(value)
            case .histogram(_, _, let count, _, _): return sum + Int(count)
            case .doubleSum, .gauge, .intGauge, .exponentialHistogram: return sum
            }
        }
    }

    /// A gauge's values, over the points that have all of these attributes.
    func values(_ metric: Metric, _ attributes: [String: String] = [:]) -> [Double] {
        let data = meter.collect(at: tracer.clock.now()).metrics.first { $0.metric.name == metric.name }
        return (data?.points ?? []).compactMap { point in
            let pairs = Dictionary(uniqueKeysWithValues: point.attributes.pairs.map { ($0.key, $0.value) })
            guard case .gauge(let value) = point.value, attributes.allSatisfy({ pairs[$0.key] == $0.value }) else { return nil }
            return value
        }
    }

    /// Whether a metric has any point with all of these attributes.
    func hasPoints(_ metric: Metric, _ attributes: [String: String] = [:]) -> Bool {
        let data = meter.collect(at: tracer.clock.now()).metrics.first { $0.metric.name == metric.name }
        return (data?.points ?? []).contains { point in
            let pairs = Dictionary(uniqueKeysWithValues: point.attributes.pairs.map { ($0.key, $0.value) })
            return attributes.allSatisfy { pairs[$0.key] == $0.value }
        }
    }
}

/// An engine at work on its thread.
final class RunningEngine: Sendable {
    let engine: Engine
    let notices = Watched<[EngineNotice]>([])
    private let outcome = Watched<Result<EngineSummary, any Error>?>(nil)

    init(
        _ bench: EngineBench, _ configuration: EngineConfiguration, _ executor: PollingExecutor = PollingExecutor(),
        _ prepare: (Engine) -> Void = { _ in }, _ handler: @escaping EventHandler
    ) {
        engine = Engine(
            configuration, consumer: bench.broker.consumer(group: configuration.group),
            reader: bench.broker.reader(), states: bench.followsStates ? BenchFeed(bench.broker) : nil, sink: bench.sink,
            tracer: bench.tracer,
            meter: bench.meter, executor: executor, log: { [notices] notice in notices.change { $0.append(notice) } },
            handler: handler
        )
        prepare(engine)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self).toOpaque()
        pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let running = Unmanaged<RunningEngine>.fromOpaque(context).takeRetainedValue()
                let result = Result { try running.engine.run() }.map { running.engine.summary }
                running.outcome.change { $0 = result }
                return nil
            }, context)
        pthread_detach(thread)
    }

    /// Whether the run is over.
    var hasEnded: Bool { outcome.value != nil }

    /// Waits for the end of the run; a test that takes too long stops it.
    @discardableResult
    func finished() async throws -> EngineSummary {
        let result = await outcome.until { $0 != nil }
        if result == nil { engine.stop() }
        return try #require(result, "the engine didn't end").get()
    }
}

/// What handlers were called with.
final class Journal: Sendable {
    let entries = Watched<[Handled]>([])

    func note(_ event: PatientEvent, _ context: HandlerContext) {
        let entry = Handled(
            key: context.record.key?.utf8Text ?? event.resourceID ?? "", version: event.versionID.flatMap { Int($0) } ?? -1,
            origin: context.origin, attempt: context.attempt, isRetry: context.isRetry
        )
        entries.change { $0.append(entry) }
    }

    var all: [Handled] { entries.value }
    var byKey: [String: [Int]] { Dictionary(grouping: all, by: \.key).mapValues { $0.map(\.version) } }
}

struct Transient: ClassifiedError { var errorClass: ErrorClass { .transient } }
struct Persistent: ClassifiedError { var errorClass: ErrorClass { .persistent } }
struct Unexpected: Error {}
struct RetryLater: ClassifiedError {
    var errorClass: ErrorClass { .transient }
    let retryAt: Timestamp?
}

/// Waits for a condition of the broker's, which tells nobody when it changes.
func eventually(_ comment: Comment, _ condition: () -> Bool, sourceLocation: SourceLocation = #_sourceLocation) async {
    let deadline = ContinuousClock.now + .seconds(50)
    while !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record(comment, sourceLocation: sourceLocation)
            return
        }
        try? await Task.sleep(for: .milliseconds(1))
    }
}

import Synchronization
import TriageEvents
import TriageKafka
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// An embedded cluster with the hybrid topics.
func makeCluster(partitions: Int = 2, topics: [String] = TopicPattern.hybrid.patientTopics) throws -> EmbeddedCluster {
    let cluster = try EmbeddedCluster()
    for main in topics {
        for topic in [main, TopicName.retry(of: main), TopicName.deadLetter(of: main)] {
            try cluster.createTopic(topic, partitions: partitions)
        }
    }
    return cluster
}

/// A configuration for it, quick and without a server.
func makeConfiguration(_ cluster: EmbeddedCluster, group: String = "test") -> Configuration {
    var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
    configuration.kafka.sessionTimeout = .seconds(6)
    configuration.kafka.additional = ["fetch.wait.max.ms": "20", "heartbeat.interval.ms": "500"]
    configuration.group = group
    configuration.retry = RetryPolicy(base: .milliseconds(20), cap: .milliseconds(50))
    configuration.commitInterval = .milliseconds(50)
    configuration.http = nil
    return configuration
}

/// Telemetry that goes nowhere but to these processors.
func makeTelemetry(_ processors: [any SpanProcessor] = []) -> Telemetry {
    Telemetry(TelemetryConfiguration(environment: [:], exportsByDefault: false), processors: processors)
}

/// Everything that stands in these topics, read without joining any group of the test's.
func records(of topics: [String], in cluster: EmbeddedCluster) async throws -> [Record] {
    let servers = cluster.bootstrapServers
    let admin = try KafkaAdmin(KafkaConfiguration(bootstrapServers: servers))
    defer { admin.close() }
    let ends = try await admin.watermarks(of: topics)
    let expected = ends.values.reduce(0) { $0 + Int($1.upperBound - $1.lowerBound) }
    return try await LoopThread.run("test-reader") {
        var kafka = KafkaConfiguration(bootstrapServers: servers, groupID: "reader-\(UInt32.random(in: 0 ... .max))")
        kafka.sessionTimeout = .seconds(6)
        kafka.additional = ["fetch.wait.max.ms": "20"]
        let consumer = try KafkaConsumer(kafka)
        defer { consumer.close() }
        let observer = Unobserved()
        try consumer.subscribe(to: topics, observer: observer)
        var found: [Record] = []
        var batch = PolledBatch()
        let deadline = ContinuousClock.now + .seconds(30)
        while found.count < expected, ContinuousClock.now < deadline {
            batch.removeAll()
            consumer.poll(into: &batch, maximum: 500, timeout: .milliseconds(100))
            found += batch.records
        }
        return found
    }
}

private final class Unobserved: AssignmentObserver {
    func assigned(_ partitions: [TopicPartition], by consumer: any RecordConsumer) -> [TopicPartition: StartOffset] { [:] }
    func revoked(_ partitions: [TopicPartition], by consumer: any RecordConsumer) {}
    func lost(_ partitions: [TopicPartition], by consumer: any RecordConsumer) {}
}

/// Publishes JSON texts and waits for all acknowledgements.
@discardableResult
func publish(
    _ texts: [String], action: ChangeAction?, to cluster: EmbeddedCluster, telemetry: Telemetry, source: String = "test"
) async throws -> [Acknowledgement] {
    let publisher = try EventPublisher(
        KafkaConfiguration(bootstrapServers: cluster.bootstrapServers), telemetry: telemetry, source: source, logger: quiet()
    )
    defer { publisher.close() }
    let answers = Collected<Acknowledgement>()
    let decoder = EventDecoder()
    for text in texts {
        try await publisher.publish(ByteSlice(text), action: action, decoder: decoder) { result in
            if case .success(let acknowledgement) = result { answers.append(acknowledgement) }
        }
    }
    _ = await publisher.flush()
    return answers.all
}

/// What several threads put together.
final class Collected<Element: Sendable>: Sendable {
    private let elements = Mutex<[Element]>([])
    func append(_ element: Element) { elements.withLock { $0.append(element) } }
    var all: [Element] { elements.withLock { $0 } }
}

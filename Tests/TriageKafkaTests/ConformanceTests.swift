import Glibc
import TestSupport
import Testing
import TriageEvents
import TriageKafka
import TriageTestKit

/// The brokers that the conformance bodies run over: the test kit's and the embedded one always, a real one when
/// `TRIAGE_TEST_BROKERS=host:port` names it.
enum TestBroker: String, CaseIterable, CustomTestStringConvertible {
    case memory, embedded, real

    static let address = getenv("TRIAGE_TEST_BROKERS").map { String(cString: $0) }
    static let cluster = Result { try EmbeddedCluster() }
    static var available: [TestBroker] { [.memory] + networked }
    /// Those that a client reaches over a socket.
    static var networked: [TestBroker] { address == nil ? [.embedded] : [.embedded, .real] }
    static let inMemory = InMemoryBroker(rebalancing: .eager)

    var testDescription: String { rawValue }

    func servers() throws -> String {
        switch self {
        case .memory: ""
        case .embedded: try TestBroker.cluster.get().bootstrapServers
        case .real: try #require(TestBroker.address)
        }
    }

    func broker() throws -> BrokerUnderTest {
        if self == .memory { return TestBroker.memoryUnderTest }
        let servers = try servers()
        return BrokerUnderTest(
            makeProducer: { limit in
                var configuration = KafkaConfiguration(bootstrapServers: servers)
                if let limit { configuration.additional["queue.buffering.max.messages"] = "\(limit)" }
                return try KafkaProducer(configuration)
            },
            makeConsumer: { group, fromEnd in
                try KafkaConsumer(
                    quick(
                        servers, group: group, reset: fromEnd ? .latest : .earliest,
                        session: self == .real ? .seconds(6) : .seconds(4)))
            },
            makeInspector: {
                var configuration = KafkaConfiguration(bootstrapServers: servers)
                configuration.additional["fetch.wait.max.ms"] = "50"
                return try KafkaInspector(configuration)
            },
            makeReader: { try KafkaRecordReader(KafkaConfiguration(bootstrapServers: servers)) },
            makeTransactions: {
                try KafkaTransactions(KafkaConfiguration(bootstrapServers: servers), id: $0, timeout: .seconds(30))
            },
            createTopic: { partitions in
                let name = unique("topic")
                if self == .embedded {
                    try TestBroker.cluster.get().createTopic(name, partitions: partitions)
                } else {
                    let admin = try KafkaAdmin(KafkaConfiguration(bootstrapServers: servers))
                    defer { admin.close() }
                    let created = try await admin.createTopics([NewTopic(name, partitions: partitions)])
                    #expect(created == [name: .created])
                }
                return name
            },
            takesCommitsWhileRebalancing: false, forgetsAbortedTransactions: self != .real,
            makeScanner: { try KafkaRecordScanner(KafkaConfiguration(bootstrapServers: servers)) }
        )
    }

    /// The test kit's broker, which hands over and acknowledges in one step: its queue is never full.
    private static var memoryUnderTest: BrokerUnderTest {
        BrokerUnderTest(
            makeProducer: { inMemory.producer(capacity: $0 ?? 100_000) },
            makeConsumer: { inMemory.consumer(group: $0, startsAtEnd: $1) },
            makeInspector: { inMemory.inspector() },
            makeReader: { inMemory.reader() },
            makeTransactions: { inMemory.transactions(id: $0) },
            createTopic: { partitions in
                let name = unique("topic")
                inMemory.createTopic(name, partitions: partitions)
                return name
            },
            makeScanner: { inMemory.scanner() }, queues: false
        )
    }
}

/// A member that notices a rebalance and new records at once.
///
/// A mock cluster waits for absent members up to their session time-out, and three seconds before the first assignment;
/// real brokers refuse a time-out of less than six seconds.
func quick(
    _ servers: String, group: String, reset: KafkaConfiguration.OffsetReset = .earliest, session: Duration = .seconds(4)
) -> KafkaConfiguration {
    KafkaConfiguration(
        bootstrapServers: servers, groupID: group, autoOffsetReset: reset, sessionTimeout: session,
        additional: [
            "heartbeat.interval.ms": "100", "fetch.wait.max.ms": "50", "topic.metadata.refresh.interval.ms": "1000",
            "reconnect.backoff.ms": "10", "reconnect.backoff.max.ms": "100",
        ]
    )
}

@Suite(.blocking, .serialized, .timeLimit(.minutes(3)))
struct ConformanceTests {
    @Test(arguments: TestBroker.available) func carriesEveryByte(_ kind: TestBroker) async throws {
        try await Conformance.carriesEveryByte(kind.broker())
    }

    @Test(arguments: TestBroker.available) func keepsOrderAndReportsEnds(_ kind: TestBroker) async throws {
        try await Conformance.keepsOrderAndReportsEnds(kind.broker())
    }

    @Test(arguments: TestBroker.available) func knowsEndsWithoutAsking(_ kind: TestBroker) async throws {
        try await Conformance.knowsEndsWithoutAsking(kind.broker())
    }

    @Test(arguments: TestBroker.available) func inspects(_ kind: TestBroker) async throws {
        try await Conformance.inspects(kind.broker())
    }

    @Test(arguments: TestBroker.available) func pausesWithoutLossOrRewind(_ kind: TestBroker) async throws {
        try await Conformance.pausesWithoutLossOrRewind(kind.broker())
    }

    @Test(arguments: TestBroker.available) func pausesWhileBeingAssigned(_ kind: TestBroker) async throws {
        try await Conformance.pausesWhileBeingAssigned(kind.broker())
    }

    @Test(arguments: TestBroker.available) func keepsCommitsWithMetadata(_ kind: TestBroker) async throws {
        try await Conformance.keepsCommitsWithMetadata(kind.broker())
    }

    @Test(arguments: TestBroker.available) func startsWhereTheObserverSays(_ kind: TestBroker) async throws {
        try await Conformance.startsWhereTheObserverSays(kind.broker())
    }

    @Test(arguments: TestBroker.available) func sharesPartitions(_ kind: TestBroker) async throws {
        try await Conformance.sharesPartitions(kind.broker())
    }

    @Test(arguments: TestBroker.available) func dropsWhatWasTakenAway(_ kind: TestBroker) async throws {
        try await Conformance.dropsWhatWasTakenAway(kind.broker())
    }

    /// Not on the embedded cluster, which leaves records of aborted transactions visible and fences nobody.
    @Test(arguments: TestBroker.available.filter { $0 != .embedded }) func scansWhatIsCommitted(_ kind: TestBroker) async throws {
        try await Conformance.scansWhatIsCommitted(kind.broker())
    }

    /// Not on the embedded cluster, for the same reason. A real broker is taken to be one that names every aborted transaction of a
    /// partition in every answer, as the one that continuous integration uses does.
    @Test(arguments: TestBroker.available.filter { $0 != .embedded }) func commitsAllOrNothing(_ kind: TestBroker) async throws {
        try await Conformance.commitsAllOrNothing(kind.broker())
    }

    @Test(arguments: TestBroker.available.filter { $0 != .embedded }) func fencesTheProducerBefore(_ kind: TestBroker)
        async throws
    {
        try await Conformance.fencesTheProducerBefore(kind.broker())
    }

    @Test(arguments: TestBroker.available) func wakes(_ kind: TestBroker) async throws {
        try await Conformance.wakes(kind.broker())
    }

    @Test(arguments: TestBroker.available) func completesEverythingThroughASmallQueue(_ kind: TestBroker) async throws {
        try await Conformance.completesEverythingThroughASmallQueue(kind.broker())
    }

    @Test(arguments: TestBroker.available) func failsUnknownPartition(_ kind: TestBroker) async throws {
        try await Conformance.failsUnknownPartition(kind.broker())
    }

    @Test(arguments: TestBroker.available) func partitionsAsJavaDoes(_ kind: TestBroker) async throws {
        try await Conformance.partitionsAsJavaDoes(kind.broker())
    }

    @Test(arguments: TestBroker.available) func flushesAndCloses(_ kind: TestBroker) async throws {
        try await Conformance.flushesAndCloses(kind.broker())
    }

    /// Vectors of Kafka's own test of the function (UtilsTest.testMurmur2).
    @Test func murmur2IsJavas() {
        #expect(murmur2("21") == -973_932_308)
        #expect(murmur2("foobar") == -790_332_482)
        #expect(murmur2("a-little-bit-long-string") == -985_981_536)
        #expect(murmur2("a-little-bit-longer-string") == -1_486_304_829)
        #expect(murmur2("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8") == -58_897_971)
        #expect(murmur2("abc") == 479_470_107)
    }
}

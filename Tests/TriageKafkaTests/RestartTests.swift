import Synchronization
import TestSupport
import Testing
import TriageEvents

@testable import TriageKafka

/// A producer's client is replaced after a fatal error, and nothing is lost.
@Suite(.blocking, .serialized, .timeLimit(.minutes(3)))
struct RestartTests {
    /// Produces until everything is acknowledged, whatever fails meanwhile; the failures.
    private func produceUntilAcknowledged(
        _ values: [String], to topic: String, by producer: RestartingProducer, at: (Int) throws -> Void
    ) throws -> [BrokerError] {
        let results = Gathered<(value: String, result: Result<Acknowledgement, BrokerError>)>()
        let writable = Gathered<Void>()
        var waits = 0
        func produce(_ value: String) throws {
            while true {
                do throws(BrokerError) {
                    try producer.produce(OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice(value))) {
                        results.append((value, $0))
                    }
                    return
                } catch {
                    guard error.isQueueFull else { throw error }
                    #expect(error.isRetriable && !error.isFatal)
                    waits += 1
                    producer.whenWritable { writable.append(()) }
                    _ = try writable.wait(for: waits, "calls of whenWritable")
                }
            }
        }
        for (index, value) in values.enumerated() {
            try at(index)
            try produce(value)
        }
        var failures: [BrokerError] = []
        var seen = 0
        var acknowledged: Set<String> = []
        while acknowledged.count < values.count {
            let all = try results.wait(for: seen + 1, "answers")
            for answer in all[seen...] {
                switch answer.result {
                case .success: #expect(acknowledged.insert(answer.value).inserted)
                case .failure(let error):
                    failures.append(error)
                    try produce(answer.value)
                }
            }
            seen = all.count
        }
        #expect(results.all.count == values.count + failures.count)
        return failures
    }

    private func values(in topic: String, of cluster: EmbeddedCluster) throws -> Set<String> {
        let reader = Reader(try KafkaConsumer(quick(cluster.bootstrapServers, group: unique("group"))))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("the end") { reader.ends.count == 1 }
        return Set(reader.records.compactMap { $0.value?.utf8Text })
    }

    @Test func aFatalErrorReplacesTheClientAndLosesNothing() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("restart", partitions: 1)
        let lines = Gathered<(level: Int, text: String)>()
        let told = Gathered<BrokerError>()
        let producer = try RestartingProducer(
            KafkaConfiguration(bootstrapServers: cluster.bootstrapServers),
            log: { level, facility, text in if facility == "RESTART" { lines.append((level, text)) } },
            restarted: { told.append($0) }
        )
        defer { producer.close() }
        let sent = (0..<2000).map(String.init)
        let failures = try produceUntilAcknowledged(sent, to: "restart", by: producer) { index in
            // INVALID_PRODUCER_EPOCH: fenced.
            if index == 1000 { (producer.client as? KafkaProducer)?.failForGood(code: 47) }
        }
        #expect(failures.allSatisfy { $0.isRetriable && !$0.isFatal })
        #expect(producer.restarts == 1)
        #expect(try told.wait(for: 1).map(\.name) == ["INVALID_PRODUCER_EPOCH"])
        #expect(lines.all.map(\.level) == [4])
        #expect(lines.all.allSatisfy { $0.text.has("INVALID_PRODUCER_EPOCH") })
        #expect(try values(in: "restart", of: cluster) == Set(sent))
    }

    @Test func aSequenceThatTheBrokerRefusesReplacesTheClient() async throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("sequence", partitions: 1)
        let producer = try RestartingProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        let sent = (0..<300).map(String.init)
        let failures = try produceUntilAcknowledged(sent, to: "sequence", by: producer) { index in
            // OUT_OF_ORDER_SEQUENCE_NUMBER
            if index == 100 { cluster.pushRequestErrors(.produce, [45]) }
        }
        #expect(!failures.isEmpty)
        #expect(failures.allSatisfy { $0.isRetriable && !$0.isFatal })
        #expect(producer.restarts == 1)
        #expect(await producer.flush(timeout: .zero))
        #expect(try values(in: "sequence", of: cluster) == Set(sent))
    }

    /// Fails everything for good, and whoever closes it first gets no second turn.
    private final class Fenced: RecordProducer {
        private let failed: @Sendable (BrokerError) -> Void
        private let throwsAtOnce: Bool
        static let error = BrokerError("_FENCED", operation: "client", isFatal: true)

        init(throwsAtOnce: Bool, failed: @escaping @Sendable (BrokerError) -> Void) {
            self.throwsAtOnce = throwsAtOnce
            self.failed = failed
        }

        func produce(
            _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
        ) throws(BrokerError) {
            if throwsAtOnce { throw Fenced.error }
            completion(.failure(Fenced.error))
            failed(Fenced.error)
        }

        func whenWritable(_ body: @escaping @Sendable () -> Void) { body() }
        func flush(timeout: Duration) async -> Bool { true }
        func close() {}
    }

    /// The second replacement would come after an hour: nothing spins, what comes meanwhile finds no room, and closing ends it.
    @Test(arguments: [true, false]) func aProducerThatIsFencedForEverDoesNotSpin(throwsAtOnce: Bool) async throws {
        let made = Atomic(0)
        let producer = try RestartingProducer(firstPause: .seconds(3600), longestPause: .seconds(7200)) { failed in
            made.add(1, ordering: .relaxed)
            return Fenced(throwsAtOnce: throwsAtOnce, failed: failed)
        }
        let answers = Gathered<Result<Acknowledgement, BrokerError>>()
        func produce() throws(BrokerError) {
            try producer.produce(OutboundRecord(topic: "t", key: nil, value: nil)) { answers.append($0) }
        }
        func produceOnce() throws {
            if throwsAtOnce {
                let error = #expect(throws: BrokerError.self) { try produce() }
                #expect(error?.isQueueFull == true)
            } else {
                try produce()
            }
        }
        try produceOnce()
        let writable = Gathered<Void>()
        producer.whenWritable { writable.append(()) }
        _ = try writable.wait(for: 1, "calls of whenWritable")
        try produceOnce()
        for _ in 0..<3 {
            let error = #expect(throws: BrokerError.self) { try produce() }
            #expect(error?.isQueueFull == true)
        }
        #expect(made.load(ordering: .relaxed) == 2)
        #expect(producer.restarts == 1)
        #expect(answers.all.count == (throwsAtOnce ? 0 : 2))
        for case .failure(let error) in answers.all { #expect(error.isRetriable && !error.isFatal) }
        producer.whenWritable { writable.append(()) }
        #expect(writable.all.count == 1)
        producer.close()
        producer.close()
        #expect(writable.all.count == 2)
        let closed = #expect(throws: BrokerError.self) { try produce() }
        #expect(closed?.name == "_DESTROY")
        #expect(await producer.flush(timeout: .zero))
    }

    @Test func whatIsUnansweredWhenClosedIsNotCalledRetriable() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("down", partitions: 1)
        let producer = try RestartingProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        try cluster.setBroker(-1, isUp: false)
        let results = Gathered<Result<Acknowledgement, BrokerError>>()
        try producer.produce(OutboundRecord(topic: "down", partition: 0, key: nil, value: nil)) { results.append($0) }
        producer.close()
        guard case .failure(let error)? = results.all.first else { throw Overdue(what: "an error") }
        #expect(error.name.hasPrefix("_PURGE") && !error.isRetriable)
        #expect(producer.restarts == 0)
    }

    @Test func pausesDoubleUpToTheLongestAndStartAnewAfterAGoodWhile() {
        var backoff = RestartBackoff()
        let start = ContinuousClock.now
        var now = start
        var pauses: [Duration] = []
        for _ in 0..<8 {
            let pause = backoff.pause(at: now)
            pauses.append(pause)
            // The next client fails as soon as it is there.
            now += pause
        }
        #expect(pauses == [0, 1, 2, 4, 8, 16, 30, 30].map { .seconds($0) })
        // What a client has lived counts.
        #expect(backoff.pause(at: now + .seconds(20)) == .seconds(10))
        #expect(backoff.pause(at: now + .seconds(200)) == .zero)
        #expect(backoff.pause(at: now + .seconds(200)) == .seconds(1))
    }
}

/// A batch that was refused as too large is sent again record by record.
@Suite(.blocking, .serialized, .timeLimit(.minutes(3)))
struct SplittingTests {
    private func answers(
        _ producer: any RecordProducer, _ records: [OutboundRecord]
    ) throws -> [Result<Acknowledgement, BrokerError>] {
        let results = Gathered<(Int, Result<Acknowledgement, BrokerError>)>()
        for (index, record) in records.enumerated() { try producer.produce(record) { results.append((index, $0)) } }
        return try results.wait(for: records.count, "answers").sorted { $0.0 < $1.0 }.map(\.1)
    }

    @Test func aBatchThatIsRefusedIsSentRecordByRecord() async throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("batches", partitions: 1)
        let configuration = KafkaConfiguration(
            bootstrapServers: cluster.bootstrapServers, additional: ["linger.ms": "50", "max.in.flight": "1"])
        let records = (0..<50).map { OutboundRecord(topic: "batches", partition: 0, key: nil, value: ByteSlice("\($0)")) }
        // MSG_SIZE_TOO_LARGE. Without splitting every record of the batch fails.
        let plain = try RestartingProducer(configuration)
        defer { plain.close() }
        cluster.pushRequestErrors(.produce, [10])
        let failed = try answers(plain, records).filter { if case .failure = $0 { true } else { false } }
        #expect(failed.count > 1)
        let producer = try RestartingProducer(configuration, splitsBatches: true)
        defer { producer.close() }
        cluster.pushRequestErrors(.produce, [10])
        #expect(try answers(producer, records).allSatisfy { if case .success = $0 { true } else { false } })
        // One that is refused alone as well fails; the next is taken.
        cluster.pushRequestErrors(.produce, [10, 10])
        let alone = try answers(producer, [records[0]])
        let error = #expect(throws: BrokerError.self) { try alone[0].get() }
        #expect(error?.isTooLarge == true)
        #expect(try answers(producer, records).allSatisfy { if case .success = $0 { true } else { false } })
        #expect(await producer.flush(timeout: patience))
        #expect(producer.restarts == 0)
    }

    @Test func aRealBrokersLimitFailsOnlyWhatIsLarger() async throws {
        guard let servers = TestBroker.address else { return }
        let admin = try KafkaAdmin(KafkaConfiguration(bootstrapServers: servers))
        defer { admin.close() }
        let topic = unique("small")
        let made = NewTopic(topic, partitions: 1, configuration: ["max.message.bytes": "5000"])
        #expect(try await admin.createTopics([made]) == [topic: .created])
        let producer = try RestartingProducer(
            KafkaConfiguration(bootstrapServers: servers, additional: ["linger.ms": "50"]), splitsBatches: true)
        defer { producer.close() }
        let small = ByteSlice(String(repeating: "s", count: 400))
        let large = ByteSlice(String(repeating: "l", count: 20_000))
        let records = (0..<100).map {
            OutboundRecord(topic: topic, partition: 0, key: nil, value: $0 == 50 ? large : small)
        }
        for (index, answer) in try answers(producer, records).enumerated() {
            switch answer {
            case .success: #expect(index != 50)
            case .failure(let error): #expect(index == 50 && error.isTooLarge, "\(index): \(error)")
            }
        }
        #expect(producer.restarts == 0)
    }
}

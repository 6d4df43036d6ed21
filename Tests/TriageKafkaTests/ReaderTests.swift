import TestSupport
import Testing
import TriageEvents
import TriageTestKit

@testable import TriageKafka

extension RecordReader {
    /// Reads and waits for the answer.
    func readAndWait(_ offsets: [Int64], of partition: TopicPartition) throws -> [Record] {
        let results = Gathered<Result<[Record], BrokerError>>()
        read(offsets, of: partition) { results.append($0) }
        return try #require(try results.wait(for: 1, "answers").first).get()
    }
}

/// Bodies that every implementation of the reader's port must pass.
extension Conformance {
    private static func fill(_ topic: String, _ broker: BrokerUnderTest, _ count: Int, bytes: Int = 10) throws {
        let producer = try broker.producer()
        defer { producer.close() }
        let filling = String(repeating: "x", count: bytes)
        for start in stride(from: 0, to: count, by: 5000) {
            try producer.produceAll(
                (start..<min(count, start + 5000)).map {
                    OutboundRecord(
                        topic: topic, partition: 0, key: ByteSlice("k\($0)"), value: ByteSlice("\($0) \(filling)"),
                        headers: [Header("n", text: "\($0)")])
                }
            )
        }
    }

    private static func expect(_ records: [Record], _ offsets: [Int64], _ topic: String) {
        #expect(records.map(\.offset) == offsets)
        for record in records {
            #expect(record.topic == topic)
            #expect(record.key?.utf8Text == "k\(record.offset)")
            #expect(record.headers.last("n")?.utf8Text == "\(record.offset)")
            #expect(record.value?.utf8Text?.hasPrefix("\(record.offset) ") == true)
        }
    }

    static func readsChosenRecords(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let partition = TopicPartition(topic, 0)
        try fill(topic, broker, 3000, bytes: 300)
        let reader = try broker.makeReader()
        defer { reader.close() }
        // Forwards, backwards, with gaps larger than is read over, the first and the last.
        for offsets: [Int64] in [[1500], [7], [2999], [0, 1, 2, 40, 2998], [3, 1400, 1401, 2900], [0]] {
            expect(try reader.readAndWait(offsets, of: partition), offsets, topic)
        }
    }

    static func readsForManyAtOnce(_ broker: BrokerUnderTest) async throws {
        let topics = [try await broker.createTopic(1), try await broker.createTopic(1)]
        for topic in topics { try fill(topic, broker, 500) }
        let reader = try broker.makeReader()
        defer { reader.close() }
        let results = Gathered<(topic: String, offsets: [Int64], result: Result<[Record], BrokerError>)>()
        var random = SystemRandomNumberGenerator()
        let requests = (0..<300).map { number in
            (topics[number % 2], Set((0...number % 4).map { _ in Int64.random(in: 0..<500, using: &random) }).sorted())
        }
        for (topic, offsets) in requests {
            reader.read(offsets, of: TopicPartition(topic, 0)) { results.append((topic, offsets, $0)) }
        }
        let all = try results.wait(for: 300, "answers")
        for answer in all { expect(try answer.result.get(), answer.offsets, answer.topic) }
        #expect(Set(all.map { "\($0.topic) \($0.offsets)" }) == Set(requests.map { "\($0.0) \($0.1)" }))
    }

    static func tellsTheEndFromWhatIsMissing(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let partition = TopicPartition(topic, 0)
        try fill(topic, broker, 10)
        let reader = try broker.makeReader()
        defer { reader.close() }
        for offsets: [Int64] in [[10], [3, 10], [4000]] {
            let error = #expect(throws: BrokerError.self) { try reader.readAndWait(offsets, of: partition) }
            #expect(error?.name == "OFFSET_NOT_AVAILABLE")
            #expect(error?.isRetriable == true)
        }
        // What fails one request doesn't fail another that was read together with it.
        let results = Gathered<Result<[Record], BrokerError>>()
        reader.read([2], of: partition) { _ in }
        reader.read([10], of: partition) { _ in }
        reader.read([3, 9], of: partition) { results.append($0) }
        expect(try #require(try results.wait(for: 1, "answers").first).get(), [3, 9], topic)
        try fill(topic, broker, 1)
        #expect(try reader.readAndWait([10], of: partition).map(\.offset) == [10])
    }

    static func endsWithAnErrorWhenClosed(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(1)
        try fill(topic, broker, 100)
        let reader = try broker.makeReader()
        let results = Gathered<Result<[Record], BrokerError>>()
        for offset in 0..<100 { reader.read([Int64(offset)], of: TopicPartition(topic, 0)) { results.append($0) } }
        reader.close()
        reader.close()
        #expect(try results.wait(for: 100, "answers").count == 100)
        let error = #expect(throws: BrokerError.self) { try reader.readAndWait([1], of: TopicPartition(topic, 0)) }
        #expect(error?.name == "_DESTROY")
        #expect(results.all.count == 100)
    }

    static func commitsWhileBeingAssigned(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(4)
        let group = unique("group")
        var failures: [BrokerError] = []
        func commitAll(_ who: String, _ reader: Reader) {
            reader.assignments.onAssigned = { partitions, consumer in
                do throws(BrokerError) {
                    _ = try consumer.committed(partitions, timeout: patience)
                    try consumer.commitAndWait(partitions.map { OffsetCommit($0, offset: 0, metadata: who) })
                    // Twice: nothing of the first is in the way of the second.
                    try consumer.commitAndWait(partitions.map { OffsetCommit($0, offset: 0, metadata: "\(who) again") })
                } catch {
                    failures.append(error)
                }
                return [:]
            }
        }
        let first = Reader(try broker.consumer(group))
        defer { first.consumer.close() }
        commitAll("first", first)
        try first.subscribe(topic)
        try first.poll("everything") { first.assignments.current.count == 4 }
        let second = Reader(try broker.consumer(group))
        defer { second.consumer.close() }
        commitAll("second", second)
        try second.subscribe(topic)
        try first.poll("a share for both", with: second) {
            first.assignments.current.count == 2 && second.assignments.current.count == 2
        }
        // An assignment that the next rebalance has overtaken already can't be committed under; the next one can.
        #expect(failures.allSatisfy { $0.name == "REBALANCE_IN_PROGRESS" })
        let all = (0..<4).map { TopicPartition(topic, $0) }
        let committed = try first.consumer.committed(all, timeout: patience)
        for partition in all {
            let owner = first.assignments.current.contains(partition) ? "first again" : "second again"
            #expect(committed[partition]?.metadata == owner)
        }
    }
}

@Suite(.blocking, .serialized, .timeLimit(.minutes(3)))
struct ReaderTests {
    @Test(arguments: TestBroker.available) func readsChosenRecords(_ kind: TestBroker) async throws {
        try await Conformance.readsChosenRecords(kind.broker())
    }

    @Test(arguments: TestBroker.available) func readsForManyAtOnce(_ kind: TestBroker) async throws {
        try await Conformance.readsForManyAtOnce(kind.broker())
    }

    @Test(arguments: TestBroker.available) func tellsTheEndFromWhatIsMissing(_ kind: TestBroker) async throws {
        try await Conformance.tellsTheEndFromWhatIsMissing(kind.broker())
    }

    @Test(arguments: TestBroker.available) func endsWithAnErrorWhenClosed(_ kind: TestBroker) async throws {
        try await Conformance.endsWithAnErrorWhenClosed(kind.broker())
    }

    @Test(arguments: TestBroker.available) func commitsWhileBeingAssigned(_ kind: TestBroker) async throws {
        try await Conformance.commitsWhileBeingAssigned(kind.broker())
    }

    /// The mock keeps 5 MiB of a partition and trims what is older.
    @Test func whatWasTrimmedIsMissing() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("trimmed", partitions: 1)
        let partition = TopicPartition("trimmed", 0)
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        let value = ByteSlice(count: 50_000) { $0.initializeMemory(as: UInt8.self, repeating: 7) }
        for _ in 0..<20 {
            try producer.produceAll((0..<10).map { _ in OutboundRecord(topic: "trimmed", partition: 0, key: nil, value: value) })
        }
        let reader = try KafkaRecordReader(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { reader.close() }
        #expect(try reader.readAndWait([0, 1, 198], of: partition).map(\.offset) == [198])
        #expect(try reader.readAndWait([0, 1], of: partition).map(\.offset) == [])
        #expect(try reader.readAndWait([199], of: partition).map(\.offset) == [199])
    }

    @Test func aBrokerThatIsDownIsAnErrorAndHeals() throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("down", partitions: 1)
        let partition = TopicPartition("down", 0)
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        try producer.produceAll((0..<5).map { OutboundRecord(topic: "down", partition: 0, key: nil, value: ByteSlice("\($0)")) })
        let configuration = quick(cluster.bootstrapServers, group: "unused")
        let reader = try KafkaRecordReader(configuration, timeout: .milliseconds(400))
        defer { reader.close() }
        #expect(try reader.readAndWait([4], of: partition).map(\.offset) == [4])
        try cluster.setBroker(-1, isUp: false)
        let error = #expect(throws: BrokerError.self) { try reader.readAndWait([3], of: partition) }
        #expect(error?.isRetriable == true)
        try cluster.setBroker(-1, isUp: true)
        let deadline = ContinuousClock.now + patience
        var records: [Record] = []
        while records.isEmpty, ContinuousClock.now < deadline {
            do { records = try reader.readAndWait([3], of: partition) } catch is BrokerError {}
        }
        #expect(records.map(\.offset) == [3])
        // Errors of fetching are the client's own to retry: NOT_LEADER_FOR_PARTITION, a cut connection.
        cluster.pushRequestErrors(.fetch, [6, EmbeddedCluster.disconnect])
        let patient = try KafkaRecordReader(configuration)
        defer { patient.close() }
        #expect(try patient.readAndWait([0, 2], of: partition).map(\.offset) == [0, 2])
        #expect(throws: BrokerError.self) { try patient.readAndWait([-3], of: partition) }
    }

    /// A warm reader's answer for one record; prints what it takes.
    @Test(arguments: TestBroker.networked) func answersSoon(_ kind: TestBroker) async throws {
        let broker = try kind.broker()
        let topic = try await broker.createTopic(1)
        let producer = try broker.producer()
        defer { producer.close() }
        let value = ByteSlice(String(repeating: "x", count: 1000))
        try producer.produceAll((0..<2000).map { _ in OutboundRecord(topic: topic, partition: 0, key: nil, value: value) })
        let reader = try broker.makeReader()
        defer { reader.close() }
        var taken: [Duration] = []
        for number in 0..<200 {
            let offset = Int64(number * 7919 % 2000)
            let start = ContinuousClock.now
            #expect(try reader.readAndWait([offset], of: TopicPartition(topic, 0)).map(\.offset) == [offset])
            if number > 0 { taken.append(ContinuousClock.now - start) }
        }
        taken.sort()
        print("reading one record, \(kind): median \(taken[taken.count / 2]), worst of \(taken.count) \(taken[taken.count - 1])")
    }
}

@Suite struct ReadPlanTests {
    private func record(_ offset: Int64, bytes: Int = 100) -> Record {
        Record(topic: "t", partition: 0, offset: offset, timestamp: nil, key: nil, value: ByteSlice(count: bytes) { _ in })
    }

    private func offsets(_ plan: ReadPlan, _ wanted: [Int64]) throws -> [Int64] {
        try plan.result(for: wanted, of: TopicPartition("t", 0)).get().map(\.offset)
    }

    @Test func passesWhatIsMissing() throws {
        var plan = ReadPlan([5, 3, 9, 5])
        #expect(plan.position == 3)
        plan.brought(record(4))
        #expect(plan.step() == .carryOn)
        plan.brought(record(5))
        plan.brought(record(11))
        #expect(plan.step() == .finish)
        #expect(try offsets(plan, [3, 5]) == [5])
        #expect(try offsets(plan, [9]) == [])
    }

    @Test func skipsLargeGapsByBytes() {
        var plan = ReadPlan([0, 2000])
        plan.brought(record(0, bytes: 100))
        // 2,000 records of 100 bytes are read over, of 1,000 bytes skipped.
        #expect(plan.step() == .carryOn)
        var other = ReadPlan([0, 2000])
        other.brought(record(0, bytes: 1000))
        #expect(other.step() == .read(from: 2000))
        #expect(other.step() == .carryOn)
        // What had been fetched before the skip is not taken for what comes behind it.
        other.brought(record(1))
        #expect(other.position == 2000)
        other.brought(record(2000))
        #expect(other.step() == .finish)
    }

    @Test func theEndFailsOnlyWhatLiesBehindIt() throws {
        var plan = ReadPlan([1, 2, 7])
        plan.brought(record(1))
        plan.reached(end: 5)
        #expect(plan.step() == .finish)
        #expect(try offsets(plan, [1, 2]) == [1])
        #expect(throws: BrokerError.self) { try self.offsets(plan, [2, 7]) }
        #expect(throws: BrokerError.self) { try self.offsets(plan, [7]) }
    }

    @Test func beginsWhereThePartitionBegins() throws {
        var plan = ReadPlan([1, 50])
        plan.isOutside(20..<60)
        #expect(!plan.isFinished)
        #expect(plan.position == 20)
        plan.brought(record(50))
        #expect(plan.step() == .finish)
        #expect(try offsets(plan, [1, 50]) == [50])
        var beyond = ReadPlan([70])
        beyond.isOutside(20..<60)
        #expect(beyond.isFinished)
        #expect(throws: BrokerError.self) { try self.offsets(beyond, [70]) }
    }

    /// Against a naive model: whatever the partition holds and however it is brought, each request gets what exists of it.
    @Test func agreesWithAModel() throws {
        for seed in UInt64(1)...2000 {
            var random = Linear(state: seed)
            let length = Int64.random(in: 1...400, using: &random)
            let start = Int64.random(in: 0..<length, using: &random)
            let existing = (start..<length).filter { _ in Bool.random(using: &random) || Bool.random(using: &random) }
            let requests = (0..<Int.random(in: 1...5, using: &random)).map { _ in
                Set((0..<Int.random(in: 1...6, using: &random)).map { _ in Int64.random(in: 0..<length + 3, using: &random) })
                    .sorted()
            }
            let bytes = [10, 5000, 100_000].randomElement(using: &random) ?? 10
            var plan = ReadPlan(requests.flatMap { $0 })
            var fetchFrom = plan.position
            if fetchFrom < start || fetchFrom > length { plan.isOutside(start..<length) }
            fetchFrom = plan.position
            var steps = 0
            reading: while true {
                steps += 1
                #expect(steps < 2000, "seed \(seed)")
                if steps >= 2000 { break }
                switch plan.step() {
                case .finish: break reading
                case .read(let offset):
                    #expect(offset >= fetchFrom, "seed \(seed)")
                    fetchFrom = offset
                case .carryOn: break
                }
                if fetchFrom > length {
                    plan.isOutside(start..<length)
                } else if let next = existing.first(where: { $0 >= fetchFrom }) {
                    plan.brought(record(next, bytes: bytes))
                    fetchFrom = next + 1
                } else {
                    plan.reached(end: length)
                }
            }
            for request in requests {
                let result = plan.result(for: request, of: TopicPartition("t", 0))
                if let last = request.last, last >= length {
                    guard case .failure = result else {
                        Issue.record("seed \(seed): \(request) should fail")
                        continue
                    }
                } else {
                    #expect(try result.get().map(\.offset) == request.filter { existing.contains($0) }, "seed \(seed)")
                }
            }
        }
    }
}

/// A generator whose sequence a seed fixes (Knuth's MMIX constants, high bits used).
private struct Linear: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        func half() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 32
        }
        return half() << 32 | half()
    }
}

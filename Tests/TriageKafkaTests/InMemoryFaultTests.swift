import Testing
import TriageEvents
import TriageTestKit

/// The faults that the test kit's broker injects: each as Kafka has it.
@Suite struct InMemoryFaultTests {
    private let broker = InMemoryBroker(clock: ManualClock())
    private let partition = TopicPartition("t", 0)

    init() { broker.createTopic("t", partitions: 1) }

    private func record(_ value: String) -> OutboundRecord {
        OutboundRecord(topic: "t", partition: 0, key: nil, value: ByteSlice(value))
    }

    private func consumer(_ group: String = "g", startsAtEnd: Bool = false) throws -> Reader {
        let reader = Reader(broker.consumer(group: group, startsAtEnd: startsAtEnd))
        try reader.subscribe("t")
        reader.poll(.zero)
        return reader
    }

    @Test func abortedRecordsTakeOffsetsAndAreNotDelivered() throws {
        let producer = broker.producer()
        try producer.produceAll([record("0"), record("1")])
        let aborted = broker.appendAborted([record("2"), record("3")])
        #expect(try aborted.map { try $0.get().offset } == [2, 3])
        try producer.produceAll([record("5")])
        broker.appendAborted([record("6")])
        let reader = try consumer()
        try reader.poll("the end") { reader.ends[partition] == 8 }
        #expect(reader.offsets(partition) == [0, 1, 5])
        #expect(try reader.consumer.watermarks(partition, timeout: .zero) == 0..<8)
        #expect(reader.consumer.knownEnd(of: partition) == 8)
        #expect(broker.records(in: "t").map(\.offset) == [0, 1, 5])
        #expect(broker.abortedRecords(in: "t").map(\.offset) == [2, 3, 6])
        #expect(try broker.reader().readAndWait([1, 2, 5, 7], of: partition).map(\.offset) == [1, 5])
    }

    @Test func trimmingMovesTheBeginning() throws {
        try broker.producer().produceAll((0..<10).map { record("\($0)") })
        let reader = try consumer()
        try reader.poll("the end") { reader.ends[partition] == 10 }
        broker.compact(partition, removing: [0, 1])
        #expect(broker.range(of: partition) == 0..<10)
        broker.trim(partition, before: 6)
        #expect(try reader.consumer.watermarks(partition, timeout: .zero) == 6..<10)
        #expect(try broker.inspector().watermarks(partition, timeout: .zero) == 6..<10)
        #expect(try broker.reader().readAndWait([3, 6], of: partition).map(\.offset) == [6])
        // Who begins before it begins at it, or at the end; a commit before it is none.
        #expect(try consumer("new").offsets(partition) == [6, 7, 8, 9])
        try reader.consumer.commitAndWait([OffsetCommit(partition, offset: 2)])
        reader.consumer.close()
        #expect(try consumer().offsets(partition) == [6, 7, 8, 9])
        let late = try consumer("late", startsAtEnd: true)
        #expect(late.offsets(partition) == [])
        // Past the end it stops, and offsets go on.
        broker.trim(partition, before: 100)
        #expect(broker.range(of: partition) == 10..<10)
        #expect(try broker.producer().produceAll([record("x")]).map(\.offset) == [10])
        late.poll(.zero)
        #expect(late.offsets(partition) == [10])
    }

    @Test func aConsumerThatIsOvertakenByRetentionStartsAnew() throws {
        try broker.producer().produceAll((0..<10).map { record("\($0)") })
        let reader = try consumer()
        reader.records = []
        broker.trim(partition, before: 10)
        try broker.producer().produceAll((10..<30).map { record("\($0)") })
        broker.trim(partition, before: 20)
        reader.poll(.zero)
        #expect(reader.offsets(partition) == Array(20..<30))
    }

    @Test func heldProducesLandLateOrNever() throws {
        let producer = broker.producer()
        let results = Gathered<Result<Acknowledgement, BrokerError>>()
        func produce(_ value: String) throws { try producer.produce(record(value)) { results.append($0) } }
        broker.holdProduces()
        for value in ["a", "b", "c"] { try produce(value) }
        #expect(broker.heldProduces == 3)
        #expect(results.all.isEmpty)
        #expect(broker.end(of: partition) == 0)
        broker.landHeld(1)
        #expect(try results.all.map { try $0.get().offset } == [0])
        broker.dropHeld(1)
        guard case .failure(let error)? = results.all.last else { throw Overdue(what: "an error") }
        #expect(error.isRetriable && !error.isFatal)
        // The producer is closed: it says so at once, and the record lands all the same.
        producer.close()
        #expect(results.all.count == 3)
        broker.releaseProduces()
        #expect(results.all.count == 3)
        #expect(broker.records(in: "t").compactMap { $0.value?.utf8Text } == ["a", "c"])
        try broker.producer().produceAll([record("d")])
        #expect(broker.end(of: partition) == 3)
    }

    @Test func aLostAcknowledgementHidesAStoredRecord() throws {
        broker.loseNextAcknowledgements(1)
        #expect(throws: BrokerError.self) { try broker.producer().produceAll([record("a")]) }
        #expect(broker.records(in: "t").count == 1)
        #expect(try broker.producer().produceAll([record("a")]).map(\.offset) == [1])
        // What isn't stored loses none.
        broker.setMaximumRecordSize(3)
        broker.loseNextAcknowledgements(1, with: BrokerError("_TRANSPORT", operation: "produce"))
        let large = #expect(throws: BrokerError.self) { try broker.producer().produceAll([record("large")]) }
        #expect(large?.isTooLarge == true)
        let lost = #expect(throws: BrokerError.self) { try broker.producer().produceAll([record("b")]) }
        #expect(lost?.name == "_TRANSPORT")
        #expect(broker.end(of: partition) == 3)
    }

    @Test func headersCountForTheSizeOfARecord() throws {
        broker.setMaximumRecordSize(20)
        let small = OutboundRecord(topic: "t", partition: 0, key: nil, value: nil, headers: [Header("n", text: "0123456789")])
        try broker.producer().produceAll([small])
        let large = OutboundRecord(
            topic: "t", partition: 0, key: nil, value: ByteSlice("0123456789"), headers: [Header("n", text: "0123456789")])
        #expect(throws: BrokerError.self) { try broker.producer().produceAll([large]) }
    }

    @Test func commitsAreLostOrTooLarge() throws {
        broker.createTopic("u", partitions: 1)
        let reader = try consumer()
        broker.loseNextCommitAnswers(1)
        let lost = #expect(throws: BrokerError.self) {
            try reader.consumer.commitAndWait([OffsetCommit(partition, offset: 3, metadata: "m")])
        }
        #expect(lost?.isRetriable == true)
        #expect(broker.committed(group: "g")[partition]?.offset == 3)
        let large = OffsetCommit(partition, offset: 4, metadata: String(repeating: "m", count: 4097))
        #expect(throws: BrokerError("OFFSET_METADATA_TOO_LARGE", operation: "commit")) {
            try reader.consumer.commitAndWait([large])
        }
        let other = OffsetCommit(TopicPartition("u", 0), offset: 1, metadata: String(repeating: "m", count: 4096))
        try reader.consumer.commit([large, other])
        reader.poll(.zero)
        #expect(reader.commits.map(\.offsets) == [[other], [large]])
        #expect(reader.commits.map { $0.error?.name } == [nil, "OFFSET_METADATA_TOO_LARGE"])
        #expect(broker.committed(group: "g")[partition]?.offset == 3)
        broker.setMaximumMetadataSize(5000)
        try reader.consumer.commitAndWait([large])
    }

    @Test func anExpelledMemberLosesEverythingAndComesBack() throws {
        let reader = try consumer()
        broker.expel(reader.consumer)
        let error = #expect(throws: BrokerError.self) {
            try reader.consumer.commitAndWait([OffsetCommit(partition, offset: 0)])
        }
        #expect(error?.name == "UNKNOWN_MEMBER_ID")
        reader.poll(.zero)
        #expect(reader.assignments.lost == [[partition]])
        #expect(reader.assignments.revoked == [])
        #expect(reader.assignments.assigned == [[partition], [partition]])
        try reader.consumer.commitAndWait([OffsetCommit(partition, offset: 0)])
    }

    @Test func readsAreHeldAndFail() throws {
        try broker.producer().produceAll([record("a"), record("b"), record("c")])
        let reader = broker.reader()
        let results = Gathered<Result<[Record], BrokerError>>()
        broker.holdReads()
        for offset in 0..<3 { reader.read([Int64(offset)], of: partition) { results.append($0) } }
        #expect(broker.heldReads == 3)
        #expect(results.all.isEmpty)
        broker.compact(partition, removing: [1])
        broker.answerHeldReads(1)
        broker.failNextReads(1, with: BrokerError("_TRANSPORT", operation: "read", isRetriable: true))
        #expect(try results.all.map { try $0.get().map(\.offset) } == [[0]])
        broker.answerHeldReads(1)
        #expect(throws: BrokerError("_TRANSPORT", operation: "read", isRetriable: true)) { try results.all[1].get() }
        reader.read([0, 1, 2], of: partition) { results.append($0) }
        broker.releaseReads()
        // What is there when the answer is given.
        #expect(try results.all.dropFirst(2).map { try $0.get().map(\.offset) } == [[2], [0, 2]])
        #expect(try reader.readAndWait([2], of: partition).map(\.offset) == [2])
        broker.holdReads()
        reader.read([0], of: partition) { results.append($0) }
        reader.close()
        #expect(results.all.count == 5)
        broker.releaseReads()
        #expect(results.all.count == 5)
    }
}

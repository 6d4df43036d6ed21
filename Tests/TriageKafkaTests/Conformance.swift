import Synchronization
import Testing
import TriageEvents

/// Bodies that every implementation of the two ports must pass. Each makes its own topics and groups.
enum Conformance {
    static func carriesEveryByte(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(1)
        let producer = try broker.producer()
        defer { producer.close() }
        let headers: Headers = [
            Header("traceparent", text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Header("binary", ByteSlice([0, 255, 10, 0, 128])), Header("null", nil), Header("empty", ByteSlice([])),
            Header("twice", text: "first"), Header("twice", text: "second"), Header("ключ", text: "значение"),
        ]
        let sent = [
            OutboundRecord(topic: topic, partition: 0, key: ByteSlice("k"), value: ByteSlice("v"), headers: headers),
            OutboundRecord(topic: topic, partition: 0, key: ByteSlice("tombstone"), value: nil),
            OutboundRecord(topic: topic, partition: 0, key: ByteSlice("empty"), value: ByteSlice([])),
            OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice([0, 1, 2, 0])),
            OutboundRecord(topic: topic, partition: 0, key: ByteSlice([]), value: nil, headers: [Header("only", nil)]),
        ]
        let acknowledged = try producer.produceAll(sent)
        #expect(acknowledged == (0..<5).map { Acknowledgement(partition: 0, offset: $0) })

        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("five records") { reader.records.count == 5 }
        for (record, sent) in zip(reader.records, sent) {
            #expect(record.topic == topic)
            #expect(record.partition == 0)
            #expect(record.key == sent.key)
            #expect(record.value == sent.value)
            #expect(Array(record.headers) == Array(sent.headers))
        }
        #expect(reader.records.map(\.offset) == [0, 1, 2, 3, 4])
        let first = try #require(reader.records.first)
        #expect(first.headers == headers)
        #expect(try #require(first.timestamp) > Timestamp(milliseconds: 1_700_000_000_000))
        #expect(reader.records[1].value == nil)
        #expect(try #require(reader.records[2].value).isEmpty)
        #expect(reader.records[3].key == nil)
    }

    static func keepsOrderAndReportsEnds(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(3)
        let producer = try broker.producer()
        defer { producer.close() }
        // Partition 2 stays empty.
        try producer.produceAll(
            (0..<2000).map {
                OutboundRecord(topic: topic, partition: Int32($0 % 2), key: nil, value: ByteSlice("\($0)"))
            }
        )
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("all records and ends") { reader.records.count >= 2000 && reader.ends.count == 3 }
        for partition in 0..<2 {
            let values = reader.records.filter { $0.partition == Int32(partition) }.compactMap { $0.value?.utf8Text }
            #expect(values == stride(from: partition, to: 2000, by: 2).map(String.init))
            #expect(reader.ends[TopicPartition(topic, Int32(partition))] == 1000)
        }
        #expect(reader.ends[TopicPartition(topic, 2)] == 0)
        #expect(try reader.consumer.watermarks(TopicPartition(topic, 1), timeout: patience) == 0..<1000)
        #expect(try reader.consumer.watermarks(TopicPartition(topic, 2), timeout: patience) == 0..<0)
    }

    static func knowsEndsWithoutAsking(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let (main, empty) = (TopicPartition(topic, 0), TopicPartition(topic, 1))
        let producer = try broker.producer()
        defer { producer.close() }
        func produce(_ count: Int) throws {
            let record = OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice("x"))
            try producer.produceAll(Array(repeating: record, count: count))
        }
        try produce(30)
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("both ends") { reader.ends.count == 2 }
        #expect(reader.consumer.knownEnd(of: main) == 30)
        #expect(reader.consumer.knownEnd(of: empty) == 0)
        // What isn't taken yet counts: the end is the partition's, not the reader's.
        try produce(1200)
        try reader.poll("the new end") { reader.consumer.knownEnd(of: main) == 1230 }
        #expect(reader.consumer.knownEnd(of: TopicPartition(topic, 7)) == nil)
    }

    static func inspects(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let (main, empty) = (TopicPartition(topic, 0), TopicPartition(topic, 1))
        let producer = try broker.producer()
        defer { producer.close() }
        try producer.produceAll((0..<5).map { OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice("\($0)")) })
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("five records") { reader.records.count == 5 }
        let inspector = try broker.makeInspector()
        #expect(try inspector.watermarks(main, timeout: patience) == 0..<5)
        #expect(try inspector.watermarks(empty, timeout: patience) == 0..<0)
        func read(_ range: Range<Int64>, atMost limit: Int = .max) throws -> [Record] {
            var records: [Record] = []
            try inspector.scan(main, range, timeout: patience) { record in
                records.append(record)
                return records.count < limit
            }
            return records
        }
        // Twice, and from the middle: each look stands for itself.
        for _ in 0..<2 {
            let first = try read(0..<5, atMost: 1)
            #expect(first.map(\.offset) == [0] && first[0].timestamp == reader.records.first?.timestamp)
        }
        #expect(try read(1..<4).map(\.offset) == [1, 2, 3] && read(4..<5).map(\.timestamp) == [reader.records.last?.timestamp])
        #expect(throws: BrokerError.self) { try inspector.watermarks(TopicPartition(topic, 7), timeout: .seconds(2)) }
    }

    static func pausesWithoutLossOrRewind(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let paused = TopicPartition(topic, 0)
        let other = TopicPartition(topic, 1)
        let producer = try broker.producer()
        defer { producer.close() }
        func produce(_ range: Range<Int>) throws {
            try producer.produceAll(
                range.flatMap { number in
                    (0..<2).map { OutboundRecord(topic: topic, partition: $0, key: nil, value: ByteSlice("\(number)")) }
                }
            )
        }
        try produce(0..<400)
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        let deadline = ContinuousClock.now + patience
        while reader.offsets(paused).count < 10, ContinuousClock.now < deadline { reader.poll(maximum: 7) }
        try reader.consumer.pause([paused])
        try reader.consumer.pause([paused, paused])
        let before = reader.offsets(paused).count
        try produce(400..<500)
        try reader.poll("the other partition") { reader.offsets(other).count == 500 }
        #expect(reader.offsets(paused).count == before)
        // The other one was never paused: resuming it must not rewind it.
        try reader.consumer.resume([other, paused])
        try reader.consumer.resume([other, paused])
        try reader.poll("the paused partition") { reader.offsets(paused).count >= 500 && reader.ends.count == 2 }
        try produce(500..<501)
        try reader.poll("one more of each") { reader.offsets(paused).last == 500 && reader.offsets(other).last == 500 }
        #expect(reader.offsets(paused) == Array(0...500))
        #expect(reader.offsets(other) == Array(0...500))
    }

    static func pausesWhileBeingAssigned(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let producer = try broker.producer()
        defer { producer.close() }
        let records = (0..<100).map {
            OutboundRecord(topic: topic, partition: Int32($0 % 2), key: nil, value: ByteSlice("\($0)"))
        }
        try producer.produceAll(records)
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        let paused = TopicPartition(topic, 0)
        var failure: BrokerError?
        reader.assignments.onAssigned = { _, consumer in
            do throws(BrokerError) { try consumer.pause([paused]) } catch { failure = error }
            return [:]
        }
        try reader.subscribe(topic)
        try reader.poll("the other partition") { reader.offsets(TopicPartition(topic, 1)).count == 50 && reader.ends.count == 1 }
        #expect(failure == nil)
        #expect(reader.errors == [])
        #expect(reader.offsets(paused) == [])
        try reader.consumer.resume([paused])
        try reader.poll("the paused partition") { reader.offsets(paused).count == 50 }
        #expect(reader.offsets(paused) == Array(0..<50))
    }

    static func keepsCommitsWithMetadata(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(3)
        let producer = try broker.producer()
        defer { producer.close() }
        try producer.produceAll(
            (0..<30).map { OutboundRecord(topic: topic, partition: Int32($0 % 3), key: nil, value: ByteSlice("\($0)")) }
        )
        let group = unique("group")
        let commits = [
            OffsetCommit(TopicPartition(topic, 0), offset: 4, metadata: "v1:5,7-9"),
            OffsetCommit(TopicPartition(topic, 1), offset: 10, metadata: String(repeating: "m", count: 4000)),
        ]
        let first = Reader(try broker.consumer(group))
        try first.subscribe(topic)
        try first.poll("all records") { first.records.count == 30 }
        #expect(try first.consumer.committed([commits[0].topicPartition], timeout: patience).isEmpty)
        try first.consumer.commit([commits[0]])
        try first.poll("the result of the commit") { first.commits.count == 1 }
        #expect(first.commits.first?.offsets == [commits[0]])
        #expect(first.commits.first?.error == nil)
        try first.consumer.commitAndWait([commits[1]])
        first.consumer.close()

        let second = Reader(try broker.consumer(group))
        defer { second.consumer.close() }
        var seen: [TopicPartition: OffsetCommit]?
        second.assignments.onAssigned = { partitions, consumer in
            do throws(BrokerError) {
                seen = try consumer.committed(partitions, timeout: patience)
                // The broker takes a commit in the middle of an assignment.
                try consumer.commitAndWait([OffsetCommit(TopicPartition(topic, 2), offset: 0, metadata: "start")])
            } catch {
                Issue.record(error)
            }
            return [:]
        }
        try second.subscribe(topic)
        try second.poll("what was not committed") { second.records.count >= 16 && second.ends.count == 3 }
        #expect(seen == [commits[0].topicPartition: commits[0], commits[1].topicPartition: commits[1]])
        #expect(second.offsets(TopicPartition(topic, 0)) == Array(4..<10))
        #expect(second.offsets(TopicPartition(topic, 1)) == [])
        #expect(second.offsets(TopicPartition(topic, 2)) == Array(0..<10))
        let started = try second.consumer.committed([TopicPartition(topic, 2)], timeout: patience)
        #expect(started.values.map(\.metadata) == ["start"])
    }

    static func startsWhereTheObserverSays(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(3)
        let producer = try broker.producer()
        defer { producer.close() }
        func records(_ range: Range<Int>) -> [OutboundRecord] {
            range.flatMap { number in
                (0..<3).map { OutboundRecord(topic: topic, partition: $0, key: nil, value: ByteSlice("\(number)")) }
            }
        }
        try producer.produceAll(records(0..<10))
        let reader = Reader(try broker.makeConsumer(unique("group"), true))
        defer { reader.consumer.close() }
        reader.assignments.onAssigned = { _, _ in
            [TopicPartition(topic, 0): .beginning, TopicPartition(topic, 1): .offset(6), TopicPartition(topic, 2): .committed]
        }
        try reader.subscribe(topic)
        try reader.poll("the ends") { reader.ends.count == 3 }
        try producer.produceAll(records(10..<11))
        try reader.poll("the new records") { (0..<3).allSatisfy { reader.offsets(TopicPartition(topic, $0)).last == 10 } }
        #expect(reader.offsets(TopicPartition(topic, 0)) == Array(0...10))
        #expect(reader.offsets(TopicPartition(topic, 1)) == Array(6...10))
        #expect(reader.offsets(TopicPartition(topic, 2)) == [10])
    }

    static func sharesPartitions(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(4)
        let retry = try await broker.createTopic(4)
        let group = unique("group")
        let producer = try broker.producer()
        defer { producer.close() }
        let first = Reader(try broker.consumer(group))
        defer { first.consumer.close() }
        var handedOver = false
        first.assignments.onRevoked = { partitions, consumer in
            // A commit made here still counts, if the broker takes it.
            do throws(BrokerError) {
                try consumer.commitAndWait(partitions.map { OffsetCommit($0, offset: 0, metadata: "handed over") })
                handedOver = true
            } catch {
                #expect(!broker.takesCommitsWhileRebalancing, "\(error)")
                #expect(["REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION"].contains(error.name))
            }
        }
        try first.subscribe(topic, retry)
        let all = Set((0..<4).flatMap { [TopicPartition(topic, $0), TopicPartition(retry, $0)] })
        try first.poll("everything") { first.assignments.current == all }
        #expect(first.assignments.revoked.isEmpty)
        // Paused before the rebalance: must not come back paused.
        try first.consumer.pause(Array(all))

        let second = Reader(try broker.consumer(group))
        var inherited: [TopicPartition: OffsetCommit] = [:]
        second.assignments.onAssigned = { partitions, consumer in
            do throws(BrokerError) { inherited = try consumer.committed(partitions, timeout: patience) } catch {
                Issue.record(error)
            }
            return [:]
        }
        try second.subscribe(topic, retry)
        try first.poll("a share for both", with: second) {
            first.assignments.current.count == 4 && second.assignments.current.count == 4
        }
        #expect(first.assignments.revoked.first.map(Set.init) == all)
        #expect(first.assignments.lost.isEmpty)
        #expect(first.assignments.current.isDisjoint(with: second.assignments.current))
        // The range assignor: partitions of one number go to one member.
        for reader in [first, second] {
            let numbers = [topic, retry].map { name in
                Set(reader.assignments.current.filter { $0.topic == name }.map(\.partition))
            }
            #expect(numbers[0] == numbers[1])
        }
        if handedOver {
            #expect(Set(inherited.values.map(\.offset)) == [0])
            #expect(Set(inherited.values.map(\.metadata)) == ["handed over"])
        }

        try producer.produceAll(
            (0..<12).map { OutboundRecord(topic: topic, partition: $0 % 4, key: nil, value: ByteSlice("\($0)")) }
        )
        try first.poll("the last record of each partition", with: second) {
            Set((first.records + second.records).filter { $0.offset == 2 }.map(\.topicPartition)).count == 4
        }
        #expect(Set(first.records.map(\.topicPartition)) == first.assignments.current.filter { $0.topic == topic })
        #expect(Set(second.records.map(\.topicPartition)) == second.assignments.current.filter { $0.topic == topic })
        for partition in (0..<4).map({ TopicPartition(topic, $0) }) {
            #expect(first.offsets(partition) + second.offsets(partition) == [0, 1, 2])
        }

        // The second leaves: the first gets everything back.
        first.assignments.onRevoked = nil
        second.consumer.close()
        #expect(second.assignments.revoked.last?.count == 4)
        try first.poll("everything again") { first.assignments.current == all }
    }

    static func dropsWhatWasTakenAway(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let group = unique("group")
        let producer = try broker.producer()
        defer { producer.close() }
        let first = Reader(try broker.consumer(group))
        defer { first.consumer.close() }
        try first.subscribe(topic)
        try first.poll("the ends") { first.ends.count == 2 }
        try producer.produceAll((0..<100).map { OutboundRecord(topic: topic, partition: $0 % 2, key: nil, value: nil) })
        let second = Reader(try broker.consumer(group))
        try second.subscribe(topic)
        // Meanwhile records lie ready for the first, and behind them the revocation: one poll takes both.
        for _ in 0..<10 { second.poll(.milliseconds(100)) }
        try first.poll("a share for both", with: second) {
            first.assignments.current.count == 1 && second.assignments.current.count == 1
        }
        // Nothing was committed, so the owners read everything from the start, once.
        first.records = []
        second.records = []
        try producer.produceAll((0..<2).map { OutboundRecord(topic: topic, partition: $0, key: nil, value: nil) })
        try first.poll("the last records", with: second) { first.records.last?.offset == 50 && second.records.last?.offset == 50 }
        for reader in [first, second] {
            let offsets = reader.records.map(\.offset)
            #expect(offsets == Array(0...50).suffix(offsets.count))
        }
        second.consumer.close()
    }

    /// Readers see all of a transaction once it is committed, nothing of one that was aborted or is open, and nothing behind it.
    static func commitsAllOrNothing(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let transactions = try broker.makeTransactions(unique("operator"))
        defer { transactions.close() }
        let plain = try broker.producer()
        defer { plain.close() }
        func record(_ text: String, _ partition: Int32) -> OutboundRecord {
            OutboundRecord(topic: topic, partition: partition, key: nil, value: ByteSlice(text))
        }
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try await transactions.initialise()
        try await transactions.begin()
        try transactions.produceAll([record("a", 0), record("b", 1)])
        try await transactions.commit()
        try reader.poll("both of the first") { reader.records.count == 2 }
        try await transactions.begin()
        try transactions.produceAll([record("never", 0)])
        try plain.produceAll([record("behind", 0)])
        reader.poll(.milliseconds(300))
        #expect(reader.records.count == 2, "what stands behind an open transaction isn't read yet")
        try await transactions.abort()
        try reader.poll("what stands behind") { reader.records.count == 3 }
        try await transactions.begin()
        try transactions.produceAll([record("c", 0), record("d", 1)])
        try await transactions.commit()
        guard broker.forgetsAbortedTransactions else {
            // Whether this reader sees the last ones isn't asked; one that begins before the aborted ones must.
            let fresh = Reader(try broker.consumer(unique("group")))
            defer { fresh.consumer.close() }
            try fresh.subscribe(topic)
            try fresh.poll("everything") { fresh.records.count == 5 }
            let values = fresh.records.compactMap { $0.value?.utf8Text }
            return #expect(values.sorted() == ["a", "b", "behind", "c", "d"])
        }
        try reader.poll("both of the last") { reader.records.count == 5 }
        let values = reader.records.compactMap { $0.value?.utf8Text }
        #expect(values.sorted() == ["a", "b", "behind", "c", "d"])
    }

    /// A scanner sees what is committed and nothing of what is open or was aborted, and every partition of the topics that exist.
    static func scansWhatIsCommitted(_ broker: BrokerUnderTest) async throws {
        guard let makeScanner = broker.makeScanner else { return }
        let topic = try await broker.createTopic(2)
        let scanner = try makeScanner()
        defer { scanner.close() }
        let plain = try broker.producer()
        defer { plain.close() }
        func record(_ text: String, _ partition: Int32) -> OutboundRecord {
            OutboundRecord(topic: topic, partition: partition, key: nil, value: ByteSlice(text))
        }
        func read() async throws -> [String] {
            let marks = try await scanner.watermarks(of: [topic, unique("missing")])
            #expect(Set(marks.keys) == [TopicPartition(topic, 0), TopicPartition(topic, 1)])
            return try await scanner.scan(marks, into: [String]()) { texts, record in
                texts.append(record.value?.utf8Text ?? "")
                return true
            }.sorted()
        }
        #expect(try await read().isEmpty)
        try plain.produceAll([record("a", 0), record("b", 1)])
        #expect(try await read() == ["a", "b"])
        let id = unique("operator")
        let first = try broker.makeTransactions(id)
        defer { first.close() }
        try await first.initialise()
        try await first.begin()
        try first.produceAll([record("never", 0)])
        #expect(try await read() == ["a", "b"])
        // Another one takes over: what was open is aborted, and what it commits is seen.
        let second = try broker.makeTransactions(id)
        defer { second.close() }
        try await second.initialise()
        try await second.begin()
        try second.produceAll([record("c", 0), record("d", 1)])
        try await second.commit()
        #expect(try await read() == ["a", "b", "c", "d"])
        // What looks at partitions comes to the end where that is a transaction's marker, instead of waiting for a record.
        let inspector = try broker.makeInspector()
        var texts: [String] = []
        for number: Int32 in 0..<2 {
            let partition = TopicPartition(topic, number)
            let marks = try inspector.watermarks(partition, timeout: patience)
            for start in [marks.lowerBound, marks.upperBound - 1] {
                try inspector.scan(partition, start..<marks.upperBound, timeout: patience) { record in
                    texts.append(record.value?.utf8Text ?? "")
                    return true
                }
            }
        }
        #expect(Set(texts) == ["a", "b", "c", "d"])
    }

    /// Of two producers of one transactional id the later one goes on, the earlier one is told that it is fenced.
    static func fencesTheProducerBefore(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(1)
        let id = unique("operator")
        let record = OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice("v"))
        let first = try broker.makeTransactions(id)
        defer { first.close() }
        try await first.initialise()
        try await first.begin()
        try first.produceAll([record])
        let second = try broker.makeTransactions(id)
        defer { second.close() }
        try await second.initialise()
        try await second.begin()
        try second.produceAll([record])
        try await second.commit()
        let error = await #expect(throws: BrokerError.self) { try await first.commit() }
        #expect(error?.isFenced == true, "\(String(describing: error))")
    }

    static func wakes(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(1)
        let reader = Reader(try broker.consumer(unique("group")))
        try reader.subscribe(topic)
        try reader.poll("the end") { reader.ends.count == 1 }
        let waker = reader.consumer.waker
        // Before the poll as well as during it: if either is missed, the test runs into its time limit.
        waker()
        reader.poll(.seconds(3600))
        let waiting = Task.detached { waker() }
        reader.poll(.seconds(3600))
        await waiting.value
        reader.consumer.close()
        waker()
        #expect(throws: BrokerError.self) { try reader.consumer.commit([OffsetCommit(TopicPartition(topic, 0), offset: 0)]) }
    }

    static func completesEverythingThroughASmallQueue(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(1)
        let producer = try broker.makeProducer(20)
        defer { producer.close() }
        let results = Gathered<(Int, Result<Acknowledgement, BrokerError>)>()
        let writable = Gathered<Void>()
        var waits = 0
        for number in 0..<1000 {
            while true {
                do throws(BrokerError) {
                    try producer.produce(OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice("\(number)"))) {
                        results.append((number, $0))
                    }
                    break
                } catch {
                    guard error.isQueueFull else { throw error }
                    #expect(error.isRetriable)
                    waits += 1
                    producer.whenWritable { writable.append(()) }
                    _ = try writable.wait(for: waits, "calls of whenWritable")
                }
            }
        }
        let all = try results.wait(for: 1000, "acknowledgements")
        #expect((waits > 0) == broker.queues)
        #expect(all.count == 1000)
        #expect(try all.sorted { $0.0 < $1.0 }.map { try $0.1.get().offset } == Array(0..<1000))
        // With nothing queued there is room at once.
        producer.whenWritable { writable.append(()) }
        _ = try writable.wait(for: waits + 1, "calls of whenWritable")
    }

    static func failsUnknownPartition(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(2)
        let producer = try broker.producer()
        defer { producer.close() }
        let results = Gathered<Result<Acknowledgement, BrokerError>>()
        do throws(BrokerError) {
            try producer.produce(OutboundRecord(topic: topic, partition: 7, key: nil, value: nil)) { results.append($0) }
        } catch {
            results.append(.failure(error))
        }
        let result = try #require(try results.wait(for: 1, "results").first)
        #expect(throws: BrokerError("_UNKNOWN_PARTITION", operation: "produce \(topic)")) { try result.get() }
    }

    static func partitionsAsJavaDoes(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(5)
        let producer = try broker.producer()
        defer { producer.close() }
        let keys =
            ["21", "foobar", "a-little-bit-long-string", "abc", "a1b2c3d4-0000-4000-8000-000000000001"]
            + (0..<40).map { "patient-\($0)" }
        let acknowledged = try producer.produceAll(keys.map { OutboundRecord(topic: topic, key: ByteSlice($0), value: nil) })
        let expected = keys.map { Int32((Int64(murmur2($0)) & 0x7FFF_FFFF) % 5) }
        #expect(acknowledged.map(\.partition) == expected)
        #expect(Set(expected).count == 5)
    }

    static func flushesAndCloses(_ broker: BrokerUnderTest) async throws {
        let topic = try await broker.createTopic(1)
        let producer = try broker.producer()
        let results = Gathered<Result<Acknowledgement, BrokerError>>()
        for number in 0..<100 {
            try producer.produce(OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice("\(number)"))) {
                results.append($0)
            }
        }
        #expect(await producer.flush(timeout: patience))
        #expect(results.all.count == 100)
        #expect(await producer.flush(timeout: .zero))
        try producer.produce(OutboundRecord(topic: topic, partition: 0, key: nil, value: nil)) { results.append($0) }
        producer.close()
        #expect(results.all.count == 101)
        producer.close()
        #expect(throws: BrokerError.self) {
            try producer.produce(OutboundRecord(topic: topic, key: nil, value: nil)) { results.append($0) }
        }
        let writable = Gathered<Void>()
        producer.whenWritable { writable.append(()) }
        _ = try writable.wait(for: 1, "calls of whenWritable")
        #expect(await producer.flush(timeout: .zero))
        #expect(results.all.count == 101)
    }
}

/// Java's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`, seed 0x9747b28c), written down from its definition
/// (Austin Appleby, MurmurHash2), as a check of the client's own.
func murmur2(_ text: String) -> Int32 {
    let bytes = Array(text.utf8)
    let m: UInt32 = 0x5BD1_E995
    var hash = 0x9747_B28C ^ UInt32(bytes.count)
    var index = 0
    while index + 4 <= bytes.count {
        var word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[index + $1]) << UInt32(8 * $1) }
        word = word &* m
        word ^= word >> 24
        hash = hash &* m ^ word &* m
        index += 4
    }
    if index < bytes.count {
        for (shift, byte) in bytes[index...].enumerated() { hash ^= UInt32(byte) << UInt32(8 * shift) }
        hash = hash &* m
    }
    hash ^= hash >> 13
    hash = hash &* m
    hash ^= hash >> 15
    return Int32(bitPattern: hash)
}

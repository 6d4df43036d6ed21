import Testing
import TriageEvents
import TriageProcessing

@testable import Triage

@Suite("What a console knows of dead letters")
struct ConsoleIndexTests {
    private let partition = TopicPartition("fhir.Patient.created.dlq", 0)

    @Test("Only what came since is read, of each partition the newest, and what retention took is forgotten")
    func survey() {
        var index = LetterIndex(group: nil)
        let other = TopicPartition("fhir.Patient.created.dlq", 1)
        let first = index.survey([partition: 0..<10, other: 0..<0])
        #expect(first == [partition: 0..<10])
        for offset in 0..<10 as Range<Int64> { index.add(deadLetter(offset)) }
        index.settle(DeadLetterStates())
        #expect(index.rows.map(\.offset) == Array((0..<10).reversed()) && !index.isCut && index.total == 10)
        let second = index.survey([partition: 0..<10, other: 0..<0])
        #expect(second.isEmpty)
        let third = index.survey([partition: 4..<12, other: 0..<3])
        #expect(third == [partition: 10..<12, other: 0..<3])
        #expect(index.rows.map(\.offset) == [9, 8, 7, 6, 5, 4])
        // Deleted and made anew.
        let fourth = index.survey([partition: 0..<2])
        #expect(fourth == [partition: 0..<2] && index.rows.isEmpty)
        var large = LetterIndex(group: nil)
        let ranges = large.survey([partition: 0..<1_000_000, other: 5..<9])
        // What one partition doesn't need is another's.
        #expect(ranges == [partition: 900_004..<1_000_000, other: 5..<9])
        #expect(large.total == 1_000_004 && large.isCut)
        // Retention took what wasn't known.
        _ = large.survey([partition: 900_004..<1_000_000, other: 5..<9])
        #expect(!large.isCut)
    }

    @Test("As many for each partition, and what small ones leave for the others; never more than there is room for")
    func shares() {
        func shares(_ capacity: Int, _ counts: [Int]) -> [Int] {
            let all = Dictionary(
                uniqueKeysWithValues: counts.enumerated().map { (TopicPartition("t", Int32($0.offset)), $0.element) })
            let found = LetterIndex.shares(of: capacity, all)
            return counts.indices.map { found[TopicPartition("t", Int32($0))] ?? -1 }
        }
        #expect(
            shares(100, [1000]) == [100] && shares(100, [10, 1000, 0]) == [10, 90, 0] && shares(100, [20, 30]) == [20, 30])
        #expect(shares(100, [50, 50, 50]) == [33, 33, 34] && shares(100, []) == [])
    }

    @Test("Markers of transactions are no dead letters that aren't known; one that is too many is")
    func markers() {
        var index = LetterIndex(group: nil, capacity: 100)
        _ = index.survey([partition: 0..<10])
        for offset in 0..<5 as Range<Int64> { index.add(deadLetter(offset)) }
        index.settle(DeadLetterStates())
        #expect(!index.isCut && index.rows.count == 5)
        // More came since than are known at most, each of them read in time.
        for step in 0..<5 as Range<Int64> {
            let reach = 10 + step * 30
            #expect(index.survey([partition: 0..<reach + 30]) == [partition: reach..<reach + 30])
            for offset in reach..<reach + 30 { index.add(deadLetter(offset)) }
            index.settle(DeadLetterStates())
        }
        #expect(index.isCut && index.rows.count == 100)
    }

    @Test("The console and the command find the same states: copies, other groups, other dialects, in any order")
    func sameStates() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = Seeded(seed)
        for _ in 0..<60 {
            var index = LetterIndex(group: "care")
            _ = index.survey([partition: 0..<40])
            var records: [Record] = []
            for offset in 0..<40 as Range<Int64> {
                let origin = Int64.random(in: 0..<25, using: &random)
                var record = deadLetter(offset, key: "p\(origin)", origin: origin)
                if Int.random(in: 0..<4, using: &random) == 0 {
                    record = Record(
                        topic: record.topic, partition: 0, offset: offset, timestamp: record.timestamp, key: record.key,
                        value: record.value,
                        headers: Headers([
                            Header("kafka_dlt-original-topic", text: "orders"),
                            Header("kafka_dlt-original-consumer-group", text: "shop"),
                        ]))
                }
                records.append(record)
                index.add(record)
            }
            var states = DeadLetterStates()
            for time in 0..<30 as Range<Int64> {
                guard let record = records.randomElement(using: &random),
                    let status = DeadLetterState.Status.allCases.randomElement(using: &random)
                else { continue }
                let letter = DeadLetter(record)
                states.set(
                    DeadLetterKey(
                        group: ["care", "shop", "else"].randomElement(using: &random) ?? "", position: record.position),
                    DeadLetterState(
                        status, time: Timestamp(milliseconds: time), by: "ann", origin: letter.origin, follows: letter.replay,
                        lane: letter.key.map { DeadLetterState.lane(of: $0) }))
            }
            index.settle(states)
            for row in index.rows {
                let letter = DeadLetter(records[Int(row.offset)])
                let expected = states.state(of: letter, group: "care")?.status ?? .open
                #expect(row.status == expected, "seed \(seed), offset \(row.offset)")
            }
        }
    }

    @Test("Copies of a dead letter count once; states are those of the group")
    func copies() {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<4])
        for (offset, origin) in [(0, 7), (1, 8), (2, 7), (3, 7)] as [(Int64, Int64)] {
            index.add(deadLetter(offset, key: "patient-\(origin)", origin: origin))
        }
        var states = DeadLetterStates()
        let place = RecordPosition(topic: partition.topic, partition: 0, offset: 1)
        states.set(
            DeadLetterKey(group: "care", position: place),
            DeadLetterState(.discarded, time: Timestamp(milliseconds: 0), by: "ann"))
        states.set(
            DeadLetterKey(group: "other", position: index.position(index.rows[0])),
            DeadLetterState(.completed, time: Timestamp(milliseconds: 0), by: "x"))
        index.settle(states)
        #expect(
            index.rows.map(\.offset) == [1, 0] && index.rows.map(\.copies) == [0, 2]
                && index.rows.map(\.status) == [.discarded, .open])
        #expect(!index.isCut)
        #expect(index.list(LetterQuery(), from: 0, limit: 10).rows.map(\.offset) == [0])
    }

    @Test("A copy whose own state was forgotten, or is older than the outcome of its replay, has that of the other one")
    func copyStates() {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<2])
        for offset in 0..<2 as Range<Int64> { index.add(deadLetter(offset)) }
        var states = DeadLetterStates()
        func set(_ offset: Int64, _ status: DeadLetterState.Status, replay: String? = nil) {
            states.set(
                DeadLetterKey(group: "care", position: RecordPosition(topic: partition.topic, partition: 2, offset: offset)),
                DeadLetterState(
                    status, time: Timestamp(milliseconds: 1), by: "x", replay: replay,
                    origin: RecordPosition(topic: "fhir.Patient.created", partition: 0, offset: offset)))
        }
        set(0, .discarded)
        index.settle(states)
        #expect(index.rows.map(\.status) == [.open, .discarded])
        set(1, .replayed, replay: "r")
        states.set(
            DeadLetterKey(group: "care", position: RecordPosition(topic: partition.topic, partition: 0, offset: 1)),
            DeadLetterState(.replayed, time: Timestamp(milliseconds: 1), by: "ann", replay: "r"))
        index.settle(states)
        #expect(index.rows.map(\.status) == [.replayed, .discarded])
        set(1, .completed, replay: "r")
        index.settle(states)
        #expect(index.rows.map(\.status) == [.completed, .discarded])
    }

    @Test("Groups by fingerprint: counts, patients, times, the newest as example; filters and pages")
    func groups() throws {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<30])
        for offset in 0..<30 as Range<Int64> {
            let isOdd = offset % 3 == 0
            index.add(
                deadLetter(
                    offset, key: "p\(offset % 5)", fingerprint: isOdd ? "00000000000000bb" : "00000000000000aa",
                    error: isOdd ? "RetryableError http_503" : "RejectedError no_id",
                    errorClass: isOdd ? "transient" : "persistent"))
        }
        index.settle(DeadLetterStates())
        let groups = index.groups(LetterQuery())
        #expect(groups.map(\.count) == [20, 10] && groups.map(\.cause.fingerprint) == ["00000000000000aa", "00000000000000bb"])
        let first = try #require(groups.first)
        #expect(first.patients.count == 5 && first.example.offset == 29 && first.topics == ["fhir.Patient.created": 20])
        #expect(first.first == 1_700_000_001_000 && first.last == 1_700_000_029_000)
        var query = LetterQuery()
        query.errorClass = .transient
        let page = index.list(query, from: 8, limit: 5)
        #expect(page.count == 10 && page.rows.map(\.offset) == [3, 0])
        query.fingerprint = "00000000000000aa"
        #expect(index.list(query, from: 0, limit: 5).count == 0)
        query = LetterQuery()
        query.patient = LetterIndex.patient(ByteSlice("p3"))
        #expect(index.list(query, from: 0, limit: 5).count == 6)
        query = LetterQuery()
        query.since = Timestamp(milliseconds: 1_700_000_028_000)
        #expect(index.list(query, from: 0, limit: 5).count == 2)
        query.topic = "other.dlq"
        #expect(index.list(query, from: 0, limit: 5).count == 0)
    }

    @Test("Made-up fingerprints and groups are bounded")
    func bounds() {
        var index = LetterIndex(group: nil)
        _ = index.survey([partition: 0..<12_000])
        for offset in 0..<12_000 as Range<Int64> {
            let digits = String(offset, radix: 16)
            index.add(
                deadLetter(
                    offset, fingerprint: String(repeating: "0", count: 16 - digits.count) + digits,
                    more: [Header("triage-group", text: "g\(offset)")]))
        }
        index.settle(DeadLetterStates())
        #expect(index.causes.count == LetterIndex.maximumCauses + 1)
        #expect(index.groups(LetterQuery()).first?.cause.fingerprint == "other")
        #expect(index.group(index.rows[0]) == "-")
    }
}

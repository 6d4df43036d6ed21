import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Open retries, as they are found at rest")
struct OpenRetriesTests {
    static let main = TopicPartition("t", 0)
    static let retry = TopicPartition("t.retry", 0)

    static func record(
        _ offset: Int64, origin: Int64, retries: Int = 1, group: String? = "g", parkedBehind: String? = nil,
        originTopic: String = "t", replay: String? = nil
    ) -> Record {
        var headers = [Header("retryCount", text: "\(retries)"), Header("triage-origin", text: "\(originTopic)/0/\(origin)")]
        if let group { headers.append(Header("triage-group", text: group)) }
        if let replay { headers.append(Header("triage-replay", text: replay)) }
        if let parkedBehind { headers.append(Header("triage-parked-behind", text: parkedBehind)) }
        return Record(
            topic: "t.retry", partition: 0, offset: offset, timestamp: Timestamp(milliseconds: 1_700_000_000_000 + offset),
            key: nil,
            value: nil, headers: Headers(headers))
    }

    static func committed(_ offset: Int64?, _ completed: [Range<Int64>] = [], of partition: TopicPartition) -> CommittedPartition
    {
        guard let offset else { return CommittedPartition(nil) }
        let text = CommitMetadata(completed: completed).encoded(at: offset)
        return CommittedPartition(OffsetCommit(partition, offset: offset, metadata: text))
    }

    func open(main: Int64? = 100, _ done: [Range<Int64>] = [], retry: Int64? = 0, _ retried: [Range<Int64>] = []) -> OpenRetries {
        OpenRetries(
            group: "g",
            commits: [
                Self.main: Self.committed(main, done, of: Self.main), Self.retry: Self.committed(retry, retried, of: Self.retry),
            ])
    }

    func offsets(_ open: OpenRetries, owned: Bool = false) -> [Int64] {
        open.entries { _ in owned }.map(\.position.offset)
    }

    @Test("what the group has completed isn't open: before its committed offset, or told in the commit")
    func complete() {
        var found = open(retry: 5, [7..<9])
        #expect(found.add(Self.record(4, origin: 1)) == .complete)
        #expect(found.add(Self.record(5, origin: 2)) == .open)
        #expect(found.add(Self.record(7, origin: 3)) == .complete)
        #expect(found.add(Self.record(8, origin: 4)) == .complete)
        #expect(found.add(Self.record(9, origin: 5)) == .open)
        #expect(offsets(found) == [5, 9])
    }

    @Test("of several of one origin the highest retry count stands, of equal ones the last")
    func superseded() {
        var found = open()
        #expect(found.add(Self.record(0, origin: 1, retries: 1)) == .open)
        #expect(found.add(Self.record(1, origin: 1, retries: 2)) == .open)
        #expect(found.add(Self.record(2, origin: 1, retries: 1)) == .superseded)
        #expect(found.add(Self.record(3, origin: 1, retries: 2)) == .open)
        #expect(offsets(found) == [3] && found.superseded == 3)
        let origin = RecordPosition(topic: "t", partition: 0, offset: 1)
        #expect(found.isOpen(RecordPosition(topic: "t.retry", partition: 0, offset: 3), origin: origin))
        #expect(!found.isOpen(RecordPosition(topic: "t.retry", partition: 0, offset: 1), origin: origin))
    }

    @Test("an origin that main will bring again voids its retry records, unless their writer lives")
    func unsettled() {
        var found = open(main: 10, [12..<13])
        for (offset, origin) in [(0, 9), (1, 10), (2, 11), (3, 12), (4, 13)] as [(Int64, Int64)] {
            #expect(found.add(Self.record(offset, origin: origin)) == .open)
        }
        #expect(offsets(found) == [0, 3])
        #expect(offsets(found, owned: true) == [0, 1, 2, 3, 4])
        var never = open(main: nil)
        never.add(Self.record(0, origin: 0))
        #expect(offsets(never) == [] && offsets(never, owned: true) == [0])
    }

    @Test("a complete record says nothing about others of its origin: it may have been completed because it was void")
    func completeSaysNothing() {
        var found = open(retry: 5, [7..<8])
        #expect(found.add(Self.record(7, origin: 1, retries: 2)) == .complete)
        #expect(found.add(Self.record(8, origin: 1, retries: 1)) == .open)
        #expect(offsets(found, owned: true) == [8])
    }

    @Test("replays of one origin are open beside one another and beside its first retry, whatever main brings again")
    func replays() {
        var found = open(main: 0)
        let marks = EngineReplayTests.ids.map { "\($0) t.dlq/0/0" }
        #expect(found.add(Self.record(0, origin: 1, retries: 0, replay: marks[0])) == .open)
        #expect(found.add(Self.record(1, origin: 1, retries: 3)) == .open)
        #expect(found.add(Self.record(2, origin: 1, retries: 0, replay: marks[1])) == .open)
        #expect(found.add(Self.record(3, origin: 1, retries: 1, replay: marks[0])) == .open)
        #expect(found.superseded == 1)
        // Main brings the origin again, which voids only what isn't a replay.
        #expect(offsets(found) == [2, 3] && offsets(found, owned: true) == [1, 2, 3])
        let origin = RecordPosition(topic: "t", partition: 0, offset: 1)
        #expect(found.isOpen(RecordPosition(topic: "t.retry", partition: 0, offset: 3), origin: origin, replay: marks[0]))
        #expect(!found.isOpen(RecordPosition(topic: "t.retry", partition: 0, offset: 3), origin: origin, replay: marks[1]))
    }

    @Test("what retention took from main comes from nowhere but the retry topic")
    func retention() {
        var found = OpenRetries(group: "g", commits: [:], offsets: [Self.main: 5..<9])
        found.add(Self.record(0, origin: 4))
        found.add(Self.record(1, origin: 5))
        #expect(offsets(found) == [0])
    }

    @Test("an origin in another topic can't be brought again by this one")
    func elsewhere() {
        var found = open(main: nil)
        found.add(Self.record(0, origin: 5, originTopic: "other"))
        #expect(offsets(found) == [0])
    }

    @Test("another group's retries are passed over, those without a group taken")
    func groups() {
        var found = open()
        #expect(found.add(Self.record(0, origin: 1, group: "other")) == .foreign)
        #expect(found.add(Self.record(1, origin: 2, group: nil)) == .open)
        #expect(offsets(found) == [1])
    }

    @Test("what a commit says is complete, against counting: 500 commits")
    func committedPartition() {
        for seed in UInt64(0)..<500 {
            var random = SeededGenerator(seed)
            let offset = Int64.random(in: 0...50, using: &random)
            var ranges: [Range<Int64>] = []
            var at = offset + 1
            while Int.random(in: 0...5, using: &random) > 0 {
                let upper = at + .random(in: 1...4, using: &random)
                ranges.append(at..<upper)
                at = upper + .random(in: 1...4, using: &random)
            }
            let committed = Self.committed(offset, ranges, of: Self.main)
            for candidate in Int64(0)..<at + 5 {
                let expected = candidate < offset || ranges.contains { $0.contains(candidate) }
                #expect(committed.isComplete(candidate) == expected, "seed \(seed): \(candidate) of \(offset), \(ranges)")
            }
        }
    }

    @Test("foreign and damaged metadata count as none, and are told")
    func metadata() {
        let foreign = CommittedPartition(OffsetCommit(Self.main, offset: 5, metadata: "hello"))
        #expect(foreign.error == .foreign && foreign.offset == 5 && foreign.isComplete(4) && !foreign.isComplete(5))
        let text = CommitMetadata(completed: [7..<8]).encoded(at: 5)
        #expect(CommittedPartition(OffsetCommit(Self.main, offset: 5, metadata: text)).isComplete(7))
        let copied = CommittedPartition(OffsetCommit(Self.main, offset: 6, metadata: text))
        #expect(copied.error == .damaged && !copied.isComplete(7))
    }

    /// The rules again, by what they say and not by how they are worked out.
    struct Model {
        struct Retry {
            let offset: Int64
            let origin: Int64
            let retries: Int
            let group: String
        }
        var records: [Retry] = []

        func open(_ main: (Int64) -> Bool, _ retry: (Int64) -> Bool, owned: Bool) -> [Int64] {
            let candidates = records.filter { $0.group == "g" && !retry($0.offset) }
            return candidates.filter { one in
                guard owned || main(one.origin) else { return false }
                return !candidates.contains { other in
                    guard other.origin == one.origin else { return false }
                    return other.retries > one.retries || (other.retries == one.retries && other.offset > one.offset)
                }
            }.map(\.offset).sorted()
        }
    }

    @Test("against a naive model: 2,000 topics")
    func random() {
        for seed in UInt64(0)..<2000 {
            var random = SeededGenerator(seed)
            let main = Self.committed(.random(in: 0...12, using: &random), [13..<15, 17..<18], of: Self.main)
            let retry = Self.committed(.random(in: 0...5, using: &random), [7..<9], of: Self.retry)
            var found = OpenRetries(group: "g", commits: [Self.main: main, Self.retry: retry])
            var model = Model()
            for offset in Int64(0)..<Int64.random(in: 0...25, using: &random) {
                let one = Model.Retry(
                    offset: offset, origin: .random(in: 0...20, using: &random), retries: .random(in: 0...3, using: &random),
                    group: Int.random(in: 0...6, using: &random) == 0 ? "other" : "g")
                model.records.append(one)
                found.add(Self.record(offset, origin: one.origin, retries: one.retries, group: one.group))
            }
            for owned in [false, true] {
                let expected = model.open(main.isComplete, retry.isComplete, owned: owned)
                #expect(offsets(found, owned: owned).sorted() == expected, "seed \(seed), owned \(owned)")
            }
        }
    }
}

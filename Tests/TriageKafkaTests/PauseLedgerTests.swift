import Testing
import TriageEvents

@testable import TriageKafka

@Suite struct PauseLedgerTests {
    private let a = TopicPartition("t", 0)
    private let b = TopicPartition("t", 1)

    private func record(_ partition: TopicPartition, _ offset: Int64) -> Record {
        Record(topic: partition.topic, partition: partition.partition, offset: offset, timestamp: nil, key: nil, value: nil)
    }

    private func batch(_ positions: [(TopicPartition, Int64)], ends: [(TopicPartition, Int64)] = []) -> PolledBatch {
        var batch = PolledBatch()
        batch.records = positions.map { record($0.0, $0.1) }
        batch.ends = ends.map { (partition: $0.0, offset: $0.1) }
        return batch
    }

    private func started() -> PauseLedger {
        var ledger = PauseLedger()
        ledger.assign([a, b])
        var first = batch([(a, 0)], ends: [(b, 0)])
        #expect(ledger.filter(&first) == [])
        #expect(first.records.count == 1)
        #expect(first.ends.count == 1)
        return ledger
    }

    @Test func tellsAtOnceOfWhatHasStarted() {
        var ledger = started()
        #expect(ledger.pause([a]) == [a])
        #expect(ledger.pause([a, b]) == [b])
        #expect(ledger.sent == [a, b])
    }

    @Test func tellsOfTheOthersWhenTheyBringSomethingAndHoldsIt() {
        var ledger = PauseLedger()
        ledger.assign([a, b])
        #expect(ledger.pause([a, b]) == [])
        var first = batch([(a, 5), (a, 6)], ends: [(a, 7), (b, 0)])
        #expect(ledger.filter(&first) == [a, b])
        #expect(first.records.isEmpty)
        #expect(first.ends.isEmpty)
        // The pause was dropped: told again.
        var second = batch([(a, 7)])
        #expect(ledger.filter(&second) == [a])
        ledger.resume([a], positions: [a: 8])
        var released = PolledBatch()
        #expect(ledger.takeReleased(into: &released, maximum: 2))
        #expect(released.records.map(\.offset) == [5, 6])
        #expect(ledger.takeReleased(into: &released, maximum: 2))
        #expect(released.records.map(\.offset) == [5, 6, 7])
        // The end came before record 7, so it no longer is one.
        #expect(released.ends.isEmpty)
        #expect(!ledger.takeReleased(into: &released, maximum: 2))
        ledger.resume([b], positions: [:])
        #expect(ledger.takeReleased(into: &released, maximum: 2))
        #expect(released.ends.map(\.partition) == [b])
    }

    @Test func dropsWhatAResumeRewound() {
        var ledger = started()
        #expect(ledger.pause([a]) == [a])
        ledger.resume([a], positions: [a: 4])
        var rewound = batch([(a, 0), (a, 1), (b, 0), (a, 3), (a, 4), (a, 5)])
        #expect(ledger.filter(&rewound) == [])
        #expect(rewound.records.map(\.position) == [record(b, 0), record(a, 4), record(a, 5)].map(\.position))
        var later = batch([(a, 2)])
        #expect(ledger.filter(&later) == [])
        #expect(later.records.count == 1)
    }

    @Test func neverToldNeedsNoResume() {
        var ledger = PauseLedger()
        ledger.assign([a])
        #expect(ledger.pause([a]) == [])
        #expect(ledger.sent == [])
        ledger.resume([a, b], positions: [:])
        var batch = batch([(a, 0)])
        #expect(ledger.filter(&batch) == [])
        #expect(batch.records.count == 1)
    }

    @Test func pausedAgainBeforeDelivery() {
        var ledger = PauseLedger()
        ledger.assign([a])
        #expect(ledger.pause([a]) == [])
        var first = batch([(a, 0)], ends: [(a, 1)])
        #expect(ledger.filter(&first) == [a])
        ledger.resume([a], positions: [a: 1])
        #expect(ledger.pause([a]) == [a])
        var released = PolledBatch()
        #expect(!ledger.takeReleased(into: &released, maximum: 9))
        ledger.resume([a], positions: [a: 1])
        #expect(ledger.takeReleased(into: &released, maximum: 9))
        #expect(released.records.map(\.offset) == [0])
        #expect(released.ends.map(\.offset) == [1])
        ledger.assign([])
        #expect(ledger.paused.isEmpty)
    }
}

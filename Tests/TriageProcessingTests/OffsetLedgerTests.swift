import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Offset ledger")
struct OffsetLedgerTests {
    @Test("out of order in, a contiguous watermark out")
    func transcript() {
        var ledger = OffsetLedger()
        #expect(ledger.watermark == nil)
        #expect(ledger.toCommit() == nil)
        let tickets = [ledger.deliver(5), ledger.deliver(6), ledger.deliver(7)]
        #expect(ledger.incomplete == 3)
        #expect(ledger.watermark == 5)
        ledger.complete(tickets[1])
        #expect(ledger.watermark == 5)
        #expect(ledger.span == 3)
        ledger.complete(tickets[0])
        #expect(ledger.watermark == 7)
        #expect(ledger.toCommit() == 7)
        ledger.didCommit(7)
        #expect(ledger.toCommit() == nil)
        ledger.complete(tickets[2])
        #expect(ledger.toCommit() == 8)
        #expect(ledger.incomplete == 0)
        #expect(ledger.span == 0)
    }

    @Test("gaps are nobody's to complete")
    func gaps() {
        var ledger = OffsetLedger()
        ledger.started(at: 3)
        let first = ledger.deliver(10)
        let second = ledger.deliver(20)
        #expect(ledger.watermark == 3)
        ledger.complete(first)
        #expect(ledger.watermark == 11)
        ledger.complete(second)
        #expect(ledger.watermark == 21)
    }

    @Test("a resolved start is to be committed at once; a known one isn't")
    func start() {
        var ledger = OffsetLedger()
        ledger.started(at: 42)
        #expect(ledger.toCommit() == 42)
        ledger.didCommit(42)
        #expect(ledger.toCommit() == nil)
    }

    @Test("the end passes the gap behind the last record, also if it was reported while that was being handled")
    func end() {
        var ledger = OffsetLedger()
        ledger.reachedEnd(0)
        #expect(ledger.watermark == 0)
        let ticket = ledger.deliver(0)
        ledger.reachedEnd(5)
        #expect(ledger.watermark == 0)
        ledger.complete(ticket)
        #expect(ledger.watermark == 5)
        ledger.reachedEnd(3)
        #expect(ledger.watermark == 5)
        ledger.reachedEnd(9)
        #expect(ledger.toCommit() == 9)
        #expect(ledger.delivered(8) == nil)
        let next = ledger.deliver(9)
        ledger.complete(next)
        #expect(ledger.watermark == 10)
    }

    @Test("a second completion and a strange ticket are ignored")
    func doubleCompletion() {
        var ledger = OffsetLedger()
        let first = ledger.deliver(0)
        let second = ledger.deliver(1)
        ledger.complete(second)
        ledger.complete(second)
        #expect(ledger.incomplete == 1)
        ledger.complete(first)
        ledger.complete(first)
        ledger.complete(second)
        ledger.complete(-1)
        ledger.complete(99)
        #expect(ledger.incomplete == 0)
        #expect(ledger.watermark == 2)
    }

    @Test("an offset that doesn't lie behind the last one is refused")
    func rewind() {
        var ledger = OffsetLedger()
        ledger.started(at: 10)
        let ticket = ledger.deliver(10)
        #expect(ledger.delivered(10) == nil)
        #expect(ledger.delivered(4) == nil)
        #expect(ledger.incomplete == 1)
        ledger.complete(ticket)
        #expect(ledger.delivered(10) == nil)
        #expect(ledger.delivered(3) == nil)
        #expect(ledger.watermark == 11)
        #expect(ledger.delivered(11) != nil)
    }

    @Test("a first record before the committed offset is what a truncated topic brings: it was never handled")
    func offsetReset() {
        var ledger = OffsetLedger()
        ledger.started(at: 1000)
        ledger.didCommit(1000)
        let ticket = ledger.deliver(0)
        #expect(ledger.watermark == 0)
        #expect(ledger.toCommit() == 0)
        ledger.complete(ticket)
        #expect(ledger.toCommit() == 1)
        ledger.didCommit(1)
        #expect(ledger.toCommit() == nil)
        #expect(ledger.delivered(0) == nil)
    }

    @Test("random histories agree with a naive model")
    func property() {
        for seed in UInt64(1)...2500 {
            var random = SeededGenerator(seed)
            var ledger = OffsetLedger()
            var next = Int64.random(in: 0...50, using: &random)
            var open: [Int64: Int] = [:]
            var start = next
            var seen: [Int64] = []
            var end: Int64?
            if Bool.random(using: &random) { ledger.started(at: next) } else { start = -1 }
            for step in 0..<Int.random(in: 10...100, using: &random) {
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<5:
                    if Int.random(in: 0..<4, using: &random) == 0 { next += Int64.random(in: 1...20, using: &random) }
                    let ticket = ledger.deliver(next)
                    open[next] = ticket
                    seen.append(next)
                    next += 1
                case 5..<8:
                    guard let (offset, ticket) = open.randomElement(using: &random) else { continue }
                    ledger.complete(ticket)
                    open[offset] = nil
                    if Bool.random(using: &random) { ledger.complete(ticket) }
                case 8:
                    next += Int64.random(in: 0...3, using: &random)
                    ledger.reachedEnd(next)
                    end = next
                default:
                    if let offset = ledger.toCommit() { ledger.didCommit(offset) }
                    #expect(ledger.toCommit() == nil, "seed \(seed), step \(step)")
                }
                // The watermark by definition: the first incomplete offset; else behind everything seen, ends included.
                let done = [seen.last.map { $0 + 1 }, end, start < 0 ? nil : start].compactMap(\.self).max()
                let before = seen.last { offset in open.keys.allSatisfy { offset < $0 } }.map { $0 + 1 }
                let expected: Int64? = open.isEmpty ? done : nil
                if let expected {
                    #expect(ledger.watermark == expected, "seed \(seed), step \(step)")
                } else if let first = open.keys.min(), let watermark = ledger.watermark {
                    // It never passes an incomplete offset and always passes the complete ones before the first of those.
                    #expect(watermark <= first, "seed \(seed), step \(step)")
                    #expect(watermark >= before ?? watermark, "seed \(seed), step \(step)")
                }
                #expect(ledger.incomplete == open.count, "seed \(seed), step \(step)")
            }
        }
    }
}

extension OffsetLedger {
    /// Notes a delivery that must be accepted.
    fileprivate mutating func deliver(_ offset: Int64) -> Int {
        let ticket = delivered(offset)
        #expect(ticket != nil, "offset \(offset) was refused")
        return ticket ?? -1
    }
}

extension OffsetLedgerTests {
    @Test("the oldest is the first that isn't complete, whatever came or was completed behind it")
    func oldest() {
        var ledger = OffsetLedger()
        #expect(ledger.oldest == nil)
        let tickets = (0..<4).map {
            ledger.delivered(Int64($0), at: $0 == 2 ? nil : Timestamp(milliseconds: Int64($0) + 100)) ?? -1
        }
        #expect(ledger.oldest == Timestamp(milliseconds: 100))
        ledger.complete(tickets[1])
        #expect(ledger.oldest == Timestamp(milliseconds: 100))
        ledger.complete(tickets[0])
        #expect(ledger.oldest == nil, "the record says no time")
        ledger.complete(tickets[2])
        #expect(ledger.oldest == Timestamp(milliseconds: 103))
        ledger.complete(tickets[3])
        #expect(ledger.oldest == nil)
    }
}

extension OffsetLedgerTests {
    @Test("what a predecessor completed is complete when it is delivered, and rides on in the commits until then")
    func succession() {
        var ledger = OffsetLedger()
        ledger.started(at: 10, completed: [12..<14, 20..<21])
        #expect(ledger.isComplete(9) && ledger.isComplete(13) && ledger.isComplete(20))
        #expect(!ledger.isComplete(10) && !ledger.isComplete(14) && ledger.position == 10)
        #expect(ledger.completedBeyond() == [12..<14, 20..<21])
        let tenth = ledger.deliver(10)
        let isKnown = ledger.deliveredComplete(11)
        #expect(!isKnown)
        let eleventh = ledger.deliver(11)
        let both = [ledger.deliveredComplete(12), ledger.deliveredComplete(13)]
        #expect(both == [true, true] && ledger.position == 14)
        #expect(ledger.completedBeyond() == [12..<14, 20..<21])
        ledger.complete(eleventh)
        #expect(ledger.completedBeyond() == [11..<14, 20..<21] && ledger.watermark == 10)
        ledger.complete(tenth)
        #expect(ledger.watermark == 14 && ledger.completedBeyond() == [20..<21] && ledger.incomplete == 0)
        ledger.reachedEnd(30)
        #expect(ledger.completedBeyond().isEmpty && !ledger.expectsCompleted && ledger.position == 30)
    }

    @Test("a commit is due when the watermark moved, or what lies beyond it")
    func versions() {
        var ledger = OffsetLedger()
        ledger.started(at: 0)
        #expect(ledger.toCommit() == 0)
        ledger.didCommit(0)
        let first = ledger.deliver(0)
        let second = ledger.deliver(1)
        #expect(!ledger.needsCommit)
        ledger.complete(second)
        #expect(ledger.toCommit() == 0 && ledger.completedBeyond() == [1..<2])
        let version = ledger.version
        ledger.didCommit(0, version: version)
        #expect(!ledger.needsCommit)
        ledger.complete(first)
        #expect(ledger.toCommit() == 2)
        #expect(ledger.incompleteOffsets(before: 9, atMost: 5).isEmpty)
    }

    @Test("a successor knows what was complete, whenever the commit was made, over 2,000 seeds")
    func successors() {
        for seed in UInt64(1)...2000 {
            var random = SeededGenerator(seed)
            var offsets: [Int64] = []
            var next: Int64 = 5
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                if Int.random(in: 0..<5, using: &random) == 0 { next += Int64.random(in: 1...4, using: &random) }
                offsets.append(next)
                next += 1
            }
            var done: Set<Int64> = []
            var start: Int64 = 5
            var completed: [Range<Int64>] = []
            // Owner after owner, each with what the last one's commit said.
            for owner in 0..<4 {
                var ledger = OffsetLedger()
                ledger.started(at: start, completed: completed)
                var open: [(Int64, Int)] = []
                for offset in offsets where offset >= start {
                    let isKnown = ledger.expectsCompleted && ledger.deliveredComplete(offset)
                    #expect(isKnown == done.contains(offset), "seed \(seed), owner \(owner), offset \(offset)")
                    if !isKnown { open.append((offset, ledger.deliver(offset))) }
                    if Int.random(in: 0..<2, using: &random) == 0, !open.isEmpty {
                        let (offset, ticket) = open.remove(at: Int.random(in: 0..<open.count, using: &random))
                        ledger.complete(ticket)
                        done.insert(offset)
                    }
                    if Int.random(in: 0..<15, using: &random) == 0 { break }
                }
                start = ledger.watermark ?? 5
                completed = ledger.completedBeyond()
                #expect(offsets.filter { $0 < start }.allSatisfy(done.contains), "seed \(seed)")
                for range in completed {
                    #expect(offsets.filter(range.contains).allSatisfy(done.contains), "seed \(seed)")
                }
                #expect(
                    offsets.filter { offset in done.contains(offset) && offset >= start }
                        .allSatisfy { offset in completed.contains { $0.contains(offset) } }, "seed \(seed)")
                #expect(zip(completed, completed.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound }, "seed \(seed)")
            }
        }
    }
}

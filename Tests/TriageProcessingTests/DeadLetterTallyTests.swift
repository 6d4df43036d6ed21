import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Dead letters counted in one partition")
struct DeadLetterTallyTests {
    typealias Page = DeadLetterTally.Page
    static func time(_ offset: Int64) -> Timestamp { Timestamp(milliseconds: 1_700_000_000_000 + offset * 1000) }
    static func letters(_ offsets: Int64...) -> [DeadLetterTally.Letter] {
        offsets.map { DeadLetterTally.Letter(offset: $0, written: time($0)) }
    }
    static func page(_ range: Range<Int64>) -> Page { Page(range: range, limit: DeadLetterTally.maximumRead) }

    @Test("markers and gaps are no dead letters; what is new is all that is read the next time")
    func markers() {
        var tally = DeadLetterTally()
        #expect(tally.bounds == nil && tally.next == nil && tally.open == 0)
        tally.begin()
        tally.found(0..<5)
        #expect(tally.open == 5 && tally.oldest == nil, "what wasn't read counts")
        #expect(tally.next == Self.page(0..<5))
        // An import of three with a gap, and its marker.
        tally.read(0..<5, Self.letters(0, 1, 3))
        #expect(tally.open == 3 && tally.oldest == Self.time(0) && tally.next == nil)
        for offset: Int64 in [0, 1, 3] { tally.close(offset) }
        tally.recount()
        #expect(tally.open == 0 && tally.oldest == nil && tally.next == nil)
        tally.begin()
        tally.found(0..<8)
        #expect(tally.open == 3 && tally.next == Self.page(5..<8))
        tally.read(5..<8, Self.letters(6))
        #expect(tally.open == 1 && tally.oldest == Self.time(6) && tally.next == nil)
        tally.begin()
        tally.found(0..<8)
        #expect(tally.next == nil, "nothing is new")
    }

    @Test("dead letters of other groups count for nobody here, and are read once")
    func otherGroups() {
        var tally = DeadLetterTally()
        tally.found(0..<4)
        tally.read(0..<4, Self.letters(2))
        #expect(tally.open == 1 && tally.oldest == Self.time(2))
        tally.close(2)
        tally.recount()
        #expect(tally.open == 0)
        // Somebody else's are closed, and opened again.
        tally.close(0)
        tally.reopen(0)
        tally.recount()
        #expect(tally.open == 0 && tally.next == nil)
        tally.reopen(2)
        tally.recount()
        #expect(tally.open == 1 && tally.next == Page(range: 2..<4, limit: 1), "since when, only the record tells")
        tally.read(2..<3, Self.letters(2))
        #expect(tally.oldest == Self.time(2) && tally.next == nil)
    }

    @Test("what was closed before it was read isn't read, unless it is opened again")
    func closedFirst() {
        var tally = DeadLetterTally()
        for offset in Int64(0)..<3 { tally.close(offset) }
        tally.found(0..<6)
        #expect(tally.open == 3 && tally.next == Self.page(3..<6))
        tally.read(3..<6, Self.letters(3, 5))
        #expect(tally.open == 2)
        tally.reopen(1)
        tally.recount()
        #expect(tally.open == 3 && tally.next == Self.page(1..<6))
        tally.read(1..<6, Self.letters(3, 5))
        #expect(tally.open == 2 && tally.next == nil, "it was nobody's of ours")
        tally.reopenAll()
        tally.recount()
        #expect(tally.open == 3 && tally.next == Self.page(0..<6))
    }

    @Test("one's own are known by their acknowledgement, and not read; what lies between them and the end before is")
    func own() {
        var tally = DeadLetterTally()
        tally.wrote(0, at: Self.time(0))
        #expect(tally.bounds == nil, "before the first look nothing is known")
        tally.begin()
        tally.wrote(1, at: Self.time(1))
        tally.found(0..<1)
        #expect(tally.open == 2 && tally.next == Self.page(0..<1))
        tally.read(0..<1, [])
        #expect(tally.open == 1)
        tally.wrote(2, at: Self.time(2))
        tally.begin()
        tally.found(0..<3)
        #expect(tally.open == 2 && tally.next == Self.page(1..<3))
        tally.read(1..<3, Self.letters(1, 2))
        tally.wrote(3, at: Self.time(3))
        tally.wrote(6, at: Self.time(6))
        #expect(tally.open == 6)
        tally.begin()
        tally.found(0..<7)
        #expect(tally.next == Self.page(4..<7))
        tally.read(4..<7, Self.letters(6))
        #expect(tally.open == 4 && tally.next == nil && tally.oldest == Self.time(1))
        // No offset, and none that could be.
        tally.wrote(-1, at: Self.time(7))
        tally.wrote(.max, at: Self.time(7))
        #expect(tally.open == 4)
    }

    @Test("of an empty partition the first of one's own is the oldest, at once")
    func firstOwn() {
        var tally = DeadLetterTally()
        tally.found(4..<4)
        tally.wrote(9, at: Self.time(9))
        #expect(tally.open == 1 && tally.bounds == 9..<10 && tally.oldest == Self.time(9) && tally.next == nil)
    }

    @Test("behind an open transaction nothing is read")
    func openTransaction() {
        var tally = DeadLetterTally()
        tally.found(0..<2)
        tally.read(0..<2, Self.letters(0, 1))
        tally.wrote(5, at: Self.time(5))
        #expect(tally.open == 6 - 2 + 2 && tally.next == nil, "what is committed is known; the rest counts until it is")
        tally.begin()
        tally.found(0..<7)
        #expect(tally.next == Self.page(2..<7))
        tally.read(2..<7, Self.letters(5))
        #expect(tally.open == 3)
    }

    @Test("beyond 10,000 open ones nothing more is read: the rest counts by offsets; when they are closed, reading goes on")
    func bound() {
        let most = Int64(DeadLetterTally.maximumRead)
        var tally = DeadLetterTally()
        tally.found(0..<3 * most)
        // Of the first that are read half are another group's.
        tally.read(0..<most, (0..<most / 2).map { DeadLetterTally.Letter(offset: 2 * $0, written: nil) })
        #expect(tally.open == Int(3 * most - most / 2))
        #expect(tally.next == Self.page(most..<3 * most), "half of the bound is known")
        tally.read(most..<2 * most, (most..<2 * most).map { DeadLetterTally.Letter(offset: $0, written: nil) })
        #expect(tally.next == nil, "enough is known")
        #expect(tally.open == Int(3 * most - most / 2))
        for offset in 0..<2 * most { tally.close(offset) }
        tally.recount()
        #expect(tally.open == Int(most) && tally.next == Self.page(2 * most..<3 * most))
        tally.read(2 * most..<3 * most, [])
        #expect(tally.open == 0 && tally.next == nil)
    }

    @Test("without any record it goes through a million offsets at a time")
    func emptyStretch() {
        var tally = DeadLetterTally()
        let most = DeadLetterTally.maximumOffsets
        tally.found(7..<8 + most)
        #expect(tally.next == Self.page(7..<7 + most))
        tally.read(7..<7 + most, [])
        #expect(tally.open == 1 && tally.next == Self.page(7 + most..<8 + most))
    }

    @Test("retention takes the first; a topic made anew is read anew")
    func retention() {
        var tally = DeadLetterTally()
        tally.found(0..<4)
        tally.read(0..<4, Self.letters(0, 1, 3))
        tally.begin()
        tally.found(1..<4)
        #expect(tally.open == 2 && tally.next == Page(range: 1..<4, limit: 1) && tally.oldest == Self.time(0))
        tally.read(1..<2, Self.letters(1))
        #expect(tally.oldest == Self.time(1))
        tally.begin()
        tally.found(4..<4)
        #expect(tally.open == 0 && tally.oldest == nil && tally.next == nil)
        tally.begin()
        tally.found(0..<2)
        #expect(tally.open == 2 && tally.next == Self.page(0..<2))
        tally.read(0..<2, Self.letters(0, 1))
        #expect(tally.open == 2)
    }

    @Test("given away and taken back: what was closed is still known, nothing else")
    func released() {
        var tally = DeadLetterTally()
        tally.found(0..<3)
        tally.read(0..<3, Self.letters(0, 1))
        tally.close(0)
        tally.recount()
        tally.release()
        #expect(tally.bounds == nil && tally.open == 0 && tally.next == nil && tally.oldest == nil)
        tally.found(0..<3)
        #expect(tally.open == 2 && tally.next == Self.page(1..<3))
    }

    /// A partition: what stands at each offset.
    private enum Place: CaseIterable { case ours, others, marker }

    @Test("after its looks it says what a count of all records says, over 300 seeds")
    func model() {
        for seed in UInt64(1)...300 {
            var random = SeededGenerator(seed)
            var tally = DeadLetterTally()
            var log: [Place] = []
            var start = 0
            var closed: Set<Int> = []
            for _ in 0..<30 {
                switch Int.random(in: 0..<6, using: &random) {
                case 0, 1:
                    for _ in 0..<Int.random(in: 1...5, using: &random) {
                        log.append(Place.allCases.randomElement(using: &random) ?? .ours)
                    }
                case 2:
                    log.append(.ours)
                    tally.wrote(Int64(log.count - 1), at: Self.time(Int64(log.count - 1)))
                case 3 where !log.isEmpty:
                    // Operators close what is theirs, too.
                    let offset = Int.random(in: 0..<log.count, using: &random)
                    guard log[offset] != .marker else { break }
                    if closed.insert(offset).inserted {
                        tally.close(Int64(offset))
                    } else {
                        closed.remove(offset)
                        tally.reopen(Int64(offset))
                    }
                    tally.recount()
                case 4: start = min(log.count, start + Int.random(in: 0...2, using: &random))
                default: break
                }
                guard Bool.random(using: &random) else { continue }
                tally.begin()
                tally.found(Int64(start)..<Int64(log.count))
                var pages = 0
                while let page = tally.next, pages < 10 {
                    pages += 1
                    var read: [DeadLetterTally.Letter] = []
                    var end = page.range.upperBound
                    var count = 0
                    for offset in page.range where log[Int(offset)] != .marker {
                        if log[Int(offset)] == .ours { read.append(.init(offset: offset, written: Self.time(offset))) }
                        count += 1
                        if count == page.limit {
                            end = offset + 1
                            break
                        }
                    }
                    tally.read(page.range.lowerBound..<end, read)
                }
                let open = (start..<log.count).filter { log[$0] == .ours && !closed.contains($0) }
                #expect(tally.open == open.count, "seed \(seed)")
                #expect(tally.oldest == open.first.map { Self.time(Int64($0)) }, "seed \(seed)")
                #expect(pages <= 2, "seed \(seed)")
            }
        }
    }

    @Test("ranges of offsets, as sets of numbers, over 300 seeds")
    func offsetSets() {
        for seed in UInt64(1)...300 {
            var random = SeededGenerator(seed)
            var sets = [OffsetSet(), OffsetSet()]
            var models: [Set<Int64>] = [[], []]
            for step in 0..<12 {
                let start = Int64.random(in: 0..<260, using: &random)
                let range = start..<start + Int64.random(in: 0...150, using: &random)
                sets[step % 2].insert(range)
                models[step % 2].formUnion(range)
                if step % 5 == 4 {
                    let cut = Int64.random(in: 0..<200, using: &random)
                    sets[0].removeAll(before: cut)
                    models[0] = models[0].filter { $0 >= cut }
                }
                #expect(sets.map(\.count) == models.map(\.count), "seed \(seed)")
                #expect(
                    sets[0].count(in: range, outside: sets[1]) == models[0].subtracting(models[1]).count { range.contains($0) },
                    "seed \(seed)")
                let both = models[0].union(models[1])
                let wide = start..<start + 700
                #expect(sets[0].firstMissing(in: wide, or: sets[1]) == wide.first { !both.contains($0) }, "seed \(seed)")
            }
        }
        var edge = OffsetSet()
        edge.insert(.max)
        edge.insert(Int64.max - 3..<Int64.max)
        #expect(edge.count == 4 && edge.firstMissing(in: Int64.max - 70..<Int64.max) == Int64.max - 70)
        edge.removeAll(before: .max)
        #expect(edge.count == 1 && edge.contains(.max))
    }
}

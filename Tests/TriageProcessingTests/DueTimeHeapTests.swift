import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Due-time heap")
struct DueTimeHeapTests {
    private func at(_ milliseconds: Int64) -> Timestamp { Timestamp(milliseconds: milliseconds) }

    @Test("a short wait never queues behind a long one; ties leave in the order they came")
    func transcript() {
        var heap = DueTimeHeap<String>()
        #expect(heap.nextDue == nil)
        heap.insert("minute", due: at(60_000))
        heap.insert("first", due: at(1000))
        heap.insert("second", due: at(1000))
        heap.insert("third", due: at(1000))
        #expect(heap.nextDue == at(1000))
        #expect(heap.popDue(at: at(999)) == nil)
        #expect(heap.popDue(at: at(1000))?.item == "first")
        #expect(heap.popDue(at: at(1000))?.item == "second")
        #expect(heap.popDue(at: at(5000))?.due == at(1000))
        #expect(heap.popDue(at: at(59_999)) == nil)
        #expect(heap.count == 1)
        #expect(heap.popDue(at: at(60_000))?.item == "minute")
        #expect(heap.count == 0)
    }

    @Test("the ends of time")
    func extremes() {
        var heap = DueTimeHeap<Int>()
        heap.insert(1, due: Timestamp(milliseconds: .max))
        heap.insert(2, due: Timestamp(milliseconds: .min))
        #expect(heap.popDue(at: Timestamp(nanoseconds: .min))?.item == 2)
        #expect(heap.popDue(at: Timestamp(nanoseconds: .max - 1)) == nil)
        #expect(heap.popDue(at: Timestamp(nanoseconds: .max))?.item == 1)
    }

    @Test("random histories agree with a sorted array")
    func property() {
        for seed in UInt64(1)...2500 {
            var random = SeededGenerator(seed)
            var heap = DueTimeHeap<Int>()
            var model: [(due: Int64, item: Int)] = []
            var now: Int64 = 0
            for step in 0..<Int.random(in: 10...100, using: &random) {
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<5:
                    let due = now + Int64.random(in: -2...6, using: &random)
                    heap.insert(step, due: at(due))
                    // Stable: behind those due at the same time.
                    model.insert((due, step), at: model.firstIndex { $0.due > due } ?? model.endIndex)
                case 5..<9:
                    now += Int64.random(in: 0...2, using: &random)
                    while let (item, due) = heap.popDue(at: at(now)) {
                        #expect(due == at(model.first?.due ?? .max), "seed \(seed), step \(step)")
                        #expect(item == model.first?.item, "seed \(seed), step \(step)")
                        if !model.isEmpty { model.removeFirst() }
                    }
                    #expect(model.first.map { $0.due > now } ?? true, "seed \(seed), step \(step)")
                default:
                    let removed = heap.remove { $0 % 3 == 0 }
                    #expect(removed.sorted() == model.map(\.item).filter { $0 % 3 == 0 }.sorted(), "seed \(seed), step \(step)")
                    model.removeAll { $0.item % 3 == 0 }
                }
                #expect(heap.count == model.count, "seed \(seed), step \(step)")
                #expect(heap.nextDue == model.first.map { at($0.due) }, "seed \(seed), step \(step)")
            }
        }
    }
}

import Testing

@testable import TriageProcessing

@Suite("Key lanes")
struct KeyLanesTests {
    private let a = LaneKey(1)
    private let b = LaneKey(2)

    @Test("items of a key come one at a time, in order; other keys meanwhile")
    func transcript() {
        var lanes = KeyLanes<Int>()
        #expect(lanes.next() == nil)
        for item in 1...3 { lanes.enqueue(item, key: a) }
        lanes.enqueue(10, key: b)
        #expect(lanes.waiting == 4)
        #expect(lanes.activeKeys == 2)
        #expect(lanes.next()?.item == 1)
        #expect(lanes.next()?.item == 10)
        #expect(lanes.next() == nil)
        #expect(!lanes.hasReady)
        #expect(lanes.waiting == 2)
        lanes.finished(a)
        #expect(lanes.hasReady)
        #expect(lanes.next()?.item == 2)
        lanes.finished(b)
        #expect(lanes.activeKeys == 1)
        lanes.finished(a)
        #expect(lanes.next()?.item == 3)
        lanes.finished(a)
        #expect(lanes.activeKeys == 0)
        #expect(lanes.waiting == 0)
    }

    @Test("a lane that is free again goes behind what is ready")
    func fairness() {
        var lanes = KeyLanes<Int>()
        for item in 1...100 { lanes.enqueue(item, key: a) }
        lanes.enqueue(1000, key: b)
        #expect(lanes.next()?.item == 1)
        lanes.finished(a)
        #expect(lanes.next()?.item == 1000)
        #expect(lanes.next()?.item == 2)
    }

    @Test("how many wait in a lane: the one that is ready or out isn't counted")
    func counts() {
        var lanes = KeyLanes<Int>()
        #expect(lanes.count(behind: a) == 0)
        for item in 1...3 { #expect(lanes.enqueue(item, key: a) == item - 1) }
        lanes.enqueue(10, key: b)
        #expect(lanes.count(behind: a) == 2 && lanes.count(behind: b) == 0)
        _ = lanes.next()
        #expect(lanes.count(behind: a) == 2)
        lanes.finished(a)
        #expect(lanes.count(behind: a) == 1)
        #expect(lanes.remove { $0 == 3 } == [3])
        #expect(lanes.count(behind: a) == 0)
    }

    @Test("a lane's share is a quarter of what may be in flight, in records, and by the size of the one that came in bytes")
    func share() {
        let share = LaneShare(maximumRecords: 4000, maximumBytes: 64 << 20)
        #expect(!share.isTaken(by: 999, of: 1024) && share.isTaken(by: 1000, of: 0))
        #expect(!share.isTaken(by: 511, of: 32 << 10) && share.isTaken(by: 512, of: 32 << 10))
        #expect(LaneShare(maximumRecords: 1, maximumBytes: 1).isTaken(by: 1, of: 0))
        #expect(share.isTaken(by: 1, of: .max))
    }

    @Test("freeing a lane that nothing is out of changes nothing")
    func strayFinish() {
        var lanes = KeyLanes<Int>()
        lanes.finished(a)
        #expect(lanes.activeKeys == 0)
        #expect(lanes.next() == nil)
    }

    @Test("removing the ready item of a lane moves the next one up, and frees a lane that is empty then")
    func removeReady() {
        var lanes = KeyLanes<Int>()
        lanes.enqueue(1, key: a)
        lanes.enqueue(2, key: a)
        lanes.enqueue(10, key: b)
        #expect(Set(lanes.remove { $0 == 1 || $0 == 10 }) == [1, 10])
        #expect(lanes.waiting == 1)
        #expect(lanes.activeKeys == 1)
        #expect(lanes.next()?.item == 2)
        #expect(lanes.next() == nil)
        // The lane is occupied by what is out; what comes now waits.
        lanes.enqueue(3, key: a)
        #expect(lanes.next() == nil)
        lanes.finished(a)
        #expect(lanes.next()?.item == 3)
    }

    @Test("removing what waits behind an item that is out keeps the lane occupied")
    func removeWaiting() {
        var lanes = KeyLanes<Int>()
        for item in 1...4 { lanes.enqueue(item, key: a) }
        _ = lanes.next()
        #expect(lanes.remove { $0 == 2 || $0 == 4 } == [2, 4])
        #expect(lanes.next() == nil)
        lanes.finished(a)
        #expect(lanes.next()?.item == 3)
        lanes.finished(a)
        #expect(lanes.activeKeys == 0)
        #expect(lanes.waiting == 0)
    }

    /// Queues by key, a set of keys that are out, and the hand-outs since a key became ready.
    private struct Model {
        var queues: [Int: [Int]] = [:]
        var out: Set<Int> = []
        var passed: [Int: Int] = [:]
        var waiting: Int { queues.values.reduce(0) { $0 + $1.count } }
        var ready: [Int] { queues.filter { !$0.value.isEmpty && !out.contains($0.key) }.map(\.key) }
        var active: Int { Set(queues.filter { !$0.value.isEmpty }.keys).union(out).count }

        mutating func handOut(_ key: Int) -> Int? {
            for other in ready where other != key { passed[other, default: 0] += 1 }
            passed[key] = 0
            out.insert(key)
            guard var queue = queues[key], !queue.isEmpty else { return nil }
            let item = queue.removeFirst()
            queues[key] = queue
            return item
        }
    }

    @Test("random histories agree with a naive model: order, one at a time, fairness")
    func property() {
        for seed in UInt64(1)...2500 {
            var random = SeededGenerator(seed)
            var lanes = KeyLanes<(key: Int, item: Int)>()
            var model = Model()
            let keys = Int.random(in: 1...6, using: &random)
            for step in 0..<Int.random(in: 20...120, using: &random) {
                switch Int.random(in: 0..<20, using: &random) {
                case 0..<7:
                    let key = Int.random(in: 0..<keys, using: &random)
                    lanes.enqueue((key, step), key: LaneKey(UInt64(key)))
                    model.queues[key, default: []].append(step)
                case 7..<9:
                    // Before the others, but behind the last one that must precede it and behind one that is ready.
                    let key = Int.random(in: 0..<keys, using: &random)
                    let share = Int.random(in: 2...5, using: &random)
                    lanes.enqueueFirst((key, step), key: LaneKey(UInt64(key))) { $0.item % share == 0 }
                    var queue = model.queues[key] ?? []
                    let ready = model.out.contains(key) || queue.isEmpty ? 0 : 1
                    let last = queue.indices.last { $0 >= ready && queue[$0] % share == 0 }
                    queue.insert(step, at: last.map { $0 + 1 } ?? ready)
                    model.queues[key] = queue
                case 9..<14:
                    guard let (lane, entry) = lanes.next() else {
                        #expect(model.ready.isEmpty, "seed \(seed), step \(step)")
                        continue
                    }
                    #expect(lane == LaneKey(UInt64(entry.key)), "seed \(seed), step \(step)")
                    #expect(!model.out.contains(entry.key), "two at a time: seed \(seed), step \(step)")
                    #expect(model.handOut(entry.key) == entry.item, "out of order: seed \(seed), step \(step)")
                    #expect(model.passed.values.allSatisfy { $0 <= keys }, "starved: seed \(seed), step \(step)")
                case 14:
                    // What is put back is at the head of its lane again, behind the lanes that are ready.
                    guard let key = model.out.randomElement(using: &random) else { continue }
                    lanes.putBack((key, -step), key: LaneKey(UInt64(key)))
                    model.out.remove(key)
                    model.passed[key] = 0
                    model.queues[key, default: []].insert(-step, at: 0)
                case 15:
                    let wanted = Int.random(in: 0..<keys, using: &random)
                    let isThere = model.ready.contains(wanted)
                    guard let (_, entry) = lanes.next(preferring: { $0.key == wanted }) else { continue }
                    #expect(!isThere || entry.key == wanted, "not preferred: seed \(seed), step \(step)")
                    #expect(!model.out.contains(entry.key), "two at a time: seed \(seed), step \(step)")
                    let passed = model.passed
                    #expect(model.handOut(entry.key) == entry.item, "out of order: seed \(seed), step \(step)")
                    // Who is preferred jumps the queue: that is no one's unfairness.
                    if isThere { model.passed = passed.merging([entry.key: 0]) { $1 } }
                case 16..<19:
                    guard let key = model.out.randomElement(using: &random) else { continue }
                    lanes.finished(LaneKey(UInt64(key)))
                    model.out.remove(key)
                    model.passed[key] = 0
                default:
                    let share = Int.random(in: 2...4, using: &random)
                    let removed = lanes.remove { $0.item % share == 0 }.map(\.item)
                    let expected = model.queues.values.flatMap { $0.filter { $0 % share == 0 } }
                    #expect(removed.sorted() == expected.sorted(), "seed \(seed), step \(step)")
                    for key in model.queues.keys {
                        // A lane whose ready item went queues up anew.
                        if let first = model.queues[key]?.first, first % share == 0 { model.passed[key] = 0 }
                        model.queues[key]?.removeAll { $0 % share == 0 }
                    }
                }
                #expect(lanes.waiting == model.waiting, "seed \(seed), step \(step)")
                #expect(lanes.hasReady == !model.ready.isEmpty, "seed \(seed), step \(step)")
                #expect(lanes.activeKeys == model.active, "seed \(seed), step \(step)")
            }
        }
    }

    @Test("the table of lanes agrees with a dictionary, also where all keys crowd and entries close gaps")
    func table() {
        for seed in UInt64(1)...1000 {
            var random = SeededGenerator(seed)
            var table = LaneTable()
            var model: [LaneKey: Int32] = [:]
            // Few of them, counted up or spread.
            let keys = (0..<Int.random(in: 1...300, using: &random)).map { index in
                LaneKey(seed.isMultiple(of: 2) ? UInt64(index) : random.next())
            }
            for step in 0..<600 {
                guard let key = keys.randomElement(using: &random) else { continue }
                if Int.random(in: 0..<5, using: &random) < 3 {
                    let slot = table.slot(of: key)
                    #expect(table.value(at: slot) == model[key], "seed \(seed), step \(step)")
                    guard model[key] == nil else { continue }
                    table.fill(slot, key: key, value: Int32(step))
                    model[key] = Int32(step)
                } else {
                    table.remove(key)
                    model[key] = nil
                }
                #expect(table.count == model.count, "seed \(seed), step \(step)")
            }
            for key in keys { #expect(table[key] == model[key], "seed \(seed)") }
            #expect(table.values.sorted() == model.values.sorted(), "seed \(seed)")
        }
    }
}

import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Key queues")
struct KeyQueuesTests {
    private let a = LaneKey(1)
    private let b = LaneKey(2)

    private func place(_ offset: Int64, source: Int = 0, time: Int64 = 0) -> QueuePlace {
        QueuePlace(source: source, offset: offset, time: time)
    }

    @Test("a key is blocked from the produce on; its queue is by origin, whatever came to the retry topic first")
    func transcript() {
        var queues = KeyQueues<String>()
        #expect(queues.isEmpty && queues.blocker(of: a, at: place(9)) == nil)
        let fifth = queues.open("5", key: a, place: place(5))
        #expect(queues.blocker(of: a, at: place(9)) == "5", "while it is being produced")
        #expect(queues.blocker(of: b, at: place(9)) == nil, "other keys aren't held up")
        #expect(queues.blocker(of: a, at: place(4)) == nil, "what main redelivers before it goes first")
        let seventh = queues.open("7", key: a, place: place(7))
        let behind = queues.arrived(seventh)
        #expect(behind == nil && !queues.mayRun(seventh), "behind the head")
        let third = queues.open("3", key: a, place: place(3))
        let overtaken = queues.arrived(fifth)
        #expect(overtaken == nil, "a new head came up before it")
        var freed = queues.arrived(third)
        #expect(freed == third && queues.mayRun(third))
        queues.left(third)
        #expect(!queues.mayRun(third) && queues.blocker(of: a, at: place(9)) == "3")
        freed = queues.arrived(third)
        #expect(freed == third)
        freed = queues.close(third)
        #expect(freed == fifth, "done or given up, the next is freed")
        freed = queues.close(third)
        #expect(freed == nil && queues[third] == nil, "a second time nothing happens")
        freed = queues.close(fifth)
        #expect(freed == seventh)
        freed = queues.close(seventh)
        #expect(freed == nil && queues.isEmpty && queues.blockedKeys == 0)
    }

    @Test("one of which it is learnt late where it belongs comes before the hold there, and whoever is behind it stays")
    func moved() {
        var queues = KeyQueues<String>()
        let hold = queues.open("hold", key: a, place: place(0), isHold: true)
        let third = queues.open("3", key: a, place: place(3))
        let ninth = queues.open("9", key: a, place: place(9))
        let barred = queues.open("8", key: b, place: place(8))
        var freed = queues.arrived(third)
        #expect(freed == nil && queues.arrived(ninth) == nil && queues.arrived(barred, isBarred: true) == nil)
        #expect(queues.move(to: 0, 0) { $0 == "none" || $0 == "hold" }.isEmpty)
        #expect(queues.move(to: 0, 0) { $0 == "9" } == [ninth] && queues.mayRun(ninth) && queues.isHeld(third) == false)
        freed = queues.close(ninth)
        #expect(freed == nil && queues.isHeld(third))
        freed = queues.close(hold)
        #expect(freed == third)
        // What main has yet to redeliver goes along.
        #expect(queues.move(to: 1, 2) { $0 == "8" }.isEmpty)
        #expect(queues.advance(0, to: 100).isEmpty && queues.advance(1, to: 3) == [barred] && !queues.hasBarred)
    }

    @Test("between topics the origin's time decides, within a topic partition its offset alone")
    func topics() {
        var queues = KeyQueues<String>()
        let created = queues.open("created", key: a, place: place(100, source: 0, time: 50))
        let updated = queues.open("updated", key: a, place: place(3, source: 1, time: 40))
        let behind = queues.arrived(created)
        let head = queues.arrived(updated)
        #expect(behind == nil && head == updated)
        #expect(queues.blocker(of: a, at: place(99, source: 0, time: 90)) == "updated")
        #expect(queues.blocker(of: a, at: place(99, source: 0, time: 30)) == nil)
        #expect(
            queues.blocker(of: a, at: place(101, source: 0, time: 30)) == "created",
            "its own topic's order holds whatever the times say")
        let next = queues.close(updated)
        #expect(next == created)
    }

    @Test("what main hasn't redelivered up to bars, and frees when it has")
    func barrier() {
        var queues = KeyQueues<String>()
        let id = queues.open("8", key: a, place: place(8))
        let barred = queues.arrived(id, isBarred: true)
        #expect(barred == nil && queues.hasBarred && !queues.mayRun(id))
        let early = queues.advance(0, to: 8)
        let elsewhere = queues.advance(1, to: 100)
        #expect(early.isEmpty && elsewhere.isEmpty)
        let passed = queues.advance(0, to: 9)
        #expect(passed == [id] && !queues.hasBarred && queues.mayRun(id))
        let other = queues.open("9", key: b, place: place(9))
        let second = queues.arrived(other, isBarred: true)
        let next = queues.close(other)
        #expect(second == nil && next == nil && !queues.hasBarred)
    }

    @Test("a name is never used again, though its place is")
    func names() {
        var queues = KeyQueues<String>()
        let first = queues.open("1", key: a, place: place(1))
        _ = queues.close(first)
        let second = queues.open("2", key: a, place: place(2))
        #expect(first != second && queues[first] == nil && queues[second] == "2")
        let late = queues.arrived(first)
        #expect(late == nil && !queues.mayRun(first))
    }

    /// What the queues must be like, computed anew each time from a plain list.
    private struct Naive {
        struct Entry {
            let key: Int
            let place: QueuePlace
            var isAtHand = false
            var isBarred = false
            let sequence: Int
        }
        var entries: [Int: Entry] = [:]

        func head(_ key: Int) -> Int? {
            let mine = entries.filter { $0.value.key == key }
            let firsts = Dictionary(grouping: mine, by: \.value.place.source).values.compactMap { all in
                all.min { ($0.value.place.offset, $0.value.sequence) < ($1.value.place.offset, $1.value.sequence) }
            }
            return firsts.min { ($0.value.place.time, $0.value.place.source) < ($1.value.place.time, $1.value.place.source) }?.key
        }
        func mayRun(_ name: Int) -> Bool {
            guard let entry = entries[name] else { return false }
            return entry.isAtHand && !entry.isBarred && head(entry.key) == name
        }
    }

    @Test("like a naive model, over 4,000 seeds")
    func property() {
        for seed in UInt64(1)...4000 {
            var random = SeededGenerator(seed)
            var queues = KeyQueues<Int>()
            var naive = Naive()
            var ids: [Int: OpenID] = [:]
            var name = 0
            for step in 0..<Int.random(in: 5...40, using: &random) {
                let where_ = "seed \(seed), step \(step)"
                let known = ids.keys.sorted()
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<4:
                    name += 1
                    let key = Int.random(in: 0..<3, using: &random)
                    let place = QueuePlace(
                        source: Int.random(in: 0..<2, using: &random), offset: Int64.random(in: 0..<12, using: &random),
                        time: Int64.random(in: 0..<5, using: &random))
                    ids[name] = queues.open(name, key: LaneKey(UInt64(key)), place: place)
                    naive.entries[name] = Naive.Entry(key: key, place: place, sequence: name)
                case 4..<6:
                    guard let chosen = known.randomElement(using: &random), let id = ids[chosen] else { continue }
                    guard naive.entries[chosen]?.isAtHand == false else { continue }
                    let isBarred = Int.random(in: 0..<3, using: &random) == 0
                    naive.entries[chosen]?.isAtHand = true
                    naive.entries[chosen]?.isBarred = isBarred
                    let freed = queues.arrived(id, isBarred: isBarred)
                    #expect(freed == (naive.mayRun(chosen) ? id : nil), "\(where_)")
                case 6:
                    guard let chosen = known.randomElement(using: &random), let id = ids[chosen] else { continue }
                    guard naive.mayRun(chosen) else { continue }
                    queues.left(id)
                    naive.entries[chosen]?.isAtHand = false
                case 7:
                    let source = Int.random(in: 0..<2, using: &random)
                    let position = Int64.random(in: 0..<14, using: &random)
                    let before = naive
                    for (other, entry) in naive.entries
                    where entry.isBarred && entry.place.source == source && entry.place.offset < position {
                        naive.entries[other]?.isBarred = false
                    }
                    let freed = queues.advance(source, to: position)
                    let expected = naive.entries.keys.filter { naive.mayRun($0) && !before.mayRun($0) }
                    #expect(Set(freed) == Set(expected.compactMap { ids[$0] }), "\(where_)")
                case 8:
                    guard let chosen = known.randomElement(using: &random), let id = ids[chosen] else { continue }
                    guard let key = naive.entries[chosen]?.key else { continue }
                    naive.entries[chosen] = nil
                    ids[chosen] = nil
                    let freed = queues.close(id)
                    let head = naive.head(key)
                    #expect(freed == head.flatMap { naive.mayRun($0) ? ids[$0] : nil }, "\(where_)")
                default:
                    let source = Int.random(in: 0..<2, using: &random)
                    let gone = naive.entries.filter { $0.value.place.source == source && $0.key % 3 == 0 }.map(\.key)
                    for other in gone { naive.entries[other] = nil }
                    let items = queues.remove { gone.contains($0) }.items
                    for other in gone { ids[other] = nil }
                    #expect(Set(items) == Set(gone), "\(where_)")
                }
                #expect(queues.count == naive.entries.count, "\(where_)")
                #expect(queues.blockedKeys == Set(naive.entries.values.map(\.key)).count, "\(where_)")
                #expect(queues.hasBarred == naive.entries.values.contains(where: \.isBarred), "\(where_)")
                for (other, id) in ids { #expect(queues.mayRun(id) == naive.mayRun(other), "\(where_), name \(other)") }
            }
        }
    }
}

@Suite("Key queues with holds")
struct KeyHoldTests {
    private func place(_ source: Int, _ offset: Int64, _ time: Int64 = .min) -> QueuePlace {
        QueuePlace(source: source, offset: offset, time: time)
    }

    @Test("a hold holds what is behind it; a retry at its place comes before it, whichever was there first")
    func hold() {
        var queues = KeyQueues<String>()
        let key = LaneKey(1)
        let hold = queues.open("hold", key: key, place: place(0, 5), isHold: true)
        let later = queues.open("later", key: key, place: place(0, 7))
        #expect(queues.arrived(later) == nil && queues.isHeld(later))
        let replay = queues.open("replay", key: key, place: place(0, 5))
        #expect(queues.arrived(replay) == replay && !queues.isHeld(later))
        #expect(queues.close(replay) == nil && queues.isHeld(later))
        #expect(queues.close(hold) == later)
    }

    @Test(
        "a replay that comes before its hold frees another topic's retry, which is earlier than the replay and waited for the hold"
    )
    func acrossTopics() {
        var queues = KeyQueues<String>()
        let key = LaneKey(1)
        _ = queues.open("hold", key: key, place: place(0, 5), isHold: true)
        let earlier = queues.open("earlier", key: key, place: place(1, 3, 10))
        #expect(queues.arrived(earlier) == nil)
        let replay = queues.open("replay", key: key, place: place(0, 5, 20))
        #expect(queues.arrived(replay) == earlier)
    }
}

@Suite("Rebuild")
struct RebuildTests {
    private static func item(_ origin: Int64, retries: Int, at offset: Int64, replay: String? = nil) -> RebuildItem {
        RebuildItem(
            identity: RetryIdentity(origin: RecordPosition(topic: "t", partition: 0, offset: origin), replay: replay),
            originTime: nil, retries: retries, offset: offset,
            size: 1, ticket: 0, due: nil, reason: .backoff, lane: LaneKey(1), context: nil, delivery: nil)
    }

    @Test("of one origin the highest retryCount counts, of equal ones the last; what main redelivers counts not at all")
    func transcript() {
        let items = [
            RebuildTests.item(1, retries: 1, at: 0), RebuildTests.item(2, retries: 0, at: 1),
            RebuildTests.item(1, retries: 2, at: 2),
            RebuildTests.item(1, retries: 1, at: 3), RebuildTests.item(2, retries: 0, at: 4),
            RebuildTests.item(3, retries: 1, at: 5),
        ]
        #expect(Rebuild.voids(items) { $0.offset == 3 } == [true, true, false, true, false, true])
    }

    @Test("a replay is another retry than its origin's, and not void because main redelivers that")
    func replays() {
        let items = [
            RebuildTests.item(1, retries: 1, at: 0), RebuildTests.item(1, retries: 0, at: 1, replay: "a"),
            RebuildTests.item(1, retries: 0, at: 2, replay: "b"), RebuildTests.item(1, retries: 1, at: 3, replay: "a"),
        ]
        #expect(Rebuild.voids(items) { _ in false } == [false, true, false, false])
        #expect(Rebuild.voids(items) { _ in true } == [true, true, false, false])
    }

    @Test("one of each origin is left, over 2,000 seeds")
    func property() {
        for seed in UInt64(1)...2000 {
            var random = SeededGenerator(seed)
            let items = (0..<Int64.random(in: 0...20, using: &random)).map {
                RebuildTests.item(
                    Int64.random(in: 0..<5, using: &random), retries: Int.random(in: 0..<4, using: &random), at: $0)
            }
            let open = Set((0..<Int64(5)).filter { _ in Int.random(in: 0..<4, using: &random) == 0 })
            let voids = Rebuild.voids(items) { open.contains($0.offset) }
            for origin in Set(items.map(\.identity.origin)) {
                let all = items.enumerated().filter { $0.element.identity.origin == origin }
                let kept = all.filter { !voids[$0.offset] }.map(\.offset)
                // By definition: none is more, and none of those that are as much comes later.
                let winner = all.max { ($0.element.retries, $0.offset) < ($1.element.retries, $1.offset) }?.offset
                #expect(kept == (open.contains(origin.offset) ? [] : [winner].compactMap(\.self)), "seed \(seed)")
            }
        }
    }
}

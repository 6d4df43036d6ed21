import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Held patients")
struct HeldPatientsTests {
    typealias Action = HeldPatients.Action
    static let main = TopicPartition("t", 0)

    static func position(_ topic: String, _ offset: Int64) -> RecordPosition {
        RecordPosition(topic: topic, partition: 0, offset: offset)
    }
    static func time(_ offset: Int64) -> Timestamp { Timestamp(milliseconds: 1_700_000_000_000 + offset) }

    /// A state of the dead letter at `letter`, of the event at `origin`.
    static func state(_ status: DeadLetterState.Status, origin: Int64?, at offset: Int64, lane: String? = "0a") -> DeadLetterState
    {
        DeadLetterState(
            status, time: time(offset), by: "somebody", origin: origin.map { position("t", $0) },
            lane: origin == nil ? nil : lane)
    }
    static func key(_ letter: Int64, group: String = "g") -> DeadLetterKey {
        DeadLetterKey(group: group, position: position("t.dlq", letter))
    }
    static func hold(_ origin: Int64, letter: Int64, at offset: Int64, lane: UInt64 = 10) -> Action {
        .hold(
            HeldPatients.Head(
                origin: position("t", origin), lane: lane, letter: position("t.dlq", letter), since: time(offset)))
    }
    static func release(_ origin: Int64) -> Action { .release(position("t", origin)) }

    /// States in the order in which they come: letter, status, origin, offset.
    private func run(_ steps: [(Int64, DeadLetterState.Status, Int64?, Int64)]) -> [[Action]] {
        var held = HeldPatients(group: "g")
        return steps.map { letter, status, origin, offset in
            held.apply(Self.key(letter), Self.state(status, origin: origin, at: offset), at: offset)
        }
    }

    @Test("open holds, replayed still does, completed releases; so does a discard, and an opened one holds again")
    func transcript() {
        #expect(
            run([(0, .open, 5, 0), (0, .replayed, 5, 1), (0, .completed, 5, 2)]) == [
                [Self.hold(5, letter: 0, at: 0)], [], [Self.release(5)],
            ])
        #expect(
            run([(0, .open, 5, 0), (0, .discarded, nil, 1), (0, .open, 5, 2)]) == [
                [Self.hold(5, letter: 0, at: 0)], [Self.release(5)], [Self.hold(5, letter: 0, at: 2)],
            ])
    }

    @Test("a replay that failed again leaves the hold to its successor")
    func failedAgain() {
        #expect(
            run([(0, .open, 5, 0), (0, .replayed, 5, 1), (3, .open, 5, 2), (0, .failedAgain, 5, 3), (3, .discarded, 5, 4)]) == [
                [Self.hold(5, letter: 0, at: 0)], [], [], [], [Self.release(5)],
            ])
    }

    @Test("what settles one dead letter settles its copies; a later one holds anew")
    func copies() {
        #expect(
            run([(0, .open, 5, 0), (1, .open, 5, 1), (0, .completed, 5, 2), (4, .open, 5, 3)]) == [
                [Self.hold(5, letter: 0, at: 0)], [], [Self.release(5)], [Self.hold(5, letter: 4, at: 3)],
            ])
        // An outcome that doesn't say the origin is of the one that its dead letter is known to be of.
        #expect(run([(0, .open, 5, 0), (1, .replayed, 5, 1), (0, .completed, nil, 2)]).last == [Self.release(5)])
    }

    @Test("what a consumer wrote itself it knows before it reads it: an older state that is read later changes nothing")
    func outOfOrder() {
        var held = HeldPatients(group: "g")
        let open = Self.state(.open, origin: 5, at: 7)
        #expect(held.apply(Self.key(3), open, at: 7) == [Self.hold(5, letter: 3, at: 7)])
        // Read only now: the dead letter before it was completed before this one was opened.
        #expect(held.apply(Self.key(0), Self.state(.open, origin: 5, at: 1), at: 1) == [])
        #expect(held.apply(Self.key(0), Self.state(.completed, origin: 5, at: 2), at: 2) == [])
        #expect(held.apply(Self.key(3), open, at: 7) == [])
        held.read(to: 8)
        #expect(held.apply(Self.key(3), Self.state(.discarded, origin: 5, at: 8), at: 8) == [Self.release(5)])
        held.read(to: 9)
        // Its acknowledgement comes when that was read long since.
        #expect(held.apply(Self.key(3), open, at: 7) == [] && held.isEmpty)
    }

    @Test("another group's states hold nobody, nor do those that don't say who or what")
    func others() {
        var held = HeldPatients(group: "g")
        #expect(held.apply(Self.key(0, group: "h"), Self.state(.open, origin: 5, at: 0), at: 0) == [])
        #expect(held.apply(Self.key(1), Self.state(.open, origin: nil, at: 1), at: 1) == [])
        #expect(held.apply(Self.key(2), Self.state(.open, origin: 6, at: 2, lane: nil), at: 2) == [])
        #expect(held.apply(Self.key(3), Self.state(.open, origin: 7, at: 3, lane: "Jane"), at: 3) == [])
        #expect(held.isEmpty && held.count == 0)
    }

    @Test("who is held in a main partition, in order; and the lane is the number that its text says")
    func heads() {
        var held = HeldPatients(group: "g")
        for (letter, origin) in [(Int64(0), Int64(9)), (1, 4)] {
            _ = held.apply(Self.key(letter), Self.state(.open, origin: origin, at: letter), at: letter)
        }
        #expect(held.heads(of: Self.main).map(\.origin.offset) == [4, 9])
        #expect(held.heads(of: TopicPartition("t", 1)).isEmpty)
        #expect(held.origin(of: Self.position("t.dlq", 1)) == Self.position("t", 4))
        #expect(held.letters(of: Self.position("t", 9)) == [Self.position("t.dlq", 0)])
        let key = ByteSlice("patient-1")
        #expect(UInt64(DeadLetterState.lane(of: key), radix: 16) == key.hash64(seed: HeldPatients.laneSeed))
    }

    /// The rules again, by what they say: a letter holds if its last state says so and nothing settled its event after that.
    private static func model(_ log: [(key: Int64, status: DeadLetterState.Status, origin: Int64)]) -> Set<Int64> {
        var held: Set<Int64> = []
        for letter in Set(log.map(\.key)) {
            guard let last = log.lastIndex(where: { $0.key == letter }), [.open, .replayed].contains(log[last].status) else {
                continue
            }
            let isSettled = log[last...].contains {
                $0.origin == log[last].origin && [.completed, .discarded].contains($0.status)
            }
            if !isSettled { held.insert(log[last].origin) }
        }
        return held
    }

    @Test("against a naive model, in order and with one's own states known early: 3,000 topics")
    func random() {
        for seed in UInt64(1)...3000 {
            var random = SeededGenerator(seed)
            let log = (0..<Int.random(in: 1...25, using: &random)).map { _ in
                let letter = Int64.random(in: 0..<6, using: &random)
                return (
                    key: letter, status: DeadLetterState.Status.allCases.randomElement(using: &random) ?? .open,
                    origin: letter % 3
                )
            }
            var held = HeldPatients(group: "g")
            var seen: Set<Int64> = []
            func act(_ actions: [Action]) {
                for action in actions {
                    switch action {
                    case .hold(let head): #expect(seen.insert(head.origin.offset).inserted, "seed \(seed)")
                    case .release(let origin): #expect(seen.remove(origin.offset) != nil, "seed \(seed)")
                    }
                }
            }
            func apply(_ index: Int) {
                let entry = log[index]
                let offset = Int64(index)
                act(held.apply(Self.key(entry.key), Self.state(entry.status, origin: entry.origin, at: offset), at: offset))
            }
            var read = 0
            while read < log.count {
                // Some that lie ahead are known already.
                if Int.random(in: 0..<3, using: &random) == 0 { apply(Int.random(in: read..<log.count, using: &random)) }
                apply(read)
                read += 1
                if Bool.random(using: &random) { held.read(to: Int64(read)) }
            }
            #expect(seen == Self.model(log), "seed \(seed)")
            #expect(Set(held.heads(of: Self.main).map(\.origin.offset)) == seen, "seed \(seed)")
        }
    }
}

@Suite("Offsets as bits")
struct OffsetSetTests {
    @Test("as a set of numbers, over 500 seeds")
    func random() {
        for seed in UInt64(1)...500 {
            var random = SeededGenerator(seed)
            var set = OffsetSet()
            var model: Set<Int64> = []
            for _ in 0..<Int.random(in: 0...300, using: &random) {
                let offset = Int64.random(in: 0..<260, using: &random)
                if Int.random(in: 0..<4, using: &random) > 0 {
                    set.insert(offset)
                    model.insert(offset)
                } else {
                    set.remove(offset)
                    model.remove(offset)
                }
                #expect(set.contains(offset) == model.contains(offset))
            }
            #expect(set.count == model.count, "seed \(seed)")
            for _ in 0..<20 {
                let start = Int64.random(in: 0..<300, using: &random)
                let range = start..<start + Int64.random(in: 0...200, using: &random)
                #expect(set.count(in: range) == model.count { range.contains($0) }, "seed \(seed), \(range)")
                #expect(set.firstMissing(in: range) == range.first { !model.contains($0) }, "seed \(seed), \(range)")
            }
        }
    }

    @Test("a million close offsets take little, and the first that is missing is found")
    func dense() {
        var set = OffsetSet()
        for offset in Int64(0)..<1_000_000 { set.insert(offset) }
        #expect(set.count(in: 0..<1_000_000) == 1_000_000 && set.firstMissing(in: 0..<1_000_001) == 1_000_000)
        #expect(set.firstMissing(in: 0..<1_000_000) == nil)
    }
}

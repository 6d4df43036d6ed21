import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Replays under way")
struct ReplaysUnderWayTests {
    typealias Verdict = ReplaysUnderWay.Verdict
    private static let ids = EngineReplayTests.ids
    private static let lane = DeadLetterState.lane(of: ByteSlice("p"))
    private static let number = ByteSlice("p").hash64(seed: 0)

    private static func letter(_ offset: Int64) -> RecordPosition { HeldPatientsTests.position("t.dlq", offset) }
    private static func mark(_ letter: Int64, _ id: Int = 0) -> ReplayMark {
        ReplayMark(id: ids[id], deadLetter: Self.letter(letter))
    }
    private static func state(
        _ status: DeadLetterState.Status, _ id: Int? = 0, origin: Int64? = 5, lane: String? = lane, by: String = "ann"
    ) -> DeadLetterState {
        DeadLetterState(
            status, time: HeldPatientsTests.time(1), by: by, reason: "why", replay: id.map { ids[$0] },
            successor: HeldPatientsTests.position("t.retry", 3), origin: origin.map { HeldPatientsTests.position("t", $0) },
            originTimestamp: HeldPatientsTests.time(0), lane: lane)
    }
    /// What is thought of the first dead letter's mark.
    private static func verdict(_ replays: ReplaysUnderWay, _ id: Int = 0, lane: UInt64? = number) -> String {
        switch replays.verdict(mark(0, id), lane: lane) {
        case .underWay: "under way"
        case .over: "over"
        case .isFalse: "false"
        case .unknown: "unknown"
        }
    }

    @Test("a mark is believed from its state until another one, of its own lane, group and id")
    func transcript() throws {
        var replays = ReplaysUnderWay(group: "g")
        #expect(Self.verdict(replays) == "unknown")
        replays.apply(HeldPatientsTests.key(0, group: "h"), Self.state(.replayed), at: 0)
        replays.apply(HeldPatientsTests.key(0), Self.state(.replayed, nil), at: 1)
        #expect(Self.verdict(replays) == "unknown" && replays.count == 0)
        let found = replays.apply(HeldPatientsTests.key(0), Self.state(.replayed), at: 2)
        let known = try #require(found)
        #expect(known.by == "ann" && known.reason == "why" && known.at == HeldPatientsTests.time(1) && !known.isInMain)
        #expect(Self.verdict(replays) == "under way" && replays.verdict(Self.mark(1), lane: Self.number) == .unknown)
        #expect(Self.verdict(replays, lane: 7) == "false" && Self.verdict(replays, lane: nil) == "false")
        #expect(Self.verdict(replays, 1) == "unknown")
        let hash = RetryIdentity(origin: Self.letter(9), replay: Self.mark(0).description).replay
        #expect(replays.replay(hash: hash, lane: Self.number) == known && replays.replay(hash: hash, lane: 1) == nil)
        // Another replay of it, and its end; an outcome that was known by its acknowledgement is read only then.
        replays.apply(HeldPatientsTests.key(0), Self.state(.replayed, 1), at: 3)
        #expect(Self.verdict(replays) == "over" && Self.verdict(replays, 1) == "under way" && replays.count == 1)
        replays.apply(HeldPatientsTests.key(0), Self.state(.failedAgain, 0, by: "g"), at: 4)
        #expect(Self.verdict(replays, 1) == "under way")
        replays.apply(HeldPatientsTests.key(0), Self.state(.completed, 1, by: "g"), at: 5)
        replays.apply(HeldPatientsTests.key(0), Self.state(.replayed, 2), at: 7)
        replays.apply(HeldPatientsTests.key(0), Self.state(.completed, 1, by: "g"), at: 5)
        #expect(Self.verdict(replays, 1) == "over" && Self.verdict(replays, 2) == "under way")
        for (offset, state) in [(8, nil), (10, Self.state(.discarded, nil)), (12, Self.state(.open, 2))]
            as [(Int64, DeadLetterState?)]
        {
            replays.apply(HeldPatientsTests.key(0), state, at: offset)
            #expect(
                Self.verdict(replays, 2) == "over" && replays.count == 0 && replays.replay(hash: hash, lane: Self.number) == nil)
        }
    }

    @Test("an event without a key has no lane to tell apart; a lane that is none is nobody's")
    func lanes() {
        var replays = ReplaysUnderWay(group: "g")
        replays.apply(HeldPatientsTests.key(0), Self.state(.replayed, lane: nil), at: 0)
        #expect(Self.verdict(replays, lane: 3) == "under way" && Self.verdict(replays, lane: nil) == "under way")
        replays.apply(HeldPatientsTests.key(0), Self.state(.replayed, 1, lane: "Jane"), at: 1)
        #expect(Self.verdict(replays, 1) == "unknown" && replays.count == 0)
    }

    @Test(
        "an outcome that stands before its replay's state, as where what isn't committed is read, ends that too",
        arguments: [
            DeadLetterState.Status.completed, .failedAgain,
        ])
    func overtaken(outcome: DeadLetterState.Status) {
        var replays = ReplaysUnderWay(group: "g")
        var held = HeldPatients(group: "g")
        let key = HeldPatientsTests.key(0)
        let states: [DeadLetterState] = [
            Self.state(.open, nil), Self.state(outcome, by: "g"), Self.state(.replayed), Self.state(.replayed, 1),
        ]
        var counts: [Int] = []
        for (offset, state) in states.enumerated() {
            replays.apply(key, state, at: Int64(offset))
            _ = held.apply(key, state, at: Int64(offset))
            counts.append(replays.count * 10 + held.count)
        }
        // Another replay is another matter.
        #expect(counts == [1, 0, 0, 11])
    }

    @Test("copies are known by the replay and the event, and of one that is heard of when that has ended nothing more comes")
    func copies() throws {
        var replays = ReplaysUnderWay(group: "g")
        let found = replays.apply(HeldPatientsTests.key(2), Self.state(.replayed), at: 0)
        let known = try #require(found)
        replays.apply(HeldPatientsTests.key(1), Self.state(.replayed), at: 1)
        // Another event of the same run, and another one that came from the same place.
        replays.apply(HeldPatientsTests.key(3), Self.state(.replayed, origin: 6), at: 2)
        replays.apply(HeldPatientsTests.key(4), Self.state(.replayed, lane: "00000000000000aa"), at: 3)
        #expect(replays.letters(of: known) == [Self.letter(2), Self.letter(1)])
        replays.apply(HeldPatientsTests.key(2), Self.state(.completed, by: "g"), at: 4)
        replays.apply(HeldPatientsTests.key(1), Self.state(.completed, by: "g"), at: 5)
        #expect(replays.count == 2 && replays.letters(of: known) == [Self.letter(2)])
        replays.apply(HeldPatientsTests.key(7), Self.state(.replayed), at: 6)
        #expect(replays.count == 2)
    }

    @Test("what is over is remembered for a while, in bounded memory")
    func bounded() {
        var marks = RecentMarks()
        let count = RecentMarks.capacity * 3
        for number in 0..<count { marks.insert(number) }
        #expect((0..<count).count { marks.contains($0) } == RecentMarks.capacity && marks.contains(count - 1))
    }

    private struct Entry {
        let letter: Int64
        let status: DeadLetterState.Status
        let replay: String?
    }

    /// Each replay has an id of its own; what else there is names one of before, or one that is yet to come.
    private static func log(_ random: inout SeededGenerator) -> [Entry] {
        let count = Int.random(in: 1...25, using: &random)
        return (0..<count).map { index in
            let letter = Int64.random(in: 0..<3, using: &random)
            let status = DeadLetterState.Status.allCases.randomElement(using: &random) ?? .open
            let any = "r\(Int.random(in: max(0, index - 6)..<index + 3, using: &random))"
            return Entry(letter: letter, status: status, replay: status == .replayed ? "r\(index)" : status == .open ? nil : any)
        }
    }

    @Test("against a naive model, one's own outcomes known early: 3,000 topics")
    func random() {
        for seed in UInt64(1)...3000 {
            var random = SeededGenerator(seed)
            let log = Self.log(&random)
            var replays = ReplaysUnderWay(group: "g")
            func apply(_ index: Int) {
                let entry = log[index]
                replays.apply(
                    HeldPatientsTests.key(entry.letter),
                    DeadLetterState(entry.status, time: HeldPatientsTests.time(0), by: "x", replay: entry.replay),
                    at: Int64(index))
            }
            for index in log.indices {
                // An outcome is known before what stands ahead of it is read, but for its own replay.
                let ahead = Int.random(in: index..<log.count, using: &random)
                let isOwn = [.completed, .failedAgain].contains(log[ahead].status)
                let isRead = !log[index..<ahead].contains { $0.status == .replayed && $0.letter == log[ahead].letter }
                if isOwn, isRead { apply(ahead) }
                apply(index)
            }
            for letter in 0..<Int64(3) {
                let own = log.filter { $0.letter == letter }
                let lastReplay = own.lastIndex { $0.status == .replayed }
                for replay in Set(own.compactMap(\.replay)) {
                    // The outcome of the one before may be told when there is another one already.
                    let isLast =
                        lastReplay.map { last in
                            own[last].replay == replay
                                && own[(last + 1)...].allSatisfy { [.completed, .failedAgain].contains($0.status) }
                        } ?? false
                    let wasTold = own.contains { $0.status != .replayed && $0.replay == replay }
                    let verdict = replays.verdict(ReplayMark(id: replay, deadLetter: Self.letter(letter)), lane: nil)
                    let isBelieved = if case .underWay = verdict { true } else { false }
                    #expect(isBelieved == (isLast && !wasTold), "seed \(seed)")
                }
            }
        }
    }
}

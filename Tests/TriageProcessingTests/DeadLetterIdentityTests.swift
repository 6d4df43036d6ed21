import Testing
import TriageEvents

@testable import TriageProcessing

/// Which dead letters are copies of one another, and what is known of them by that.
@Suite("Dead letters: identity")
struct DeadLetterIdentityTests {
    private static let ids = EngineReplayTests.ids
    private let time = Timestamp(milliseconds: 1_790_000_000_000)
    private let decoder = EventDecoder()

    private func parse(_ bytes: ByteSlice) -> DeadLetterState? {
        (try? decoder.checkObject(bytes)).flatMap { _ in JSONValue(bytes) }.flatMap { DeadLetterState($0) }
    }

    private func letter(
        _ offset: Int64, key: String? = "p", written: Int64? = 1_780_000_000_000, follows: ReplayMark? = nil
    ) -> DeadLetter {
        var headers = ["triage-origin": "t/0/5", "triage-group": "care", "triage-error-class": "persistent"]
        headers["triage-origin-timestamp"] = written.map { "\($0)" }
        headers["triage-replay"] = follows?.description
        return DeadLetter(
            Record(
                topic: "t.dlq", partition: 0, offset: offset, timestamp: time, key: key.map { ByteSlice($0) },
                value: ByteSlice("{}"),
                headers: Headers(headers.map { Header($0, text: $1) })))
    }

    private func state(
        _ status: DeadLetterState.Status, of letter: DeadLetter, replay: String? = ids[0], by: String = "ann"
    ) -> DeadLetterState {
        DeadLetterState(
            status, time: time, by: by, replay: replay, replayedBy: replay.map { _ in "ann" },
            replayedAt: replay.map { _ in time },
            origin: letter.origin, originTimestamp: letter.originTimestamp, follows: letter.replay,
            lane: letter.key.map { DeadLetterState.lane(of: $0) })
    }

    @Test(
        "who asked for a replay and when are written and read, and so is when the event was; without them a state is read as before"
    )
    func json() throws {
        let follows = ReplayMark(id: Self.ids[1], deadLetter: letter(1).position)
        let full = DeadLetterState(
            .failedAgain, time: time + .seconds(9), by: "care", reason: "a \"reason\"", replay: Self.ids[0], replayedBy: "ann\n7",
            replayedAt: time, successor: letter(9).position, origin: letter(1).origin, originTimestamp: letter(1).originTimestamp,
            follows: follows, lane: "0123456789abcdef")
        #expect(parse(full.json) == full)
        let text = try #require(full.json.utf8Text)
        #expect(text.contains("\"replayed_by\":\"ann") && text.contains("\"replayed_at\":\"\(time.iso8601)\""))
        #expect(text.contains("\"origin_timestamp\":\""))
        for status in DeadLetterState.Status.allCases {
            let bare = DeadLetterState(status, time: time, by: "x")
            #expect(parse(bare.json) == bare && bare.json.utf8Text?.contains("replayed_") == false)
        }
    }

    @Test("of one place, but another patient's or of another time: no copy; a topic that was made anew has another event there")
    func others() {
        var copies = DeadLetterCopies(partitions: 1)
        let letters = [letter(0), letter(1), letter(2, key: "q"), letter(3, written: 1_785_000_000_000), letter(4, key: "q")]
        #expect(letters.map { copies.first(of: $0) } == [nil, 0, nil, nil, 2])
        var states = DeadLetterStates()
        states.set(DeadLetterKey(letters[0], group: nil), state(.completed, of: letters[0], by: "care"))
        #expect(letters.map { states.state(of: $0, group: nil)?.status } == [.completed, .completed, nil, nil, nil])
        // Each of them is known by its own, whichever was set last.
        states.set(DeadLetterKey(letters[2], group: nil), state(.discarded, of: letters[2]))
        states.set(DeadLetterKey(letters[3], group: nil), state(.replayed, of: letters[3]))
        #expect(
            letters.map { states.state(of: $0, group: nil)?.status } == [
                .completed, .completed, .discarded, .replayed, .discarded,
            ])
        states.set(DeadLetterKey(letters[0], group: nil), state(.open, of: letters[0]))
        #expect(letters.map { states.state(of: $0, group: nil)?.status } == [.open, .open, .discarded, .replayed, .discarded])
    }

    @Test("what a state or a dead letter doesn't say tells nothing apart: states of before match as before")
    func unsaid() {
        let known = letter(0)
        let bare = DeadLetterState(.discarded, time: time, by: "ann", origin: known.origin)
        for state in [bare, state(.discarded, of: known)] {
            var states = DeadLetterStates()
            states.set(DeadLetterKey(known, group: nil), state)
            for other in [letter(1), letter(2, written: nil), letter(3, key: nil)] {
                #expect(states.state(of: other, group: nil)?.status == .discarded)
            }
        }
    }

    @Test(
        "of copies one is replayed: how that ended counts for all of them",
        arguments: [
            DeadLetterState.Status.completed, .failedAgain,
        ])
    func copies(outcome: DeadLetterState.Status) {
        let letters = [letter(0), letter(1), letter(2)]
        var states = DeadLetterStates()
        for letter in letters { states.set(DeadLetterKey(letter, group: nil), state(.replayed, of: letter)) }
        #expect(letters.allSatisfy { states.state(of: $0, group: nil)?.status == .replayed })
        states.set(DeadLetterKey(letters[1], group: nil), state(outcome, of: letters[1], by: "care"))
        #expect(letters.allSatisfy { states.state(of: $0, group: nil)?.status == outcome })
        // Replayed once more, and that one isn't over.
        for letter in letters { states.set(DeadLetterKey(letter, group: nil), state(.replayed, of: letter, replay: Self.ids[1])) }
        #expect(letters.allSatisfy { states.state(of: $0, group: nil)?.status == .replayed })
        // Another replay's end says nothing of it.
        states.set(DeadLetterKey(letters[1], group: nil), state(outcome, of: letters[1], by: "care"))
        #expect(letters.map { states.state(of: $0, group: nil)?.status } == [.replayed, outcome, .replayed])
    }

    @Test("an outcome that takes the place of what said who asked keeps that, also one of a consumer that didn't tell it yet")
    func whoAsked() {
        let letter = letter(0)
        let key = DeadLetterKey(letter, group: nil)
        var states = DeadLetterStates()
        let asked = DeadLetterState(
            .replayed, time: time, by: "ann", reason: "mended", replay: Self.ids[0], origin: letter.origin)
        states.set(key, asked)
        states.set(key, DeadLetterState(.completed, time: time + .seconds(1), by: "care", replay: Self.ids[0]))
        #expect(states[key]?.replayedBy == "ann" && states[key]?.replayedAt == time && states[key]?.reason == "mended")
        // Not of another replay.
        states.set(key, asked)
        states.set(key, DeadLetterState(.completed, time: time, by: "care", replay: Self.ids[1]))
        #expect(states[key]?.replayedBy == nil && states[key]?.reason == nil)
        // Alone, as a compacted topic keeps it: one that tells who asked tells of the event as well.
        var fresh = DeadLetterStates()
        fresh.set(key, state(.completed, of: letter, by: "care"))
        #expect(fresh.state(of: self.letter(7), group: nil)?.status == .completed)
    }
}

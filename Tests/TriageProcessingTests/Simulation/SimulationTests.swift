import Glibc
import Synchronization
import Testing
import TriageEvents

@testable import TriageProcessing

/// The production loop in worlds that are functions of a seed: only the ports and the executor are replaced.
///
/// `TRIAGE_SIMULATION_SEED=n` runs one world and prints all of it; `TRIAGE_SIMULATION_SEEDS=n` runs so many.
///
/// One after the other, and on threads that leave the processors to others: the rest of the tests has deadlines.
@Suite("Simulation", .serialized, .timeLimit(.minutes(10)))
struct SimulationTests {
    static func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }

    @Test("every event ends once, in order, and nothing is lost, whatever befalls engines and broker")
    func seeds() async {
        if let seed = SimulationTests.number("TRIAGE_SIMULATION_SEED") {
            let story = SimulationStory(seed: UInt64(seed)) { $0.tail = .max }
            story.run()
            print(story.failure ?? "nothing")
            #expect(story.world.violations.isEmpty)
            return
        }
        let count = SimulationTests.number("TRIAGE_SIMULATION_SEEDS") ?? 1500
        let first = SimulationTests.number("TRIAGE_SIMULATION_FIRST") ?? 1
        let result = await Worlds.run(first..<first + count)
        for text in result.failures.prefix(3) { Issue.record("\(text)") }
        #expect(result.failures.isEmpty, "\(result.failures.count) of \(count) worlds")
        #expect(result.worlds == count || !result.failures.isEmpty)
        print("\(result)")
    }

    #if DEBUG
        /// Two need a state that an engine alone doesn't come into, or whose harm looks like what a rebalance may do:
        /// `EngineOrderTests` makes them by hand.
        static let plantable = PlantedFault.allCases.filter { $0 != .unbarred && $0 != .otherWriterTaken }

        @Test(
            "each mistake about order, dead letters or traces that an engine can be made to make is noticed", arguments: plantable
        )
        func planted(_ fault: PlantedFault) async {
            let result = await Worlds.run(1..<400, enough: 1) { SimulationStory(seed: $0) { $0.planted = fault } }
            #expect(!result.failures.isEmpty, "\(fault): nobody noticed in \(result.worlds) worlds")
            if SimulationTests.number("TRIAGE_SIMULATION_TELL") != nil {
                print("\(fault): \(result.failures.first?.split(separator: "\n").first ?? "-")")
            }
        }
    #endif

    @Test(
        "a port that does wrong is noticed: what it says was stored and wasn't, what it forgets of a commit", arguments: [0, 1])
    func spoilt(port: Int) async {
        let result = await Worlds.run(1..<400, enough: 1) { seed in
            SimulationStory(seed: seed) { options in
                options.spoil =
                    port == 0
                    ? Spoiler(swallows: { TopicName.isRetry($0.topic) && $0.key?.last == UInt8(ascii: "1") })
                    : Spoiler(committed: { OffsetCommit($0.topicPartition, offset: $0.offset) })
            }
        }
        #expect(!result.failures.isEmpty, "nobody noticed in \(result.worlds) worlds")
        if SimulationTests.number("TRIAGE_SIMULATION_TELL") != nil {
            print("port \(port): \(result.failures.first?.split(separator: "\n").first ?? "-")")
        }
    }

    @Test("acknowledgements that name a place beside the record's lose nothing, and nothing is overtaken")
    func misplaced() async {
        let result = await Worlds.run(1..<300) { seed in
            SimulationStory(seed: seed) { options in
                options.spoil = Spoiler(misplaces: { $0.chance(10) ? $0.chance(50) ? -2 : 2 : 0 })
                // Of two copies the wrong one may count, which is seen late, and the other one come again.
                options.rules.subtract([.duplicates, .attempts, .bounds, .carriers])
            }
        }
        #expect(result.failures.isEmpty, "\(result.failures.first ?? "")")
        #expect(result.worlds == 299)
    }

    @Test("the same seed gives the same transcript", arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func deterministic(seed: UInt64) {
        let stories = [SimulationStory(seed: seed), SimulationStory(seed: seed)]
        for story in stories { story.run() }
        let transcripts = stories.map(\.world.transcript)
        #expect(stories[0].world.fingerprint == stories[1].world.fingerprint)
        if let index = transcripts[0].indices.first(where: {
            !transcripts[1].indices.contains($0) || transcripts[1][$0] != transcripts[0][$0]
        }) {
            let around = max(0, index - 5)..<min(index + 3, transcripts[0].count)
            Issue.record("seed \(seed), entry \(index): \(transcripts.map { $0.dropFirst(around.lowerBound).prefix(8) })")
        }
    }
}

/// Runs worlds on two threads.
final class Worlds: Sendable, CustomStringConvertible {
    private struct State {
        var next: Int
        var failures: [String] = []
        var worlds = 0
        var steps = 0
        var counts: [String: Int] = [:]
        var running = 0
    }
    private let state: Mutex<State>
    private let end: Int
    private let enough: Int
    private let story: @Sendable (UInt64) -> SimulationStory
    private let done = Watched(false)

    private init(_ seeds: Range<Int>, _ enough: Int, _ story: @escaping @Sendable (UInt64) -> SimulationStory) {
        state = Mutex(State(next: seeds.lowerBound))
        end = seeds.upperBound
        self.enough = enough
        self.story = story
    }

    var failures: [String] { state.withLock { $0.failures } }
    var worlds: Int { state.withLock { $0.worlds } }
    var description: String {
        state.withLock { state in
            "\(state.worlds) worlds: "
                + state.counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        }
    }

    /// Ends early after some failures.
    static func run(
        _ seeds: Range<Int>, enough: Int = 5,
        _ story: @escaping @Sendable (UInt64) -> SimulationStory = { SimulationStory(seed: $0) }
    ) async -> Worlds {
        let worlds = Worlds(seeds, enough, story)
        let threads = 2
        worlds.state.withLock { $0.running = threads }
        for _ in 0..<threads {
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { context in
                    if let context { Unmanaged<Worlds>.fromOpaque(context).takeRetainedValue().work() }
                    return nil
                }, Unmanaged.passRetained(worlds).toOpaque())
            pthread_detach(thread)
        }
        await worlds.done.until { $0 }
        return worlds
    }

    private func work() {
        // On Linux of the calling thread alone (setpriority(2), C library/kernel differences).
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
        while true {
            let seed: Int? = state.withLock { state in
                guard state.next < end, state.failures.count < enough else { return nil }
                state.next += 1
                return state.next - 1
            }
            guard let seed else { break }
            let story = story(UInt64(seed))
            story.run()
            let world = story.world
            let entries = world.transcript
            let failure = story.failure
            state.withLock { state in
                state.worlds += 1
                for entry in entries { state.counts["\(entry.what)", default: 0] += 1 }
                state.counts["duplicates", default: 0] += world.referee.duplicates
                state.counts["recounts", default: 0] += world.referee.recounts
                state.counts["open retries recounted", default: 0] += world.referee.recounted
                state.counts["held patients", default: 0] += world.referee.opened
                state.counts["ends of replays", default: 0] += world.referee.told
                if let traces = story.traces {
                    state.counts["traced worlds", default: 0] += world.options.isTraced ? 1 : 0
                    state.counts["whole chains", default: 0] += traces.whole
                    state.counts["cut chains", default: 0] += traces.cut
                    state.counts["long waits", default: 0] += traces.longWaits
                    state.counts["parked spans", default: 0] += traces.parked
                }
                if let failure { state.failures.append(failure) }
            }
        }
        let isLast = state.withLock { state in
            state.running -= 1
            return state.running == 0
        }
        if isLast { done.change { $0 = true } }
    }
}

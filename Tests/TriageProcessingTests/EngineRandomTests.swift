import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Random worlds: what a seed says about topics, engines, faults and handlers is the same in every run; their timing isn't.
@Suite("Engine: random worlds", .timeLimit(.minutes(2)))
struct EngineRandomTests {
    /// What a handler does with an event on an attempt.
    private enum Deed { case succeed, hop, transient, persistent, unexpected, later }

    private struct World: Sendable {
        let seed: UInt64
        let bench: EngineBench
        let hasCommitFaults: Bool

        init(seed: UInt64, _ rebalancing: InMemoryBroker.Rebalancing) throws {
            self.seed = seed
            var random = SeededGenerator(seed)
            let partitions = Int.random(in: 1...4, using: &random)
            var bench = EngineBench(
                partitions: partitions, gapEvery: Int.random(in: 0...3, using: &random),
                isTracing: Int.random(in: 0..<4, using: &random) > 0,
                capacity: [1, 2, 7, 100_000].randomElement(using: &random) ?? 1, rebalancing: rebalancing
            )
            bench.configuration.concurrency = Int.random(in: 1...9, using: &random)
            bench.configuration.pollSize = Int.random(in: 1...40, using: &random)
            bench.configuration.maximumInFlight = Int.random(in: 1...60, using: &random)
            bench.configuration.maximumBytesInFlight = Int.random(in: 200...20_000, using: &random)
            // A handler that hops waits for a thread that a loaded machine may not give it for seconds: were its partition given
            // away meanwhile, as the default says, another engine would rightly handle its key at the same time.
            bench.configuration.revocationTimeout = .seconds(100)
            bench.configuration.drainTimeout = .seconds(100)
            bench.configuration.retry = RetryPolicy(
                Bool.random(using: &random) ? .exponential : .immediate, retries: Int.random(in: 0...4, using: &random),
                base: .milliseconds(1), cap: .milliseconds(4)
            )
            self.bench = bench
            for version in 0..<Int.random(in: 20...150, using: &random) {
                let key = "p\(Int.random(in: 0..<12, using: &random))"
                switch Int.random(in: 0..<20, using: &random) {
                case 0: try bench.put(ByteSlice("{"), key: ByteSlice(key))
                case 1:
                    try bench.put(
                        EngineBench.event(nil, version: version),
                        partition: Int32.random(in: 0..<Int32(partitions), using: &random))
                default: try bench.put(key, version: version)
                }
            }
            let faults = Int.random(in: 0...15, using: &random)
            bench.broker.failNextProduces(
                faults, with: BrokerError("NOT_ENOUGH_REPLICAS", operation: "produce", isRetriable: true))
            let commitFaults = max(0, Int.random(in: -5...5, using: &random))
            hasCommitFaults = commitFaults > 0
            bench.broker.failNextCommits(commitFaults, with: BrokerError("_TIMED_OUT", operation: "commit", isRetriable: true))
        }

        /// Events of even keys never fail, so that their order can be judged.
        func deed(_ context: HandlerContext) -> Deed {
            var random = SeededGenerator(
                seed &* 31 &+ UInt64(context.origin.offset) &* 131 &+ UInt64(context.origin.partition) &* 7
                    &+ UInt64(context.attempt)
            )
            let isSteady = context.record.key.map { $0.last.map { $0 % 2 == 0 } ?? true } ?? true
            if isSteady { return Bool.random(using: &random) ? .succeed : .hop }
            return [.succeed, .succeed, .hop, .hop, .transient, .transient, .unexpected, .later, .persistent]
                .randomElement(using: &random) ?? .succeed
        }
    }

    /// What the handlers saw; every engine of a world shares it.
    private struct Seen: Sendable {
        var done: [RecordPosition] = []
        var busy: Set<String> = []
        var overlaps = 0
    }

    private func handler(_ world: World, _ seen: Watched<Seen>) -> EventHandler {
        let clock = world.bench.tracer.clock
        return { _, context in
            let key = context.record.key?.utf8Text
            if let key {
                seen.change { seen in
                    if !seen.busy.insert(key).inserted { seen.overlaps += 1 }
                }
            }
            defer { if let key { seen.change { _ = $0.busy.remove(key) } } }
            switch world.deed(context) {
            case .succeed: break
            case .hop: await Task.detached { await Task.yield() }.value
            case .transient: throw Transient()
            case .persistent:
                await Task.yield()
                throw Persistent()
            case .unexpected: throw Unexpected()
            case .later: throw RetryLater(retryAt: clock.now() + .milliseconds(3))
            }
            seen.change { $0.done.append(context.origin) }
        }
    }

    @Test(
        "every event is completed or dead-lettered, keys are never handled twice at a time, and order holds", arguments: 1...40,
        InMemoryBroker.Rebalancing.allCases)
    func world(seed: Int, rebalancing: InMemoryBroker.Rebalancing) async throws {
        let world = try World(seed: UInt64(seed), rebalancing)
        let bench = world.bench
        let seen = Watched(Seen())
        let handler = handler(world, seen)
        var random = SeededGenerator(UInt64(seed) &+ 1000)
        // Engines that join, end by themselves or are stopped on the way; the last one finishes what is left.
        var engines: [RunningEngine] = []
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            engines.append(bench.start(handler: handler))
            let count = seen.value.done.count + Int.random(in: 0...10, using: &random)
            let total = bench.records(bench.topic).count
            // Nobody is left to go on if the first was stopped and the second came when it still had everything.
            let all = engines
            await eventually("seed \(seed): goes on") {
                seen.value.done.count >= min(count, total / 3) || all.allSatisfy(\.hasEnded)
            }
            if Int.random(in: 0..<3, using: &random) == 0 { engines.randomElement(using: &random)?.engine.stop() }
        }
        let isShared = engines.count > 1
        for engine in engines { try await engine.finished() }
        for _ in 0..<6 {
            engines.append(bench.start(handler: handler))
            try await engines.last?.finished()
        }

        let done = seen.value.done
        let dead = bench.deadLetters.compactMap { $0.headers.text(HeaderName.origin) }.compactMap { RecordPosition($0) }
        let all = bench.records(bench.topic)
        #expect(Set(done).union(dead) == Set(all.map(\.position)), "seed \(seed)")
        #expect(seen.value.overlaps == 0, "seed \(seed)")
        if !world.hasCommitFaults, !isShared {
            // Nobody crashed, every commit arrived and no partition went with work begun behind work left: each event has one end.
            #expect(Set(dead).count == dead.count, "seed \(seed)")
            #expect(Set(done).isDisjoint(with: dead), "seed \(seed)")
        }
        for (key, records) in Dictionary(grouping: all, by: { $0.key?.utf8Text ?? "" })
        where key.last?.wholeNumberValue.map({ $0 % 2 == 0 }) == true {
            for partition in Set(records.map(\.partition)) {
                let offsets = records.filter { $0.partition == partition && $0.value?.count ?? 0 > 1 }.map(\.offset)
                let positions = Set(records.map(\.position))
                var firsts: [Int64] = []
                for position in done where positions.contains(position) && position.partition == partition {
                    if !firsts.contains(position.offset) { firsts.append(position.offset) }
                }
                #expect(firsts == offsets, "seed \(seed), key \(key)")
            }
        }
        bench.expectAllCommitted()
        let summaries = engines.map(\.engine.summary)
        #expect(bench.total(.deliveries) == summaries.reduce(0) { $0 + $1.consumed + $1.skipped }, "seed \(seed)")
        #expect(bench.total(.deadLetters) == dead.count, "seed \(seed)")
        #expect(bench.tracer.counts.live == 0, "seed \(seed)")
        for engine in engines.map(\.engine) {
            #expect(engine.load.bytes == 0, "seed \(seed)")
            #expect(engine.load.waitingBytes == 0, "seed \(seed)")
            #expect(engine.sends.isEmpty, "seed \(seed)")
            #expect(engine.lanes.activeKeys == 0, "seed \(seed)")
        }
    }
}

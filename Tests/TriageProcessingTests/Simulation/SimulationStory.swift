import TriageEvents

@testable import TriageProcessing

/// A random world and what befalls it: a function of the seed.
final class SimulationStory {
    let world: SimulatedWorld
    /// Engines that shall run.
    private var wanted = 1
    private var isClosing = false
    private let length: Int64
    /// What its traces were found to be.
    private(set) var traces: TraceJudge?
    /// What went wrong, if anything did.
    private(set) var failure: String?

    /// How much goes wrong.
    enum Flavour: CaseIterable {
        /// Events fail, engines join and are stopped, nothing else: no event may end twice.
        case calm
        /// Everything there is.
        case wild
    }
    let flavour: Flavour

    init(seed: UInt64, _ change: (inout SimulationOptions) -> Void = { _ in }) {
        var random = SeededGenerator(seed &* 3 &+ 1)
        func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
        func chance(_ percent: Int) -> Bool { int(0...99) < percent }
        flavour = chance(20) ? .calm : .wild
        let isWild = flavour == .wild
        let all = ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"]
        var options = SimulationOptions(
            topics: Array(all.prefix([1, 1, 2, 3][int(0...3)])), partitions: [1, 1, 2, 3][int(0...3)])
        options.gaps = chance(40) ? int(5...30) : 0
        options.producerCapacity = chance(20) ? int(1...4) : 100_000
        options.failingReads = isWild && chance(30) ? 20 : 0
        options.rebalanceTimeout = isWild ? Int64(int(500...8000)) * 1_000_000 : 60_000_000_000
        options.pace = SimulationStory.pace(isWild: isWild, hasSlow: chance(50))

        var configuration = options.configuration
        configuration.concurrency = int(1...8)
        configuration.pollSize = int(1...20)
        configuration.maximumInFlight = int(2...60)
        if chance(30) { configuration.maximumBytesInFlight = int(200...3000) }
        configuration.commitInterval = .milliseconds(int(5...600))
        configuration.revocationTimeout = isWild ? .milliseconds(int(0...1500)) : .seconds(30)
        configuration.drainTimeout = isWild ? .milliseconds(int(50...4000)) : .seconds(30)
        configuration.produceRetryDelay = .milliseconds(int(20...500))
        configuration.attemptTimeout = isWild && chance(50) ? .milliseconds(int(100...800)) : nil
        let base = int(5...400)
        configuration.retry = RetryPolicy(
            chance(80) ? .exponential : .immediate, retries: int(0...4), base: .milliseconds(base),
            cap: .milliseconds(base * int(1...6)))
        if isWild, chance(25) {
            configuration.outage = OutagePolicy(
                failuresInRow: int(3...8), failureRatio: 0, probeDelay: .milliseconds(int(20...300)),
                maximumProbeDelay: .milliseconds(800))
        }
        let length = Int64(int(1500...6000)) * 1_000_000
        options.isTraced = chance(85)
        options.exportLag = chance(50) ? Int64(int(1...800)) * 1_000_000 : 0
        if chance(25) {
            configuration.ordering = .none
            options.rules.remove(.order)
        }
        if chance(35) { configuration.maximumOffsetSpan = Int64(int(2...40)) }
        if chance(25) { configuration.newTraceAfter = .milliseconds(int(20...1000)) }
        options.configuration = configuration
        if chance(25) {
            options.replays = int(1...12)
            options.forgeries = int(0...6)
            // Nobody's spans but the engines' are judged.
            options.isTraced = false
            if configuration.ordering == .perKey, chance(60) { options.configuration.deadLetters = .sequence }
        }
        change(&options)
        self.length = length
        world = SimulatedWorld(seed: seed, options: options)
    }

    private static func pace(isWild: Bool, hasSlow: Bool) -> (SimulatedWorld, SimulatedEngine, Int) -> Pace {
        { world, _, _ in
            let drawn = world.int(0...99)
            switch drawn {
            case 0..<40: return .instant
            case 40..<75: return .suspend(world.milliseconds(0.05, 20), isCooperative: world.chance(50))
            case 75..<78: return .block(world.milliseconds(1, 150))
            case 78..<94: return .suspend(world.milliseconds(10, 250), isCooperative: world.chance(50))
            default:
                if !isWild || !hasSlow || world.isCalm { return .suspend(world.milliseconds(1, 20), isCooperative: true) }
                return .suspend(world.milliseconds(300, 2500), isCooperative: world.chance(50))
            }
        }
    }

    /// Runs it to its end, when everything has been judged.
    func run() {
        prepare()
        world.pass(length)
        world.isCalm = true
        wanted = max(1, wanted)
        supervise()
        let isDone = world.pass(until: 300_000_000_000, step: 200_000_000) { [world] in
            for letter in world.referee.undecided { discard(letter) }
            return world.referee.unfinished.isEmpty && isAtRest
        }
        if !isDone { world.referee.expectRest() }
        end()
        if !world.violations.isEmpty { failure = world.tail() }
        world.destroy()
    }

    private var isAtRest: Bool {
        world.broker.isSettled && world.broker.underWay == 0
            && world.broker.logs.allSatisfy { $0.kind == .deadLetter || ($0.committed?.offset ?? 0) == $0.next }
    }

    /// Everyone is stopped, and one that comes after finds nothing to do.
    private func end() {
        isClosing = true
        guard world.violations.isEmpty else { return }
        for engine in world.engines { engine.stop() }
        if !world.pass(until: 100_000_000_000, { [world] in world.running == 0 }) { world.violate("engines don't stop") }
        guard world.violations.isEmpty else { return }
        world.referee.expectRest()
        world.referee.expectTold()
        world.referee.isAfterEnd = true
        let last = world.startEngine()
        world.pass(1_000_000_000)
        last.stop()
        if !world.pass(until: 100_000_000_000, { [world] in world.running == 0 }) { world.violate("the last doesn't stop") }
        guard world.violations.isEmpty else { return }
        traces = TraceJudge(world)
        if let problem = traces?.judge() { world.violate(problem) }
    }

    // MARK: What happens

    private func prepare() {
        let world = world
        let patients = world.int(2...8)
        let count = world.int(20...80)
        let failing = world.int(0...60)
        for _ in 0..<count {
            let patient = world.int(0...patients - 1)
            let plan = plan(failing)
            let topic = world.int(0...world.broker.topics.count - 1)
            let isKeyless = world.chance(3)
            world.after(world.chance(30) ? 0 : world.milliseconds(0, Double(length) / 1e6)) {
                world.publish(patient, plan: plan, topic: topic, isKeyless: isKeyless)
            }
        }
        for number in 0..<world.options.replays {
            later { [self] in
                let undecided = world.referee.undecided
                if !undecided.isEmpty, world.chance(30) { discard(world.pick(undecided)) } else { replay(number) }
            }
        }
        for number in 0..<world.options.forgeries { later { [self] in forge(number, patients) } }
        wanted = world.int(1...3)
        for _ in 0..<wanted { world.startEngine() }
        if flavour == .calm {
            for _ in 0..<world.int(0...4) { later { [self] in calmFault() } }
        } else {
            if world.chance(40) {
                world.broker.produceFates = .init(
                    refused: world.int(0...25), unacknowledged: world.int(0...25), late: world.int(0...15))
            }
            if world.chance(40) {
                world.broker.commitFates = .init(
                    refused: world.int(0...25), unacknowledged: world.int(0...25), late: world.int(0...20))
            }
            if world.chance(15) { world.broker.failingQuestions = world.int(1...30) }
            for _ in 0..<world.int(0...10) { later { [self] in fault() } }
        }
    }

    /// An operator writes one of the dead letters anew, whatever became of it.
    private func replay(_ number: Int) {
        let letters = world.broker.logs.filter { $0.kind == .deadLetter }.flatMap(\.records)
        guard !letters.isEmpty else { return }
        let letter = world.pick(letters)
        let id = "00000000-0000-4000-8000-\(String(1_000_000_000_000 + number).dropFirst())"
        guard let event = world.referee.event(of: letter.headers),
            let record = try? DeadLetterReplay(to: .retry, id: id).outbound(letter, at: Timestamp(nanoseconds: world.now)),
            let mark = record.headers.text(HeaderName.replay),
            let log = world.broker.log(TopicPartition(record.topic, letter.partition))
        else { return }
        // Both in one transaction, whose markers come to one partition earlier than to the other.
        world.broker.append(record, to: log)
        world.referee.replayed(event, mark: mark, plan: plan(50))
        let identity = DeadLetter(letter).identity
        // Of copies one is replayed, and all are closed with it.
        let copies = letters.map { DeadLetter($0) }.filter { $0.identity == identity }
        world.after(world.chance(50) ? 0 : world.milliseconds(0, 2000)) { [self] in
            for copy in copies { tell(copy.position, .replayed, letter: copy, replay: id) }
        }
    }

    /// Somebody writes an event of a patient that says it is a replay of a dead letter: one that nobody replayed with this id, or of
    /// another patient.
    private func forge(_ number: Int, _ patients: Int) {
        let letters = world.broker.logs.filter { $0.kind == .deadLetter }.flatMap(\.records)
        guard !letters.isEmpty else { return }
        let letter = world.pick(letters)
        let patient = world.int(0...patients - 1)
        var id = "00000000-0000-4000-9000-\(String(1_000_000_000_000 + number).dropFirst())"
        if let known = world.referee.state(of: letter.position)?.replay, letter.key != ByteSlice("p\(patient)"), letter.key != nil
        {
            id = known
        }
        world.publish(
            patient, plan: plan(50), topic: world.int(0...world.broker.topics.count - 1),
            mark: ReplayMark(id: id, deadLetter: letter.position))
    }

    /// An operator gives up a dead letter that holds its patient.
    private func discard(_ position: RecordPosition) {
        let letter = world.broker.log(position.topicPartition)?.records.first { $0.offset == position.offset }
        tell(position, .discarded, letter: letter.map { DeadLetter($0) }, replay: nil)
    }

    private func tell(_ position: RecordPosition, _ status: DeadLetterState.Status, letter: DeadLetter?, replay: String?) {
        let known = world.referee.state(of: position)
        let now = Timestamp(nanoseconds: world.now)
        let state = DeadLetterState(
            status, time: now, by: "operator", reason: "because", replay: replay, replayedBy: replay == nil ? nil : "operator",
            replayedAt: replay == nil ? nil : now, origin: known?.origin ?? letter?.origin,
            originTimestamp: letter?.originTimestamp, follows: letter?.replay,
            lane: letter?.key.map(DeadLetterState.lane) ?? known?.lane)
        let record = OutboundRecord(
            topic: TopicName.deadLetterState, partition: 0, key: ByteSlice("workers/\(position)"), value: state.json, headers: [])
        world.referee.told(world.broker.append(record, to: world.broker.states), by: nil)
    }

    private func plan(_ failing: Int) -> SimulatedEvent.Plan {
        guard world.chance(failing) else { return .succeed }
        switch world.int(0...9) {
        case 0...4: return .transient(world.int(1...4))
        case 5: return .unexpected(world.int(1...6))
        case 6: return .later(world.int(1...3), milliseconds: world.int(1...1500))
        case 7, 8: return .persistent(after: world.chance(60) ? 0 : world.int(0...3))
        default: return .malformed
        }
    }

    private func later(_ action: @escaping () -> Void) { world.after(world.milliseconds(0, Double(length) / 1e6), action) }

    private var alive: [SimulatedEngine] { world.engines.filter { !$0.isDead && !$0.hasEnded && !$0.isAskedToStop } }

    /// Starts engines again that went.
    private func supervise() {
        guard !isClosing else { return }
        for _ in 0..<max(0, wanted - alive.count) { world.startEngine() }
    }

    private func replaceSoon() { world.after(world.milliseconds(1, 1500)) { [self] in supervise() } }

    private func calmFault() {
        guard !world.isCalm else { return }
        switch world.int(0...3) {
        case 0:
            wanted = min(3, wanted + 1)
            supervise()
        case 1: world.broker.rebalance()
        default:
            if let engine = alive.first { engine.stop() }
            replaceSoon()
        }
    }

    private func fault() {
        guard !world.isCalm else { return }
        let alive = alive
        let victim = alive.isEmpty ? nil : world.pick(alive)
        world.note(.fault, victim)
        switch world.int(0...13) {
        case 0, 1:
            victim?.crash()
            replaceSoon()
        case 2, 3, 4:
            world.armed = world.pick(CrashPoint.allCases)
            for delay in [500.0, 1500, 3000] { world.after(Int64(delay * 1e6)) { [self] in supervise() } }
        case 5, 6:
            victim?.stop()
            replaceSoon()
        case 7, 8:
            guard let victim else { return }
            world.broker.evict(victim.consumer)
            world.after(world.milliseconds(0, 1500)) { victim.consumer.learn() }
        case 9:
            wanted = min(3, wanted + 1)
            supervise()
        case 10: world.broker.rebalance()
        case 11:
            world.outageEnd = world.now + world.milliseconds(50, 1200)
            world.note(.outage, nil)
        case 12:
            // A member that takes no turn for a while.
            if let victim { world.stall(victim, world.milliseconds(50, 1500)) }
        default: compact()
        }
    }

    /// Compaction takes what a later record of the same key has replaced.
    private func compact() {
        let log = world.pick(world.broker.logs.filter { $0.kind == .main })
        for (index, record) in log.records.enumerated().reversed() where world.chance(30) {
            guard let key = record.key, log.records[(index + 1)...].contains(where: { $0.key == key }),
                let event = world.referee.event(at: record.position)
            else { continue }
            log.records.remove(at: index)
            world.referee.compacted(event)
        }
    }
}

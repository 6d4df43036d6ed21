import TriageEvents

@testable import TriageProcessing

/// The consumer of an engine in a world.
final class SimulatedConsumer: RecordConsumer {
    unowned let seat: SimulatedEngine
    private unowned let world: SimulatedWorld
    private unowned let broker: SimulatedBroker
    private weak var observer: (any AssignmentObserver)?

    // What the group says of it.
    let memberID: UInt64
    var generation = -1
    /// When it began to take over what it has.
    private(set) var assignedAt = Int64.min
    var hasJoined = false
    var isEvicted = false
    var pending: (generation: Int, logs: [SimulatedLog])?
    private var hasLost = false
    private var isClosed = false

    // What it works on.
    private(set) var assignment: [SimulatedLog] = []
    private var positions: [Int: Int64] = [:]
    private var paused: Set<Int> = []
    private var reportedEnds: [Int: Int64] = [:]
    private var knownEnds: [Int: Int64] = [:]
    private var results: [(offsets: [OffsetCommit], error: BrokerError?)] = []
    /// When the last commit under way is applied, and which of them won't be, since they never left the process.
    private var lastCommit: Int64 = 0
    private var lastLost = Int64.max
    /// A commit that waits was made with something still under way.
    private var leavesUndone = false

    init(_ seat: SimulatedEngine) {
        self.seat = seat
        world = seat.world
        broker = seat.world.broker
        memberID = seat.world.random.next()
    }

    var waker: @Sendable () -> Void { { [unowned seat] in seat.world.wake(seat) } }

    func reads(_ log: SimulatedLog) -> Bool { positions[log.index] != nil && !paused.contains(log.index) }

    /// It is told that the group has gone on without it.
    func learn() {
        guard isEvicted, !isClosed else { return }
        hasLost = true
        world.wake(seat)
    }

    /// The process is gone; the group notices it later.
    func crashed() {
        if lastCommit > world.now, world.chance(50) { lastLost = world.now + (lastCommit - world.now) / 2 }
        world.after(world.options.sessionTimeout(world)) { [self] in broker.evict(self) }
    }

    // MARK: Polling

    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) {
        self.observer = observer
        broker.join(self)
    }

    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        batch.removeAll()
        guard !seat.isDead else { return }
        let isAtOnce = hasSomething
        let pause = isAtOnce ? world.milliseconds(0.01, 1) : max(timeout.wholeNanoseconds, 20_000)
        world.block(seat, for: pause, isWakeable: !isAtOnce)
        rebalance()
        guard !seat.isDead else { return }
        batch.commits += results
        results.removeAll()
        take(into: &batch, maximum: maximum)
        world.referee.polled(seat)
    }

    private var hasSomething: Bool {
        if !results.isEmpty || hasLost || pending != nil || (broker.isPreparing && !hasJoined) { return true }
        return assignment.contains { log in
            guard let position = positions[log.index], !paused.contains(log.index) else { return false }
            return position < log.next || reportedEnds[log.index] != log.next
        }
    }

    private func take(into batch: inout PolledBatch, maximum: Int) {
        // What was evicted may go on with what it has fetched before, or not.
        if isEvicted, world.chance(70) { return }
        let open = assignment.filter { reads($0) }
        guard !open.isEmpty else { return }
        let rotation = world.int(0...open.count - 1)
        for index in open.indices {
            let log = open[(index + rotation) % open.count]
            let position = positions[log.index] ?? 0
            let room = maximum - batch.records.count
            if room <= 0 { return }
            let wanted = world.chance(70) ? room : world.int(1...room)
            let records = log.records[log.firstIndex(from: position)...].prefix(wanted)
            knownEnds[log.index] = log.next
            batch.records += records
            if let last = records.last { positions[log.index] = last.offset + 1 }
            let reached = positions[log.index] ?? position
            if log.firstIndex(from: reached) == log.records.count {
                positions[log.index] = log.next
                if reportedEnds[log.index] != log.next {
                    reportedEnds[log.index] = log.next
                    batch.ends.append((log.id, log.next))
                }
            }
        }
    }

    // MARK: The group

    private func rebalance() {
        while !seat.isDead, let observer {
            if hasLost {
                hasLost = false
                world.note(.lost, seat)
                let lost = assignment
                forget()
                observer.lost(lost.map(\.id), by: self)
                pending = nil
                broker.join(self)
            } else if isEvicted {
                return
            } else if broker.isPreparing, !hasJoined {
                // An assignment that is out of date already may be taken all the same.
                if pending != nil, world.chance(50) { takeOver(observer) }
                guard !seat.isDead, broker.isPreparing, !hasJoined else { continue }
                pending = nil
                if !assignment.isEmpty { giveBack(observer) }
                guard !seat.isDead else { return }
                // It was evicted while it gave back.
                if isEvicted {
                    hasLost = false
                    broker.join(self)
                }
                hasJoined = true
                broker.completeIfAllJoined()
            } else if pending != nil {
                takeOver(observer)
            } else {
                return
            }
        }
    }

    private func giveBack(_ observer: any AssignmentObserver) {
        world.note(.revoking, seat)
        let leaving = assignment
        if seat.passes(.revoked) { return }
        observer.revoked(leaving.map(\.id), by: self)
        if seat.isDead { return }
        world.note(.revoked, seat)
        if leavesUndone { world.referee.disturbed(leaving) }
        leavesUndone = false
        world.referee.revoked(leaving, from: seat)
        forget()
    }

    private func takeOver(_ observer: any AssignmentObserver) {
        guard let (generation, coming) = pending else { return }
        pending = nil
        self.generation = generation
        assignedAt = world.now
        assignment = coming
        if seat.passes(.assigned) { return }
        let starts = observer.assigned(coming.map(\.id), by: self)
        if seat.passes(.assignedLate) { return }
        for log in coming {
            let position: Int64
            switch starts[log.id] ?? .committed {
            case .offset(let offset): position = offset <= log.next ? offset : log.first
            case .beginning: position = log.first
            case .committed: position = log.committed?.offset ?? (world.options.configuration.startsAtEnd ? log.next : log.first)
            }
            positions[log.index] = position
            reportedEnds[log.index] = nil
            knownEnds[log.index] = nil
            world.note(.assigned, seat, log.index, Int(position))
        }
    }

    private func forget() {
        assignment = []
        positions.removeAll()
        paused.removeAll()
    }

    func pause(_ partitions: [TopicPartition]) throws(BrokerError) {
        if seat.isDead { return }
        for id in partitions {
            if let log = broker.log(id), assignment.contains(where: { $0 === log }) { paused.insert(log.index) }
        }
    }

    func resume(_ partitions: [TopicPartition]) throws(BrokerError) {
        if seat.isDead { return }
        for id in partitions { if let log = broker.log(id) { paused.remove(log.index) } }
    }

    // MARK: Offsets

    private static func failed(_ operation: StaticString) -> BrokerError {
        BrokerError("_TIMED_OUT", operation: operation, isRetriable: true)
    }

    private func apply(_ offsets: [OffsetCommit], generation: Int, fate: SimulatedBroker.Fate) -> BrokerError? {
        if fate == .refused { return Self.failed("commit") }
        guard broker.accepts(self, generation: generation) else {
            world.note(.fenced, seat, -1, generation)
            return BrokerError("ILLEGAL_GENERATION", operation: "commit")
        }
        for offset in offsets.sorted(by: { $0.topicPartition < $1.topicPartition }) {
            guard let log = broker.log(offset.topicPartition) else { continue }
            world.note(.applied, seat, log.index, Int(offset.offset))
            let before = log.committed?.offset ?? 0
            log.commit(offset)
            world.referee.committed(log, from: before, by: .init(engine: seat.number, generation: generation))
        }
        return fate == .unacknowledged ? Self.failed("commit") : nil
    }

    private func noteCommit(_ offsets: [OffsetCommit]) {
        for offset in offsets.sorted(by: { $0.topicPartition < $1.topicPartition }) {
            world.note(.commit, seat, broker.log(offset.topicPartition)?.index ?? -1, Int(offset.offset))
        }
    }

    private func answered(_ offsets: [OffsetCommit], _ error: BrokerError?) {
        guard error != nil else { return }
        world.note(.commitError, seat)
        world.referee.disturbed(offsets.compactMap { broker.log($0.topicPartition) })
    }

    /// When a commit sent now is applied, and how long its answer takes from there.
    private func times(_ fate: SimulatedBroker.Fate) -> (applied: Int64, answer: Int64) {
        let delay = fate == .late ? world.milliseconds(200, 3000) : world.milliseconds(0.1, 8)
        lastCommit = max(lastCommit + 1000, world.now + delay)
        return (lastCommit, world.milliseconds(0.05, 5))
    }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) {
        if seat.passes(.commit) { return }
        if isClosed { throw BrokerError("_DESTROY", operation: "commit") }
        noteCommit(offsets)
        let fate = broker.fate(broker.commitFates)
        let (time, answer) = times(fate)
        let generation = generation
        world.at(time) { [self] in
            guard world.now < lastLost else { return }
            let error = apply(offsets, generation: generation, fate: fate)
            if seat.passes(.committed) { return }
            world.after(answer) { [self] in
                guard !seat.isDead else { return }
                answered(offsets, error)
                results.append((offsets, error))
                world.wake(seat)
            }
        }
    }

    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) {
        let gone = BrokerError("_DESTROY", operation: "commit")
        if seat.passes(.commit) || isClosed { throw gone }
        // What is done while this commit is under way isn't in it.
        if seat.engine.partitions.values.contains(where: { $0.busy > 0 }) { leavesUndone = true }
        noteCommit(offsets)
        let fate = broker.fate(broker.commitFates)
        let (time, answer) = times(fate)
        world.block(seat, for: time - world.now, isWakeable: false)
        if seat.isDead, world.now >= lastLost { throw gone }
        let error = apply(offsets, generation: generation, fate: fate)
        if seat.passes(.committed) { throw gone }
        world.block(seat, for: answer, isWakeable: false)
        if seat.isDead { throw gone }
        answered(offsets, error)
        if let error { throw error }
    }

    /// A question takes its time, and may go wrong.
    private func ask() throws(BrokerError) {
        if !seat.isDead { world.block(seat, for: world.milliseconds(0.1, 10), isWakeable: false) }
        if seat.isDead { throw BrokerError("_DESTROY", operation: "ask") }
        if !world.isCalm, world.chance(broker.failingQuestions) { throw Self.failed("ask") }
    }

    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        try ask()
        var found: [TopicPartition: OffsetCommit] = [:]
        for id in partitions {
            if let known = broker.log(id)?.committed { found[id] = world.options.spoil?.committed(known) ?? known }
        }
        return found
    }

    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        try ask()
        guard let log = broker.log(partition) else { throw BrokerError("_UNKNOWN_PARTITION", operation: "watermarks") }
        return log.first..<log.next
    }

    func knownEnd(of partition: TopicPartition) -> Int64? { broker.log(partition).flatMap { knownEnds[$0.index] } }

    func close() {
        defer { isClosed = true }
        guard !seat.isDead, let observer else { return }
        if isEvicted {
            let lost = assignment
            forget()
            observer.lost(lost.map(\.id), by: self)
            return
        }
        if !assignment.isEmpty { giveBack(observer) }
        if seat.isDead { return }
        pending = nil
        broker.leave(self)
    }
}

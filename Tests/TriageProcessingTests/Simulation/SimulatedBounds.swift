import TriageEvents

@testable import TriageProcessing

/// What an engine keeps stays within its bounds, however much waits (design §3).
extension Referee {
    /// The engine is back from a poll, which brought at most `pollSize` records beyond what the bounds allow.
    func polled(_ seat: SimulatedEngine) {
        guard let engine = seat.engine, world.options.rules.contains(.bounds) else { return }
        let configuration = seat.configuration
        let bound = configuration.maximumInFlight + configuration.pollSize
        if engine.lanes.waiting > bound || engine.inFlight > bound + configuration.maximumInFlight + configuration.concurrency {
            world.violate("\(engine.inFlight) records in flight, \(engine.lanes.waiting) of them in lanes")
        }
        expectBytes(engine, configuration)
        expectHeaps(engine)
        for partition in engine.partitions.values { expectSpan(partition, engine, configuration) }
        seat.polls += 1
        if seat.polls % 5 == 0 { recount(seat, engine) }
    }

    /// In lanes and at handlers: the bound, one retry and one poll. Waiting: as much, and as much of what was read again.
    private func expectBytes(_ engine: Engine, _ configuration: EngineConfiguration) {
        let load = engine.load
        let most = world.witness.mostBytes
        if load.bytes < 0 || load.bytes > configuration.maximumBytesInFlight + most * (configuration.pollSize + 1) {
            world.violate("\(load.bytes) bytes in lanes, \(configuration.maximumBytesInFlight) allowed")
        }
        let resting = engine.partitions.values.flatMap { $0.atRest.values }.filter { $0.delivery != nil }
        // Beside those one that is due at once, while others that were read again aren't yet; and what was overtaken since.
        let overtaken = resting.filter { $0.isFetched && !engine.queues.mayRun($0.id) }.reduce(0) { $0 + $1.size }
        if load.waitingBytes < 0 || load.waitingBytes > 2 * (configuration.maximumBytesInFlight + most) + overtaken {
            let text = resting.map {
                "\($0.size)\($0.isFetched ? " read again" : "")\(engine.queues.mayRun($0.id) ? " to run" : "")"
            }
            world.violate(
                "\(load.waitingBytes) bytes wait in memory, twice \(configuration.maximumBytesInFlight) allowed: \(text)")
        }
        let kept = resting.reduce(0) { $0 + $1.size }
        let rebuilding = engine.partitions.values.flatMap(\.rebuild).reduce(0) { $0 + ($1.delivery == nil ? 0 : $1.size) }
        if load.waitingBytes != kept + rebuilding { world.violate("\(load.waitingBytes) bytes are said to wait, \(kept) do") }
    }

    /// A heap holds each retry that waits at most once, and beside those a few that came to rest anew with another time.
    private func expectHeaps(_ engine: Engine) {
        let waiting = engine.partitions.values.reduce(0) { $0 + $1.atRest.count }
        let slack = 2
        if engine.waiting.count > waiting + slack || engine.absent.count > waiting + slack {
            world.violate("\(engine.waiting.count) and \(engine.absent.count) entries in heaps of \(waiting) that wait")
        }
        let open = engine.partitions.values.filter(\.isRetry).reduce(0) {
            $0 + $1.ledger.incomplete + $1.producing.count
        }
        if engine.queues.count - engine.holds.count > open {
            world.violate("\(engine.queues.count) open retries of \(open) records")
        }
        if engine.resends.count > engine.inFlight { world.violate("\(engine.resends.count) sends to be repeated") }
    }

    /// Of a main partition nothing is fetched that lies so far ahead; in a retry partition stragglers are written anew soon.
    private func expectSpan(_ partition: PartitionState, _ engine: Engine, _ configuration: EngineConfiguration) {
        let limit = Int(configuration.maximumOffsetSpan)
        if !partition.isRetry {
            if partition.ledger.span > limit + configuration.pollSize {
                world.violate("\(partition.ledger.span) offsets in the ledger of \(partition.id), \(limit) allowed")
            }
            return
        }
        let span = partition.ledger.offsetSpan
        let isLong = span > limit && span > 2 * partition.ledger.incomplete && partition.rebuildEnd == nil && !engine.isDraining
        // What holds hold up is written anew again and again, as long as an operator takes; what waits for the states is done.
        guard isLong, world.isCalm, engine.holds.isEmpty, engine.unproven.isEmpty, let since = tooLong[partition.id] else {
            tooLong[partition.id] = isLong && world.isCalm && engine.holds.isEmpty && engine.unproven.isEmpty ? world.now : nil
            return
        }
        // What is at its handler, or whose produce failed before the calm, takes its time.
        if world.now - since > 10_000_000_000 {
            world.violate(
                "\(span) offsets in the ledger of \(partition.id) of \(partition.ledger.incomplete) open ones, for ten seconds")
        }
    }

    /// What an operator's tools would find open in the topics is what the engine has open, when both know the same: everything
    /// is read and committed, and nothing under way.
    private func recount(_ seat: SimulatedEngine, _ engine: Engine) {
        let broker = world.broker
        // What an outage left when the engine was asked to end isn't its any more.
        guard !engine.isDraining, broker.accepts(seat.consumer, generation: seat.consumer.generation), broker.isSettled,
            broker.underWay == 0,
            engine.commitsInFlight.isEmpty, engine.sends.isEmpty, engine.unsent.isEmpty, engine.resends.count == 0,
            engine.unproven.isEmpty
        else { return }
        var found = 0
        for partition in engine.partitions.values where partition.isRetry {
            guard let main = partition.twin, let log = broker.log(partition.id), let origin = broker.log(main.id),
                partition.rebuildEnd == nil, partition.rewriting == 0, partition.producing.isEmpty,
                partition.ledger.position == log.next, isCommitted(partition, log), isCommitted(main, origin)
            else { return }
            var open = OpenRetries(
                group: seat.configuration.group,
                commits: [partition.id: CommittedPartition(log.committed), main.id: CommittedPartition(origin.committed)],
                offsets: [main.id: origin.first..<origin.next])
            for record in log.records { open.add(record) }
            found += open.entries { _ in true }.count
        }
        recounts += 1
        recounted += found
        if found != engine.queues.count - engine.holds.count {
            world.violate("the topics tell of \(found) open retries, the engine of \(engine.queues.count)")
        }
    }

    private func isCommitted(_ partition: PartitionState, _ log: SimulatedLog) -> Bool {
        !partition.ledger.needsCommit && log.committed?.offset == partition.ledger.watermark
    }
}

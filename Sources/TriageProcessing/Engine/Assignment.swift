internal import DequeModule
public import TriageEvents
internal import TriageTelemetry

extension Engine {
    /// Takes partitions over: verifies that each main partition came with its retry twin, and resolves where to start.
    ///
    /// A partition without a committed offset starts at a fixed offset that is committed at once: a main partition where
    /// the configuration says, a retry partition always at its beginning, whatever `auto.offset.reset` is. Otherwise
    /// acknowledged retries could be skipped after a restart (design §3).
    public func assigned(_ ids: [TopicPartition], by consumer: any RecordConsumer) -> [TopicPartition: StartOffset] {
        var starts: [TopicPartition: StartOffset] = [:]
        do throws(BrokerError) {
            let committed = try retrying { () throws(BrokerError) in try consumer.committed(ids, timeout: .seconds(10)) }
            for id in ids {
                let state = partitionState(id)
                if let known = committed[id], !state.isRetry {
                    state.ledger.started(at: known.offset)
                    state.ledger.didCommit(known.offset)
                    starts[id] = .offset(known.offset)
                } else {
                    let range = try retrying { () throws(BrokerError) in try consumer.watermarks(id, timeout: .seconds(10)) }
                    if let known = committed[id] {
                        // What retention took is gone; starting below it would let `auto.offset.reset` choose.
                        let start = max(known.offset, range.lowerBound)
                        state.ledger.started(at: start)
                        if start == known.offset { state.ledger.didCommit(start) }
                        starts[id] = .offset(start)
                        partitions[id] = state
                        continue
                    }
                    let start = configuration.startsAtEnd && !state.isRetry ? range.upperBound : range.lowerBound
                    state.ledger.started(at: start)
                    starts[id] = .offset(start)
                }
                partitions[id] = state
            }
        } catch {
            notify(.clientError(error))
            failure = .broker(error)
        }
        for id in ids where !TopicName.isRetry(id.topic) {
            let twin = TopicPartition(TopicName.retry(of: id.topic), id.partition)
            if failure == nil, partitions[twin] == nil { failure = .notCoPartitioned(id, twin: twin) }
        }
        intake.invalidate()
        noteAssignment(.assigned)
        notify(.assigned(ids.count))
        return starts
    }

    /// Asks again when the error says that it may help: a leader that moves, a coordinator that loads.
    private func retrying<Answer>(_ ask: () throws(BrokerError) -> Answer) throws(BrokerError) -> Answer {
        for _ in 0..<2 {
            do throws(BrokerError) {
                return try ask()
            } catch  where error.isRetriable {
                notify(.clientError(error))
            } catch {
                throw error
            }
        }
        return try ask()
    }

    /// Gives partitions back: what a handler or a produce is busy with may finish within a bound, the rest is dropped
    /// unhandled, what is complete is committed.
    public func revoked(_ ids: [TopicPartition], by consumer: any RecordConsumer) {
        let leaving = ids.compactMap { partitions[$0] }
        let dropped = dropWaiting(of: leaving)
        turnStart = clock.now()
        var deadline = turnStart + configuration.revocationTimeout
        // A rebalance doesn't prolong a stop; at its very end the workers have had their time already.
        if let drainDeadline { deadline = min(deadline, drainDeadline) }
        while leaving.contains(where: { $0.busy > 0 }) {
            executor.runPending()
            let now = clock.now()
            retrySends(now)
            guard leaving.contains(where: { $0.busy > 0 }), now < deadline else { break }
            executor.wait(atMost: min(deadline - now, .milliseconds(50)))
        }
        // What an outage deferred meanwhile is ready again: nobody may take it up any more.
        let deferred = dropWaiting(of: leaving)
        commitNow(leaving)
        let abandoned = dropped + deferred + leaving.reduce(0) { $0 + $1.busy }
        forget(leaving)
        noteAssignment(.revoked)
        notify(.revoked(ids.count, abandoned: abandoned))
    }

    /// Drops partitions that are gone already, without side effects.
    public func lost(_ ids: [TopicPartition], by consumer: any RecordConsumer) {
        let leaving = ids.compactMap { partitions[$0] }
        _ = dropWaiting(of: leaving)
        forget(leaving)
        noteAssignment(.lost)
        notify(.lost(ids.count))
    }

    private func partitionState(_ id: TopicPartition) -> PartitionState {
        let main = TopicName.main(of: id.topic)
        let metrics = topicMetrics[main] ?? PartitionMetrics(meter: meter, mainTopic: main, group: configuration.group)
        if topicMetrics[main] == nil {
            topicMetrics[main] = metrics
            deadLetterCounter.prepare(destination: SafeText(vetted: main), group: SafeText(vetted: configuration.group))
        }
        return PartitionState(
            id, group: configuration.group, clientID: configuration.clientID, tracer: tracer, attemptTopic: main, metrics: metrics
        )
    }

    /// Forgets what waits, unhandled.
    func dropWaiting(of leaving: [PartitionState]) -> Int {
        let isLeaving: (Delivery) -> Bool = { delivery in leaving.contains { $0 === delivery.partition } }
        let ready = lanes.remove(where: isLeaving)
        for delivery in ready { load.bytes -= delivery.record.size }
        let waited = waiting.remove(where: isLeaving)
        for delivery in waited { noteWaiting(delivery, -1) }
        return ready.count + waited.count
    }

    private func forget(_ leaving: [PartitionState]) {
        for partition in leaving {
            partition.isRevoked = true
            partitions[partition.id] = nil
        }
        intake.forget(leaving.map(\.id))
        let orphans = sends.filter { $0.value.delivery.partition.isRevoked }
        for (id, send) in orphans {
            sends[id] = nil
            release(send)
        }
        for send in resends.remove(where: { $0.delivery.partition.isRevoked }) { release(send) }
        for send in unsent where send.delivery.partition.isRevoked { release(send) }
        unsent.removeAll { $0.delivery.partition.isRevoked }
    }

    private func release(_ send: PendingSend) {
        send.step.end(.abandoned, tracer: tracer, at: clock.now())
        send.delivery.partition.metrics.deliveries(.abandoned).add(1)
        settle(send.delivery, lane: send.lane)
    }
}

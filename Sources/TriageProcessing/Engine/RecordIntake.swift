internal import TriageEvents
internal import TriageTelemetry

/// How what a poll brought comes in: records to their lanes or to the retries, ends to the ledgers, answers to the commits.
extension Engine {
    func ingest(_ batch: inout PolledBatch) {
        let now = clock.now()
        // What comes while the engine ends is left to the next run. An end counts no more either: it may lie behind
        // records that were just left.
        if !isDraining, failure == nil {
            if !batch.records.isEmpty {
                if counts.firstRecord == nil {
                    counts.firstRecord = now
                    counts.cpuSecondsAtFirstRecord = ResourceUsage.now().cpuSeconds
                }
                ingestRecords(batch.records, now)
            }
            for (id, offset) in batch.ends {
                guard let partition = partitions[id] else { continue }
                partition.end = offset
                partition.ledger.reachedEnd(offset)
                if queues.hasBarred, !partition.isRetry { advance(partition, now) }
            }
            if isRebuilding { finishRebuilds(now) }
        }
        for (offsets, error) in batch.commits { committed(offsets, error: error, at: now) }
        for error in batch.errors {
            notify(.clientError(error))
            // The broker refuses the setting itself: asking again every two seconds changes nothing.
            if error.isFatal || error.name == "INVALID_SESSION_TIMEOUT" { failure = .broker(error) }
        }
    }

    private func ingestRecords(_ records: [Record], _ now: Timestamp) {
        var sampled: [TraceContext] = []
        var known: PartitionState?
        var deliveredHere = 0
        var isMixed = false
        let tracing = tracer.isEnabled
        for record in records {
            if known == nil || known?.id.partition != record.partition || known?.id.topic != record.topic {
                if known != nil, known?.id.topic != record.topic { isMixed = true }
                if deliveredHere > 0 { known?.metrics.consumed.add(Int64(deliveredHere)) }
                deliveredHere = 0
                known = partitions[record.topicPartition]
                known?.end = nil
            }
            guard let partition = known else { continue }
            // It says nothing about others of its origin: a predecessor may have completed it because it was void.
            if partition.ledger.expectsCompleted, partition.ledger.deliveredComplete(record.offset) { continue }
            guard let ticket = partition.ledger.delivered(record.offset, at: record.timestamp) else {
                counts.duplicates += 1
                partition.metrics.duplicates.add(1)
                continue
            }
            deliveredHere += 1
            let context = tracer.propagators.extract(record.headers)
            let delivery = Delivery(record: record, partition: partition, ticket: ticket, context: context)
            delivery.lane = lane(of: delivery)
            delivery.isRedelivery = record.offset < partition.redeliveredBelow
            if partition.isRetry {
                ingestRetry(delivery, now)
            } else {
                if hasUndecided { decideReplays(delivery, now) }
                load.bytes += record.size
                let behind = lanes.enqueue(delivery, key: delivery.lane)
                if behind > 0, laneShare.isTaken(by: behind, of: record.size), partition.crowd == nil {
                    partition.crowd = (delivery.lane, behind / 2)
                    holdBack(partition)
                }
            }
            // As the process span will be decided.
            if let context, context.isSampled, tracing, delivery.hasFailedBefore || tracer.samples(context) {
                sampled.append(context)
            }
        }
        if deliveredHere > 0 { known?.metrics.consumed.add(Int64(deliveredHere)) }
        if queues.hasBarred { for partition in partitionsInOrder where !partition.isRetry { advance(partition, now) } }
        wantsFresh = false
        let topic = isMixed ? nil : known?.id.topic
        pollStep.record(topic: topic, count: records.count, contexts: sampled, from: pollStart, to: now)
        gauges.polled(topic, from: pollStart, to: now)
    }

    /// The lane: the key's bytes; without a key the resource id; with neither it is alone (design §2).
    private func lane(of delivery: Delivery) -> LaneKey {
        if let key = delivery.record.key { return LaneKey(key.hash64(seed: laneSeed)) }
        if let event = try? decode(delivery), let id = event.resourceIDBytes { return LaneKey(id.hash64(seed: laneSeed)) }
        aloneSequence += 1
        return LaneKey(aloneSequence &* 0x9E37_79B9_7F4A_7C15 ^ laneSeed)
    }

    func decode(_ delivery: Delivery) throws(InvalidEvent) -> PatientEvent {
        if delivery.record.key != nil { return try decoder.decode(delivery.record) }
        // Its lane needs what the handler needs.
        if let decoded = delivery.decoded { return try decoded.get() }
        let result = Result { () throws(InvalidEvent) in try decoder.decode(delivery.record) }
        delivery.decoded = result
        return try result.get()
    }

    func balanceIntake() {
        load.records = inFlight
        holdBackFarAhead()
        easeCrowds()
        // During an outage no more is taken in than a probe needs.
        intake.hold(isHeld && load.records > 0 && !wantsFresh)
        guard let change = intake.balance(load, assigned: partitions.keys) else { return }
        do { if !change.pause.isEmpty { try consumer.pause(change.pause) } } catch {
            intake.refused(paused: change.pause)
            notify(.clientError(error))
        }
        do { if !change.resume.isEmpty { try consumer.resume(change.resume) } } catch {
            intake.refused(resumed: change.resume)
            notify(.clientError(error))
        }
    }
}

internal import TriageEvents
internal import TriageTelemetry

/// How retry records come in: what is void is completed unprocessed, what isn't waits for its turn and its time.
extension Engine {
    /// How long before it is due a body that was left to the topic is read again.
    static var fetchLead: Duration { .milliseconds(500) }
    /// Bodies that are read again at a time.
    static var fetchSize: Int { 256 }

    /// A record of a retry partition was read.
    func ingestRetry(_ delivery: Delivery, _ now: Timestamp) {
        let partition = delivery.partition
        let headers = delivery.record.headers
        // First, since another group's records are nothing to read any further.
        if let group = EventHistory.group(of: headers), !group.equals(configuration.group) {
            skip(delivery)
            return
        }
        let history = EventHistory(of: delivery.record, likely: partition.mainTopic)
        delivery.knownHistory = history
        if let end = partition.rebuildEnd, delivery.record.offset < end {
            partition.rebuild.append(item(delivery, history))
            return
        }
        let writer = headers.last(HeaderName.writer)
        if let writer, writer.equals(partition.writer) {
            ingestOwn(delivery, history, now)
        } else if let writer, writer.isText, !makes(.otherWriterTaken) {
            // Produced under an earlier assignment and landed after this one began: main redelivered its origin since.
            skip(delivery)
        } else {
            // An operator's replay: nobody waits for it yet.
            arrived(opened(history, lane: delivery.lane, in: partition), delivery, history, now)
        }
    }

    /// A record that this assignment wrote.
    ///
    /// Which it is, it says itself by origin, replay and retries; the acknowledgement only tells it from copies, of which the last one
    /// counts. A broker that answered with another place than the record's would otherwise have the record taken for a copy.
    private func ingestOwn(_ delivery: Delivery, _ history: EventHistory, _ now: Timestamp) {
        let partition = delivery.partition
        guard let open = partition.producing[history.identity],
            min(open.retries, Int(EventHistory.maximumRetries)) == history.retries
        else {
            if partition.givenUp.remove(history.identity) != nil {
                arrived(opened(history, lane: delivery.lane, in: partition), delivery, history, now)
            } else {
                skip(delivery)
            }
            return
        }
        if let place = open.writtenAt, delivery.record.offset >= place {
            found(open, delivery, now)
        } else {
            open.candidates.append(delivery)
        }
    }

    /// The record of an open retry is this one; what else was read of it are copies.
    private func found(_ open: OpenRetry, _ delivery: Delivery, _ now: Timestamp) {
        forgetProduce(open, but: delivery)
        arrived(open, delivery, delivery.history, now)
    }

    /// Nothing that an open retry produced is awaited any more: what was read of it are copies.
    func forgetProduce(_ open: OpenRetry, but chosen: Delivery? = nil) {
        if open.partition.producing[open.identity] === open { open.partition.producing[open.identity] = nil }
        open.writtenAt = nil
        for copy in open.candidates where copy !== chosen { skip(copy) }
        open.candidates = []
    }

    /// The produce of an open retry's next record was acknowledged.
    func written(_ open: OpenRetry, _ acknowledgement: Acknowledgement, _ now: Timestamp) {
        let partition = open.partition
        guard !partition.isRevoked else { return }
        partition.expectedEnd = max(partition.expectedEnd, acknowledgement.offset + 1)
        open.writtenAt = acknowledgement.offset
        open.writtenTime = now
        if let known = open.candidates.first(where: { $0.record.offset >= acknowledgement.offset }) { found(open, known, now) }
    }

    /// Settles retries whose records were acknowledged and didn't come within ten seconds: a copy that was read is taken. Where
    /// there is none and the partition was read past the place, retention or a truncation took it, and its key must not wait for
    /// ever; should it come after all, it is a replay.
    func settleMissing(_ now: Timestamp) {
        for partition in partitionsInOrder where !partition.producing.isEmpty {
            guard let position = partition.ledger.position else { continue }
            let missing = partition.producing.values.filter { open in
                guard let place = open.writtenAt, place >= 0 else { return false }
                return (place < position || !open.candidates.isEmpty) && now - open.writtenTime > .seconds(10)
            }
            for open in missing.sorted(by: { $0.identity < $1.identity }) {
                // Whatever the acknowledgement said, there is nothing behind what was read.
                partition.expectedEnd = min(partition.expectedEnd, position)
                if let copy = open.candidates.last {
                    found(open, copy, now)
                    continue
                }
                let offset = open.writtenAt ?? 0
                forgetProduce(open)
                partition.givenUp.insert(open.identity)
                notify(
                    .lostToRetention(RecordPosition(topic: partition.id.topic, partition: partition.id.partition, offset: offset))
                )
                if let next = queues.close(open.id), let item = queues[next] { freed(item, now) }
            }
        }
    }

    /// Completes a record unprocessed: another group's, or void.
    func skip(_ delivery: Delivery) {
        counts.skipped += 1
        delivery.partition.metrics.deliveries(.skipped).add(1)
        delivery.partition.ledger.complete(delivery.ticket)
    }

    // MARK: Rebuild

    private func item(_ delivery: Delivery, _ history: EventHistory) -> RebuildItem {
        let keeps = keepsBody(delivery.record.size)
        if keeps { load.waitingBytes += delivery.record.size }
        return RebuildItem(
            identity: history.identity, originTime: history.originTimestamp, retries: history.retries,
            offset: delivery.record.offset, size: delivery.record.size, ticket: delivery.ticket, due: history.dueAt,
            reason: history.waitReason, lane: delivery.lane, context: delivery.context, delivery: keeps ? delivery : nil
        )
    }

    /// Ends the rebuild of a retry partition that was read to the end it had at its assignment.
    func finishRebuild(_ partition: PartitionState, _ now: Timestamp) {
        guard let end = partition.rebuildEnd, (partition.ledger.position ?? 0) >= end else { return }
        partition.rebuildEnd = nil
        let items = partition.rebuild
        partition.rebuild = []
        let main = partition.twin
        func isOriginOpen(_ origin: RecordPosition) -> Bool {
            guard let main, origin.topicPartition == main.id, !makes(.redeliveredTaken) else { return false }
            // What retention or a truncation took comes from nowhere but here.
            return !main.ledger.isComplete(origin.offset) && main.available?.contains(origin.offset) != false
        }
        let voids =
            makes(.supersededTaken)
            ? items.map { isOriginOpen($0.identity.origin) } : Rebuild.voids(items, isOriginOpen: isOriginOpen)
        var open = 0
        for (item, isVoid) in zip(items, voids) {
            if item.delivery != nil { load.waitingBytes -= item.size }
            if isVoid {
                counts.skipped += 1
                partition.metrics.deliveries(.skipped).add(1)
                partition.ledger.complete(item.ticket)
                continue
            }
            open += 1
            let retry = OpenRetry(item.identity, lane: item.lane, partition: partition)
            if item.identity.isReplay, isOriginOpen(item.identity.origin) {
                partition.undecided[item.identity] = retry
                hasUndecided = true
            }
            enqueue(retry, time: item.originTime)
            retry.context = item.context
            settleIn(
                retry, offset: item.offset, ticket: item.ticket, size: item.size, due: item.due, reason: item.reason,
                body: item.delivery, now)
        }
        if let main { holdBack(main) }
        notify(.rebuilt(partition.id, open: open, read: items.count))
    }

    // MARK: Waiting

    /// A retry of `history`'s origin is open from now on.
    private func opened(_ history: EventHistory, lane: LaneKey, in partition: PartitionState) -> OpenRetry {
        let open = OpenRetry(history.identity, lane: lane, partition: partition)
        enqueue(open, time: history.originTimestamp)
        return open
    }

    /// Puts a retry into its key's queue; without an order each has one of its own.
    func enqueue(_ open: OpenRetry, time: Timestamp?) {
        let standing = standing(open.identity, lane: open.lane)
        var key = open.lane
        if configuration.ordering == .none {
            aloneSequence += 1
            key = LaneKey(aloneSequence)
        }
        var offset = standing.offset
        if makes(.queuedByPlace) {
            aloneSequence += 1
            offset = .min + Int64(aloneSequence)
        }
        let place = QueuePlace(
            source: source(of: standing.topicPartition), offset: offset, time: time?.nanoseconds ?? .min)
        open.id = queues.open(open, key: key, place: place)
    }

    /// An origin's place in its patient's queue.
    func place(of origin: RecordPosition, _ time: Timestamp?) -> QueuePlace {
        QueuePlace(source: source(of: origin.topicPartition), offset: origin.offset, time: time?.nanoseconds ?? .min)
    }

    /// The number that queues know a topic partition by. All that aren't of topics of ours, which a header may name, have one.
    func source(of id: TopicPartition) -> Int {
        let id = configuration.topics.contains(id.topic) ? id : TopicPartition("", 0)
        if let known = sources[id] { return known }
        sources[id] = sources.count
        return sources.count - 1
    }

    /// The record of an open retry was read.
    func arrived(_ open: OpenRetry, _ delivery: Delivery, _ history: EventHistory, _ now: Timestamp) {
        open.context = delivery.context
        let keeps = keepsBody(delivery.record.size)
        settleIn(
            open, offset: delivery.record.offset, ticket: delivery.ticket, size: delivery.record.size, due: history.dueAt,
            reason: history.waitReason, body: keeps ? delivery : nil, now)
    }

    private func settleIn(
        _ open: OpenRetry, offset: Int64, ticket: Int, size: Int, due: Timestamp?, reason: WaitReason, body: Delivery?,
        _ now: Timestamp
    ) {
        open.offset = offset
        open.ticket = ticket
        open.size = size
        // Without a due time a record is due at once; it takes the same way, so that its wait is a span too.
        open.due = due ?? now
        open.reason = reason
        rest(open, body)
        if let next = queues.arrived(open.id, isBarred: isBarred(open)), let item = queues[next] { freed(item, now) }
    }

    /// Whether main has yet to redeliver something that may lie before it.
    func isBarred(_ open: OpenRetry) -> Bool {
        guard configuration.ordering == .perKey, !makes(.unbarred), let main = open.partition.twin,
            // Read to its end, main has nothing to redeliver any more, whatever an origin says.
            open.origin.topicPartition == main.id, main.end == nil
        else { return false }
        let origin = open.origin.offset
        return origin >= main.ledger.position ?? 0 && main.available?.contains(origin) != false
    }

    /// It waits, with its body or without.
    func rest(_ open: OpenRetry, _ body: Delivery?) {
        guard let offset = open.offset else { return }
        body?.open = open
        open.delivery = body
        if body != nil { load.waitingBytes += open.size }
        open.partition.atRest[offset] = open
        open.partition.waiting[open.reason] += 1
    }

    /// It waits no longer: it is handed out, or gone.
    func leaveRest(_ open: OpenRetry) -> Delivery? {
        guard let offset = open.offset, open.partition.atRest.removeValue(forKey: offset) != nil else { return nil }
        let body = open.delivery
        open.delivery = nil
        if open.isFetched {
            open.isFetched = false
            fetchedBodies -= 1
            fetchedBytes -= open.size
        }
        if body != nil { load.waitingBytes -= open.size }
        open.partition.waiting[open.reason] -= 1
        return body
    }

    /// Whether a body may stay in memory while its record waits.
    private func keepsBody(_ size: Int) -> Bool {
        reader == nil || load.waitingBytes + size <= configuration.maximumBytesInFlight
    }

    /// Nothing is before it any more: it runs when it is due.
    func freed(_ open: OpenRetry, _ now: Timestamp) {
        // What was parked is due when it is freed, once as long as it stands in a heap.
        if open.reason == .parked, open.queued == nil, open.queuedToFetch == nil { open.due = max(open.due, now) }
        // Once for each time: an open retry may be freed again and again while it waits.
        if open.delivery == nil {
            guard open.queuedToFetch != open.due else { return }
            open.queuedToFetch = open.due
            absent.insert(open, due: open.due + (.zero - Engine.fetchLead))
        } else {
            guard open.queued != open.due else { return }
            open.queued = open.due
            waiting.insert(open, due: open.due)
        }
    }

    /// Hands retries that are due to their lanes, as long as there is room, and has the bodies read of those that soon are.
    func releaseDue(_ now: Timestamp) {
        while mayRelease, let (open, due) = waiting.popDue(at: now) {
            if open.queued == due { open.queued = nil }
            guard isReady(open), open.delivery != nil else { continue }
            // It may have been due earlier before: what stands in the heap isn't taken out.
            if open.due <= now { handOut(open) } else { freed(open, now) }
        }
        while mayFetch || isStarved(now), let (open, _) = absent.popDue(at: now) {
            open.queuedToFetch = nil
            if isReady(open), open.delivery == nil { fetch(open) }
        }
    }

    /// Whether it still waits and nothing is before it: the heaps keep what was overtaken.
    private func isReady(_ open: OpenRetry) -> Bool {
        guard let offset = open.offset, open.partition.atRest[offset] === open else { return false }
        return queues.mayRun(open.id)
    }

    /// Whether another retry fits into the lanes.
    var mayRelease: Bool {
        !isDraining && lanes.waiting < configuration.maximumInFlight && load.bytes < configuration.maximumBytesInFlight
    }

    /// Whether another body may be read again: of those that were, no more stay in memory than of what is ready.
    var mayFetch: Bool { !isDraining && fetchedBodies < 2000 && fetchedBytes < configuration.maximumBytesInFlight }

    /// Whether all that was read again has to wait for what wasn't: something came before it in its keys meanwhile.
    private func isStarved(_ now: Timestamp) -> Bool {
        guard mayRelease, let next = absent.nextDue, next + Engine.fetchLead <= now, waiting.nextDue.map({ $0 > now }) ?? true
        else {
            return false
        }
        return !partitions.values.contains { $0.isFetching || !$0.toFetch.isEmpty }
    }

    /// Ends the rebuilds that are through.
    func finishRebuilds(_ now: Timestamp) {
        isRebuilding = false
        for partition in partitionsInOrder where partition.rebuildEnd != nil {
            finishRebuild(partition, now)
            if partition.rebuildEnd != nil { isRebuilding = true }
        }
    }

    /// Holds main partitions back whose watermark is so far behind that the commit's metadata would grow too long.
    func holdBackFarAhead() {
        let span = configuration.maximumOffsetSpan
        for partition in partitions.values where !partition.isRetry {
            let ahead = partition.ledger.offsetSpan
            if partition.isFarAhead ? ahead < span / 2 : ahead >= span {
                partition.isFarAhead.toggle()
                holdBack(partition)
            }
        }
    }

    func holdBack(_ main: PartitionState) {
        let isRebuilding = main.twin?.rebuildEnd != nil
        intake.hold(back: main.id, main.isFarAhead || isRebuilding || main.crowd != nil)
    }

    private func handOut(_ open: OpenRetry) {
        guard let delivery = leaveRest(open) else { return }
        delivery.due = open.due
        load.bytes += open.size
        if configuration.ordering == .none {
            // In the order in which they are due: several of one lane would otherwise overtake one another.
            lanes.enqueue(delivery, key: delivery.lane)
            return
        }
        // Before what came to main after it, but never before what main redelivered and stands before it: of a replay its own origin.
        let place = QueuePlace(source: source(of: open.origin.topicPartition), offset: open.origin.offset, time: .min)
        lanes.enqueueFirst(delivery, key: delivery.lane) { other in
            !other.partition.isRetry && other.partition.source == place.source && other.record.offset <= place.offset
        }
    }

    /// Puts a retry that was handed out too early back: something before it came up meanwhile.
    func putToRest(_ delivery: Delivery, _ open: OpenRetry, lane: LaneKey) {
        delivery.partition.busy -= 1
        load.bytes -= delivery.record.size
        // What an outage left behind isn't in the topic.
        rest(open, delivery.deferral != nil || keepsBody(delivery.record.size) ? delivery : nil)
        lanes.finished(lane)
    }

    /// A retry is done or given up: its key's next is freed.
    func closeRetry(_ delivery: Delivery, _ now: Timestamp) {
        guard let open = delivery.open else { return }
        delivery.open = nil
        if let next = queues.close(open.id), let item = queues[next] { freed(item, now) }
    }

    /// Main has gone on: retries that waited for it may be free. At its end all are, those of origins that it never had included.
    func advance(_ main: PartitionState, _ now: Timestamp) {
        guard queues.hasBarred, let position = main.end == nil ? main.ledger.position : .max else { return }
        for id in queues.advance(main.source, to: position) {
            if let open = queues[id] { freed(open, now) }
        }
    }
}

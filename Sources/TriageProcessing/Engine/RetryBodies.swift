internal import TriageEvents
internal import TriageTelemetry

/// Bodies that were left to the topic, and records that are written anew so that the watermark can go on.
extension Engine {
    /// Has a body read again.
    func fetch(_ open: OpenRetry) {
        guard !open.isFetching, let offset = open.offset else { return }
        open.isFetching = true
        open.isFetched = true
        fetchedBodies += 1
        fetchedBytes += open.size
        open.partition.toFetch.append(offset)
        hasFetches = true
    }

    /// Asks for the bodies that are wanted, one request a partition at a time.
    func requestFetches() {
        guard hasFetches, let reader else { return }
        hasFetches = false
        for partition in partitionsInOrder where !partition.toFetch.isEmpty {
            guard !partition.isFetching else {
                hasFetches = true
                continue
            }
            partition.isFetching = true
            let offsets = partition.toFetch.prefix(Engine.fetchSize).sorted()
            partition.toFetch.removeFirst(offsets.count)
            if !partition.toFetch.isEmpty { hasFetches = true }
            let box = Confined(partition)
            reader.read(offsets, of: partition.id) { [executor, self] result in
                executor.post { self.fetched(offsets, of: box.value, result) }
            }
        }
    }

    private func fetched(_ offsets: [Int64], of partition: PartitionState, _ result: Result<[Record], BrokerError>) {
        partition.isFetching = false
        guard !partition.isRevoked else { return }
        let now = clock.now()
        let records: [Record]
        switch result {
        case .success(let found): records = found
        case .failure(let error):
            notify(.clientError(error))
            for offset in offsets {
                guard let open = partition.atRest[offset] else { continue }
                open.isFetching = false
                open.isFetched = false
                fetchedBodies -= 1
                fetchedBytes -= open.size
                guard !open.isRewriting else {
                    retryRewrite(open, now)
                    continue
                }
                open.queuedToFetch = open.due
                absent.insert(open, due: now + configuration.produceRetryDelay)
            }
            return
        }
        var missing = Set(offsets)
        for record in records {
            missing.remove(record.offset)
            guard let open = partition.atRest[record.offset], open.isFetching else { continue }
            open.isFetching = false
            let delivery = Delivery(
                record: record, partition: partition, ticket: open.ticket, context: tracer.propagators.extract(record.headers))
            delivery.knownHistory = EventHistory(of: record, likely: partition.mainTopic)
            delivery.lane = open.lane
            delivery.isRedelivery = record.offset < partition.redeliveredBelow
            delivery.open = open
            open.delivery = delivery
            load.waitingBytes += open.size
            if open.isRewriting {
                writeAnew(open, delivery)
            } else {
                freed(open, now)
            }
        }
        for offset in missing {
            guard let open = partition.atRest[offset] else { continue }
            // Retention took it while it waited: there is nothing left that could be handled.
            notify(.lostToRetention(RecordPosition(topic: partition.id.topic, partition: partition.id.partition, offset: offset)))
            _ = leaveRest(open)
            if open.isRewriting {
                open.isRewriting = false
                partition.rewriting -= 1
            }
            partition.ledger.complete(open.ticket)
            if let next = queues.close(open.id), let item = queues[next] { freed(item, now) }
        }
    }

    // MARK: Written anew

    /// Rewrites waiting records that hold a retry partition's watermark far behind its end, unchanged, at its end.
    ///
    /// Only while what is complete among them is more than what waits: then few are written for much that is freed, and the ledger
    /// stays within twice what is open. Many that wait side by side would only chase one another; as runs they take few bytes.
    func rewriteStragglers(_ now: Timestamp) {
        let span = configuration.maximumOffsetSpan
        guard partitions.values.contains(where: { $0.isRetry && $0.ledger.offsetSpan > span }) else { return }
        for partition in partitionsInOrder where partition.isRetry && partition.rebuildEnd == nil {
            guard partition.ledger.offsetSpan > span, partition.ledger.offsetSpan > 2 * Int64(partition.ledger.incomplete),
                partition.rewriting < 100,
                let position = partition.ledger.position
            else { continue }
            let stragglers = partition.ledger.incompleteOffsets(before: position - Int64(span), atMost: 100 - partition.rewriting)
            for offset in stragglers {
                guard let open = partition.atRest[offset], !open.isRewriting, !open.isFetching, open.delivery != nil || mayFetch
                else { continue }
                open.isRewriting = true
                partition.rewriting += 1
                // Not to be handed out meanwhile.
                queues.left(open.id)
                if let delivery = open.delivery { writeAnew(open, delivery) } else { fetch(open) }
            }
        }
    }

    private func writeAnew(_ open: OpenRetry, _ delivery: Delivery) {
        let partition = open.partition
        let record = delivery.record
        let copy = OutboundRecord(
            topic: partition.id.topic, partition: partition.id.partition, key: record.key, value: record.value,
            headers: record.headers)
        let box = Confined(open)
        do {
            open.retries = delivery.history.retries
            partition.producing[open.identity] = open
            try sink.send(
                copy, replacing: [Header("triage-writer", text: partition.writer)], parent: delivery.context,
                links: delivery.context.map { [SpanLink($0)] } ?? [],
                attributes: [Attribute("triage.retry.rewritten", .bool(true))]
            ) { [executor, self] result in
                executor.post { self.wroteAnew(box.value, result) }
            }
        } catch {
            wroteAnew(open, .failure(error))
        }
    }

    private func wroteAnew(_ open: OpenRetry, _ result: Result<Acknowledgement, BrokerError>) {
        let partition = open.partition
        guard !partition.isRevoked else { return }
        partition.rewriting -= 1
        open.isRewriting = false
        let now = clock.now()
        switch result {
        case .success(let acknowledgement):
            noteProduce(failed: false)
            _ = leaveRest(open)
            partition.ledger.complete(open.ticket)
            open.offset = nil
            written(open, acknowledgement, now)
        case .failure(let error):
            forgetProduce(open)
            if !error.isQueueFull {
                notify(.produceFailed(error))
                noteProduce(failed: true)
            }
            if let next = queues.arrived(open.id, isBarred: isBarred(open)), let item = queues[next] { freed(item, now) }
        }
    }

    /// Its body couldn't be read now: it waits as before.
    private func retryRewrite(_ open: OpenRetry, _ now: Timestamp) {
        open.isRewriting = false
        open.partition.rewriting -= 1
        if let next = queues.arrived(open.id, isBarred: isBarred(open)), let item = queues[next] { freed(item, now) }
    }
}

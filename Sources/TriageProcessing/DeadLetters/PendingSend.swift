internal import TriageEvents
internal import TriageTelemetry

/// A retry record or dead letter on its way out: the delivery behind it isn't complete until it is acknowledged.
final class PendingSend {
    enum Kind {
        case retry(RetryPolicy.Strategy)
        case parked
        case deadLetter(Failure)
        /// What became of dead letters: the first of these, the others after it.
        case state([StateWrite])
    }
    let kind: Kind
    let delivery: Delivery
    /// The lane that it occupies; nil if that is free already.
    let lane: LaneKey?
    let record: OutboundRecord
    let headers: HeaderEdits
    let attributes: [Attribute]
    let step: ProcessStep
    /// Nil for what is parked.
    let failure: Failure?
    /// What it becomes or goes on as; nil for a dead letter.
    let open: OpenRetry?
    /// The attempts that it tells.
    let attempts: AttemptLedger
    /// Retries that were charged before it.
    let retries: Int
    /// It is a dead letter without the event's bytes, since they were refused.
    let isPointer: Bool
    /// What the handler threw, where a dead letter in its place would be sealed.
    var thrown: (any Error)?
    /// What its span links to if it begins a new trace.
    var linksOfNewTrace: [SpanLink]?

    init(
        _ kind: Kind, delivery: Delivery, lane: LaneKey?, record: OutboundRecord, headers: HeaderEdits, attributes: [Attribute],
        step: ProcessStep, failure: Failure?, attempts: AttemptLedger, retries: Int, open: OpenRetry? = nil,
        isPointer: Bool = false
    ) {
        self.kind = kind
        self.delivery = delivery
        self.lane = lane
        self.record = record
        self.headers = headers
        self.attributes = attributes
        self.step = step
        self.failure = failure
        self.attempts = attempts
        self.retries = retries
        self.open = open
        self.isPointer = isPointer
    }
}

extension Engine {
    /// Sends a retry record to the partition of the retry topic with the same number.
    func retry(
        _ delivery: Delivery, step: ProcessStep, failure: Failure, attempts: AttemptLedger, count: Int, at due: Timestamp,
        strategy: RetryPolicy.Strategy, lane: LaneKey, thrown: (any Error)? = nil
    ) {
        // The wait counts from the failure on.
        let now = attempts.entries.last?.time ?? clock.now()
        var headers = FailureHeaders.retry(
            delivery.history, failure: failure, attempts: attempts, count: count, dueAt: due, at: now,
            group: configuration.group, writer: delivery.partition.writer, processTraceparent: traceparent(step),
            isScheduled: strategy == .scheduled)
        addContentType(of: delivery, to: &headers)
        if makes(.completedUnacknowledged) { delivery.partition.ledger.complete(delivery.ticket) }
        let attributes =
            !tracer.isEnabled
            ? []
            : [
                Attribute("triage.retry.count", .int(Int64(count))),
                Attribute("triage.retry.strategy", .text(SafeText(strategy))),
                Attribute("triage.error.class", .text(SafeText(failure.errorClass))),
                Attribute("triage.error.fingerprint", .text(SafeText(vetted: failure.fingerprint))),
            ]
        let send = PendingSend(
            .retry(strategy), delivery: delivery, lane: lane,
            record: outbound(delivery, to: TopicName.retry(of: delivery.partition.mainTopic)), headers: headers,
            attributes: attributes, step: step, failure: failure, attempts: attempts, retries: count - 1,
            open: opened(delivery, lane: lane, retries: count)
        )
        if configuration.deadLetterSeal != nil { send.thrown = thrown }
        send.linksOfNewTrace = linksOfNewTrace(delivery, attempts: attempts, step: step, due: due, at: now)
        begin(send)
    }

    /// Sends a dead letter to the partition of the dead letter topic with the same number.
    ///
    /// - Parameters:
    ///   - refusal: why its retry record wasn't taken, if that is why it is given up.
    ///   - thrown: what the handler threw, for a seal.
    func giveUp(
        _ delivery: Delivery, step: ProcessStep, failure: Failure, attempts: AttemptLedger, retries: Int, lane: LaneKey?,
        refusal: BrokerError? = nil, thrown: (any Error)? = nil
    ) {
        noteDeadLetter(failure, of: delivery, step: step, at: clock.now())
        var headers = FailureHeaders.deadLetter(
            delivery.history, failure: failure, attempts: attempts, count: retries, at: clock.now(),
            group: configuration.group, processTraceparent: traceparent(step), refusal: refusal?.name)
        if failure.step != "decode" { addContentType(of: delivery, to: &headers) }
        let attributes = [
            Attribute("triage.error.class", .text(SafeText(failure.errorClass))),
            Attribute("triage.error.fingerprint", .text(SafeText(vetted: failure.fingerprint))),
        ]
        let refused = refusal.map { [Attribute("triage.retry.refused", .text(SafeText(vetted: $0.name)))] } ?? []
        let letter = sealed(
            outbound(delivery, to: TopicName.deadLetter(of: delivery.partition.mainTopic)), headers, of: delivery, thrown: thrown)
        begin(
            PendingSend(
                .deadLetter(failure), delivery: delivery, lane: lane, record: letter.record, headers: letter.headers,
                attributes: attributes + refused, step: step, failure: failure, attempts: attempts, retries: retries,
                isPointer: letter.isPointer
            )
        )
    }

    /// The media type of an event that carries a resource (design §2), where its producer said none.
    func addContentType(of delivery: Delivery, to headers: inout HeaderEdits) {
        let record = delivery.record
        guard record.value != nil, record.headers.last(HeaderName.contentType) == nil else { return }
        headers.set(HeaderName.contentType) { $0.append("application/fhir+json" as StaticString) }
    }

    private func traceparent(_ step: ProcessStep) -> ByteSlice? { step.context.isValid ? step.context.traceparent : nil }

    func outbound(_ delivery: Delivery, to topic: String) -> OutboundRecord {
        let record = delivery.record
        return OutboundRecord(
            topic: topic, partition: record.partition, key: record.key, value: record.value, headers: record.headers
        )
    }

    /// Hands the record over, or keeps it until the producer has room.
    func begin(_ send: PendingSend) {
        guard unsent.isEmpty else {
            unsent.append(send)
            return
        }
        if !handOver(send) {
            unsent.append(send)
            waitForRoom()
        }
    }

    /// - Returns: false if the producer's queue is full.
    private func handOver(_ send: PendingSend) -> Bool {
        sendSequence += 1
        let id = sendSequence
        sends[id] = send
        // Without tracing nothing is injected, so that the context which the record came with travels on byte for byte.
        var parent = tracer.isEnabled && send.step.context.isValid ? send.step.context : nil
        if makes(.sendUnderRecord), let context = send.delivery.context { parent = context }
        do {
            let context = try sink.send(
                send.record, edits: send.headers, parent: send.linksOfNewTrace == nil ? parent : nil,
                links: send.linksOfNewTrace ?? [],
                isSampled: send.linksOfNewTrace.flatMap { _ in send.step.context.isSampled ? true : nil },
                attributes: send.attributes
            ) { [executor, self] result in
                executor.post { self.answered(id, result) }
            }
            send.open?.context = context
            return true
        } catch {
            sends[id] = nil
            if error.isQueueFull { return false }
            failed(send, error)
            return true
        }
    }

    private func waitForRoom() {
        guard !isWaitingForRoom else { return }
        isWaitingForRoom = true
        sink.whenWritable { [executor, self] in executor.post { self.isWaitingForRoom = false } }
    }

    /// Hands over what waited for room in the producer, and again what failed.
    func retrySends(_ now: Timestamp) {
        while let (send, _) = resends.popDue(at: now) { begin(send) }
        while !isWaitingForRoom, let send = unsent.first {
            guard handOver(send) else {
                waitForRoom()
                return
            }
            unsent.removeFirst()
        }
    }

    private func answered(_ id: Int, _ result: Result<Acknowledgement, BrokerError>) {
        guard let send = sends.removeValue(forKey: id) else { return }
        switch result {
        case .success(let acknowledgement): acknowledged(send, acknowledgement)
        case .failure(let error): failed(send, error)
        }
    }

    /// A produce failed: the offset stays incomplete, the lane occupied, and the produce is tried again later.
    private func failed(_ send: PendingSend, _ error: BrokerError) {
        counts.produceFailures += 1
        if case .state(let writes) = send.kind {
            if error.isFatal {
                if failure == nil { failure = .broker(error) }
                send.delivery.partition.busy -= 1
                load.bytes -= send.delivery.record.size
                return
            }
            // A topic that is missing may come, but nobody says when.
            if !error.isRetriable || error.name == "UNKNOWN_TOPIC_OR_PART" {
                refused(writes, by: send, error)
                return
            }
        }
        if error.isTooLarge, shrink(send, error) { return }
        notify(.produceFailed(error, send.step.context))
        noteProduce(failed: true)
        if error.isFatal {
            // Nothing can leave any more: the engine ends, and its successor is handed the offsets that aren't complete.
            if failure == nil { failure = .broker(error) }
            abandon(send.delivery, step: send.step, lane: send.lane, at: clock.now())
            return
        }
        resends.insert(send, due: clock.now() + configuration.produceRetryDelay)
    }

    private func acknowledged(_ send: PendingSend, _ acknowledgement: Acknowledgement) {
        if case .state(let writes) = send.kind {
            told(writes, by: send, at: acknowledgement.offset)
            return
        }
        let now = clock.now()
        noteProduce(failed: false)
        let delivery = send.delivery
        var isTelling = false
        let metrics = delivery.partition.metrics
        let context = send.step.context
        let duration = send.failure.map { metrics.failedProcessDuration($0) } ?? metrics.processDuration
        duration.record((now - send.step.start).inSeconds, in: context, at: now)
        switch send.kind {
        case .parked:
            counts.parked += 1
            metrics.deliveries(.parked).add(1)
            send.step.end(.parked, tracer: tracer, at: now)
        case .retry(let strategy):
            counts.retries += 1
            if let failure = send.failure { metrics.retries(strategy, failure.errorClass).add(1, in: context, at: now) }
            metrics.deliveries(.retryScheduled).add(1)
            send.step.end(.retryScheduled, tracer: tracer, at: now)
        case .deadLetter(let failure):
            counts.deadLettered += 1
            metrics.deliveries(.deadLettered).add(1)
            backlog.wrote(TopicPartition(send.record.topic, acknowledgement.partition), offset: acknowledgement.offset, at: now)
            notify(
                .deadLettered(
                    delivery.history.origin, reason: failure.message, send.step.context))
            metrics.deadLetteredEvents.add(1)
            deadLetterCounter.count(
                destination: SafeText(vetted: delivery.partition.mainTopic), group: SafeText(vetted: configuration.group),
                class: failure.errorClass, fingerprint: SafeText(vetted: failure.fingerprint), in: context, at: now
            )
            if let first = delivery.history.originTimestamp {
                metrics.deadLetteredEndToEnd.record(max(0, (now - first).inSeconds), in: context, at: now)
            }
            let letter = RecordPosition(
                topic: send.record.topic, partition: acknowledgement.partition, offset: acknowledgement.offset)
            isTelling = tells(.deadLettered(letter), of: delivery, step: send.step)
            if send.isPointer { metrics.deadLetterPointers.add(1, in: context, at: now) }
            send.step.end(.deadLettered, tracer: tracer, at: now)
            if !makes(.deadLetterHolds) { closeRetry(delivery, now) }
        case .state: break
        }
        delivery.open = nil
        if !isTelling {
            settle(delivery, lane: send.lane)
        } else if let lane = send.lane {
            lanes.finished(lane)
        }
        if let open = send.open { written(open, acknowledgement, now) }
    }
}

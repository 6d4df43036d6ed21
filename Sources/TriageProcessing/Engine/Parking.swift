internal import TriageEvents
internal import TriageTelemetry

/// Events that wait behind an earlier one of their patient (design §3, Order).
extension Engine {
    /// The open retry that a main record has to wait for; nil if it may be handled now.
    @inline(__always)
    func blocker(of delivery: Delivery, lane: LaneKey) -> OpenRetry? {
        if queues.isEmpty || delivery.partition.isRetry || configuration.ordering == .none { return nil }
        let head = queues.blocker(of: lane, at: place(of: delivery))
        if let head, replays(delivery, head) { return nil }
        return makes(.unblockedWhileProduced) && head?.offset == nil ? nil : head
    }

    private func place(of delivery: Delivery) -> QueuePlace {
        QueuePlace(
            source: delivery.partition.source, offset: delivery.record.offset,
            time: delivery.record.timestamp?.nanoseconds ?? .min)
    }

    /// Puts an event into the retry topic behind the one it has to wait for: no attempt was made, none is charged.
    func park(_ delivery: Delivery, behind head: OpenRetry, step: ProcessStep, lane: LaneKey, isMalformed: Bool = false) {
        // An origin is read from a header: only one in a topic of ours is told.
        let origin: SafeText =
            configuration.topics.contains(head.origin.topic) ? SafeText(vetted: head.origin.description) : "_OTHER"
        step.parked(behind: origin, waitingFor: makes(.parkingUnlinked) ? nil : head.context)
        let traceparent = step.context.isValid ? step.context.traceparent : nil
        // What was charged before an outage deferred it stays charged.
        let retries = delivery.deferral?.retries ?? delivery.history.retries
        let attempts = delivery.deferral?.attempts ?? delivery.history.attempts
        var headers = FailureHeaders.parked(
            delivery.history, retries: retries, attempts: attempts,
            behind: head.origin, group: configuration.group, writer: delivery.partition.writer,
            processTraceparent: traceparent)
        if !isMalformed { addContentType(of: delivery, to: &headers) }
        begin(
            PendingSend(
                .parked, delivery: delivery, lane: nil,
                record: outbound(delivery, to: TopicName.retry(of: delivery.partition.mainTopic)),
                headers: headers,
                attributes: [Attribute("triage.parked.behind", .text(origin))], step: step, failure: nil,
                attempts: attempts, retries: retries, open: opened(delivery, lane: lane, retries: retries)
            ))
        // Behind the event that it replays? The states will tell.
        if head.isHold, delivery.history.replay != nil { nextStateRead = min(nextStateRead, clock.now()) }
        // Its key is blocked from now on, so what comes behind it needn't wait for the acknowledgement.
        lanes.finished(lane)
    }

    /// The open retry that a delivery becomes or goes on as, from now until it is completed or given up.
    func opened(_ delivery: Delivery, lane: LaneKey, retries: Int) -> OpenRetry? {
        if let open = delivery.open {
            queues.left(open.id)
            open.offset = nil
            open.retries = retries
            produces(open)
            return open
        }
        guard !delivery.partition.isRevoked, let partition = delivery.partition.twin, !delivery.partition.isRetry else {
            return nil
        }
        let history = delivery.history
        let open = OpenRetry(history.identity, lane: lane, partition: partition)
        open.retries = retries
        enqueue(open, time: history.originTimestamp)
        produces(open)
        delivery.open = open
        return open
    }

    /// A record of an open retry is about to be produced.
    ///
    /// Of two that nothing tells apart, such as copies that somebody made of one record, the later one stands for both: the earlier
    /// must not hold its patient up for ever.
    private func produces(_ open: OpenRetry) {
        if let other = open.partition.producing.updateValue(open, forKey: open.identity), other !== open {
            for copy in other.candidates { skip(copy) }
            other.candidates = []
            other.writtenAt = nil
            if let next = queues.close(other.id), let item = queues[next] { freed(item, clock.now()) }
        }
    }
}

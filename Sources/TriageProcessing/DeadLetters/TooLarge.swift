internal import TriageEvents
internal import TriageTelemetry

/// Records that the broker or its client refuses for their size, which sending them again doesn't change (design §3, Never lost).
extension Engine {
    /// Sends something smaller in place of a record that was refused: a dead letter for a retry, a pointer for a dead letter.
    ///
    /// The offset stays incomplete until that is acknowledged.
    ///
    /// - Returns: false if there is nothing smaller.
    func shrink(_ send: PendingSend, _ error: BrokerError) -> Bool {
        let delivery = send.delivery
        if let open = send.open {
            // Nothing of it will be in the retry topic; its key stays blocked until the dead letter is acknowledged.
            forgetProduce(open)
        }
        switch send.kind {
        case .retry:
            guard let failure = send.failure else { return false }
            tell(send, error, asPointer: false)
            giveUp(
                delivery, step: send.step, failure: failure, attempts: send.attempts, retries: send.retries,
                lane: send.lane, refusal: error, thrown: send.thrown)
        case .parked:
            // It can wait nowhere but in the retry topic, and must not be handled before those that it waits for.
            let now = clock.now()
            let failure = Failure(.persistent, type: SafeText(vetted: error.name), step: "park")
            let step = send.step
            step.failed(failure, tracer: tracer, at: now)
            tell(send, error, asPointer: false)
            giveUp(
                delivery, step: step, failure: failure, attempts: send.attempts, retries: send.retries,
                lane: send.lane)
        case .state: return false
        case .deadLetter:
            guard !send.isPointer else { return false }
            tell(send, error, asPointer: true)
            let bytes = delivery.record.value?.count ?? 0
            begin(
                PendingSend(
                    send.kind, delivery: delivery, lane: send.lane, record: pointer(to: send),
                    headers: FailureHeaders.pointer(send.headers, refusal: error.name, bytes: bytes),
                    attributes: send.attributes + [
                        Attribute("triage.dead_letter.pointer", .bool(true)),
                        Attribute("triage.dead_letter.refused_bytes", .int(Int64(bytes))),
                    ],
                    step: send.step, failure: send.failure, attempts: send.attempts, retries: send.retries,
                    isPointer: true
                ))
        }
        return true
    }

    /// The dead letter without value, and of its headers only the context, which a sink without tracing leaves as it is: any of the
    /// producer's own may be what is too large.
    private func pointer(to send: PendingSend) -> OutboundRecord {
        let context = send.record.headers.last(HeaderName.traceparent).map { [Header("traceparent", $0)] } ?? []
        return OutboundRecord(
            topic: send.record.topic, partition: send.record.partition, key: send.record.key, value: nil,
            headers: Headers(context))
    }

    private func tell(_ send: PendingSend, _ error: BrokerError, asPointer: Bool) {
        let context = send.step.context
        notify(.refusedAsTooLarge(error, origin: send.delivery.history.origin, asPointer: asPointer, context))
    }
}

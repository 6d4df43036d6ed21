internal import HTTPTypes
internal import TriageEvents
internal import TriageTelemetry

/// CloudEvents that come to `POST /webhooks/fhir` (HTTP Protocol Binding 1.0.2): one in binary or structured mode, or a batch.
extension WebhookIntake {
    /// Whether the header fields say that the request carries CloudEvents.
    static func carriesCloudEvents(_ headers: HTTPFields) -> Bool {
        if let type = headers.text(.contentType), CloudEvent.isStructured(type) || CloudEvent.isBatch(type) { return true }
        return headers.contains { $0.name.canonicalName == "ce-specversion" }
    }

    /// Answers a request that carries CloudEvents.
    ///
    /// They keep their own ids. What is sent twice is published twice with the same id: an id is unique for its source only, so nothing
    /// is taken for known by it.
    func answerCloudEvents(
        _ request: IngressRequest, span template: SpanTemplate, caller: TraceContext?
    ) async -> IngressAnswer {
        guard request.headers[.contentEncoding].map({ $0.lowercased() == "identity" }) ?? true else {
            return end(begin(template, request, caller: caller, traceID: nil), .mediaType)
        }
        let events: [CapturedEvent]
        do throws(InvalidEvent) {
            let read = try decoders.with { (decoder) throws(InvalidEvent) in
                try CloudEventHTTP.events(
                    header: { name in request.headers.first { $0.name.canonicalName == name }?.value }, body: request.body,
                    decoder: decoder)
            }
            guard let read else { throw InvalidEvent(.cloudEvent, at: "") }
            events = read
        } catch {
            countRefused()
            return end(begin(template, request, caller: caller, traceID: nil), .invalid(error))
        }
        let step = begin(template, request, caller: caller, traceID: nil)
        step.set("messaging.batch.message_count", .int(Int64(events.count)))
        guard !events.isEmpty else { return end(step, .taken) }
        let reply = await waiting.answer(by: request.receivedAt + settings.timeout) { end in
            sink.publish(events, from: .webhook, cause: step.context) { results in
                let failures = results.compactMap { if case .failure(let error) = $0 { error } else { nil } }
                end((failures.first(where: \.isTooLarge) ?? failures.first).map { .failed($0) } ?? .taken)
            }
            return nil
        }
        return end(step, reply ?? .overloaded)
    }
}

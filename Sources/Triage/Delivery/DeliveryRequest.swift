internal import TriageEvents
internal import TriageIngress
internal import TriageTelemetry

/// What is posted for an event, and what the answer to it means: the pure part of ``HTTPDelivery``.
struct DeliveryRequest: Sendable {
    /// The call, without trace context.
    let call: HTTPCall

    /// The post of one attempt.
    ///
    /// - Parameters:
    ///   - origin: where the event was delivered first, which every retry says.
    ///   - attempt: 1 for the first.
    ///   - now: when it is sent.
    init(
        _ event: PatientEvent, contentType: String?, origin: RecordPosition, attempt: Int, to delivery: Configuration.Delivery,
        now: Timestamp
    ) {
        let body: ByteSlice
        var headers: [(name: String, value: String)]
        if delivery.cloudEvents == .off {
            body = event.value ?? DeliveryRequest.body(ofTombstone: event)
            headers = [("Content-Type", contentType.flatMap(DeliveryRequest.mediaType) ?? "application/fhir+json")]
        } else {
            (headers, body) = CloudEventHTTP.request(
                for: CloudEvent(event, id: "\(origin)", source: "triage"), mode: delivery.cloudEvents)
        }
        headers += [
            ("Idempotency-Key", "\"\(DeliveryRequest.key(of: event, origin: origin))\""),
            ("Triage-Event-Type", event.type),
            ("Triage-Attempt", "\(attempt)"),
        ]
        // A delete's bytes may not say of whom.
        if let id = event.resourceID { headers.append(("Triage-Resource", "Patient/\(id)")) }
        if let key = delivery.signatureKey {
            headers.append((DeliverySignature.header, DeliverySignature.value(key: key, body: body, at: now)))
        }
        if let token = delivery.token { headers.append(("Authorization", "Bearer \(token)")) }
        call = HTTPCall(.post, delivery.url, headers: headers, body: body, timeout: delivery.timeout)
    }

    /// The same for every delivery of the event: its id, or else the place where it was delivered first, whatever the group.
    ///
    /// Without quotation marks, which the header's grammar wants around it (draft-ietf-httpapi-idempotency-key-header, §2.1: a string as
    /// RFC 9651 §3.3.3 has it).
    static func key(of event: PatientEvent, origin: RecordPosition) -> String {
        if let id = event.eventIDBytes, RequestTag.isRequestID(id), let text = id.utf8Text { return text }
        return "\(origin)"
    }

    /// A media type as it stands in a record's header; nil for what can't be sent on.
    private static func mediaType(_ text: String) -> String? {
        let isPlain = text.utf8.allSatisfy { (0x20...0x7E).contains($0) }
        return isPlain && text.contains("/") && text.utf8.count <= 256 ? text : nil
    }

    /// A tombstone has no bytes of its own: the id that its key is goes as the shortest envelope of a delete.
    private static func body(ofTombstone event: PatientEvent) -> ByteSlice {
        let resource =
            event.resourceID.map { #"{"resourceType":"Patient","id":\#(JSONText($0).quoted)}"# } ?? "null"
        return ByteSlice(#"{"type":"PatientDeleted","data":\#(resource)}"#)
    }

    /// The failure that an answer is; nil for 2xx. Redirects are failures: they aren't followed.
    static func failure(_ answer: HTTPAnswer, now: Timestamp) -> (any Error)? {
        let code: SafeText = "http_\(answer.status)"
        let detail: @Sendable () -> String? = { AnswerText.detail(status: answer.status, body: answer.body) }
        switch HTTPStatus.errorClass(answer.status) {
        case nil: return nil
        case .transient?:
            guard let time = answer.header("retry-after").flatMap({ RetryAfter.time($0, now: now) }) else {
                return RetryableError(code, detail: detail())
            }
            return RetryableError(code, at: time, detail: detail())
        case .persistent?, .system?: return RejectedError(code, detail: detail())
        }
    }

    /// The failure that no answer is: transient, unless the call itself can't be made.
    ///
    /// Header fields beyond every measure are the receiver's doing or its gateway's, too, and say nothing against the event.
    static func failure(_ error: HTTPCallError) -> any Error {
        let isTransient = error.isTransient || error.code == .answerTooLarge
        return isTransient ? RetryableError(SafeText(error.code)) : RejectedError(SafeText(error.code))
    }
}

/// What a server answered, for sealed dead letters alone.
enum AnswerText {
    /// Status and body, of which what a dead letter keeps is enough.
    static func detail(status: Int, body: ByteSlice) -> String {
        "HTTP \(status): \(String(decoding: body.prefix(8192), as: UTF8.self))"
    }
}

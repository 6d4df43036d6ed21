internal import HTTPTypes
internal import TriageEvents
internal import TriageTelemetry

/// How a webhook is answered: the status, and of a refusal what it says and what the span says.
struct WebhookReply: Sendable, Equatable {
    var status: HTTPResponse.Status
    var outcome: OperationOutcome?
    /// `error.type` of the span, for 500 and above.
    var error: SafeText?

    /// Everything is in Kafka, or there was nothing to be put there.
    static let taken = WebhookReply(status: .ok)

    static let unauthorized = WebhookReply(
        status: .unauthorized, outcome: OperationOutcome(.login, "a bearer token or header that is known here is needed"))

    static let mediaType = WebhookReply(
        status: .unsupportedMediaType,
        outcome: OperationOutcome(.notSupported, "FHIR JSON in UTF-8 without Content-Encoding is needed: application/fhir+json"))

    /// Something has to be fetched, and nobody said from where.
    static let noSource = WebhookReply(
        status: .unprocessableContent,
        outcome: OperationOutcome(
            .notSupported, "a notification without resources needs the setting fhir-server; or have it send full resources"))

    static let tooLarge = WebhookReply(
        status: .contentTooLarge, outcome: OperationOutcome(.tooLong, "a resource is larger than Kafka takes"))

    /// More events in one body than ``WebhookIntake/maximumEvents``, or CloudEvents than ``CloudEventHTTP/maximumBatch``, or more bytes of
    /// resources than `Notification.maximumResourceBytes`.
    static let tooMany = WebhookReply(
        status: .contentTooLarge,
        outcome: OperationOutcome(
            .tooLong, "more than 1000 events or 32 MiB of resources in one body: have the server send fewer at a time"))

    /// A single Patient, or all that one bundle has fetched.
    static let fetchedTooLarge = WebhookReply(
        status: .contentTooLarge,
        outcome: OperationOutcome(
            .tooLong, "what has to be fetched is too long: have the server send full resources, or fewer events at a time"))

    /// It may be sent again: what the span's `error.type` says, and the answer's own words.
    static func later(_ error: SafeText, _ code: OperationOutcome.Code, _ text: StaticString) -> WebhookReply {
        WebhookReply(status: .serviceUnavailable, outcome: OperationOutcome(code, text), error: error)
    }
    static let overloaded = later("overloaded", .throttled, "too many requests wait already")
    static let late = later("timeout", .timeout, "the time was up before everything was in Kafka")
    static let underWay = later("under_way", .transient, "the same change is being taken in right now")
    static let missing = later(
        "source_missing", .notFound, "the FHIR server that is asked doesn't have the Patient: see fhir-server")
    static let sourceAway = later("source_unavailable", .transient, "the FHIR server doesn't tell what changed")

    /// What a broker said.
    static func failed(_ error: BrokerError) -> WebhookReply {
        if error.isTooLarge { return tooLarge }
        if error.isQueueFull { return later("queue_full", .throttled, "more is under way than Kafka takes at the moment") }
        return later(SafeText(vetted: error.name), .transient, "Kafka didn't take it")
    }

    /// A rule that the body breaks.
    static func invalid(_ error: InvalidEvent) -> WebhookReply {
        if error.rule == .tooManyEvents { return tooMany }
        let code: OperationOutcome.Code =
            switch error.rule {
            case .empty, .json, .utf8, .notAnObject, .elementType, .repeatedMember: .structure
            case .resourceTypeMissing, .resourceMissing, .idMissing: .required
            case .tooLarge: .tooLong
            default: .value
            }
        return WebhookReply(
            status: .badRequest,
            outcome: OperationOutcome(code, text: SafeText(error.rule), expression: error.path.isEmpty ? nil : error.path))
    }

    /// The answer of it.
    func answer(_ context: TraceContext) -> IngressAnswer {
        var headers = HTTPFields()
        if status == .unauthorized { headers[.wwwAuthenticate] = "Bearer" }
        if status == .serviceUnavailable { headers[.retryAfter] = "\(WebhookReply.retryAfterSeconds)" }
        var answer = outcome?.answer(status, headers) ?? IngressAnswer(status: status, headers: headers)
        answer.context = context
        return answer
    }

    /// Long enough for a leader election, short enough for what waits behind it.
    static let retryAfterSeconds = 5
}

internal import HTTPTypes
internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// `POST /webhooks/fhir`: notifications of topic-based subscriptions, of R4's rest-hook without a path of its own, and CloudEvents.
struct WebhookRoute: IngressRoute {
    let template = "/webhooks/fhir"
    let methods: [HTTPRequest.Method] = [.post]
    var maximumBodyBytes: Int { intake.settings.maximumBodyBytes }
    private let intake: WebhookIntake
    private let span: SpanTemplate

    init(_ intake: WebhookIntake) {
        self.intake = intake
        span = RequestStep.template(
            method: "POST", route: "/webhooks/fhir", isSecure: intake.settings.isSecure, tracer: intake.tracer)
    }

    func admits(_ headers: HTTPFields) -> Bool { intake.settings.authenticator.admits(headers) }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        await intake.answer(request, span: span, takesCloudEvents: true) { json throws(InvalidEvent) in
            try Notification(json, maximumEvents: WebhookIntake.maximumEvents)
        }
    }
}

/// `PUT /webhooks/fhir/{type}/{id}`: R4's rest-hook, as servers send it that name the resource in the path.
struct WebhookResourceRoute: IngressRoute {
    let template = "/webhooks/fhir/{type}/{id}"
    let methods: [HTTPRequest.Method] = [.put, .post, .delete]
    var maximumBodyBytes: Int { intake.settings.maximumBodyBytes }
    private let intake: WebhookIntake
    private let spans: [HTTPRequest.Method: SpanTemplate]

    init(_ intake: WebhookIntake) {
        self.intake = intake
        var spans: [HTTPRequest.Method: SpanTemplate] = [:]
        for method in methods {
            spans[method] = RequestStep.template(
                method: method.rawValue, route: template, isSecure: intake.settings.isSecure, tracer: intake.tracer)
        }
        self.spans = spans
    }

    func admits(_ headers: HTTPFields) -> Bool { intake.settings.authenticator.admits(headers) }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        let span =
            spans[request.method]
            ?? RequestStep.template(
                method: request.method.rawValue, route: template, isSecure: intake.settings.isSecure, tracer: intake.tracer)
        return await intake.answer(request, span: span) { json throws(InvalidEvent) in
            try WebhookResourceRoute.notification(request, json)
        }
    }

    private static func notification(
        _ request: IngressRequest, _ json: JSONValue?
    ) throws(InvalidEvent) -> Notification {
        guard request.parameters["type"] == "Patient" else { throw InvalidEvent(.resourceTypeForeign, at: "type") }
        let id = ByteSlice(request.parameters["id"] ?? "")
        guard FHIRGrammar.isID(id) else { throw InvalidEvent(.id, at: "id") }
        guard let json else {
            // Without a payload only the path says what it is about: some servers tell a deletion so.
            return Notification(patient: id, action: request.method == .delete ? .deleted : nil)
        }
        guard request.method != .delete else { throw InvalidEvent(.unknownForm, at: "") }
        let notification = try Notification(json)
        guard notification.shape == .resource else { throw InvalidEvent(.unknownForm, at: "resourceType") }
        guard notification.events.first?.patientID == id else { throw InvalidEvent(.id, at: "Patient.id") }
        return notification
    }
}

extension WebhookIntake {
    /// A request, understood.
    private struct Understood: Sendable {
        let notification: Notification
        /// What needs no fetching, validated already.
        let changes: [Prepared]?
    }

    /// Answers a request of any route.
    func answer(
        _ request: IngressRequest, span template: SpanTemplate, takesCloudEvents: Bool = false,
        _ understand: (JSONValue?) throws(InvalidEvent) -> Notification
    ) async -> IngressAnswer {
        // A caller's context counts only if the caller is known.
        guard settings.authenticator.admits(request.headers) else {
            return end(begin(template, request, caller: nil, traceID: nil), .unauthorized)
        }
        let caller = RequestStep.caller(
            traceparent: request.headers.value("traceparent"), tracestate: request.headers.value("tracestate"), tracer: tracer)
        if takesCloudEvents, WebhookIntake.carriesCloudEvents(request.headers) {
            return await answerCloudEvents(request, span: template, caller: caller)
        }
        guard WebhookIntake.isBlank(request.body) || WebhookMedia.isFHIR(request.headers) else {
            return end(begin(template, request, caller: caller, traceID: nil), .mediaType)
        }
        let understood: Understood
        do throws(InvalidEvent) {
            understood = try self.understood(request.body, understand)
        } catch {
            countRefused()
            return end(begin(template, request, caller: caller, traceID: nil), .invalid(error))
        }
        let changes = understood.changes
        let traceID = changes?.count == 1 ? changes?.first?.event.traceID : nil
        let step = begin(template, request, caller: caller, traceID: traceID)
        let notification = understood.notification
        describe(notification, on: step)
        guard notification.kind == .events else {
            note(note(notification), on: step)
            return end(step, .taken)
        }
        let reply = await waiting.answer(by: request.receivedAt + settings.timeout) { end in
            take(notification, changes, under: step, end: end)
        }
        return end(step, reply ?? .overloaded)
    }

    /// Whether there is nothing but JSON's white space (RFC 8259 §2).
    private static func isBlank(_ body: ByteSlice) -> Bool {
        body.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D }
    }

    /// Reads a body, and validates it as far as nothing has to be fetched.
    private func understood(
        _ body: ByteSlice, _ understand: (JSONValue?) throws(InvalidEvent) -> Notification
    ) throws(InvalidEvent) -> Understood {
        let isEmpty = WebhookIntake.isBlank(body)
        if !isEmpty { try decoders.with { (decoder) throws(InvalidEvent) in try decoder.checkUniqueNames(body) } }
        let notification = try understand(isEmpty ? nil : JSONValue(checked: body))
        guard !notification.events.isEmpty, !notification.events.contains(where: \.needsResource) else {
            return Understood(notification: notification, changes: nil)
        }
        var changes: [Prepared] = []
        for event in notification.events where event.patientID != nil || event.resource != nil {
            changes.append(try prepare(event, subscription: notification.subscription ?? notification.topic))
        }
        return Understood(notification: notification, changes: changes)
    }

    /// Gets everything that a notification tells into Kafka.
    ///
    /// - Parameter end: called once with the answer. Where nothing has to be fetched that is by whoever brings the brokers' answer, with
    ///   no task in between.
    /// - Returns: the task that fetches; nil if there is none.
    private func take(
        _ notification: Notification, _ changes: [Prepared]?, under step: RequestStep,
        end: @escaping @Sendable (WebhookReply) -> Void
    ) -> Task<Void, Never>? {
        countIgnored(notification.ignored)
        guard let changes, !WebhookIntake.saysNothing(notification) else {
            return Task { end(await take(notification, changes, under: step)) }
        }
        capture(changes, cause: step.context) { [self] endings in
            end(WebhookIntake.reply(to: endings) ?? taken(notification, under: step))
        }
        return nil
    }

    /// The same with what has to be fetched.
    private func take(_ notification: Notification, _ changes: [Prepared]?, under step: RequestStep) async -> WebhookReply {
        var held = 0
        defer { fetches.letGo(held) }
        let ready: [Prepared]
        if let changes {
            ready = changes
        } else {
            let subscription = notification.subscription ?? notification.topic
            switch await resolve(notification, subscription: subscription, cause: step.context) {
            case .ready(let resolved, let bytes): (ready, held) = (resolved, bytes)
            case .refused(let reply): return reply
            }
        }
        let endings = await capture(ready, cause: step.context, waitsForRoom: false)
        if let reply = WebhookIntake.reply(to: endings) { return reply }
        if WebhookIntake.saysNothing(notification) {
            guard let history else { return .noSource }
            switch await history.read(for: self, isUrgent: true, cause: step.context) {
            case .done: break
            case .unavailable: return .sourceAway
            case .underWay: return .underWay
            case .failed(let error): return .failed(error)
            }
        }
        return taken(notification, under: step)
    }

    /// Whether something happened of which not even the Patient is told.
    private static func saysNothing(_ notification: Notification) -> Bool {
        notification.events.isEmpty
            ? notification.ignored == 0 : notification.events.contains { $0.patientID == nil && $0.resource == nil }
    }

    /// Everything is in Kafka: its numbers are noted.
    private func taken(_ notification: Notification, under step: RequestStep) -> WebhookReply {
        note(note(numbersOf: notification, subscription: notification.subscription ?? notification.topic), on: step)
        return .taken
    }

    /// The answer if not all is in Kafka: a broker's refusal for good goes before what may pass.
    private static func reply(to endings: [Ending]) -> WebhookReply? {
        var reply: WebhookReply?
        for ending in endings {
            switch ending {
            case .captured, .duplicate: continue
            case .underWay: reply = reply ?? .underWay
            case .failed(let error):
                if error.isTooLarge { return .tooLarge }
                reply = .failed(error)
            }
        }
        return reply
    }

    func begin(_ template: SpanTemplate, _ request: IngressRequest, caller: TraceContext?, traceID: TraceID?)
        -> RequestStep
    {
        RequestStep(
            template: template, caller: caller, trust: settings.trust, traceID: traceID, tracer: tracer, at: request.receivedAt)
    }

    private func describe(_ notification: Notification, on step: RequestStep) {
        step.set("triage.notification.shape", .text(SafeText(notification.shape)))
        step.set("triage.notification.type", .text(SafeText(notification.kind)))
        step.set("messaging.batch.message_count", .int(Int64(notification.events.count)))
        if notification.ignored > 0 { step.set("triage.notification.ignored", .int(Int64(notification.ignored))) }
    }

    private func note(_ gaps: [ClosedRange<Int64>], on step: RequestStep) {
        for gap in gaps {
            step.add(
                SpanEvent(
                    "triage.event_number.gap", at: tracer.clock.now(),
                    [
                        Attribute("triage.event_number.first", .int(gap.lowerBound)),
                        Attribute("triage.event_number.last", .int(gap.upperBound)),
                    ]))
        }
    }

    func end(_ step: RequestStep, _ reply: WebhookReply) -> IngressAnswer {
        let context = step.context
        step.end(status: reply.status.code, error: reply.error, at: tracer.clock.now())
        return reply.answer(context)
    }
}

extension HTTPFields {
    /// The value of a field by its name in lower case, of several ones joined by commas.
    fileprivate func value(_ name: String) -> String? {
        var joined: String?
        for field in self where field.name.canonicalName == name {
            if let before = joined { joined = before + "," + field.value } else { joined = field.value }
        }
        return joined
    }
}

/// Which bodies are understood.
enum WebhookMedia {
    /// Whether the header fields say FHIR JSON, or JSON, in UTF-8 and not compressed.
    static func isFHIR(_ headers: HTTPFields) -> Bool {
        guard headers.text(.contentEncoding).map({ $0.lowercased() == "identity" }) ?? true else { return false }
        guard let type = headers.text(.contentType) else { return false }
        return MediaText.allParts(type) { part, isType in
            if isType {
                return MediaText.equals(part, "application/fhir+json") || MediaText.equals(part, "application/json")
                    || MediaText.equals(part, "application/json+fhir")
            }
            guard MediaText.hasPrefix(part, "charset=") else { return true }
            let charset = UnsafeRawBufferPointer(rebasing: part.dropFirst("charset=".utf8.count))
            return MediaText.equals(charset, "utf-8") || MediaText.equals(charset, "\"utf-8\"")
                || MediaText.equals(charset, "utf8")
        }
    }
}

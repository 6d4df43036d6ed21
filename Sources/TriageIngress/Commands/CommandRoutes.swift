internal import HTTPTypes
internal import Synchronization
internal import TriageEvents
public import TriageTelemetry

/// What the two routes for commands share.
public final class CommandDesk: Sendable {
    /// What is known of commands.
    public let memory: CommandMemory
    let authenticator: Authenticator
    let source: String
    let tracer: Tracer
    let isSecure: Bool
    private let trust: CallerTrust
    private let sink: CaptureSink
    private let decoders = DecoderPool()
    private let open = Atomic(0)

    /// Commands that may wait for Kafka's acknowledgement at the same time; further ones are answered 503.
    static let maximumOpen = 1000
    /// The longest wait for a result.
    static let maximumWait: Duration = .seconds(30)

    /// A desk that admits whom `authenticator` does.
    ///
    /// - Parameters:
    ///   - memory: fed with ``CommandNews`` by whoever follows the topics.
    ///   - source: `metadata.source` of the commands' records.
    ///   - trust: whether a caller's trace is continued or linked to.
    ///   - isSecure: whether the server speaks TLS.
    public init(
        _ sink: CaptureSink, memory: CommandMemory, authenticator: Authenticator, source: String, trust: CallerTrust = .continue,
        tracer: Tracer, isSecure: Bool
    ) {
        self.sink = sink
        self.memory = memory
        self.authenticator = authenticator
        self.source = source
        self.trust = trust
        self.tracer = tracer
        self.isSecure = isSecure
    }

    /// The routes: `POST /commands`, `GET /commands/{requestId}`.
    ///
    /// - Parameter maximumBodyBytes: bytes of a command.
    public func routes(maximumBodyBytes: Int = 1 << 20) -> [any IngressRoute] {
        [CommandRoute(self, maximumBodyBytes: maximumBodyBytes), CommandStatusRoute(self)]
    }

    func command(_ request: IngressRequest, idempotencyKey: String?) throws(CommandRecord.Refusal) -> CommandRecord {
        try decoders.with { (decoder) throws(CommandRecord.Refusal) in
            try CommandRecord(
                body: request.body, idempotencyKey: idempotencyKey, source: source, timestamp: request.receivedAt,
                decoder: decoder)
        }
    }

    func refused() { sink.countRefused(.command) }

    /// The SERVER span of a request. A caller's context counts only if the caller is known.
    func begin(_ template: SpanTemplate, _ request: IngressRequest) -> RequestStep {
        let caller =
            authenticator.admits(request.headers)
            ? RequestStep.caller(
                traceparent: request.headers.combined("traceparent"), tracestate: request.headers.combined("tracestate"),
                tracer: tracer) : nil
        return RequestStep(template: template, caller: caller, trust: trust, tracer: tracer, at: request.receivedAt)
    }

    /// Sends a command and waits for the acknowledgement.
    func publish(_ command: CommandRecord, under context: TraceContext) async -> Result<Acknowledgement, BrokerError> {
        guard open.add(1, ordering: .relaxed).newValue <= CommandDesk.maximumOpen else {
            open.subtract(1, ordering: .relaxed)
            return .failure(BrokerError("_QUEUE_FULL", operation: "send command", isRetriable: true))
        }
        defer { open.subtract(1, ordering: .relaxed) }
        let answer = OneAnswer()
        do throws(BrokerError) {
            try await sink.send(
                command.record, from: .command, parent: context, attributes: command.attributes, waitsForRoom: false
            ) { answer.give($0) }
        } catch {
            return .failure(error)
        }
        return await answer.wait()
    }
}

/// The brokers' answer to one record.
private final class OneAnswer: Sendable {
    private typealias Answer = Result<Acknowledgement, BrokerError>
    private let state = Mutex<(answer: Answer?, waiter: CheckedContinuation<Answer, Never>?)>((nil, nil))

    func give(_ answer: Result<Acknowledgement, BrokerError>) {
        let waiter = state.withLock { state in
            state.answer = answer
            return state.waiter
        }
        waiter?.resume(returning: answer)
    }

    func wait() async -> Result<Acknowledgement, BrokerError> {
        await withCheckedContinuation { continuation in
            let answer = state.withLock { state in
                if state.answer == nil { state.waiter = continuation }
                return state.answer
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }
}

/// `POST /commands`: takes one command in, and answers once Kafka has it.
///
/// | answer | when |
/// | --- | --- |
/// | 202 with `Location` and the status | Kafka has it, or had it before; with `?wait=`: the result isn't there yet |
/// | 200 with the status | `?wait=10s`, at most 30 s, and it is completed or failed |
/// | 400, 422 | the command or its request id breaks a rule; another command has this request id |
/// | 401, 415 | no known token; neither `application/json` nor `application/fhir+json` |
/// | 503 with `Retry-After` | Kafka didn't acknowledge it, or one with this request id is on its way: send it again, with the same id |
struct CommandRoute: IngressRoute {
    let template = "/commands"
    let methods: [HTTPRequest.Method] = [.post]
    let maximumBodyBytes: Int
    private let desk: CommandDesk
    private let span: SpanTemplate

    init(_ desk: CommandDesk, maximumBodyBytes: Int) {
        self.desk = desk
        self.maximumBodyBytes = maximumBodyBytes
        span = RequestStep.template(method: "POST", route: "/commands", isSecure: desk.isSecure, tracer: desk.tracer)
    }

    func admits(_ headers: HTTPFields) -> Bool { desk.authenticator.admits(headers) }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        let step = desk.begin(span, request)
        var (answer, error) = await take(request, step)
        step.end(status: answer.status.code, error: error, at: desk.tracer.clock.now())
        answer.context = step.context
        return answer
    }

    private func take(_ request: IngressRequest, _ step: RequestStep) async -> (IngressAnswer, SafeText?) {
        guard desk.authenticator.admits(request.headers) else { return (Challenge.answer, nil) }
        guard MediaTypes.isJSON(request.headers) else {
            desk.refused()
            return (
                OperationOutcome(.notSupported, "the body must be application/json or application/fhir+json").answer(
                    .unsupportedMediaType), nil
            )
        }
        guard let wait = WaitTime.parse(request.query("wait")) else {
            desk.refused()
            return (OperationOutcome(.value, "wait must be a time such as 10s, at most 30s").answer(.badRequest), nil)
        }
        let command: CommandRecord
        do throws(CommandRecord.Refusal) {
            command = try desk.command(request, idempotencyKey: request.headers.combined("idempotency-key"))
        } catch {
            desk.refused()
            return (error.outcome.answer(.badRequest), nil)
        }
        switch desk.memory.claim(command.requestID, contentHash: command.contentHash) {
        case .other:
            desk.refused()
            return (
                OperationOutcome(.conflict, "another command has this request id").answer(.unprocessableContent), nil
            )
        case .underWay:
            return (
                OperationOutcome(.transient, "a command with this request id is being taken in right now").answer(
                    .serviceUnavailable, [.retryAfter: "1"]), "under_way"
            )
        case .repeated: break
        case .new:
            switch await desk.publish(command, under: step.context) {
            case .success(let acknowledgement):
                desk.memory.accepted(
                    command.requestID, contentHash: command.contentHash, at: acknowledgement.position(in: TopicName.commands))
            case .failure(let error):
                desk.memory.refused(command.requestID)
                if error.isTooLarge {
                    return (OperationOutcome(.tooLong, "the command is larger than Kafka takes").answer(.contentTooLarge), nil)
                }
                return (
                    OperationOutcome(.transient, "Kafka did not acknowledge the command; send it again").answer(
                        .serviceUnavailable, [.retryAfter: error.isQueueFull ? "1" : "5"]), "kafka"
                )
            }
        }
        return (await CommandAnswers.answer(command.requestID, wait, desk.memory, pending: .accepted), nil)
    }
}

/// `GET /commands/{requestId}`: what became of a command; 404 if nothing is known of it (any more).
struct CommandStatusRoute: IngressRoute {
    let template = "/commands/{requestId}"
    let methods: [HTTPRequest.Method] = [.get]
    let maximumBodyBytes = 0
    private let desk: CommandDesk
    private let span: SpanTemplate

    init(_ desk: CommandDesk) {
        self.desk = desk
        span = RequestStep.template(method: "GET", route: "/commands/{requestId}", isSecure: desk.isSecure, tracer: desk.tracer)
    }

    func admits(_ headers: HTTPFields) -> Bool { desk.authenticator.admits(headers) }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        let step = desk.begin(span, request)
        var answer = await look(request)
        step.end(status: answer.status.code, at: desk.tracer.clock.now())
        answer.context = step.context
        return answer
    }

    private func look(_ request: IngressRequest) async -> IngressAnswer {
        guard desk.authenticator.admits(request.headers) else { return Challenge.answer }
        guard let wait = WaitTime.parse(request.query("wait")) else {
            return OperationOutcome(.value, "wait must be a time such as 10s, at most 30s").answer(.badRequest)
        }
        guard let id = request.parameters["requestId"], desk.memory.status(of: id) != nil else {
            return OperationOutcome(.notFound, "no command of this request id is known").answer(.notFound)
        }
        return await CommandAnswers.answer(id, wait, desk.memory, pending: .ok)
    }
}

private enum CommandAnswers {
    /// The status as it is now, or as soon as it is known within `wait`.
    static func answer(
        _ requestID: String, _ wait: Duration, _ memory: CommandMemory, pending: HTTPResponse.Status
    ) async -> IngressAnswer {
        let place = "/commands/\(requestID)"
        var status = memory.status(of: requestID) ?? CommandStatus(.pending)
        if status.state == .pending, wait > .zero, let outcome = await memory.outcome(of: requestID, within: wait) {
            status = outcome
        }
        let isKnown = status.state != .pending && (pending == .ok || wait > .zero)
        var headers: HTTPFields = [.contentType: "application/json"]
        if pending == .accepted { headers[.location] = place }
        return IngressAnswer(
            status: isKnown ? .ok : pending, headers: headers, body: ByteSlice(status.json(requestID) + "\n"))
    }
}

private enum Challenge {
    /// 401 with what is asked for (RFC 6750 §3).
    static var answer: IngressAnswer {
        OperationOutcome(.login, "a known bearer token is needed").answer(.unauthorized, [.wwwAuthenticate: "Bearer"])
    }
}

enum MediaTypes {
    /// Whether the body is said to be JSON; parameters don't matter.
    static func isJSON(_ headers: HTTPFields) -> Bool {
        guard let type = headers.text(.contentType) else { return false }
        return MediaText.isType(type, "application/json") || MediaText.isType(type, "application/fhir+json")
    }
}

/// The value of `?wait=`.
enum WaitTime {
    /// Zero without a value; nil for what is no time, or more than 30 s. `10s`, `10`, `500ms`.
    static func parse(_ text: String?) -> Duration? {
        guard let text else { return .zero }
        let isMilliseconds = text.hasSuffix("ms")
        let digits = isMilliseconds ? text.dropLast(2) : text.hasSuffix("s") ? text.dropLast() : text[...]
        guard (1...6).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(digits)
        else { return nil }
        let wait: Duration = isMilliseconds ? .milliseconds(number) : .seconds(number)
        return wait <= CommandDesk.maximumWait ? wait : nil
    }
}

extension CommandRecord.Refusal {
    /// What the client is told.
    var outcome: OperationOutcome {
        switch self {
        case .invalid(let invalid):
            let path = invalid.path.isEmpty ? nil : invalid.path
            switch invalid.rule {
            case .action:
                return OperationOutcome(
                    .value, "type must be CreatePatient, UpdatePatient or DeletePatient", expression: path)
            case .resourceMissing, .idMissing, .resourceTypeMissing:
                return OperationOutcome(.required, "a required element is missing", expression: path)
            case .resourceTypeForeign: return OperationOutcome(.value, "only Patient is handled", expression: path)
            case .id, .gender, .birthDate, .timestamp:
                return OperationOutcome(.value, "an element has a value that FHIR does not allow", expression: path)
            case .repeatedMember:
                return OperationOutcome(.structure, "an object has two members of one name", expression: path)
            case .elementType: return OperationOutcome(.structure, "an element is of the wrong type", expression: path)
            default: return OperationOutcome(.structure, "the body is no command in JSON", expression: path)
            }
        case .requestID:
            return OperationOutcome(
                .value, "a request id has 1 to 128 letters, digits, or characters of -._~:", expression: "metadata.requestId")
        case .otherRequestID:
            return OperationOutcome(.value, "Idempotency-Key and metadata.requestId differ", expression: "metadata.requestId")
        }
    }
}

extension HTTPFields {
    /// The values of a field joined by commas; nil without any.
    fileprivate func combined(_ name: String) -> String? {
        guard let name = HTTPField.Name(name) else { return nil }
        return self[name]
    }
}

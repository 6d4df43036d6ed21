public import TriageEvents
public import TriageTelemetry

/// What a command comes to at a FHIR server: values in, steps and verdicts out; nothing here calls anyone.
///
/// ```
/// create   POST Patient, If-None-Exist: the tag of the request id     200 (it is there already) and 201 are success
/// update   PUT Patient/id, If-Match: the version that the data names  409, 412: success if the current version has the tag
///          no version named: GET Patient/id, done if it has the tag;  409, 412: the same again, if the version is another one
///          else PUT, If-Match: the version that was read
/// delete   DELETE Patient/id                                          404, 410: success, it is gone
/// ```
public struct CommandPlan: Sendable {
    /// What is asked for.
    public let action: ChangeAction
    /// The command's request id.
    public let requestID: String
    /// The Patient's id; nil for a create.
    public let resourceID: String?
    /// The Patient with the request's tag; nil for a delete.
    public let resource: ByteSlice?
    /// The version that the Patient must have now, if the command says.
    public let version: String?

    /// Why a command can't be carried out, whoever tries: persistent.
    public enum Refusal: String, Error, Sendable, CaseIterable {
        /// The event is no command.
        case notACommand = "not_a_command"
        /// The request id is missing or has characters that can't stand in a search; see ``RequestTag/isRequestID(_:)``.
        case requestID = "invalid_request_id"
        /// The resource can't be tagged: its `meta` or `meta.tag` has another JSON type than FHIR gives it.
        case meta = "invalid_meta"
        /// An update or delete names no Patient.
        case idMissing = "id_missing"
    }

    /// What is to be done for a command.
    ///
    /// - Parameter event: of the form `command`.
    public init(_ event: PatientEvent) throws(Refusal) {
        guard event.form == .command else { throw .notACommand }
        guard let id = event.correlationIDBytes, RequestTag.isRequestID(id), let requestID = id.utf8Text else { throw .requestID }
        self.requestID = requestID
        action = event.action
        resourceID = event.action == .created ? nil : event.resourceID
        guard event.action == .created || resourceID != nil else { throw .idMissing }
        version = event.action == .created ? nil : event.versionID
        guard event.action != .deleted else {
            resource = nil
            return
        }
        guard let data = event.resource, let stamped = RequestTag.stamp(data, requestID) else { throw .meta }
        resource = stamped
    }

    /// Whether a result is this command's, so that nothing more is to be done.
    public func isDone(by result: CommandResult) -> Bool {
        guard result.requestID == requestID else { return false }
        switch action {
        case .created: return result.action == .created
        case .updated: return result.action != .deleted && result.resourceID == resourceID
        case .deleted: return result.action == .deleted && result.resourceID == resourceID
        }
    }

    /// One call of the server.
    public enum Step: Sendable, Hashable {
        /// `POST Patient` with `If-None-Exist`.
        case create
        /// `PUT Patient/id`, with `If-Match` where the command names a version, or one was read.
        case update(ifMatch: String?)
        /// `DELETE Patient/id`, with `If-Match` where the command names a version.
        case delete
        /// `GET Patient/id`, to see whether this command wrote the current version.
        case look
    }

    /// What follows from an answer.
    public enum Verdict: Sendable, Hashable {
        /// The command was carried out, now or before: what it came to, the Patient's id and version as far as they are known.
        case done(ChangeAction, id: String?, version: String?)
        /// Another call is needed.
        case next(Step)
        /// It failed: transient or persistent, with a code that may leave the process, and a time if the server named one.
        case failed(ErrorClass, SafeText, retryAt: Timestamp?)
    }

    /// An update that the server refused, since another version is current or for a reason of its own.
    public struct RefusedUpdate: Sendable, Hashable {
        /// What it means if the look after it doesn't change that.
        public let verdict: Verdict
        /// The version that was asked for.
        public let ifMatch: String?

        /// A refusal.
        public init(_ verdict: Verdict, ifMatch: String?) {
            self.verdict = verdict
            self.ifMatch = ifMatch
        }
    }

    /// The first call.
    public var firstStep: Step {
        switch action {
        case .created: .create
        // Made twice, by a record that is delivered or sent again, it would undo what others wrote after it; the version that the
        // command names guards against that by itself.
        case .updated: version == nil ? .look : .update(ifMatch: version)
        case .deleted: .delete
        }
    }

    /// What the answer to `step` means.
    ///
    /// - Parameter refused: of a look, the update before it that was refused.
    public func verdict(of step: Step, _ answer: FHIRAnswer, refused: RefusedUpdate? = nil) -> Verdict {
        switch step {
        case .create:
            return answer.isSuccess ? done(.created, answer) : failure(answer)
        case .update:
            // 201: there was none, or none any more (FHIR R4 §3.1.0.4.1, update as create).
            if answer.isSuccess { return done(answer.status == 201 ? .created : .updated, answer) }
            // Our own first try may be what changed the version.
            return answer.status == 409 || answer.status == 412 ? .next(.look) : failure(answer)
        case .delete:
            // Gone before, says a FHIR server; a page that says so comes from elsewhere, where no Patient ever was.
            if answer.status == 404 || answer.status == 410, answer.isEmpty || answer.resource()?["resourceType"] != nil {
                return .done(.deleted, id: resourceID, version: answer.versionID)
            }
            return answer.isSuccess ? done(.deleted, answer) : failure(answer)
        case .look: return verdict(ofLook: answer, refused: refused)
        }
    }

    private func verdict(ofLook answer: FHIRAnswer, refused: RefusedUpdate?) -> Verdict {
        let resource = answer.isSuccess ? answer.resource() : nil
        if answer.isSuccess {
            guard let resource, resource["resourceType"]?.says("Patient") == true else {
                return CommandPlan.failure(CommandPlan.noFHIRAnswer)
            }
            if let id = resource["id"], id.string != resourceID { return CommandPlan.failure(CommandPlan.otherResource) }
        }
        let current = answer.versionID ?? resource?["meta"]?["versionId"]?.string.flatMap(CommandPlan.id)
        if let resource, RequestTag.requestID(in: resource) == requestID {
            // Who sees its own first version made the Patient.
            return .done(current == "1" ? .created : .updated, id: resourceID, version: current)
        }
        if answer.errorClass == .transient { return failure(answer) }
        // Not there, not to be seen, or written by others: it is made, unless it was refused and nothing has changed since.
        guard let refused else { return .next(.update(ifMatch: resource == nil ? nil : current)) }
        guard version == nil, resource != nil, let current, let tried = refused.ifMatch, tried != current else {
            return refused.verdict
        }
        return .next(.update(ifMatch: current))
    }

    private static func failure(_ code: StaticString) -> Verdict { .failed(.transient, "\(code)", retryAt: nil) }

    /// The failure that an answer is.
    public func failure(_ answer: FHIRAnswer) -> Verdict {
        .failed(answer.errorClass ?? .persistent, answer.code, retryAt: answer.retryAt)
    }

    /// The code of a 2xx that no FHIR server gives: the page of a proxy or of a sign-on. The command may not have been carried out.
    static let noFHIRAnswer: StaticString = "no_fhir_answer"
    /// The code of an answer about another Patient than was asked for.
    static let otherResource: StaticString = "other_resource"

    /// What a server answers that has done it: nothing, the Patient, or an OperationOutcome (FHIR R4 §3.1.0.1.9, `Prefer`); one that has
    /// created a Patient says where (§3.1.0.8).
    private func done(_ action: ChangeAction, _ answer: FHIRAnswer) -> Verdict {
        let body = answer.isEmpty ? nil : answer.resource()
        let patient = body?["resourceType"]?.says("Patient") == true ? body : nil
        guard answer.isEmpty || patient != nil || body?["resourceType"]?.says("OperationOutcome") == true else {
            return CommandPlan.failure(CommandPlan.noFHIRAnswer)
        }
        let told = patient?["id"]?.string.flatMap(CommandPlan.id)
        if let resourceID, [answer.resourceID, told].contains(where: { $0 != nil && $0 != resourceID }) {
            return CommandPlan.failure(CommandPlan.otherResource)
        }
        let id = resourceID ?? answer.resourceID ?? told
        if id == nil, answer.status == 201 { return CommandPlan.failure(CommandPlan.noFHIRAnswer) }
        return .done(
            action, id: id, version: answer.versionID ?? patient?["meta"]?["versionId"]?.string.flatMap(CommandPlan.id))
    }

    private static func id(_ text: String) -> String? { FHIRGrammar.isID(ByteSlice(text)) ? text : nil }
}

public import TriageEvents
public import TriageTelemetry

/// What a command comes to at a FHIR server: values in, steps and verdicts out; nothing here calls anyone.
///
/// ```
/// create   POST Patient, If-None-Exist: the tag of the request id     200 (it is there already) and 201 are success
/// update   PUT Patient/id, If-Match: the version that the data names  409, 412: success if the current version has the tag
///          (delivered again, and no version named: first read it, and be done if it has the tag)
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
    /// Whether the command may have been carried out before.
    public let isRepeated: Bool

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
    /// - Parameters:
    ///   - event: of the form `command`.
    ///   - isRepeated: whether it may have been carried out before.
    public init(_ event: PatientEvent, isRepeated: Bool) throws(Refusal) {
        guard event.form == .command else { throw .notACommand }
        guard let id = event.correlationIDBytes, RequestTag.isRequestID(id), let requestID = id.utf8Text else { throw .requestID }
        self.requestID = requestID
        self.isRepeated = isRepeated
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

    /// One call of the server.
    public enum Step: Sendable, Hashable {
        /// `POST Patient` with `If-None-Exist`.
        case create
        /// `PUT Patient/id`, with `If-Match` where the command names a version.
        case update
        /// `DELETE Patient/id`, with `If-Match` where the command names a version.
        case delete
        /// `GET Patient/id`, to see whether this command wrote the current version.
        case look
    }

    /// What follows from an answer.
    public enum Verdict: Sendable, Hashable {
        /// The command was carried out, now or before: the Patient's id and version as far as they are known.
        case done(id: String?, version: String?)
        /// Another call is needed.
        case next(Step)
        /// It failed: transient or persistent, with a code that may leave the process, and a time if the server named one.
        case failed(ErrorClass, SafeText, retryAt: Timestamp?)
    }

    /// The first call.
    public var firstStep: Step {
        switch action {
        case .created: .create
        // Sent again it would undo what others wrote after it; the version that the command names guards against that by itself.
        case .updated: isRepeated && version == nil ? .look : .update
        case .deleted: .delete
        }
    }

    /// What the answer to `step` means.
    ///
    /// - Parameter refused: of a look after an update that was refused, the refusal, which holds if the look doesn't show the tag.
    public func verdict(of step: Step, _ answer: FHIRAnswer, refused: Verdict? = nil) -> Verdict {
        switch step {
        case .create:
            return answer.isSuccess ? done(answer) : failure(answer)
        case .update:
            if answer.isSuccess { return done(answer) }
            // Our own first try may be what changed the version.
            return answer.status == 409 || answer.status == 412 ? .next(.look) : failure(answer)
        case .delete:
            return answer.isSuccess || answer.status == 404 || answer.status == 410
                ? .done(id: resourceID, version: answer.versionID) : failure(answer)
        case .look:
            if answer.isSuccess, let resource = answer.resource(), RequestTag.requestID(in: resource) == requestID {
                return .done(id: resourceID, version: answer.versionID ?? resource["meta"]?["versionId"]?.string)
            }
            if answer.errorClass == .transient { return failure(answer) }
            // Not there, or written by others: an update that was refused stays so, one that is repeated is made.
            return refused ?? .next(.update)
        }
    }

    /// The failure that an answer is.
    public func failure(_ answer: FHIRAnswer) -> Verdict {
        .failed(answer.errorClass ?? .persistent, answer.code, retryAt: answer.retryAt)
    }

    private func done(_ answer: FHIRAnswer) -> Verdict {
        let body = answer.resourceID == nil || answer.versionID == nil ? answer.resource() : nil
        let patient = body?["resourceType"]?.says("Patient") == true ? body : nil
        let id = resourceID ?? answer.resourceID ?? patient?["id"]?.string.flatMap(CommandPlan.id)
        return .done(id: id, version: answer.versionID ?? patient?["meta"]?["versionId"]?.string.flatMap(CommandPlan.id))
    }

    private static func id(_ text: String) -> String? { FHIRGrammar.isID(ByteSlice(text)) ? text : nil }
}

public import TriageEvents
public import TriageTelemetry

/// Carries a ``CommandPlan`` out on a FHIR server: makes its calls and asks it what their answers mean.
public struct CommandRunner: Sendable {
    private let client: FHIRClient

    /// Carries out by `client`.
    public init(_ client: FHIRClient) { self.client = client }

    /// What became of a command.
    public struct Outcome: Sendable {
        /// What it came to: an update of a Patient that wasn't there created it.
        public let action: ChangeAction
        /// The Patient's id, if the server told it. Patient data.
        public let resourceID: String?
        /// The version that the command wrote, or the current one if it was written before; nil if the server didn't tell.
        public let versionID: String?
        /// The Patient as the server has it, if it was asked for and answered. Patient data.
        public let resource: ByteSlice?
    }

    /// Why a command was not carried out.
    public struct Failure: Error, Sendable {
        /// Transient or persistent.
        public let errorClass: ErrorClass
        /// A status, with the server's issue type, or a word of ``HTTPCallError``.
        public let code: SafeText
        /// When to try again, if the server says so.
        public let retryAt: Timestamp?
        /// What the server answered, if it did: its body may hold patient data, so it is for sealed dead letters alone.
        public let answer: FHIRAnswer?

        init(_ errorClass: ErrorClass, _ code: SafeText, retryAt: Timestamp? = nil, answer: FHIRAnswer? = nil) {
            self.errorClass = errorClass
            self.code = code
            self.retryAt = retryAt
            self.answer = answer
        }
    }

    /// Carries a command out.
    ///
    /// - Parameters:
    ///   - wantsResource: whether the Patient is asked for, as the server has it then.
    ///   - resends: how many attempts there were before.
    public func run(_ plan: CommandPlan, wantsResource: Bool, resends: Int) async throws(Failure) -> Outcome {
        var step = plan.firstStep
        var refused: CommandPlan.RefusedUpdate?
        // A look, an update, and a look after it is the longest way; again while others change the Patient in between.
        for _ in 0..<7 {
            let answer = try await call(step, of: plan, wantsResource: wantsResource, resends: resends)
            let verdict = plan.verdict(of: step, answer, refused: refused)
            switch verdict {
            case .done(let action, let id, let version):
                let resource = wantsResource && plan.action != .deleted ? try await resource(answer, id: id) : nil
                return Outcome(action: action, resourceID: id, versionID: version, resource: resource)
            case .failed(let errorClass, let code, let retryAt): throw Failure(errorClass, code, retryAt: retryAt, answer: answer)
            case .next(let following):
                if case .update(let version) = step {
                    refused = CommandPlan.RefusedUpdate(plan.failure(answer), ifMatch: version)
                }
                step = following
            }
        }
        throw Failure(.transient, "\(CommandRunner.contended)")
    }

    /// The code of an update that others were quicker than each time.
    static let contended: StaticString = "contended"

    private func call(
        _ step: CommandPlan.Step, of plan: CommandPlan, wantsResource: Bool, resends: Int
    ) async throws(Failure) -> FHIRAnswer {
        let id = plan.resourceID ?? ""
        let resource = plan.resource ?? ByteSlice("")
        do throws(HTTPCallError) {
            return switch step {
            case .create:
                try await client.create(
                    resource, ifNoneExist: RequestTag.search(plan.requestID), wantsResource: wantsResource, resends: resends)
            case .update(let version):
                try await client.update(id, resource, ifMatch: version, wantsResource: wantsResource, resends: resends)
            case .delete: try await client.delete(id, ifMatch: plan.version, resends: resends)
            case .look: try await client.read(id)
            }
        } catch {
            throw Failure(error.isTransient ? .transient : .persistent, SafeText(error.code))
        }
    }

    /// The Patient in the answer, or else read.
    private func resource(_ answer: FHIRAnswer, id: String?) async throws(Failure) -> ByteSlice? {
        if answer.resource()?["resourceType"]?.says("Patient") == true { return answer.body }
        guard let id else { return nil }
        do throws(HTTPCallError) {
            let answer = try await client.read(id)
            if answer.isSuccess, answer.resource()?["resourceType"]?.says("Patient") == true { return answer.body }
            guard answer.status != 404, answer.status != 410 else { return nil }
            throw HTTPCallError(.other)
        } catch {
            throw Failure(.transient, SafeText(error.code))
        }
    }
}

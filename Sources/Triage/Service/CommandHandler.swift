internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

/// Carries out commands on a FHIR server: the handler of the processor of `fhir.commands`.
///
/// A command may come again at any point: what it made is found by the tag of its request id, and its result and event are told again.
final class CommandHandler: Sendable {
    private let runner: CommandRunner
    private let sink: TracedSink
    private let capture: CaptureSink?
    private let follower: CommandFollower?
    private let clock: any EventClock

    /// A handler.
    ///
    /// - Parameters:
    ///   - sink: where results go.
    ///   - capture: publishes the event that a command causes; nil leaves that to the server.
    ///   - follower: knows of the results there are, and is told of new ones.
    init(
        _ client: FHIRClient, sink: TracedSink, capture: CaptureSink?, follower: CommandFollower? = nil, clock: any EventClock
    ) {
        runner = CommandRunner(client)
        self.sink = sink
        self.capture = capture
        self.follower = follower
        self.clock = clock
    }

    /// Carries a command out, then tells its result, and only then returns.
    ///
    /// - Throws: `InvalidEvent` if the command has an object with two members of one name; ``RejectedError`` and ``RetryableError`` by
    ///   what the server answered; `BrokerError` if the result wasn't acknowledged.
    func handle(_ event: PatientEvent, _ context: HandlerContext) async throws {
        // Whoever wrote it: the server could read what is told twice as the other one of the two, and miss the tag.
        if let value = event.value { try EventDecoder().checkUniqueNames(value) }
        let plan: CommandPlan
        do throws(CommandPlan.Refusal) {
            plan = try CommandPlan(event)
        } catch {
            throw RejectedError(SafeText(error))
        }
        // What has a result was carried out, its event published: the result is told again to whoever waits for this sending.
        if let known = follower?.memory.status(of: plan.requestID)?.result.flatMap({ CommandResult($0) }), plan.isDone(by: known)
        {
            _ = try await sink.send(known.record, parent: context.span.context)
            return
        }
        // The server may notify of a deletion before it answers.
        if plan.action == .deleted { follower?.tell(CommandNews(begun: plan)) }
        let outcome: CommandRunner.Outcome
        do throws(CommandRunner.Failure) {
            outcome = try await runner.run(plan, wantsResource: capture != nil, resends: context.attempt - 1)
        } catch {
            throw CommandHandler.failure(error)
        }
        let now = clock.now()
        if let capture {
            let captured = CapturedEvent(
                outcome.action, resourceID: outcome.resourceID.map { ByteSlice($0) },
                resource: outcome.resource ?? plan.resource,
                eventID: CommandResult.eventID(of: plan.requestID), correlationID: plan.requestID)
            for result in await capture.publish([captured], from: .command, cause: context.span.context) { _ = try result.get() }
        }
        let result = CommandResult(
            requestID: plan.requestID, action: outcome.action, resourceID: outcome.resourceID, versionID: outcome.versionID,
            finishedAt: now)
        _ = try await sink.send(result.record, parent: context.span.context)
        follower?.tell(CommandNews(result))
    }

    private static func failure(_ failure: CommandRunner.Failure) -> any Error {
        let detail: @Sendable () -> String? = {
            failure.answer.map { AnswerText.detail(status: $0.status, body: $0.body) }
        }
        guard failure.errorClass != .persistent else { return RejectedError(failure.code, detail: detail()) }
        guard let time = failure.retryAt else { return RetryableError(failure.code, detail: detail()) }
        return RetryableError(failure.code, at: time, detail: detail())
    }
}

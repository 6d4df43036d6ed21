public import TriageEvents
internal import TriageTelemetry

/// A FHIR server that is asked by REST.
public struct FHIRClientSource: FHIRSource {
    private let client: FHIRClient
    private let clock: any EventClock

    /// The server of `client`.
    public init(_ client: FHIRClient, clock: any EventClock) {
        self.client = client
        self.clock = clock
    }

    /// Asks once, under `parent`.
    public func ask(_ query: SourceQuery, parent: TraceContext?) async -> SourceAnswer {
        await Span.$current.withValue(parent.map { Span(standingFor: $0, clock: clock) }) { await ask(query) }
    }

    private func ask(_ query: SourceQuery) async -> SourceAnswer {
        let answer: FHIRAnswer
        do throws(HTTPCallError) {
            switch query {
            case .patient(let id): answer = try await client.read(id.utf8Text ?? "")
            case .history(let since, let count): answer = try await client.history(since: since, count: count)
            case .page(let url): answer = try await client.page(url)
            case .events(let subscription, let since, let until):
                guard since <= until else { return .refused }
                answer = try await client.events(of: subscription, since...until, content: "full-resource")
            }
        } catch {
            if error.code == .answerTooLarge { return .tooLarge }
            return error.isTransient ? .unavailable : .refused
        }
        if answer.isSuccess { return .body(answer.body) }
        switch answer.status {
        case 410: return .gone
        case 404: return .missing
        // Not the question's fault: an operator can heal that.
        case 401, 403: return .unavailable
        case 501: return .refused
        default: return answer.errorClass == .persistent ? .refused : .unavailable
        }
    }
}

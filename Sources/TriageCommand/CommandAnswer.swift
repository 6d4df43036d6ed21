import TriageEvents
import TriageIngress

/// What `triage command` prints of a command: on stdout alone, since a result names the Patient.
enum CommandAnswer {
    /// One JSON object: what `GET /commands/{requestId}` answers, and of a completed command what stands in `fhir.commands.results`.
    static func json(_ requestID: String, _ status: CommandStatus?) -> String {
        (status ?? CommandStatus(.pending)).json(requestID)
    }

    /// The request id; if the result was waited for, what became of it in a second line.
    ///
    /// - Parameter isAwaited: whether somebody waited.
    static func lines(_ requestID: String, _ status: CommandStatus?, isAwaited: Bool) -> [String] {
        guard isAwaited else { return [requestID] }
        let status = status ?? CommandStatus(.pending)
        var words = [status.state.rawValue]
        if let result = status.result.flatMap({ CommandResult($0) }) {
            words.append(result.action.rawValue)
            if let id = result.resourceID { words.append("Patient/\(id)") }
            if let version = result.versionID { words.append("version \(version)") }
        }
        words += [status.errorClass, status.error].compactMap { $0 }
        return [requestID, words.joined(separator: " ")]
    }
}

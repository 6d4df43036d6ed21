internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

extension WebhookIntake {
    /// What became of a notification's events before they are published.
    enum Resolution: Sendable {
        /// All is known.
        case ready([Prepared])
        /// It can't be known now, or never.
        case refused(WebhookReply)
    }

    /// Fetches the resources that a notification doesn't have, and validates all.
    ///
    /// - Parameter cause: the span under which they are fetched.
    func resolve(_ notification: Notification, subscription: String?, cause: TraceContext?) async -> Resolution {
        var changes: [Prepared] = []
        changes.reserveCapacity(notification.events.count)
        for event in notification.events where event.patientID != nil || event.resource != nil {
            var event = event
            if event.needsResource {
                switch await fetch(event, cause: cause) {
                case .success(let fetched?): event = fetched
                case .success(nil): continue
                case .failure(let refusal): return .refused(refusal.reply)
                }
            }
            do throws(InvalidEvent) {
                changes.append(try prepare(event, subscription: subscription))
            } catch {
                return .refused(.invalid(error))
            }
        }
        return .ready(changes)
    }

    private struct Refusal: Error {
        let reply: WebhookReply
    }

    /// The event with its resource; nil if the Patient is gone and another event tells of that.
    private func fetch(_ event: Notification.Event, cause: TraceContext?) async -> Result<Notification.Event?, Refusal> {
        guard let source else { return .failure(Refusal(reply: .noSource)) }
        guard let id = event.patientID else { return .success(event) }
        switch await source.ask(.patient(id), parent: cause) {
        case .unavailable, .refused: return .failure(Refusal(reply: .sourceAway))
        case .missing:
            // A wrong base URL looks the same as a Patient that isn't there: neither is a reason to let the event go.
            let isNew = state.withLock { state in
                defer { state.isMissing = true }
                return !state.isMissing
            }
            if isNew { notify(.patientMissing) }
            return .failure(Refusal(reply: .missing))
        case .gone:
            // Nobody said what happened: this did. Else the deletion is told by itself, and what came before it is past.
            guard event.action == nil else {
                countIgnored(1)
                return .success(nil)
            }
            var deleted = event
            deleted.action = .deleted
            return .success(deleted)
        case .body(let body):
            let fetched: Notification? = try? decoders.with { (decoder) throws(InvalidEvent) in
                try decoder.checkObject(body)
                return try Notification(JSONValue(body))
            }
            guard let fetched, fetched.shape == .resource, let found = fetched.events.first, found.patientID == id else {
                return .failure(Refusal(reply: .sourceAway))
            }
            state.withLock { $0.isMissing = false }
            var event = event
            event.resource = found.resource
            event.versionID = found.versionID
            event.action = event.action ?? found.action
            event.timestamp = event.timestamp ?? found.timestamp
            return .success(event)
        }
    }
}

internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

extension WebhookIntake {
    /// What became of a notification's events before they are published.
    enum Resolution: Sendable {
        /// All is known. The caller gives the bytes back to ``fetches`` when it is published.
        case ready([Prepared], held: Int)
        /// It can't be known now, or never.
        case refused(WebhookReply)
    }

    private struct Refusal: Error {
        let reply: WebhookReply
    }

    /// Fetches the resources that a notification doesn't have, and validates all. Ends early if its task is cancelled.
    ///
    /// - Parameter cause: the span under which they are fetched.
    func resolve(_ notification: Notification, subscription: String?, cause: TraceContext?) async -> Resolution {
        let events = notification.events.filter { $0.patientID != nil || $0.resource != nil }
        var ids: [ByteSlice] = []
        var seen: Set<ByteSlice> = []
        for event in events where event.needsResource {
            if let id = event.patientID, seen.insert(id).inserted { ids.append(id) }
        }
        var held = 0
        do throws(Refusal) {
            let answers = try await fetch(ids, cause: cause, held: &held)
            var changes: [Prepared] = []
            changes.reserveCapacity(events.count)
            for event in events {
                guard let complete = try completed(event, by: answers) else { continue }
                do throws(InvalidEvent) {
                    changes.append(try prepare(complete, subscription: subscription))
                } catch {
                    throw Refusal(reply: .invalid(error))
                }
            }
            if Task.isCancelled { throw Refusal(reply: .late) }
            return .ready(changes, held: held)
        } catch {
            fetches.letGo(held)
            return .refused(error.reply)
        }
    }

    /// What the server says of these Patients, a few at a time; the first one that it doesn't tell ends it.
    ///
    /// - Parameter held: the bytes that are held, also if it throws.
    private func fetch(
        _ ids: [ByteSlice], cause: TraceContext?, held: inout Int
    ) async throws(Refusal) -> [ByteSlice: SourceAnswer] {
        guard !ids.isEmpty else { return [:] }
        guard let source else { throw Refusal(reply: .noSource) }
        var answers: [ByteSlice: SourceAnswer] = [:]
        var refusal: WebhookReply?
        await withTaskGroup(of: (id: ByteSlice, answer: SourceAnswer?).self) { group in
            var rest = ids[...]
            for id in rest.prefix(FetchBudget.maximumCallsPerBundle) { group.addTask { await self.ask(source, id, cause) } }
            rest = rest.dropFirst(FetchBudget.maximumCallsPerBundle)
            for await (id, answer) in group where refusal == nil {
                if let answer, !Task.isCancelled { refusal = take(answer, &held) } else { refusal = .late }
                answers[id] = answer
                if refusal != nil {
                    group.cancelAll()
                } else if let next = rest.popFirst() {
                    group.addTask { await self.ask(source, next, cause) }
                }
            }
        }
        if let refusal { throw Refusal(reply: refusal) }
        return answers
    }

    /// Asks once there is room; nil if nobody waits for it any more.
    private func ask(
        _ source: any FHIRSource, _ id: ByteSlice, _ cause: TraceContext?
    ) async -> (id: ByteSlice, answer: SourceAnswer?) {
        await fetches.call { (id, Task.isCancelled ? nil : await source.ask(.patient(id), parent: cause)) }
    }

    /// Why a notification is refused after this answer; nil if it isn't.
    private func take(_ answer: SourceAnswer, _ held: inout Int) -> WebhookReply? {
        switch answer {
        case .unavailable, .refused: return .sourceAway
        case .tooLarge: return .fetchedTooLarge
        case .missing:
            // A wrong base URL looks the same as a Patient that isn't there: neither is a reason to let the event go.
            let isNew = state.withLock { state in
                defer { state.isMissing = true }
                return !state.isMissing
            }
            if isNew { notify(.patientMissing) }
            return .missing
        case .gone: return nil
        case .body(let body):
            guard held + body.count <= FetchBudget.maximumBytesPerBundle else { return .fetchedTooLarge }
            guard fetches.hold(body.count) else { return .overloaded }
            held += body.count
            return nil
        }
    }

    /// The event with its resource; nil if the Patient is gone and another event tells of that.
    private func completed(
        _ event: Notification.Event, by answers: [ByteSlice: SourceAnswer]
    ) throws(Refusal) -> Notification.Event? {
        guard event.needsResource, let id = event.patientID else { return event }
        switch answers[id] {
        case .gone:
            // Nobody said what happened: this did. Else the deletion is told by itself, and what came before it is past.
            guard event.action == nil else {
                countIgnored(1)
                return nil
            }
            var deleted = event
            deleted.action = .deleted
            return deleted
        case .body(let body):
            let fetched: Notification? = try? decoders.with { (decoder) throws(InvalidEvent) in
                try decoder.checkUniqueNames(body)
                return try Notification(JSONValue(body))
            }
            guard let fetched, fetched.shape == .resource, let found = fetched.events.first, found.patientID == id else {
                throw Refusal(reply: .sourceAway)
            }
            state.withLock { $0.isMissing = false }
            var event = event
            event.resource = found.resource
            event.versionID = found.versionID
            // That it was a PUT doesn't say whether it created; its first version does.
            if event.action == nil || found.action == .created { event.action = found.action }
            event.timestamp = event.timestamp ?? found.timestamp
            return event
        default: throw Refusal(reply: .sourceAway)
        }
    }
}
